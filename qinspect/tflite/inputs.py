"""Bridge between the examples of a data file and what each model takes, with the checks."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from qinspect import store
from qinspect.affine import LIMITS, dequantize
from qinspect.data.dataset import Dataset, pieces
from qinspect.data.examples import examples_of
from qinspect.data.sources import Source, read
from qinspect.errors import DataError, SpecError
from qinspect.schema import Array, Arrays
from qinspect.tflite.graph import MOST_HANDING_ON, RESHAPING, Graph, Tensor

T = TypeVar("T")
File = str | os.PathLike[str]
Model = File | bytes | Graph
Examples = str | os.PathLike[str] | Source | Dataset | Arrays | tuple[Arrays, Array]

# A data range this many times as wide as the input's is in other units, not an outlier.
_TOO_WIDE = 2.0
_CLIPPED_SHARE = 0.01
# Units of pixels in use; the ends of an input's range may miss them by so much of their width.
_PIXELS = {"0 to 255": (0.0, 255.0), "0 to 1": (0.0, 1.0), "-1 to 1": (-1.0, 1.0)}
_NEAR = 0.2
_WHOLE = ("int32", "int64", "uint32", "uint16", "bool")
# Data within so few steps of the input's scale are in other units as well.
_TOO_FEW_STEPS = 4


@dataclass(frozen=True)
class Preprocessing:
    """What one model is given: ``scale * x + offset``, and ``y + label_offset``."""

    scale: float = 1.0
    offset: float = 0.0
    label_offset: int = 0  # 1 where class 0 of the model is "background"
    raw: bool = False  # integer x is the stored input itself, not real values to be quantized
    asked: bool = False  # scale and offset were given, so that nothing about them is guessed


def asked_for(
    scale: float | None, offset: float | None, label_offset: int = 0
) -> Preprocessing:
    """What one model is given, from options that may be missing."""
    return Preprocessing(1.0 if scale is None else scale, offset or 0.0, label_offset,
                         asked=scale is not None or offset is not None)


def load_examples(
    data: Examples, graphs: Sequence[Graph] = (), ways: Sequence[Preprocessing] = ()
) -> Dataset:
    """Examples of a source, a data set, x, or (x, y), as the models take them.

    x may be a mapping by input.  How many inputs there are, and size and units of images, come from
    the models that are given, with what is done for each of them.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, (str, os.PathLike)):
        data = Source(data)
    if isinstance(data, Source):
        inputs = [graphs[0].main.tensors[i] for i in graphs[0].main.inputs] if graphs else []
        shape = inputs[0].shape_signature[1:] if len(inputs) == 1 else ()
        found = read(data, inputs=max(1, len(inputs)), shape=shape)
        if found.class_names:
            _check_numbered(found, graphs, ways)
        return _pixels_in_units(found, graphs, ways) if Path(data.path).is_dir() else found
    x, y = data if isinstance(data, tuple) else (data, None)
    given = {**x, "y": y} if isinstance(x, Mapping) else {"x": x, "y": y}
    for key, one in given.items():
        if isinstance(one, np.ma.MaskedArray) and (hidden := int(np.ma.count_masked(one))):
            raise DataError(f"the examples: {key!r} is a masked array with {hidden} of {one.size} "
                            "values hidden; fill them or remove these examples.")
    arrays = ({key: np.asarray(one) for key, one in x.items()} if isinstance(x, Mapping)
              else np.asarray(x))
    return examples_of("the examples", "data", arrays, None if y is None else np.asarray(y))


def _check_numbered(
    data: Dataset, graphs: Sequence[Graph], ways: Sequence[Preprocessing]
) -> None:
    """Refuse names in sorted order that are not as many as the classes of a model."""
    names = len(data.class_names)
    for graph, how in zip(graphs, ways or [Preprocessing()] * len(graphs), strict=True):
        outputs = [graph.main.tensors[i].shape_signature for i in graph.main.outputs]
        if len(outputs) != 1 or len(outputs[0]) != 2 or outputs[0][1] < 2:
            continue
        if names + how.label_offset != outputs[0][1]:
            raise DataError(
                f"{data.name} names {names} classes, but {graph.file} has {outputs[0][1]}, so that "
                "sorted order need not be the model's; store y as numbers, add empty folders for "
                "classes without images, or bridge them with --label-offset."
            )


