"""What a ``.tflite`` file really is: scheme, reasons, counts, origin, warnings."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from qinspect.errors import SpecError
from qinspect.shown import Shown
from qinspect.store import plain
from qinspect.tflite.constants import (
    BITS,
    FLOATS,
    INTEGER_KINDS,
    Weight,
    all_weights,
    constant_source,
    producers_of,
    weights_of,
)
from qinspect.tflite.graph import Graph, Scheme, Subgraph, Tensor
from qinspect.tflite.origin import Origin, converter_record, never_trained, origin_of, trained_names
from qinspect.tflite.read import read_graph
from qinspect.tflite.remarks import Remark, file_remarks
from qinspect.tflite.sandbox import TIMEOUT, probe
from qinspect.verdicts import counted

if TYPE_CHECKING:
    import pandas as pd

# Default of the converter's option weight_min_elements.
SMALL_KERNEL = 1024
_BORDER = frozenset({"QUANTIZE", "DEQUANTIZE", "FAKE_QUANT"})
_FLEX = "Flex"
_MOST_NAMES = 5
_ORIGINS = {"ptq": ", quantized after training", "qat": ", from quantization-aware training"}
_KIND_WORDS = {
    "float32": "float weights and float activations",
    "float16": "float16 weights that are widened to float32 before use",
    "dynamic_range": "integer weights and float activations that are quantized while running",
    "weight_only": "integer weights that are dequantized to float before use",
    "int8": "int8 weights and int8 activations",
    "uint8": "uint8 weights and activations (the legacy format)",
    "int16x8": "int8 weights and int16 activations",
    "other": "weights of another type",
}


@dataclass(frozen=True)
class TensorInfo:
    """An input or output as a person wants to know it; scale None where it is not quantized."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True)
