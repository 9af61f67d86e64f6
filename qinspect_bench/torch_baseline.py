"""The simple baseline of the forums: PyTorch's dynamic quantization of linear layers.

    python -m qinspect_bench.torch_baseline --study study-mlp --out data/torch_baseline.csv

trains the network of a finished ``mlp`` study again in PyTorch, on the same split, with the same
batches and the same kind of initial weights, quantizes its linear layers dynamically, and writes
what both say beside what the study's TFLite files say, for ``qinspect significance``.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.data.dataset import Splits
from qinspect.errors import DataError, QinspectError, SpecError, require_extra
from qinspect.schema import Array
from qinspect.studies.run import load_splits, run_study
from qinspect.studies.spec import StudySpec, make_spec
from qinspect.studies.stored import Study, load_study

# Arms of the study that stand beside PyTorch's, and their columns.
TFLITE_ARMS: dict[str, str] = {
    "float": "tflite_float",
    "ptq_dynamic_range": "tflite_dynamic_range",
    "ptq_int8": "tflite_int8",
}


def torch_baseline(study: Study) -> pd.DataFrame:
    """Predictions of a PyTorch ``mlp``, its dynamically quantized copy and the study's arms."""
    # Weights start from Glorot's uniform distribution (Glorot & Bengio 2010) as in Keras, drawn by
    # PyTorch's generator, so the numbers differ from those of the Keras model.
    spec = study.spec
    if spec.model != "mlp":
        raise SpecError(f"the study is of the model {spec.model!r}; the baseline is for 'mlp'.")
    splits = load_splits(spec)
    if not np.array_equal(splits.test.ids, study.arrays["id"]):
        raise DataError("the study was tested on other examples than the data set gives now.")
    model = _train(splits, spec)
    columns: dict[str, Array] = {
        "id": splits.test.ids,
        "y": splits.test.labels,
        "torch_float": _predict(model, splits.test.array),
        "torch_dynamic": _predict(_quantize(model), splits.test.array),
    }
    columns |= {column: study.prediction(arm) for arm, column in TFLITE_ARMS.items()}
    return pd.DataFrame(columns)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise require_extra("torch", "torch", "the PyTorch baseline") from error
    return torch


def _network(inputs: int, classes: int) -> Any:
    """The zoo's ``mlp`` without its softmax, which the loss brings."""
    nn = _torch().nn
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, 96), nn.ReLU(), nn.Linear(96, 48), nn.ReLU(),
        nn.Linear(48, classes),
    )
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def _train(splits: Splits, spec: StudySpec) -> Any:
    """A trained network; Adam, loss, rates and batches are those of the study's float model."""
    from qinspect.train.training import batch_order

    torch = _torch()
    torch.manual_seed(spec.seed)
    train = splits.train
    model = _network(int(np.prod(train.array.shape[1:])), train.num_classes)
    x, y = torch.from_numpy(np.asarray(train.array, np.float32)), torch.from_numpy(train.labels)
    adam = torch.optim.Adam(model.parameters(), lr=spec.float_lr, eps=1e-7)
    for epoch in range(spec.float_epochs):
        order = torch.from_numpy(batch_order(len(train), spec.seed, epoch))
        for batch in order.split(spec.batch_size):
            adam.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            adam.step()
    return model.eval()


def _quantize(model: Any) -> Any:
    """Weights of the linear layers as int8, their inputs quantized while running."""
    torch = _torch()
    with warnings.catch_warnings():
        # PyTorch announces that this function moves to another package; the forums use this one.
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(
            model, {torch.nn.Linear}, dtype=torch.qint8
        )


def _predict(model: Any, x: Array) -> Array:
    torch = _torch()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = model(torch.from_numpy(np.asarray(x, np.float32))).numpy()
    if not np.isfinite(scores).all():
        raise DataError("the PyTorch network gives NaN or infinite scores.")
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def _study(folder: Path, seed: int) -> Study:
    """The study in a folder; it is run first where there is none."""
    if folder.exists():
        return load_study(folder)
    return run_study(make_spec(model="mlp", seed=seed), folder)


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0, or 2 with one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m qinspect_bench.torch_baseline",
                                     description=__doc__.split("\n")[0])
    parser.add_argument("--study", type=Path, default=Path("study-mlp"),
                        help="study of the mlp; run first if the folder is missing")
    parser.add_argument("--out", type=Path, default=Path("torch_baseline.csv"))
    parser.add_argument("--seed", type=int, default=0, help="of a study that is run first")
    given = parser.parse_args(arguments)
    try:
        _torch()
        frame = torch_baseline(_study(given.study, given.seed))
        store.write_frame(given.out, frame)
    except QinspectError as error:
        print(f"torch_baseline: {error}", file=sys.stderr)
        return 2
    print(f"{os.fspath(given.out)}: {len(frame)} test examples; "
          f"next: qinspect significance {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
