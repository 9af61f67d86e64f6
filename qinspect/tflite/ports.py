"""Inputs and outputs of a file by name, and the values that go in and come out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as fb

from qinspect.affine import Affine, quantize
from qinspect.errors import DataError, ModelFileError, SpecError, unknown_name
from qinspect.schema import Array, Arrays
from qinspect.tflite.graph import Graph, Tensor
from qinspect.tflite.inputs import Preprocessing
from qinspect.tflite.read import DAMAGE, Budget, Damaged, tables, text

FLOATS = {"float32", "float16", "float64"}
INTEGERS = {"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"}
# What NumPy and LiteRT exchange as plain arrays; resources must not even be looked at.
READABLE = FLOATS | INTEGERS | {"bool"}
# Outputs of two files are paired by their values only where that fits them this much better.
_BETTER = 0.5


@dataclass(frozen=True)
class Port:
    """An input or output; ``aliases`` are its other names, ``key`` that in its signature."""

    name: str
    tensor: Tensor
    aliases: tuple[str, ...]
    key: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape with -1 where the graph leaves a dimension open."""
        signature = self.tensor.shape_signature
        return signature if len(signature) == len(self.tensor.shape) else self.tensor.shape


@dataclass(frozen=True)
class Ports:
    """Inputs and outputs in the order of the file; ``signature`` is empty for the main graph."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    subgraph: int = 0
    signature: str = ""


@dataclass(frozen=True)
class Signature:
    """A named entry of a file: tensor indices by name."""

    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


def signatures_of(graph: Graph) -> tuple[Signature, ...]:
    """The signatures of a file whose tensors exist."""
    budget = Budget(graph.size)
    found = []
    try:
        for table in tables(fb.Model.GetRootAs(graph.content, 0), "SignatureDefs", budget):
            sides = [
                {text(m.Name()): m.TensorIndex() for m in tables(table, side, budget)}
                for side in ("Inputs", "Outputs")
            ]
            found.append(Signature(text(table.SignatureKey()), table.SubgraphIndex(), *sides))
    except (Damaged, *DAMAGE) as error:
        raise ModelFileError(f"{graph.file} is damaged: its signatures cannot be read.") from error
    return tuple(
        s for s in found if s.subgraph < len(graph.subgraphs)
        and all(i < len(graph.subgraphs[s.subgraph].tensors)
                for i in (*s.inputs.values(), *s.outputs.values()))
    )


def ports_of(graph: Graph, signature: str = "") -> Ports:
    """Inputs and outputs of a signature, or of the main graph under its signature's names."""
    known = signatures_of(graph)
    if signature:
        chosen = next((s for s in known if s.key == signature), None)
        if chosen is None:
            raise unknown_name(f"signature of {graph.file}", signature, [s.key for s in known])
    else:
        chosen = next((s for s in known if s.subgraph == 0), None)
    at = chosen.subgraph if chosen else 0
    subgraph = graph.subgraphs[at]
    inputs, outputs = list(subgraph.inputs), list(subgraph.outputs)
    if signature and chosen:
        inputs = [i for i in inputs if i in chosen.inputs.values()]
        outputs = [i for i in outputs if i in chosen.outputs.values()]
    return Ports(
        _named(inputs, subgraph.tensors, chosen.inputs if chosen else {}),
        _named(outputs, subgraph.tensors, chosen.outputs if chosen else {}),
        at, signature if at else "",
    )


def _named(indices: list[int], tensors: Sequence[Tensor], names: Mapping[str, int]
           ) -> tuple[Port, ...]:
    found: dict[str, Port] = {}
    for index in dict.fromkeys(indices):
        tensor = tensors[index]
        keys = [key for key, of in names.items() if of == index]
        plain = tensor.name.removeprefix("serving_default_").removesuffix(":0")
        aliases = dict.fromkeys(alias for alias in (*keys, plain, tensor.name) if alias)
        first = next(iter(aliases), f"tensor {index}")
        numbered = (f"{first}#{number}" for number in itertools.count(2))
        name = next(n for n in itertools.chain([first], numbered) if n not in found)
        found[name] = Port(name, tensor, tuple(aliases), keys[0] if keys else "")
    return tuple(found.values())