class Identification:
    """What a ``.tflite`` file really is.

    Attributes
    ----------
    file, size : str, int
        Name and bytes of the file.
    scheme, reasons : str, tuple of str
        One of :data:`SCHEMES` and why.
    inputs, outputs : tuple of TensorInfo
        Of the first subgraph.
    ops, float_ops : dict of str to int
        Operators by name in all subgraphs; those that compute in float.
    weights : dict of str to Any
        ``total``, ``quantized``, ``per_channel``, ``per_tensor``, ``blockwise``: numbers of weight
        tensors; ``bits``: width of those that hold most values (None without weights);
        ``by_bits``: number of tensors by width.
    activations : dict of str to int
        ``total``, ``quantized`` (stored ranges): numbers of activation tensors; ``dynamic``:
        operators that quantize their activations while running.
    origin : Origin
    remarks : tuple of Remark
        What the quantization of the outputs cannot tell apart.
    warnings : tuple of str
        What deserves attention, one sentence each.
    """

    file: str
    size: int
    scheme: Scheme
    reasons: tuple[str, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: dict[str, int]
    float_ops: dict[str, int]
    weights: dict[str, Any]
    activations: dict[str, int]
    origin: Origin
    remarks: tuple[Remark, ...]
    warnings: tuple[str, ...]


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
        One of :data:`SCHEMES`.  ``dynamic_range`` and ``weight_only`` files may
        hold further float weights (the converter leaves small kernels in float); ``mixed`` has
        integer and float weighted operators, or two integer formats, side by side.
    """
    kinds = Counter[str](weight.kind for weight in all_weights(graph))
    return _scheme_of_kinds(kinds) or _scheme_without_weights(graph)


def _scheme_of_kinds(kinds: Mapping[str, int]) -> Scheme | None:
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


def identify(graph: Graph) -> Identification:
    """Identify a ``.tflite`` file.

    Parameters
    ----------
    graph : Graph
        From :func:`qinspect.tflite.read.read_graph`.

    Returns
    -------
    Identification
    """
    weights = all_weights(graph)
    scheme = scheme_of(graph)
    main = graph.main
    float_ops = _float_operators(graph)
    return Identification(
        file=graph.file,
        size=graph.size,
        scheme=scheme,
        reasons=_reasons(graph, weights),
        inputs=tuple(_info(main.tensors[i]) for i in main.inputs),
        outputs=tuple(_info(main.tensors[i]) for i in main.outputs),
        ops=dict(Counter(op.custom or op.code for s in graph.subgraphs for op in s.operators)),
        float_ops=float_ops,
        weights=_count_weights(weights),
        activations=_count_activations(graph, weights),
        origin=origin_of(graph, scheme),
        remarks=file_remarks(graph),
        warnings=_warnings(graph, scheme, weights, float_ops),
    )


def _info(tensor: Tensor) -> TensorInfo:
    q = tensor.quantization
    one = q is not None and q.scale.size == 1
    return TensorInfo(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        scale=float(q.scale[0]) if q is not None and one else None,
        zero_point=int(q.zero_point[0]) if q is not None and one else None,
    )


def _unique(weights: tuple[Weight, ...]) -> list[Weight]:
    """One entry for each stored constant, which several operators may share."""
    return list({w.tensor.buffer: w for w in reversed(weights)}.values())[::-1]


def _count_weights(weights: tuple[Weight, ...]) -> dict[str, object]:
    unique = _unique(weights)
    quantized = [w.tensor for w in unique if _is_quantized(w.tensor)]
    values: Counter[int] = Counter()
    tensors: Counter[int] = Counter()
    for w in unique:
        bits = BITS.get(w.tensor.dtype, 0)
        values[bits] += int(np.prod(w.tensor.shape, dtype=object))
        tensors[bits] += 1
    per_channel = sum(t.quantization is not None and t.quantization.per_channel for t in quantized)
    blockwise = sum(t.quantization is not None and t.quantization.blockwise for t in quantized)
    return {
        "total": len(unique),
        "quantized": len(quantized),
        "per_channel": per_channel,
        "per_tensor": len(quantized) - per_channel - blockwise,
        "blockwise": blockwise,
        "bits": values.most_common(1)[0][0] if values else None,
        "by_bits": {str(bits): count for bits, count in sorted(tensors.items())},
    }


def _is_quantized(tensor: Tensor) -> bool:
    return tensor.dtype not in FLOATS and tensor.quantization is not None


def _activation_tensors(subgraph: Subgraph) -> list[Tensor]:
    """Numbers that flow between computing operators, without constants and conversions."""
    producers = producers_of(subgraph)
    touched: dict[int, None] = {}
    for op in subgraph.operators:
        if op.code not in _BORDER:
            touched.update(dict.fromkeys((*op.inputs, *op.outputs)))
    return [
        tensor
        for tensor in (subgraph.tensors[i] for i in touched if i >= 0)
        if (tensor.dtype in FLOATS or _is_quantized(tensor))
        and constant_source(subgraph, tensor.index, producers) is None
    ]


def _count_activations(graph: Graph, weights: tuple[Weight, ...]) -> dict[str, int]:
    tensors = [t for subgraph in graph.subgraphs for t in _activation_tensors(subgraph)]
    return {
        "total": len(tensors),
        "quantized": sum(_is_quantized(t) for t in tensors),
        "dynamic": len({id(w.operator) for w in weights if w.kind == "dynamic_range"}),
    }


def _float_operators(graph: Graph) -> dict[str, int]:
    """Operators that compute in float: conversions and dynamically quantized ones left out."""
    counts: Counter[str] = Counter()
    for subgraph in graph.subgraphs:
        producers = producers_of(subgraph)
        dynamic = {w.operator.index for w in weights_of(subgraph) if w.kind == "dynamic_range"}
        for op in subgraph.operators:
            if op.code in _BORDER or op.index in dynamic:
                continue
            used = [subgraph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
            if any(
                t.dtype in FLOATS and constant_source(subgraph, t.index, producers) is None
                for t in used
            ):
                counts[op.custom or op.code] += 1
    return dict(counts)


def _reasons(graph: Graph, weights: tuple[Weight, ...]) -> tuple[str, ...]:
    if not weights:
        return ("no operator has weights; the type of its activations decides",)
    reasons = []
    kinds = Counter(w.kind for w in weights)
    for kind, count in kinds.most_common():
        reasons.append(f"{count} of {len(weights)} weights: {_KIND_WORDS[kind]}")
    unique = _unique(weights)
    counted = _count_weights(weights)
    if counted["quantized"]:
        parts = [
            f"{counted[key]} {key.replace('_', ' ')}"
            for key in ("per_channel", "per_tensor", "blockwise")
            if counted[key]
        ]
        reasons.append(f"{counted['quantized']} of {len(unique)} weights are stored as integers: "
                       + ", ".join(parts))
    small = [w for w in unique if w.kind == "float32" and _elements(w) < SMALL_KERNEL]
    if small and ("dynamic_range" in kinds or (
        kinds.keys() == {"float32"} and len(small) == len(unique)
    )):
        reasons.append(
            f"{len(small)} kernels have fewer than {SMALL_KERNEL:,} elements, which the "
            "converter's dynamic-range quantization leaves in float"
        )
    return tuple(reasons)


def _elements(weight: Weight) -> int:
    return int(np.prod(weight.tensor.shape, dtype=object))


def _warnings(
    graph: Graph, scheme: Scheme, weights: tuple[Weight, ...], float_ops: dict[str, int]
) -> tuple[str, ...]:
    return (
        *_structure_warnings(graph),
        *_operator_warnings(graph),
        *_quantization_warnings(graph, weights),
        *_scheme_warnings(graph, scheme, weights, float_ops),
    )


def _structure_warnings(graph: Graph) -> list[str]:
    found = []
    main = graph.main
    if len(graph.subgraphs) > 1:
        found.append(
            f"the file has {len(graph.subgraphs)} subgraphs; inputs and outputs are those of the "
            "first one."
        )
    if len(graph.signatures) > 1:
        found.append(f"the file has {len(graph.signatures)} signatures.")
    if not main.operators:
        found.append("the graph has no operators: it computes nothing.")
    strings = sum(main.tensors[i].dtype == "string" for i in main.inputs)
    if strings:
        found.append(f"{strings} of {len(main.inputs)} inputs are strings.")
    dynamic = [t for t in (main.tensors[i] for i in main.inputs) if -1 in t.shape_signature[1:]]
    if dynamic:
        found.append(f"{counted(len(dynamic), 'input')} with dimensions that are only known when "
                     "running.")
    sparse = sum(t.sparse for s in graph.subgraphs for t in s.tensors)
    if sparse:
        found.append(f"{sparse} constants are stored sparse; their values are not decoded.")
    return found


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + rest


def _operator_warnings(graph: Graph) -> list[str]:
    custom = Counter(op.custom for s in graph.subgraphs for op in s.operators if op.custom)
    flex = sorted(name for name in custom if name.startswith(_FLEX))
    found = []
    if flex:
        found.append(
            f"{counted(sum(custom[name] for name in flex), 'operator')} of TensorFlow itself "
            f"(Select TF operators, Flex): {_listed(flex)}; LiteRT alone cannot run them."
        )
    other = sorted(name for name in custom if not name.startswith(_FLEX))
    if other:
        found.append(f"custom operators, which run only where they are known: {_listed(other)}.")
    unknown = {
        op.code for s in graph.subgraphs for op in s.operators if op.code.startswith("UNKNOWN_")
    }
    if unknown:
        found.append(f"{len(unknown)} operator codes are newer than this version of LiteRT knows.")
    return found


def _quantization_warnings(graph: Graph, weights: tuple[Weight, ...]) -> list[str]:
    found = []
    bad, unscaled, blockwise = 0, 0, 0
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            q = tensor.quantization
            if q is not None and q.scale.size and not (np.isfinite(q.scale) & (q.scale > 0)).all():
                bad += 1
            unscaled += tensor.dtype == "int8" and q is None and not tensor.constant
            blockwise += q is not None and q.blockwise
    if bad:
        found.append(
            f"{counted(bad, 'tensor')} with a scale that is zero, negative or not finite; values "
            "computed from such are meaningless."
        )
    if unscaled:
        found.append(f"{counted(unscaled, 'int8 tensor')} without a scale, so that real values are "
                     "unknown.")
    if blockwise:
        found.append(f"{blockwise} constants are quantized in blocks.")
    untrained = sum(never_trained(w.tensor) for w in weights)
    if untrained:
        found.append(
            f"{untrained} weights have the scale 12/254 at which quantization-aware training "
            "starts: the wrapped model was converted without a training step."
        )
    return found


def _scheme_warnings(
    graph: Graph, scheme: Scheme, weights: tuple[Weight, ...], float_ops: dict[str, int]
) -> list[str]:
    found = []
    record = converter_record(graph)
    if scheme == "float32":
        if record is not None and "PTQ_DYNAMIC_RANGE" in record.modes:
            found.append(
                "converted for dynamic range, but it is a float32 file: every kernel has fewer "
                f"than {SMALL_KERNEL:,} elements, and the converter leaves those in float."
            )
        pairs = _simulated(graph)
        if pairs:
            found.append(
                f"{counted(pairs, 'tensor')} quantized and at once dequantized: quantization is "
                "simulated, the file computes in float."
            )
    made_after = record is not None and any(mode.startswith("PTQ_") for mode in record.modes)
    if made_after and trained_names(graph):
        found.append(
            "its layers come from quantization-aware training, but the converter quantized them "
            "after training: the trained ranges may not have been used."
        )
    if scheme == "mixed":
        integer = sum(w.kind in INTEGER_KINDS for w in weights)
        found.append(
            f"integer and float operators side by side: {integer} of {len(weights)} weights are "
            "used with integer activations."
        )
    elif scheme in INTEGER_KINDS and float_ops:
        names = ", ".join(sorted(float_ops)[:5])
        found.append(f"{counted(sum(float_ops.values()), 'operator')} still in float: {names}.")
    return found


def _simulated(graph: Graph) -> int:
    """Tensors that go through QUANTIZE and straight back through DEQUANTIZE."""
    count = 0
    for subgraph in graph.subgraphs:
        producers = producers_of(subgraph)
        for op in subgraph.operators:
            if op.code == "DEQUANTIZE" and op.inputs:
                producer = producers.get(op.inputs[0])
                count += producer is not None and producer.code == "QUANTIZE"
    return count


@dataclass(frozen=True)
class Inspections(Shown):
    """What files really are.

    Attributes
    ----------
    files : tuple of dict
        As :func:`qinspect.tflite.inspect_file` gives them.
    """

    files: tuple[dict[str, Any], ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a file: weights that are quantized, activations with stored ranges, and so on."""
        import pandas as pd

        return pd.DataFrame([
            {**{key: found[key] for key in ("file", "size", "scheme")},
             "origin": found["origin"]["value"], "confidence": found["origin"]["confidence"],
             "weights": found["weights"]["total"], "quantized": found["weights"]["quantized"],
             "per_channel": found["weights"]["per_channel"], "bits": found["weights"]["bits"],
             "input": " ".join(tensor["dtype"] for tensor in found["inputs"]),
             "ranges": found["activations"]["quantized"],
             "dynamic": found["activations"]["dynamic"],
             "float_ops": sum(found["float_ops"].values()),
             "runs": found["runs"], "warnings": len(found["warnings"])}
            for found in self.files
        ])

    @property
    def sentence(self) -> str:
        """The scheme of every file, and whether it was quantized after training or in it."""
        said = []
        for found in self.files:
            origin = _ORIGINS.get(found["origin"]["value"], "")
            fails = "" if found["runs"] == "ok" else ", and does not run"
            said.append(f"{found['file']} is {found['scheme']}{origin}{fails}")
        return f"{'; '.join(said)}."

    def to_json(self) -> dict[str, Any] | list[dict[str, Any]]:
        """The same as ``qinspect inspect --json``: one object, or a list of several."""
        return self.files[0] if len(self.files) == 1 else list(self.files)


def inspect(*files: str | os.PathLike[str], timeout: float = TIMEOUT) -> Inspections:
    """Say what ``.tflite`` files really are, and whether they run.

    Parameters
    ----------
    *files : path
    timeout : float
        Seconds that the trial run of each in a child process may take.

    Returns
    -------
    Inspections

    Raises
    ------
    ModelFileError
        If a file cannot be read.

    Examples
    --------
    >>> found = inspect("float.tflite", "int8.tflite")
    >>> found.frame["scheme"].tolist()
    ['float32', 'int8']
    """
    if not files:
        raise SpecError("no file was given; an inspection needs one or more.")
    return Inspections(tuple(inspect_file(file, timeout) for file in files))


def inspect_file(path: str | os.PathLike[str], timeout: float = TIMEOUT) -> dict[str, Any]:
    """The fields of :class:`Identification` and whether it ``runs``, as plain data fit for JSON."""
    graph = read_graph(path)
    result = probe(graph, timeout=timeout)
    described = plain(asdict(identify(graph)))
    described["runs"] = result.status
    if result.message:
        described["warnings"].insert(0, f"the file {result.message}")
    return described
