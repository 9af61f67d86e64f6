"""The scheme of a file: how its weighted operators compute, whatever its inputs look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import cast

from qinspect.schema import Graph, Scheme
from qinspect.tflite.weights import INTEGER_KINDS, all_weights


def scheme_of(graph: Graph) -> Scheme:
    """Scheme of a ``.tflite`` file.

    It follows the operators that have weights, not the type of inputs and outputs: a file that
    takes uint8 and computes with int8 weights and activations is ``int8``.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    str
        One of :data:`qinspect.schema.SCHEMES`.  ``dynamic_range`` and ``weight_only`` files may
        hold further float weights (the converter leaves small kernels in float); ``mixed`` has
        integer and float weighted operators, or two integer formats, side by side.
    """
    kinds = Counter[str](weight.kind for weight in all_weights(graph))
    return scheme_of_kinds(kinds) or _scheme_without_weights(graph)


def scheme_of_kinds(kinds: Mapping[str, int]) -> Scheme | None:
    """Scheme from the number of weights of each kind; None if there are none."""
    integer: set[str] = kinds.keys() & INTEGER_KINDS
    float_kinds = kinds.keys() - INTEGER_KINDS - {"other"}
    if not integer and not float_kinds:
        return None
    if integer:
        if float_kinds or len(integer) > 1:
            return "mixed"
        return cast(Scheme, next(iter(integer)))
    for kind in ("dynamic_range", "weight_only", "float16"):
        if kind in float_kinds:
            return cast(Scheme, kind)
    return "float32"


def _scheme_without_weights(graph: Graph) -> Scheme:
    """Scheme from the activations of a file in which no operator has weights."""
    outputs = [
        subgraph.tensors[index]
        for subgraph in graph.subgraphs
        for op in subgraph.operators
        for index in op.outputs
    ]
    # int8 is hardly used for anything but quantized numbers; the others may be plain integers.
    dtypes = {t.dtype for t in outputs if t.quantization is not None or t.dtype == "int8"}
    for dtype, scheme in (("int16", "int16x8"), ("int8", "int8"), ("uint8", "uint8")):
        if dtype in dtypes:
            return cast(Scheme, scheme)
    return "float32"
