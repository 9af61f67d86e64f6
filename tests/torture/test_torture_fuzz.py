"""Mutated and truncated files: each is read, or refused in one sentence; nothing else happens."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import h5py
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from parts import need_package
from show_study import write_study
from small_net import SHAPE, examples, small_net

from qinspect.errors import QinspectError
from qinspect.measure.activations import observe_ranges
from qinspect.tflite import read_graph
from qinspect.tflite.requantize import quantize_file

LIMIT = 60.0
KINDS = (".tflite", ".npz", ".csv", ".h5", ".keras", "spec.json", "summary.json", "history.csv")
EXTREMES = (0, 1, 4, 255, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FC00000, 0x7F800000)
ENDS = ("read", "refused", "refused later")
VALUES = (None, -1, 0, 1e300, "", "x" * 300, [], {}, True, [[1]], "../../x")


def mutated(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A damaged copy: cut, words overwritten (of flatbuffers offsets and counts), JSON replaced."""
    aware = AWARE.get(kind[kind.rindex("."):])
    if aware is not None and rng.random() < 0.7:
        return aware(content, rng)
    return overwritten(content, rng)


def overwritten(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    if rng.random() < 0.15:
        return bytes(data[: rng.integers(0, len(data))])
    for _ in range(rng.integers(1, 6)):
        # Structure stands at both ends of a flatbuffer and of a zip archive.
        at = int(rng.integers(0, len(data))) if rng.random() < 0.4 else int(
            len(data) * rng.beta(0.5, 0.5))
        at = min(at & ~3, max(0, len(data) - 4))
        word = int(rng.choice(EXTREMES)) if rng.random() < 0.7 else int(rng.integers(0, 2**32))
        data[at : at + 4] = word.to_bytes(4, "little")
    return bytes(data)


def _other(value: Any, rng: np.random.Generator) -> Any:
    """JSON with one part of another kind, gone or too much."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        key = list(value)[rng.integers(len(value))] if isinstance(value, dict) else int(
            rng.integers(len(value)))
        made = value.copy()
        if rng.random() < 0.2:
            del made[key]
        else:
            made[key] = _other(value[key], rng)
        return made
    return VALUES[rng.integers(len(VALUES))]


def json_changed(content: bytes, rng: np.random.Generator) -> bytes:
    return json.dumps(_other(json.loads(content), rng)).encode()


def h5_changed(content: bytes, rng: np.random.Generator) -> bytes:
    """The configuration changed, or an array of another kind, shape or place."""
    memory = io.BytesIO(content)
    with h5py.File(memory, "r+") as file:
        arrays: list[str] = []
        file.visititems(lambda name, one: arrays.append(name) if isinstance(one, h5py.Dataset)
                        else None)
        if "model_config" in file.attrs and rng.random() < 0.7:
            config = json.loads(file.attrs["model_config"])
            file.attrs["model_config"] = json.dumps(_other(config, rng))
            return _closed(file, memory)
        name = arrays[rng.integers(len(arrays))]
        del file[name]
        change = rng.integers(5)
        if change == 0:
            file[name] = h5py.ExternalLink("other.h5", "/x")
        elif change == 1:
            file.create_dataset(name, (10**10,), "f4", chunks=(10**4,))
        elif change == 2:
            file[name] = np.array([b"text"] * 3)
        elif change == 3:
            file[name] = np.full((2, 2), np.nan, "f4")
        return _closed(file, memory)


def _closed(file: h5py.File, memory: io.BytesIO) -> bytes:
    file.close()
    return memory.getvalue()


def archive_changed(content: bytes, rng: np.random.Generator) -> bytes:
    """One member of the archive changed, gone, or another one added."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[rng.integers(len(members))]
    change = rng.integers(12)
    if change == 0:
        del members[name]
    elif change == 1:
        members["../outside"] = members["assets/../../outside"] = b"x"
    elif change == 2:
        members[name] = overwritten(members[name], rng)
    elif name.endswith(".json") or change < 9:
        name = name if name.endswith(".json") and change < 5 else "config.json"
        members[name] = json_changed(members[name], rng)
    else:
        members[name] = h5_changed(members[name], rng)
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, one in members.items():
            archive.writestr(name, one)
    return memory.getvalue()


def flatbuffer_changed(content: bytes, rng: np.random.Generator) -> bytes:
    """A sound flatbuffer that says one or two absurd things."""
    model = fb.ModelT.InitFromPackedBuf(content, 0)
    for _ in range(rng.integers(1, 3)):
        ABSURD[rng.integers(len(ABSURD))](model, rng)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _one(of: Any, rng: np.random.Generator) -> Any:
    return of[rng.integers(len(of))]


def _number(rng: np.random.Generator, wide: bool = False) -> int:
    return int(_one((-1, 0, 1, 2, 7, 999, 2**16, 2**31 - 1, -2**31)
                    + ((2**40, -2**63) if wide else ()), rng))


def _scales(model: Any, rng: np.random.Generator) -> None:
    """Scales that are zero, no numbers, infinite, below zero, or too many or few of them."""
    found = [t.quantization for t in model.subgraphs[0].tensors
             if t.quantization is not None and t.quantization.scale is not None]
    if not found:
        return
    one = _one(found, rng)
    scale = np.array(one.scale, np.float32)
    where = slice(None) if rng.random() < 0.5 else rng.integers(len(scale), size=1)
    change = rng.integers(5)
    if change < 3:
        scale[where] = _one((0, np.nan, np.inf, -np.inf, -1, 1e-45, 3e38), rng)
    elif change == 3:
        scale = np.resize(scale, _one((0, 1, 2, len(scale) + 1, 1000), rng))
    one.scale = scale
    if change == 4:
        size = _one((0, 1, 2, len(scale), len(scale) + 1), rng)
        one.zeroPoint = np.full(size, _number(rng, wide=True), np.int64)
        one.quantizedDimension = _number(rng)


def _shape(model: Any, rng: np.random.Generator) -> None:
    tensor = _one(model.subgraphs[0].tensors, rng)
    shape = list(tensor.shape)
    change = rng.integers(3)
    if change == 0 and shape:
        shape[rng.integers(len(shape))] = _number(rng)
    elif change == 1:
        shape = [*shape, _number(rng)]
    else:
        shape = shape[1:]
    if rng.random() < 0.3:
        tensor.shapeSignature = [_number(rng) for _ in shape]
    tensor.shape = shape


def _type(model: Any, rng: np.random.Generator) -> None:
    tensor = _one(model.subgraphs[0].tensors, rng)
    tensor.type = int(rng.integers(0, 20))
    tensor.isVariable = bool(rng.random() < 0.3)


def _buffer(model: Any, rng: np.random.Generator) -> None:
    """A buffer that does not exist, is another one's, too long or short, outside, no numbers."""
    tensor = _one([t for t in model.subgraphs[0].tensors if t.buffer], rng)
    buffer = model.buffers[min(tensor.buffer, len(model.buffers) - 1)]
    change = rng.integers(4)
    if change == 0:
        tensor.buffer = _one((0, 1, 2, len(model.buffers), 2**32 - 1), rng)
    elif change == 1:
        buffer.offset, buffer.size = abs(_number(rng, True)), abs(_number(rng, True))
    elif buffer.data is not None:
        data = np.array(buffer.data, np.uint8)
        if change == 2:
            buffer.data = np.resize(data, _one((0, 1, 3, len(data) - 1, len(data) + 4), rng))
        else:
            data[: len(data) & ~3].view(np.uint32)[:] = _one((0x7FC00000, 0x7F800000, 1), rng)
            buffer.data = data


def _wiring(model: Any, rng: np.random.Generator) -> None:
    graph = model.subgraphs[0]
    holder, name = _one([(graph, "inputs"), (graph, "outputs"),
                         *((op, name) for op in graph.operators for name in ("inputs", "outputs"))],
                        rng)
    indices = list(getattr(holder, name))
    change = rng.integers(4)
    if change == 0:
        indices = indices[1:]
    elif change == 1 and indices:
        indices[rng.integers(len(indices))] = _number(rng)
    elif indices:
        indices[rng.integers(len(indices))] = int(rng.integers(-1, len(graph.tensors)))
    setattr(holder, name, indices)


def _operators(model: Any, rng: np.random.Generator) -> None:
    """An operator that is another one, stands elsewhere, or has numbers that no kernel takes."""
    graph = model.subgraphs[0]
    operator = _one(graph.operators, rng)
    change = rng.integers(4)
    if change == 0:
        operator.opcodeIndex = _one((0, 1, len(model.operatorCodes), 2**31 - 1), rng)
    elif change == 1:
        code = _one(model.operatorCodes, rng)
        code.builtinCode = int(rng.integers(0, 220))
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    elif change == 2:
        graph.operators = [graph.operators[i] for i in rng.permutation(len(graph.operators))]
    elif operator.builtinOptions is not None:
        names = [name for name, value in vars(operator.builtinOptions).items()
                 if type(value) is int]
        if names:
            name = _one(names, rng)
            small = name in ("padding", "fusedActivationFunction", "weightsFormat",
                             "quantizedBiasType")
            setattr(operator.builtinOptions, name, int(rng.integers(0, 128)) if small
                    else _number(rng))


ABSURD: tuple[Callable[[Any, np.random.Generator], None], ...] = (
    _scales, _scales, _shape, _type, _buffer, _wiring, _operators)
AWARE: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    ".json": json_changed, ".h5": h5_changed, ".keras": archive_changed,
    ".tflite": flatbuffer_changed}