def _pixels_in_units(
    data: Dataset, graphs: Sequence[Graph], ways: Sequence[Preprocessing]
) -> Dataset:
    """Images of 0..255 in the units that a quantized file's input shows, unless these are given."""
    if any(how.asked or how.raw for how in ways):
        return data
    found: dict[str, str] = {}
    for graph in graphs:
        stored, _ = stored_input(graph, graph.main.tensors[graph.main.inputs[0]])
        affine = stored.affine
        if affine is None or affine.scale.size != 1 or not affine.scale[0] > 0:
            continue
        _, first, last = affine.grid
        for name, (low, high) in _PIXELS.items():
            if max(abs(first - low), abs(last - high)) < _NEAR * (high - low):
                found.setdefault(name, graph.file)
    if len(found) != 1:
        why = ("nothing in the files shows" if not found else
               f"the files differ ({', '.join(f'{found[name]}: {name}' for name in found)}) in")
        way_out = ("give --input-scale 1 for 0 to 255, 0.003921569 for 0 to 1, or 0.007843137 with "
                   "--input-offset -1 for -1 to 1" if graphs else
                   "give an .npz or .npy in the units of the model")
        raise DataError(f"{data.name} holds pixels 0 to 255, and {why} the units they take; "
                        f"{way_out}.")
    ((name, file),) = found.items()
    low, high = _PIXELS[name]
    x = data.array.astype(np.float32)
    # Dividing gives the float32 that everybody's x / 255 gives.
    x = x if name == "0 to 255" else x / np.float32(255 / (high - low)) + np.float32(low)
    said = f"{data.name}: pixels were brought to {name}, the range that the input of {file} holds."
    return replace(data, x=x, notes=(*data.notes, said))


def _per_file(
    option: str, values: Sequence[str], files: int, convert: Callable[[str], T], default: T
) -> list[T]:
    """Values of an option by file, from ``VALUE`` (all) or ``N=VALUE`` (file N from 1)."""
    common, single = default, {}
    for given in values:
        number, equals, text = given.rpartition("=")
        try:
            value = convert(text)
            at = int(number) if equals else 0
        except ValueError:
            raise SpecError(
                f"{option} {given!r} cannot be read; give a value for all files (0.5) or for one "
                "by its number (2=0.5)."
            ) from None
        if not equals:
            common = value
        elif 1 <= at <= files:
            single[at - 1] = value
        else:
            raise SpecError(f"{option} {given!r} names file {at}, but there are {files} files.")
    return [single.get(i, common) for i in range(files)]


def preprocessing_of(
    files: int,
    input_scale: Sequence[str] | None = None,
    input_offset: Sequence[str] | None = None,
    label_offset: Sequence[str] | None = None,
    raw_input: Sequence[int] | None = None,
) -> list[Preprocessing]:
    """One :class:`Preprocessing` for each file, from the options of the command line."""
    scales = _per_file("--input-scale", input_scale or (), files, _finite_number, 1.0)
    offsets = _per_file("--input-offset", input_offset or (), files, _finite_number, 0.0)
    labels = _per_file("--label-offset", label_offset or (), files, int, 0)
    raw = set(raw_input or ())
    for number in raw:
        if not 1 <= number <= files:
            raise SpecError(f"--raw-input names file {number}, but there are {files} files.")
    return [
        Preprocessing(scale, offset, label, number in raw, bool(input_scale or input_offset))
        for number, (scale, offset, label) in enumerate(
            zip(scales, offsets, labels, strict=True), 1
        )
    ]


