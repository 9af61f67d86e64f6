"""The types of a ``.tflite`` file as read: graph, subgraphs, operators, tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from qinspect.affine import LIMITS, Affine
from qinspect.schema import Array

Scheme = Literal[
    "float32", "float16", "dynamic_range", "weight_only", "int8", "uint8", "int16x8", "mixed"
]
SCHEMES: tuple[str, ...] = (
    "float32", "float16", "dynamic_range", "weight_only", "int8", "uint8", "int16x8", "mixed",
)

# These hand on the values that they are given.
RESHAPING = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"})
# No converter writes more of them in a row; a hostile file may, or even a cycle.
MOST_HANDING_ON = 32


@dataclass(frozen=True)
class Quantization:
    """What the file says: real = scale * (stored - zero_point), float64 and int64, one or many."""

    scale: Array
    zero_point: Array
    axis: int | None = None  # of the channels, where each has a scale of its own
    blockwise: bool = False  # scales are held per block in another tensor; `scale` is then empty
    block_scales: int = -1
    block_size: int = 0  # elements of the last dimension that share one scale

    @property
    def per_channel(self) -> bool:
        """Whether there is more than one scale."""
        return self.scale.size > 1


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph; constants are decoded on demand by ``tflite.constant``."""

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    constant: bool
    buffer: int
    quantization: Quantization | None
    sparse: bool = False
    variable: bool = False
    flaw: str = ""  # how its scales contradict its shape; they are then left out

    @property
    def affine(self) -> Affine | None:
        """How its narrow integers stand for real numbers; None for floats and without scales."""
        q = self.quantization
        if q is None or q.scale.size == 0 or self.dtype not in LIMITS:
            return None
        return Affine(q.scale, q.zero_point, *LIMITS[self.dtype], q.axis)

    @property
    def real(self) -> bool:
        """Whether it depends on the input and holds real numbers, be it as integers."""
        quantized = self.dtype in LIMITS and self.quantization is not None
        return not self.constant and (self.dtype in ("float32", "float16") or quantized)

    @property
    def stored_range(self) -> tuple[float, float] | None:
        """Least and greatest real number that it can hold where all of it has one scale."""
        affine = self.affine
        if affine is None or affine.scale.size > 1:
            return None
        return float(affine.real_low[0]), float(affine.real_high[0])


@dataclass(frozen=True)
class Operator:
    """One operator; tensor indices are -1 where an optional input is absent."""

    index: int
    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str = "NONE"
    custom: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subgraph:
    """Tensors and operators in execution order."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """A ``.tflite`` file; constants are views into ``content``, never copies."""

    file: str
    content: bytes = field(repr=False)
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[str, ...]
    metadata: tuple[str, ...]
    description: str
    version: int
    guarded: bool = True  # whatever runs it does so in a child process

    @property
    def main(self) -> Subgraph:
        """The first subgraph, which the interpreter runs by default."""
        return self.subgraphs[0]

    @property
    def flaws(self) -> list[str]:
        """Tensors whose scales cannot be used, a clause each."""
        return [tensor.flaw for subgraph in self.subgraphs for tensor in subgraph.tensors
                if tensor.flaw]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.content)