def attempt(kind: str, path: Path, verb: str, seeds: Path) -> None:
    """Give a file to what reads it."""
    import qinspect as qi

    float_file, data = seeds / "float.tflite", seeds / "data.npz"
    if verb == "load":
        from qinspect.train import files, load_keras

        files._LONGEST = 20.0
        load_keras(path)
    elif verb == "compare":
        qi.compare([float_file, path], data)
    elif verb == "diagnose":
        qi.diagnose(qi.case(float=float_file, ptq=path, data=data), interventions=False)
    elif kind == ".tflite":
        qi.inspect(path)
    elif kind in (".npz", ".csv"):
        from qinspect.data.tables import read_columns

        read_columns(path)
        qi.results(path).compare()
    elif kind in (".h5", ".keras"):
        from qinspect.tflite import read_keras

        read_keras(path)
    else:
        study = qi.load(path.parent)
        study.to_json(), study.sentence, study.frame


def serve(tasks: Any, answers: Any, seeds: Path) -> None:
    """A worker that may die: every case it is given, and how that ended."""
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    with contextlib.suppress(EOFError):
        while (case := tasks.recv()) is not None:
            kind, path, verb = case
            refused = "refused"
            try:
                if kind == ".tflite":
                    read_graph(path)
                    refused = "refused later"
                attempt(kind, Path(path), verb, seeds)
                answers.send("read")
            except QinspectError as error:
                answers.send(refused if "\n" not in str(error) else f"lines: {error}")
            except BaseException as error:
                answers.send(f"{type(error).__name__}: {error}"[:300])