def _finite_number(text: str) -> float:
    """A finite number from its text; raises ValueError otherwise."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


@overload
def prepare(x: Array, graph: Graph, how: Preprocessing) -> tuple[Array, tuple[str, ...]]: ...
@overload
def prepare(x: Arrays, graph: Graph, how: Preprocessing) -> tuple[Arrays, tuple[str, ...]]: ...
def prepare(x: Arrays, graph: Graph, how: Preprocessing) -> tuple[Arrays, tuple[str, ...]]:
    """Examples in the units of one model's float inputs, float32, checked against them, and notes.

    Arrays by name are matched to the inputs, and come back under the names of these.
    """
    # Ports are built on the preprocessing of this module.
    from qinspect.tflite.ports import ports_of

    ports = ports_of(graph).inputs
    if not isinstance(x, Mapping):
        fed, notes = in_shape(x, graph)
        if len(ports) != 1:
            return fed, notes  # refused, with the names of the inputs, where it is run
        fed, said = _in_units(fed, graph, ports[0].tensor, how)
        return fed, notes + said
    if how.raw or (how.scale, how.offset) != (1.0, 0.0):
        raise SpecError(f"{graph.file} is given several arrays; --input-scale, --input-offset and "
                        "--raw-input are for files with one input.")
    found, notes = in_shape(x, graph)
    for port in ports:
        found[port.name], said = _in_units(found[port.name], graph, port.tensor, how)
        notes += said
    return found, notes


def prepare_all(
    x: Arrays, graphs: Mapping[str, Graph], ways: Sequence[Preprocessing]
) -> tuple[dict[str, Arrays], list[str]]:
    """Examples as each file takes them, by its name, and notes that name the file."""
    fed: dict[str, Arrays] = {}
    notes: list[str] = []
    for (name, graph), how in zip(graphs.items(), ways, strict=True):
        fed[name], said = prepare(x, graph, how)
        notes += [f"{name}: {note}" for note in said]
    return fed, notes


@overload
def in_shape(x: Array, graph: Graph) -> tuple[Array, tuple[str, ...]]: ...
@overload
def in_shape(x: Mapping[Any, Array], graph: Graph
             ) -> tuple[dict[str, Array], tuple[str, ...]]: ...
@overload
def in_shape(x: Arrays, graph: Graph) -> tuple[Arrays, tuple[str, ...]]: ...
def in_shape(x: Arrays, graph: Graph) -> tuple[Arrays, tuple[str, ...]]:
    """Arrays under the names of a model's inputs, axes of length one put in or left out."""
    from qinspect.tflite.ports import example_shape, match_inputs, ports_of

    ports = ports_of(graph).inputs
    if not isinstance(x, Mapping) and len(ports) != 1:
        return x, ()
    found, unused = match_inputs(ports, x, Path(graph.file).name)
    notes = [f"{key!r} is no input of {graph.file} and was left out." for key in unused]
    for port in ports:
        array = found[port.name]
        shape = example_shape(port, array)
        if shape is not None and shape != array.shape[1:]:
            notes.append(f"examples of shape {array.shape[1:]} were given as {shape}.")
            found[port.name] = array.reshape(len(array), *shape)
    return found if isinstance(x, Mapping) else found[ports[0].name], tuple(notes)


def _in_units(
    x: Array, graph: Graph, tensor: Tensor, how: Preprocessing
) -> tuple[Array, tuple[str, ...]]:
    if how.raw:
        return _raw(x, graph, tensor, how), ()
    # Without a change the values stay exactly what they are.
    changed = (how.scale, how.offset) != (1.0, 0.0)
    if not changed and tensor.dtype in _WHOLE:
        return x, ()  # token ids and the like, which float32 would round
    real = _changed(x, how) if changed else x
    if real.dtype.itemsize > 2:  # what is smaller float32 holds, and it is quantized in pieces
        real = real.astype(np.float32, copy=False)
    fit = input_fit(real, graph, tensor)
    if fit is None:
        return real, ()
    # Behind a float input real values may be right and the calibration wrong; integers are pixels.
    if fit.other_units and tensor.affine is None and x.dtype.kind == "f":
        return real, (fit.sentence,)
    if fit.other_units:
        bridge = "bridge them with --input-scale and --input-offset"
        if tensor.affine is not None:
            bridge += ", or --raw-input if x holds stored integers"
        raise DataError(f"the data do not fit {graph.file}: {fit.ranges} in steps of "
                        f"{fit.step:g}; {bridge}.")
    if fit.outside > _CLIPPED_SHARE:
        return real, (f"{100 * fit.outside:.1f} % of the input values are clipped "
                      f"({fit.ranges}).",)
    return real, ()