# --- arrays to inputs ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Feeds:
    """What every input of a file is fed.

    ``arrays`` hold one entry an example; ``lead`` examples make one run of the graph as it stands
    in the file, 0 where an entry is the whole tensor.
    """

    tensors: tuple[int, ...]
    arrays: tuple[Array, ...]
    convert: tuple[Callable[[Array], Array], ...]
    shapes: tuple[tuple[int, ...], ...]
    lead: int
    unused: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrays[0])

    def real(self, tensor: int) -> Array:
        """Values of one input as they were given, float32, in the shape that it takes."""
        at = self.tensors.index(tensor)
        array = np.asarray(self.arrays[at], dtype=np.float32)
        return array.reshape(len(array), *self.shapes[at])

    def take(self, start: int, stop: int) -> list[Array]:
        """Stored values of some examples for every input."""
        return [
            convert(array[start:stop]).reshape(stop - start, *shape)
            for array, convert, shape in zip(self.arrays, self.convert, self.shapes, strict=True)
        ]


def check_inputs(ports: Ports, name: str) -> None:
    """Refuse inputs that no array of numbers can be put into."""
    for port in ports.inputs:
        if port.tensor.dtype == "string":
            raise ModelFileError(
                f"the input {port.name!r} of {name} takes strings, not numbers; give the part of "
                "the network behind its text processing."
            )
        if port.tensor.dtype not in READABLE:
            raise ModelFileError(
                f"the input {port.name!r} of {name} takes {port.tensor.dtype}, not numbers."
            )
    if not ports.inputs:
        raise ModelFileError(f"{name} has no input, so there is nothing to evaluate.")


def feeds_of(ports: Ports, x: Arrays, how: Preprocessing | None, name: str) -> Feeds:
    """Arrays matched to inputs by name, else by a shape that only one of them fits."""
    # Without `how` they are stored values, which nobody need look at.
    how, stored = how or Preprocessing(), how is None
    if len(ports.inputs) > 1 and (how.raw or (how.scale, how.offset) != (1.0, 0.0)):
        raise SpecError(f"{name} has {len(ports.inputs)} inputs; --input-scale, --input-offset and "
                        "--raw-input are for files with one.")
    by_port, unused = match_inputs(ports.inputs, x, name)
    arrays = [by_port[port.name] for port in ports.inputs]
    count = len(arrays[0])
    for port, array in zip(ports.inputs, arrays, strict=True):
        if len(array) != count:
            raise DataError(
                f"the inputs of {name} are given different numbers of examples: "
                f"{ports.inputs[0].name!r} {count}, {port.name!r} {len(array)}."
            )
    if not count:
        raise DataError("there are no examples to evaluate (x is empty).")
    lead, shapes = _shapes(ports.inputs, arrays, name)
    convert = tuple(
        _as_stored(port) if stored else _converter(port, array, how, name)
        for port, array in zip(ports.inputs, arrays, strict=True)
    )
    tensors = tuple(port.tensor.index for port in ports.inputs)
    return Feeds(tensors, tuple(arrays), convert, shapes, lead, unused)