def run(cases: list[tuple[str, str, int]], seeds: Path, folder: Path) -> Counter[str]:
    """How cases (kind, verb, seed) ended; what is no refusal is kept by its number."""
    spawn = multiprocessing.get_context("spawn")
    ended: Counter[str] = Counter()
    process, tasks, answers = None, None, None
    for kind, verb, seed in cases:
        if process is None or not process.is_alive():
            (theirs, tasks), (answers, ours) = spawn.Pipe(False), spawn.Pipe(False)
            process = spawn.Process(target=serve, args=(theirs, ours, seeds))
            process.start()
        assert tasks is not None
        assert answers is not None
        path = folder / f"case{kind}"
        if kind in ("spec.json", "summary.json", "history.csv"):
            shutil.rmtree(folder / "study", ignore_errors=True)
            shutil.copytree(seeds / "study", folder / "study")
            path = folder / "study" / kind
        source = seeds / "study" / kind if kind[0] != "." else seeds / f"a{kind}"
        path.write_bytes(mutated(source.read_bytes(), kind, np.random.default_rng(seed)))
        before = sorted(p.name for p in folder.iterdir())
        tasks.send((kind, str(path), verb))
        began = time.monotonic()
        while not answers.poll(0.05) and process.is_alive() and time.monotonic() - began < LIMIT:
            pass
        answer = answers.recv() if answers.poll() else (
            f"killed: {process.exitcode}" if not process.is_alive() else "hangs")
        if answer == "hangs":
            process.kill()
            process.join()
        if answer not in ENDS:
            answer = f"{kind} {verb} {seed}: {answer}"
        elif kind == ".tflite" and answer != "refused":
            ended["past the reader"] += 1
        ended[answer] += 1
        assert sorted(p.name for p in folder.iterdir()) == before, (kind, verb, seed)
    if process is not None and tasks is not None and process.is_alive():
        tasks.send(None)
        process.join(30)
    return ended


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> Path:
    """A good file of every kind."""
    need_package("tensorflow_model_optimization")
    folder = tmp_path_factory.mktemp("seeds")
    rng = np.random.default_rng(0)
    (folder / "float.tflite").write_bytes(small_net())
    graph = read_graph(small_net())
    (folder / "a.tflite").write_bytes(
        quantize_file(graph, observe_ranges(graph, examples(50)).over()))
    y = rng.integers(0, 3, 40)
    x = rng.normal(size=(40, *SHAPE)).astype(np.float32)
    np.savez_compressed(folder / "data.npz", x=x, y=y)
    np.savez_compressed(folder / "a.npz", y=y, ptq=y, qat=np.roll(y, 1))
    rows = "\n".join(f"{i},{one},{one},0" for i, one in enumerate(y))
    (folder / "a.csv").write_text(f"id,y,ptq,qat\n{rows}\n")
    for suffix in (".h5", ".keras"):
        keras_net().save(folder / f"a{suffix}")
    write_study(folder / "study", n=200)
    return folder