def _changed(x: Array, how: Preprocessing) -> Array:
    real = np.empty(x.shape, np.float32)
    start = 0
    for part in pieces(x):
        real[start : start + len(part)] = part.astype(np.float64) * how.scale + how.offset
        start += len(part)
    return real


@dataclass(frozen=True)
class InputFit:
    """Values given to an input of a file against those that it can be stored as."""

    ranges: str  # both, in words
    step: float
    outside: float  # share of the values that are clipped
    other_units: bool

    @property
    def sentence(self) -> str:
        """What values in other units may come from."""
        return (f"{self.ranges} in steps of {self.step:g}: either the data are in other units "
                "(--input-scale and --input-offset bridge them), or the file was calibrated so.")


def input_fit(real: Array, graph: Graph, tensor: Tensor) -> InputFit | None:
    """How real values fit an input of a file; None where it is computed with as it comes."""
    stored, where = stored_input(graph, tensor)
    affine = stored.affine
    if affine is None or affine.scale.size != 1 or not affine.scale[0] > 0:
        return None
    step, low, high = affine.grid
    least, most, beyond = math.inf, -math.inf, 0
    for part in pieces(real):
        least = float(np.minimum(least, part.min()))  # NaN stays
        most = float(np.maximum(most, part.max()))
        beyond += int(np.count_nonzero((part < low - step / 2) | (part > high + step / 2)))
    outside = beyond / real.size
    too_wide = most - least >= _TOO_WIDE * (high - low) or most < low or least > high
    too_narrow = 0 < most - least < _TOO_FEW_STEPS * step
    return InputFit(
        f"x runs from {least:g} to {most:g}, {where} holds {low:g} to {high:g}", step, outside,
        (too_wide and outside > _CLIPPED_SHARE) or too_narrow)


def stored_input(graph: Graph, tensor: Tensor) -> tuple[Tensor, str]:
    """What an input is stored as: itself, or what a QUANTIZE behind a float one writes."""
    main = graph.main
    for _ in range(MOST_HANDING_ON):
        users = [op for op in main.operators
                 if tensor.index in op.inputs and op.code != "SHAPE"]
        if tensor.affine is not None or len({op.code for op in users}) != 1:
            break
        if users[0].code not in {*RESHAPING, "QUANTIZE"} or not users[0].outputs:
            break
        tensor = main.tensors[users[0].outputs[0]]
        if users[0].code == "QUANTIZE":
            return tensor, "the QUANTIZE behind its float input"
    return tensor, "its input"


def _raw(x: Array, graph: Graph, tensor: Tensor, how: Preprocessing) -> Array:
    if tensor.dtype not in LIMITS:
        raise SpecError(f"{graph.file} takes {tensor.dtype}; raw integers can only be fed to an "
                        "integer input.")
    if x.dtype.kind not in "iu":
        raise SpecError(f"x is {x.dtype}; only integer x can be fed raw.")
    if (how.scale, how.offset) != (1.0, 0.0):
        raise SpecError(f"{graph.file} is fed raw, so --input-scale and --input-offset cannot "
                        "apply to it.")
    low, high = LIMITS[tensor.dtype]
    if x.min() < low or x.max() > high:
        raise DataError(
            f"x cannot be fed raw to {graph.file}: it runs from {x.min()} to {x.max()}, the "
            f"{tensor.dtype} input holds {low} to {high}."
        )
    affine = tensor.affine
    # Evaluation quantizes real values; these give back exactly the integers they are made of.
    return x if affine is None else dequantize(x, affine, np.float64)


def file_names(files: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Short names that tell the files apart: the file name, with folders where it is not enough."""
    paths = [Path(store.text_of(file)) for file in files]
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{number}: {path}" for number, path in enumerate(paths, 1)]


def named_files(files: File | Sequence[File] | Mapping[str, Model]) -> dict[str, Model]:
    """Files by a short name that tells them apart, or by the names that they were given."""
    if isinstance(files, Mapping):
        return dict(files)
    listed = [files] if isinstance(files, str | os.PathLike) else list(files)
    if not listed:
        raise SpecError("no file was given.")
    return dict(zip(file_names(listed), listed, strict=True))
