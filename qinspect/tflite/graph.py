"""Graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from qinspect.schema import Array

# --- tflite ----------------------------------------------------------------------------------


Scheme = Literal[
    "float32", "float16", "dynamic_range", "weight_only", "int8", "uint8", "int16x8", "mixed"
]
SCHEMES: tuple[str, ...] = (
    "float32",
    "float16",
    "dynamic_range",
    "weight_only",
    "int8",
    "uint8",
    "int16x8",
    "mixed",
)


@dataclass(frozen=True)
class Quantization:
    """Affine quantization of one tensor: real = scale * (stored - zero_point).

    Attributes
    ----------
    scale : ndarray of float64, shape (1,) or (channels,)
    zero_point : ndarray of int64, same shape as ``scale``
    axis : int or None
        Quantized dimension when there is one scale per channel, else None.
    blockwise : bool
        True when scales are held per block in another tensor (``scale`` is then empty).
    block_scales : int
        Index of the tensor that holds the scales of the blocks, -1 when not blockwise.
    block_size : int
        Elements of the last dimension that share one scale, 0 when not blockwise.
    """

    scale: Array
    zero_point: Array
    axis: int | None = None
    blockwise: bool = False
    block_scales: int = -1
    block_size: int = 0

    @property
    def per_channel(self) -> bool:
        """Whether there is more than one scale."""
        return self.scale.size > 1


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph; ``data`` is decoded on demand by ``tflite.constant``."""

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
    """A ``.tflite`` file as read from its flatbuffer.

    ``content`` holds the file's bytes; constants are views into it, never copies.
    """

    file: str
    content: bytes = field(repr=False)
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[str, ...]
    metadata: tuple[str, ...]
    description: str
    version: int

    @property
    def main(self) -> Subgraph:
        """The first subgraph, which the interpreter runs by default."""
        return self.subgraphs[0]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.content)