def keras_net() -> Any:
    """A layer used twice, a model inside, batch norm, arguments by keyword."""
    from qinspect.train.keras import tf_keras

    keras, layers = tf_keras(), tf_keras().layers
    image, twice = keras.Input(SHAPE), layers.Conv2D(2, 3, padding="same", name="twice")
    inside = keras.Sequential([keras.Input(SHAPE), layers.BatchNormalization(), layers.ReLU()])
    features = twice(inside(twice(image))) + image
    outputs = layers.Dense(4, activation="softmax")(layers.Flatten()(features))
    return keras.Model(image, outputs)


def bad(ended: Counter[str]) -> list[str]:
    return [one for one in ended if one not in (*ENDS, "past the reader")]


def total(ended: Counter[str]) -> int:
    return sum(count for name, count in ended.items() if name != "past the reader")


def test_the_seeds_are_sound(seeds):
    for kind, verbs in ((".tflite", ("inspect", "compare", "diagnose")), (".npz", ("inspect",)),
                        (".csv", ("inspect",)), (".h5", ("inspect", "load")),
                        (".keras", ("inspect", "load"))):
        for verb in verbs:
            attempt(kind, seeds / f"a{kind}", verb, seeds)


@pytest.mark.slow
def test_a_few_dozen_damaged_files(seeds, tmp_path):
    cases = [(KINDS[i % len(KINDS)], "inspect", i) for i in range(64)]
    cases += [((".h5", ".keras")[i % 2], "load", i) for i in range(10)]
    ended = run(cases, seeds, tmp_path)
    assert not bad(ended), bad(ended)
    assert total(ended) == 74


@pytest.mark.torture
def test_five_thousand_damaged_files(seeds, tmp_path):
    count = int(os.environ.get("FUZZ_CASES", "5000"))
    cases = [(KINDS[i % len(KINDS)], "inspect", i) for i in range(count)]
    cases += [(".tflite", ("compare", "diagnose")[i % 2], i) for i in range(count // 10)]
    cases += [((".h5", ".keras")[i % 2], "load", i) for i in range(count // 50)]
    ended = run(cases, seeds, tmp_path)
    flat = sum(kind == ".tflite" for kind, _, _ in cases)
    print(f"{total(ended):,} cases: {ended['read']:,} read, "
          f"{ended['refused'] + ended['refused later']:,} refused, {len(bad(ended))} otherwise; "
          f"of {flat:,} .tflite {ended['past the reader']:,} got past the reader")
    assert not bad(ended), "\n".join(bad(ended))
