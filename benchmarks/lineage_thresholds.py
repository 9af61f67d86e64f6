"""The distribution behind the thresholds of ``qinspect.tflite.ancestry``.

Trains small networks on digits, converts them by every recipe, alters them in known ways, and
prints for each relation the range of the measures over layers and the verdicts:

    python benchmarks/lineage_thresholds.py [--models bn_cnn resnet_tiny] [--seeds 0]

The tables in docs/lineage.md are its output.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from qinspect.data import load_dataset, split
from qinspect.tflite.ancestry import lineage
from qinspect.train import (
    build_model,
    convert,
    convert_qat,
    fit,
    fit_qat,
    load_keras,
    quantize_aware,
    reestimate_batchnorm,
    save_keras,
)

HEADER = ("relation", "layers", "cosine (low, median, high)", "SQNR dB", "after factors dB",
          "error / rounding", "after factors", "bias SQNR dB", "verdicts")


def int4(content: bytes) -> bytes:
    """Weights of a float file in 4 bits per channel, by litert-quantizer."""
    from litert_quantizer import quantizer, recipe

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.tflite"
        path.write_bytes(content)
        tool = quantizer.Quantizer(str(path), recipe.dynamic_wi4_afp32())
        with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress there
            return bytes(tool.quantize().quantized_model)


def make_files(name: str, seed: int, folder: Path) -> dict[str, Path]:
    """One family: a parent, its formats, its descendants and a stranger."""
    parts = split(load_dataset("digits"), seed=0)
    shape, classes = parts.train.x.shape[1:], parts.train.num_classes
    calibration = parts.calibration.x[:100]
    files: dict[str, Path] = {}

    def keep(key: str, content: bytes) -> None:
        files[key] = folder / f"{name}_{seed}_{key}.tflite"
        files[key].write_bytes(content)

    def keep_keras(key: str, model: object) -> None:
        files[key] = folder / f"{name}_{seed}_{key}.h5"
        save_keras(model, files[key])

    def train(model: object, epochs: int, rate: float, order: int = 0) -> object:
        fit(model, parts.train, None, epochs=epochs, learning_rate=rate, seed=order)
        return model

    base = train(build_model(name, shape, classes, seed=seed), 3, 1e-3)
    keep_keras("keras", base)
    for recipe in ("float32", "float16", "dynamic_range", "int8", "int8_per_tensor"):
        keep(recipe, convert(base, recipe, calibration))
    keep("int4", int4(files["float32"].read_bytes()))
    settled = load_keras(files["keras"])
    reestimate_batchnorm(settled, parts.train.x[:200])
    keep_keras("bn", settled)
    keep("bn_int8", convert(settled, "int8", calibration))
    for key, epochs, rate in (("tuned_1e-5", 1, 1e-5), ("tuned_1e-4", 1, 1e-4),
                              ("tuned_1e-3", 5, 1e-3)):
        keep_keras(key, train(load_keras(files["keras"]), epochs, rate, 1))
    keep("tuned_int8", convert(load_keras(files["tuned_1e-4"]), "int8", calibration))
    keep("tuned_1e-5_int8", convert(load_keras(files["tuned_1e-5"]), "int8", calibration))
    qat = quantize_aware(base)
    fit_qat(qat, parts.train, None, epochs=1, learning_rate=1e-4, seed=0)
    keep("qat", convert_qat(qat))
    keep_keras("twin", train(build_model(name, shape, classes, seed=seed), 3, 1e-3, 9))
    stranger = train(build_model(name, shape, classes, seed=seed + 100), 3, 1e-3)
    keep_keras("stranger", stranger)
    keep("stranger_int8", convert(stranger, "int8", calibration))
    return files


# Relation in words: pairs of files that stand in it.
RELATIONS = {
    "float, one network": [("keras", "float32")],
    "float16": [("float32", "float16")],
    "dynamic range": [("float32", "dynamic_range")],
    "int8 per channel": [("float32", "int8"), ("keras", "int8")],
    "int8 per tensor": [("float32", "int8_per_tensor"), ("int8", "int8_per_tensor")],
    "int4 per channel": [("float32", "int4"), ("int8", "int4")],
    "batch norm re-estimated, float": [("keras", "bn")],
    "batch norm re-estimated, int8": [("float32", "bn_int8"), ("int8", "bn_int8")],
    "tuned, 1 epoch at 1e-5, float": [("keras", "tuned_1e-5")],
    "tuned, 1 epoch at 1e-5, int8": [("float32", "tuned_1e-5_int8"), ("int8", "tuned_1e-5_int8")],
    "tuned, 1 epoch at 1e-4, float": [("keras", "tuned_1e-4")],
    "tuned, 1 epoch at 1e-4, int8": [("float32", "tuned_int8"), ("int8", "tuned_int8")],
    "tuned, 5 epochs at 1e-3, float": [("keras", "tuned_1e-3")],
    "QAT, 1 epoch at 1e-4": [("float32", "qat"), ("int8", "qat")],
    "same start, other data order": [("keras", "twin")],
    "stranger": [("keras", "stranger"), ("int8", "stranger_int8")],
}


def decibels(values: list[float]) -> str:
    known = [v for v in values if not np.isnan(v)]
    return f"{min(known):.1f} to {max(known):.1f}" if known else "-"


def row(relation: str, families: list[dict[str, Path]]) -> tuple[str, ...]:
    rows, verdicts = [], Counter()
    for files in families:
        for a, b in RELATIONS[relation]:
            found = lineage(files[a], files[b])
            verdicts[found.verdict] += 1
            rows += [layer for layer in found.layers if layer.state != "unmatched"]
    cosines = [r.cosine for r in rows]
    # Decibels of a quotient of amplitudes: 20 log10(error / rounding).
    ratio = [10 ** ((r.rounding_sqnr_db - r.sqnr_db) / 20) for r in rows]
    rescaled = [10 ** ((r.rounding_sqnr_db - r.rescaled_sqnr_db) / 20) for r in rows]
    return (
        relation,
        str(len(rows)),
        f"{min(cosines):.4f}, {np.median(cosines):.4f}, {max(cosines):.4f}",
        decibels([r.sqnr_db for r in rows]),
        decibels([r.rescaled_sqnr_db for r in rows]),
        f"{min(ratio):.3g} to {max(ratio):.3g}",
        f"{min(rescaled):.3g} to {max(rescaled):.3g}",
        decibels([r.bias_sqnr_db for r in rows]),
        ", ".join(f"{n} {v}" for v, n in verdicts.most_common()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["bn_cnn", "depthwise_cnn", "resnet_tiny"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        families = [
            make_files(name, seed, Path(folder))
            for name in arguments.models
            for seed in arguments.seeds
        ]
        print("| " + " | ".join(HEADER) + " |")
        print("|---" * len(HEADER) + "|")
        for relation in RELATIONS:
            print("| " + " | ".join(row(relation, families)) + " |")
    print(f"\n{len(families)} families, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
