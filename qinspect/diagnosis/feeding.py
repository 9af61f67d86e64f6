"""Known ways to feed an integer model wrongly, done on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from qinspect.diagnosis import thresholds as t
from qinspect.diagnosis.evidence import Evidence
from qinspect.schema import Array
from qinspect.tflite.graph import Graph, Tensor

Feed = Callable[[Array, float, int, "np.dtype[np.generic]"], Array]


def _wrapped(values: Array, dtype: np.dtype[np.generic]) -> Array:
    """Values cast as C does for whole numbers: modulo the type's range, never clipped."""
    return np.trunc(values).astype(np.int64).astype(dtype)


# What is stored for real x, given the input's scale and zero point.
_MISTAKES: dict[str, tuple[str, Feed]] = {
    "no rounding": (
        "were made by truncating instead of rounding x / scale",
        lambda x, s, z, d: np.clip(np.trunc(x / s + z), *_limits(d)).astype(d),
    ),
    "no clipping": (
        "were made without clipping: values beyond the integer range wrap around",
        lambda x, s, z, d: _wrapped(np.rint(x / s) + z, d),
    ),
    "no zero point": (
        "were made with x / scale, without the zero point",
        lambda x, s, z, d: _wrapped(np.rint(x / s), d),
    ),
    "cast": (
        "were made by casting x to the input's type, without scale and zero point",
        lambda x, s, z, d: _wrapped(x, d),
    ),
    "multiplied": (
        "were made with x * scale instead of x / scale",
        lambda x, s, z, d: np.clip(np.rint(x * s) + z, *_limits(d)).astype(d),
    ),
}
# Real inputs changed before they are fed correctly, to any kind of file.
_REAL: dict[str, tuple[str, float, float]] = {
    "scaled twice": ("are those of inputs divided by 255 once more", 1 / 255, 0.0),
    "not scaled": ("are those of inputs multiplied by 255", 255.0, 0.0),
    "scaled to -1..1": ("are those of inputs mapped to 2 x - 1", 2.0, -1.0),
    "scaled from -1..1": ("are those of inputs mapped to (x + 1) / 2", 0.5, 0.5),
    "halved": ("are those of inputs divided by 127.5, minus 1", 1 / 127.5, -1.0),
}


def _limits(dtype: np.dtype[np.generic]) -> tuple[int, int]:
    info = np.iinfo(dtype.name)
    return int(info.min), int(info.max)


def integer_input(graph: Graph) -> Tensor | None:
    """The file's input tensor where it takes quantized integers."""
    tensor = graph.main.tensors[graph.main.inputs[0]]
    q = tensor.quantization
    quantized = tensor.dtype in ("int8", "uint8", "int16") and q is not None and q.scale.size == 1
    return tensor if quantized else None


def mistakes(graph: Graph, x: Array) -> Iterator[tuple[str, str, Array]]:
    """Inputs as they would be under each known mistake.

    Parameters
    ----------
    graph : Graph
        The file that is fed.
    x : ndarray, shape (n, ...)
        Examples in the units of the float model's input.

    Yields
    ------
    name, words, x : str, str, ndarray of float64
        Real values that, fed correctly, put the mistaken integers into the file.
    """
    tensor = integer_input(graph)
    real = np.asarray(x, dtype=np.float64)
    if tensor is not None and tensor.quantization is not None:
        scale = float(tensor.quantization.scale[0])
        zero = int(tensor.quantization.zero_point[0])
        for name, (words, feed) in _MISTAKES.items():
            stored = feed(real, scale, zero, np.dtype(tensor.dtype))
            yield name, words, (stored.astype(np.float64) - zero) * scale
    for name, (words, factor, offset) in _REAL.items():
        yield name, words, real * factor + offset
    if real.std() > 0:
        words = "are those of inputs brought to mean 0 and standard deviation 1"
        yield "standardised", words, (real - real.mean()) / real.std()


@dataclass(frozen=True)
class Reproduced:
    """How a claim relates to feeding the file correctly, and wrongly.

    Attributes
    ----------
    agreement : float
        Share of claimed predictions that feeding correctly gives.
    mistake, words : str
        The mistake that explains the claim better, empty if none does.
    reproduced : float
        Share of claimed predictions that the best mistake gives, on some examples.
    """

    agreement: float
    mistake: str = ""
    words: str = ""
    reproduced: float = 0.0


def reproduce(evidence: Evidence, role: str) -> Reproduced:
    """Try the known mistakes on a role's claimed predictions, one for each example."""
    return evidence.once(("reproduce", role), lambda: _reproduce(evidence, role))


def _reproduce(evidence: Evidence, role: str) -> Reproduced:
    claimed = evidence.case.claims[role].prediction
    own = evidence.evaluation(role).prediction
    agreement = float(np.mean(claimed == own))
    if agreement >= t.SAME_PREDICTIONS:
        return Reproduced(agreement)
    n = len(claimed)
    index = np.arange(n)
    if n > t.REPRODUCED_EXAMPLES:
        index = np.sort(evidence.rng(4).choice(n, t.REPRODUCED_EXAMPLES, replace=False))
    base = float(np.mean(claimed[index] == own[index]))
    graph = evidence.graph(role)
    best, name, said = 0.0, "", ""
    for mistake, words, x in mistakes(graph, evidence.data.x[index]):
        explained = float(np.mean(evidence.run(graph.content, x).prediction == claimed[index]))
        if explained > best:
            best, name, said = explained, mistake, words
    # A mistake that changes few predictions must explain those few, not merely the rest.
    gained = (best - base) / (1 - base) if base < 1 else 0.0
    if best >= t.REPRODUCED and gained > 0.5:
        return Reproduced(agreement, name, said, best)
    return Reproduced(agreement, reproduced=best)
