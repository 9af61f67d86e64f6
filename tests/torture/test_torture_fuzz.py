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
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from show_study import write_study
from small_net import SHAPE, small_net

from qinspect.errors import QinspectError

LIMIT = 60.0
KINDS = (".tflite", ".npz", ".csv", ".h5", ".keras", "spec.json", "summary.json", "history.csv")
EXTREMES = (0, 1, 4, 255, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FC00000, 0x7F800000)
VALUES = (None, -1, 0, 1e300, "", "x" * 300, [], {}, True, [[1]], "../../x")


def mutated(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A damaged copy: cut, words overwritten (of flatbuffers offsets and counts), JSON replaced."""
    if kind.endswith(".json") and rng.random() < 0.8:
        return json.dumps(_other(json.loads(content), rng)).encode()
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


def attempt(kind: str, path: Path, verb: str, seeds: Path) -> None:
    """Give a file to what reads it."""
    import qinspect as qi

    float_file, data = seeds / "a.tflite", seeds / "a.npz"
    if verb == "compare":
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
            try:
                attempt(kind, Path(path), verb, seeds)
                answers.send("read")
            except QinspectError as error:
                answers.send("refused" if "\n" not in str(error) else f"lines: {error}")
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
        ended[answer if answer in ("read", "refused") else f"{kind} {verb} {seed}: {answer}"] += 1
        assert sorted(p.name for p in folder.iterdir()) == before, (kind, verb, seed)
    if process is not None and tasks is not None and process.is_alive():
        tasks.send(None)
        process.join(30)
    return ended


@pytest.fixture(scope="module")
def seeds(tmp_path_factory, cases) -> Path:
    """A good file of every kind."""
    folder = tmp_path_factory.mktemp("seeds")
    rng = np.random.default_rng(0)
    (folder / "a.tflite").write_bytes(small_net())
    y = rng.integers(0, 3, 40)
    x = rng.normal(size=(40, *SHAPE)).astype(np.float32)
    np.savez_compressed(folder / "a.npz", x=x, y=y, ptq=y, qat=np.roll(y, 1))
    rows = "\n".join(f"{i},{one},{one},0" for i, one in enumerate(y))
    (folder / "a.csv").write_text(f"id,y,ptq,qat\n{rows}\n")
    shutil.copy(cases / "torture/w_bomb.h5", folder / "a.h5")
    shutil.copy(cases / "torture/badmeta.keras", folder / "a.keras")
    write_study(folder / "study", n=200)
    return folder


def bad(ended: Counter[str]) -> list[str]:
    return [one for one in ended if one not in ("read", "refused")]


def test_a_few_dozen_damaged_files(seeds, tmp_path):
    cases = [(KINDS[i % len(KINDS)], "inspect", i) for i in range(64)]
    ended = run(cases, seeds, tmp_path)
    assert not bad(ended), bad(ended)
    assert sum(ended.values()) == 64


@pytest.mark.torture
def test_five_thousand_damaged_files(seeds, tmp_path):
    count = int(os.environ.get("FUZZ_CASES", "5000"))
    cases = [(KINDS[i % len(KINDS)], "inspect", i) for i in range(count)]
    cases += [(".tflite", ("compare", "diagnose")[i % 2], i) for i in range(count // 10)]
    ended = run(cases, seeds, tmp_path)
    print(f"{sum(ended.values()):,} cases: {ended['read']:,} read, {ended['refused']:,} refused, "
          f"{len(bad(ended))} otherwise")
    assert not bad(ended), "\n".join(bad(ended))