def match_inputs(ports: Sequence[Port], x: Arrays, name: str
                 ) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Arrays by the name of the input that each belongs to, and the names of those left over."""
    if not isinstance(x, Mapping):
        if len(ports) > 1:
            raise DataError(
                f"{name} has {len(ports)} inputs, {_listed(ports)}; give an array for each, by "
                "name."
            )
        return {ports[0].name: _array(x, "x")}, ()
    of_index = {port.tensor.index: port.name for port in ports}
    # Whoever names every input as this kit does is understood at once.
    left = {key if isinstance(key, str) else of_index.get(key, str(key)): _array(values, str(key))
            for key, values in x.items()}
    if left.keys() == set(of_index.values()):
        return left, ()
    found: dict[str, Array] = {}
    for same in (str, str.casefold):
        for port in ports:
            names = {same(alias) for alias in port.aliases} | {same(port.name)}
            key = next((key for key in left if same(key) in names), None)
            if port.name not in found and key is not None:
                found[port.name] = left.pop(key)
    for _ in ports:  # each assignment may make another one unique
        open_ports = [port for port in ports if port.name not in found]
        fits = {port.name: [k for k, v in left.items() if example_shape(port, v) is not None
                            or _whole(port, v) is not None] for port in open_ports}
        for port_name, keys in fits.items():
            if len(keys) == 1 and sum(keys[0] in others for others in fits.values()) == 1:
                found[port_name] = left.pop(keys[0])
                break
    missing = [port for port in ports if port.name not in found]
    if len(missing) == 1 and len(left) == 1:
        found[missing[0].name] = left.pop(next(iter(left)))
    elif missing:
        given = ", ".join(f"{key!r} {v.shape[1:]}" for key, v in left.items()) or "nothing"
        raise DataError(
            f"no array belongs to the {'inputs' if len(missing) > 1 else 'input'} "
            f"{_listed(missing)} of {name} by name or shape; left over is {given}."
        )
    return found, tuple(left)


def _listed(ports: Sequence[Port]) -> str:
    return ", ".join(f"{port.name!r} {_show(port.shape)}" for port in ports)


def _show(shape: Sequence[int]) -> str:
    """A shape with a question mark where a dimension is open."""
    inside = ", ".join("?" if d < 0 else str(d) for d in shape)
    return f"({inside},)" if len(shape) == 1 else f"({inside})"


def _array(values: Array, key: str) -> Array:
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{key} holds {array.dtype} values, not numbers.")
    if array.ndim == 0:
        raise DataError(f"{key} is one number; give an array with one entry an example.")
    return array


def _fits(given: tuple[int, ...], want: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape to feed, taken from the data where open; axes of length one may come and go."""
    if len(given) == len(want) and all(w in (-1, g) for g, w in zip(given, want, strict=True)):
        return given
    solid = tuple(d for d in want if d != 1)
    if -1 not in want and tuple(d for d in given if d != 1) == solid:
        return want
    return None


def example_shape(port: Port, array: Array) -> tuple[int, ...] | None:
    """Shape of one example where the leading dimension of the input counts examples."""
    return _fits(array.shape[1:], port.shape[1:]) if port.shape else None


def _whole(port: Port, array: Array) -> tuple[int, ...] | None:
    """Shape of one example where it is the whole input."""
    return _fits(array.shape[1:], port.shape)


def _shapes(ports: Sequence[Port], arrays: Sequence[Array], name: str
            ) -> tuple[int, tuple[tuple[int, ...], ...]]:
    leads = {port.tensor.shape[0] if port.shape else 0 for port in ports}
    rests = [example_shape(port, array) for port, array in zip(ports, arrays, strict=True)]
    if len(leads) == 1 and 0 not in leads and None not in rests:
        return leads.pop(), tuple(r for r in rests if r is not None)
    shapes = []
    for port, array, rest in zip(ports, arrays, rests, strict=True):
        whole = _whole(port, array)
        if whole is None and rest is not None and port.tensor.shape[0] == 1:
            whole = (1, *rest)
        if whole is None:
            # Without further words where there is only one input and one way to read it.
            what = f"{port.name!r} of {name}" if len(ports) > 1 else name
            wanted = port.tensor.shape if rest is not None else port.shape[1:]
            raise DataError(
                f"each example has shape {array.shape[1:]}, but {what} takes {_show(wanted)}."
            )
        shapes.append(whole)
    return 0, tuple(shapes)


# --- values --------------------------------------------------------------------------------------


