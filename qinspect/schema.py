"""The vocabulary that the rooms share: the array type and the columns of every table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
# One array, or one for each input of a model by its name or tensor index.
Arrays = Array | Mapping[Any, Array]

# One row a trained or converted model; no accuracies where the metric is none.
RUNS = ("arm", "file", "scheme", "bytes", "n", "accuracy", "accuracy_low", "accuracy_high")
# One row an epoch of one training.
HISTORY = ("phase", "epoch", "steps", "loss", "accuracy", "val_loss", "val_accuracy",
           "learning_rate", "seconds")
# One row a fake-quantization range at a logged step.
OBSERVERS = ("step", "layer", "tensor", "kind", "min", "max")
# One row a tensor (per tensor statistics) or a channel of it (channel >= 0).
TENSORS = ("file", "layer", "tensor", "kind", "channel", "count", "nan", "inf", "min", "max",
           "mean", "std", "scale", "zero_point", "stored_min", "stored_max",
           "p0_1", "p50", "p99_9", "index")
