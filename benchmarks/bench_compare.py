"""`compare` of a float file and its int8 file, beside bare `invoke` of both.

The rest of a comparison is what `evaluate` does not do: reference kernels, errors of layers,
lineage and statistics, which are the side checks. The time of layers is that of the pass itself.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench import (
    Array,
    Missing,
    Row,
    cores,
    data_folder,
    fastest_bare,
    met,
    need,
    paired,
    resnet8,
    span,
)


def rows() -> Iterator[Row | str]:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for prepare in (small, vww, large):
            try:
                yield from of(*prepare(folder))
            except Missing as missing:
                yield Row(f"compare, {prepare.__doc__}", f"not measured: {missing}")


def small(folder: Path) -> tuple[str, list[Path], Path, float]:
    """resnet8"""
    files, x, y = resnet8(2000)
    return ("resnet8, 2,000 images", [files / "float32.tflite", files / "int8.tflite"],
            saved(folder, "resnet8", x, y), 2.5)


def vww(folder: Path) -> tuple[str, list[Path], Path, float]:
    """MobileNetV1-0.25"""
    files = data_folder() / "tflite" / "vww"
    rng = np.random.default_rng(0)
    x = rng.random((1000, 96, 96, 3), dtype=np.float32)
    return ("MobileNetV1-0.25, 1,000 images of noise",
            [files / "vww_96_float.tflite", files / "vww_96_int8.tflite"],
            saved(folder, "vww", x, rng.integers(0, 2, 1000)), 8.0)


def large(folder: Path) -> tuple[str, list[Path], Path, float]:
    """a model of 20 MB"""
    need("tensorflow")
    from qinspect.train import convert
    from qinspect.train.keras import reset, tf_keras

    reset(0)
    model = tf_keras().applications.MobileNetV2(alpha=1.3, weights=None)
    rng = np.random.default_rng(0)
    x = rng.random((200, 224, 224, 3), dtype=np.float32)
    files = [folder / "large_float.tflite", folder / "large_int8.tflite"]
    files[0].write_bytes(convert(model, "float32"))
    files[1].write_bytes(convert(model, "int8", x[:4]))
    size = files[0].stat().st_size / 1e6
    return (f"MobileNetV2-1.3 of {size:.0f} MB, 200 images of noise", files,
            saved(folder, "large", x, rng.integers(0, 1000, 200)), 120.0)


def saved(folder: Path, name: str, x: Array, y: Array) -> Path:
    path = folder / f"{name}.npz"
    np.savez(path, x=x, y=y)
    return path


def of(name: str, files: list[Path], data: Path, most: float) -> Iterator[Row]:
    import qinspect as qi
    from qinspect import comparisons

    with np.load(data) as archive:
        x, y = archive["x"], archive["y"]
    runs = [fastest_bare(file.read_bytes(), x[:64], cores(), (1, 4))[1] for file in files]
    loops = [best(file.read_bytes(), x, what) for file, what in zip(files, runs, strict=True)]
    layers: list[float] = []
    plain = comparisons.layer_rows

    def layer_rows(*given: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return plain(*given, **options)
        finally:
            layers.append(time.perf_counter() - start)

    comparisons.layer_rows = layer_rows
    try:
        timed = paired({
            "compare": lambda: qi.compare(files, data),
            "evaluate": lambda: qi.evaluate(files, data),
            "bare invoke of both": lambda: [loop() for loop in loops],
        }, longest=90)
    finally:
        comparisons.layer_rows = plain
    seconds = timed.median("compare")
    for one, found in zip(timed.found["compare"].numbers["files"],
                          timed.found["bare invoke of both"], strict=True):
        right = np.mean(found.argmax(axis=-1) == y[: len(found)])
        assert len(found) < len(y) or abs(one["accuracy"] - right) < 1e-9, one["name"]
    side = seconds - timed.median("evaluate")
    row = timed.row(f"compare {name}", "compare", "bare invoke of both",
                    check="accuracies equal to those of the bare outputs")
    yield Row(row.work, row.ours, row.peer, row.theirs, row.ratio,
              f"at most {most:g} s: {met(seconds <= most)}", row.check)
    allowed = max(1.0, timed.median("evaluate") / 4) + float(np.median(layers))
    yield Row(f"of it, not in `evaluate`, {name}", span(max(side, 0.0)), "evaluate",
              span(timed.median("evaluate")), f"{100 * side / seconds:.0f} % of compare",
              f"at most {span(allowed)} with layers: {met(side <= allowed)}",
              f"the pass over layers takes {span(float(np.median(layers)))}")


def best(content: bytes, x: Array, what: str) -> Any:
    from bench import bare

    workers, batch = (int(part) for part in what.split(" x batch "))
    return bare(content, x, workers, batch)