def real_values(tensor: Tensor, stored: Array) -> Array:
    """Stored values of an activation as real numbers, float32."""
    if stored.dtype.kind == "f":
        return stored if stored.dtype == np.float32 else stored.astype(np.float32)
    real = stored.astype(np.float32)
    affine = tensor.affine
    if affine is not None and affine.scale.size == 1:
        # In place: this runs over every activation of every example.
        real -= np.float32(affine.zero_point[0])
        real *= np.float32(affine.scale[0])
    return real


def _as_stored(port: Port) -> Callable[[Array], Array]:
    dtype = np.dtype(port.tensor.dtype)
    return lambda part: part.astype(dtype, copy=False)


def _converter(port: Port, array: Array, how: Preprocessing, name: str
               ) -> Callable[[Array], Array]:
    """What makes stored values of a few examples; it runs in cache-sized pieces, many times."""
    dtype = np.dtype(port.tensor.dtype)
    affine = port.tensor.affine
    changed = (how.scale, how.offset) != (1.0, 0.0)

    def finite(part: Array) -> Array:
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            bad = _not_finite(array)
            raise DataError(
                f"{bad} of {len(array)} examples hold NaN or infinite values; remove them."
                if bad else f"values of {port.name!r} are too large for {dtype}."
            )
        return part

    def real(part: Array) -> Array:
        if changed:
            part = part.astype(np.float64) * how.scale + how.offset
        return finite(part.astype(np.float32 if changed else part.dtype, copy=False))

    def whole(part: Array) -> Array:
        """Integers that are fed as they are: token ids, or stored values."""
        part = finite(part) if how.raw else real(part)
        info = np.iinfo(dtype)
        if part.size and (part.min() < info.min or part.max() > info.max):
            raise DataError(
                f"values from {part.min():g} to {part.max():g} do not fit the {dtype} input "
                f"{port.name!r} of {name}, which holds {info.min} to {info.max}."
            )
        stored = part.astype(dtype)
        if part.dtype.kind == "f" and not (stored == part).all():
            raise DataError(
                f"the input {port.name!r} of {name} takes whole numbers ({dtype}); "
                "x holds fractions."
            )
        return stored

    if how.raw:
        if dtype.kind not in "iu":
            raise SpecError(f"{name} takes {dtype}; raw integers can only be fed to an integer "
                            "input.")
        if array.dtype.kind not in "iu":
            raise SpecError(f"x is {array.dtype}; only integer x can be fed raw.")
        if changed:
            raise SpecError(f"{name} is fed raw, so --input-scale and --input-offset cannot "
                            "apply to it.")
        return whole
    if dtype.kind == "f":
        def narrow(part: Array) -> Array:
            with np.errstate(over="ignore"):  # it is refused just below
                return finite(real(part).astype(dtype, copy=False))

        return narrow
    if dtype.kind == "b":
        return lambda part: real(part) != 0
    if affine is not None and affine.scale.size == 1 and affine.scale[0] > 0:
        return lambda part: quantized(real(part), affine)
    return whole


def quantized(x: Array, affine: Affine) -> Array:
    """Integers of finite values, those of ``quantize`` in float64, by float32 where it can be."""
    scale, zero = affine.scale[0], int(affine.zero_point[0])
    low, high = affine.low - zero, affine.high - zero
    if (x.dtype.itemsize > 2 and x.dtype != np.float32) or np.float32(scale) != scale:
        return quantize(x.astype(np.float64), affine)
    x = np.ascontiguousarray(x, dtype=np.float32)
    # Of a quotient that is not clipped anyway the float32 error is below this; only so near to a
    # tie can it round to another integer, and there the quotient is taken again.
    error = 2.0**-23 * (max(abs(low), abs(high)) + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        parts = x / np.float32(scale)
        whole = np.rint(parts)
        parts -= whole
        np.abs(parts, out=parts)
        if not parts.max(initial=0) < 0.5 - error:
            near = np.flatnonzero(~(parts < 0.5 - error))
            whole.reshape(-1)[near] = np.rint(x.reshape(-1)[near].astype(np.float64) / scale)
    np.clip(whole, low, high, out=whole)
    whole += np.float32(zero)
    return whole.astype(np.int8 if affine.low >= -128 and affine.high <= 127 else
                        np.uint8 if affine.low >= 0 and affine.high <= 255 else np.int16)


def _not_finite(array: Array) -> int:
    """Examples with a NaN or infinite value, counted piece by piece."""
    step = max(1, (1 << 20) // max(1, array[0].size))
    return sum(
        int(np.count_nonzero(~np.isfinite(part).reshape(len(part), -1).all(axis=1)))
        for part in (array[at : at + step] for at in range(0, len(array), step))
    )


# --- outputs of several files --------------------------------------------------------------------


def match_outputs(
    ours: Mapping[str, Port],
    theirs: Mapping[str, Port],
    our_values: Mapping[str, Array] | None = None,
    their_values: Mapping[str, Array] | None = None,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Outputs of a second file by those of the first, and what is odd about the pairing.

    Converters change order and names.  Outputs of one shape are paired by name, then by values
    (real, on the same examples) where those are given, then by position.
    """
    found: dict[str, str] = {}
    odd: list[str] = []
    groups: dict[tuple[int, ...], tuple[list[str], list[str]]] = {}
    for side, ports in enumerate((ours, theirs)):
        for name, port in ports.items():
            groups.setdefault(port.tensor.shape[1:], ([], []))[side].append(name)
    for shape, (mine, other) in groups.items():
        if len(mine) != len(other):
            odd.append(
                f"of shape {_show(shape)} there are {len(mine)} outputs in one file, "
                f"{len(other)} in the other."
            )
        pairs = _by_name([ours[n] for n in mine], [theirs[n] for n in other])
        rest = ([n for n in mine if n not in pairs],
                [n for n in other if n not in pairs.values()])
        guess = pairs | dict(zip(*rest, strict=False))
        if our_values is not None and their_values is not None and min(map(len, (mine, other))) > 1:
            best, distance = _by_values(our_values, their_values, mine, other)
            if distance(best) < _BETTER * distance(guess):
                odd.append(
                    f"the outputs {', '.join(map(repr, mine))} are paired by their values, which "
                    "their names and order contradict."
                )
                guess = best
        found |= guess
    position = {name: at for at, name in enumerate(theirs)}
    order = [position[found[name]] for name in ours if name in found]
    if order != sorted(order):
        odd.append("the outputs stand in another order.")
    return {name: found[name] for name in ours if name in found}, tuple(odd)


def _by_name(ours: Sequence[Port], theirs: Sequence[Port]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for port in ours:
        # tfmot's wrapper puts this before the name of the layer that it wraps.
        names = {alias.removeprefix("quant_") for alias in port.aliases}
        same = [p.name for p in theirs if names & {a.removeprefix("quant_") for a in p.aliases}]
        if len(same) == 1 and same[0] not in pairs.values():
            pairs[port.name] = same[0]
    return pairs


def _by_values(
    our_values: Mapping[str, Array], their_values: Mapping[str, Array], mine: list[str],
    other: list[str],
) -> tuple[dict[str, str], Callable[[dict[str, str]], float]]:
    """The pairing of least distance, and the distance of any pairing."""
    from scipy.optimize import linear_sum_assignment

    cost = np.array([[_distance(our_values[a], their_values[b]) for b in other] for a in mine])
    rows, columns = linear_sum_assignment(cost)
    best = {mine[r]: other[c] for r, c in zip(rows, columns, strict=True)}
    return best, lambda pairs: sum(
        float(cost[mine.index(a), other.index(b)]) for a, b in pairs.items()
    )


def _distance(a: Array, b: Array) -> float:
    """Mean absolute difference of some examples, in units of what varies among them."""
    a, b = (np.asarray(v[:256], dtype=np.float64).ravel() for v in (a, b))
    if a.size != b.size:
        return 1e9
    both = np.isfinite(a) & np.isfinite(b)
    spread = np.concatenate([a[both], b[both]]).std() if both.any() else 0.0
    return float(np.abs(a - b)[both].mean() / spread) if spread > 0 else 0.0
