"""The metrics by name, with a number in the name where there is one, and the user's own."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from qinspect.errors import DataError, QinspectError, SpecError, unknown_name
from qinspect.metrics import classes, detection, maps, numbers
from qinspect.metrics.metric import Metric
from qinspect.named import named_object

_POINTS: dict[str, Any] = {"unit": "points", "direction": "higher", "scale": 100.0}
_LOWER: dict[str, Any] = {"direction": "lower", "margin": None}

ACCURACY = Metric("accuracy", "accuracy", kind="example", score=classes.right, classes=True,
                  **_POINTS)
METRICS: dict[str, Metric] = {one.id: one for one in (
    ACCURACY,
    Metric("top5", "top-5 accuracy", kind="example", score=partial(classes.in_top, k=5),
           classes=True, **_POINTS),
    Metric("binary-accuracy", "binary accuracy", kind="example",
           score=classes.binary_right, **_POINTS),
    Metric("auc", "AUC", kind="set", score=classes.auc, weighted=True,
           **_POINTS),
    Metric("f1", "F1", kind="set", score=classes.f1, weighted=True, **_POINTS),
    Metric("mae", "mean absolute error", "units of y", kind="example",
           score=numbers.absolute_error, **_LOWER),
    Metric("mse", "mean squared error", "squared units of y", kind="example",
           score=numbers.squared_error, **_LOWER),
    Metric("relative-error", "mean relative error", "points", "lower", "example",
           numbers.relative_error, scale=100.0),
    Metric("r2", "R2", "", "higher", "set", numbers.r2, margin=0.01, weighted=True),
    Metric("log-loss", "log loss", "nats", kind="example", score=classes.log_loss, classes=True,
           **_LOWER),
    Metric("ece", "expected calibration error", "points", "lower", "set", classes.ece, scale=100.0,
           classes=True, weighted=True),
    Metric("brier", "Brier score", "", kind="example", score=classes.brier, classes=True, **_LOWER),
    Metric("miou", "mean IoU", kind="example", score=maps.mean_iou, **_POINTS),
    Metric("pixel-accuracy", "pixel accuracy", kind="example", score=maps.pixel_accuracy,
           **_POINTS),
    Metric("map", "mean average precision", kind="set", score=detection.mean_precision,
           weighted=True, reduce=detection.detections, all_outputs=True, resamples=999, **_POINTS),
    Metric("anomaly-auc", "AUC of the reconstruction error", kind="set",
           score=classes.auc, weighted=True, reduce=numbers.reconstruction, **_POINTS),
    Metric("cosine", "cosine similarity", "", "higher", "example", numbers.cosine, margin=0.01),
    Metric("reconstruction", "reconstruction error", "squared units of x", kind="example",
           score=numbers.own_error, reduce=numbers.reconstruction, needs_y=False, **_LOWER),
)}

# Of files on examples without labels, which are held against the float file's own answers.
AGREEMENT = replace(ACCURACY, id="agreement", title="agreement with the float file")
DIFFERENCE = replace(METRICS["mae"], id="difference", unit="units of the output",
                     title="mean absolute difference from the float file")


def metric(name: str) -> Metric:
    """The metric of a name.

    Parameters
    ----------
    name : str
        One of ``METRICS``; ``topK`` for any K; ``binary-accuracy@T`` and ``f1@T`` with a threshold
        T; or ``module:name`` of a :class:`Metric` or of a function ``score(y, output)`` of your
        own.  A function needs an attribute ``direction`` ("higher" or "lower") and may have
        ``unit``, ``title``, ``scale`` and ``kind`` ("example", the default, for one score an
        example, or "set" for a statistic of all).

    Returns
    -------
    Metric

    Raises
    ------
    SpecError
        If the name is not known, or what it names is no metric.

    Examples
    --------
    >>> metric("top3").title, metric("f1@0.3").id
    ('top-3 accuracy', 'f1@0.3')
    """
    if name in METRICS:
        return METRICS[name]
    if ":" in name:
        return _own(name)
    if top := re.fullmatch(r"top([1-9]\d*)", name):
        k = int(top[1])
        return replace(METRICS["top5"], id=name, title=f"top-{k} accuracy",
                       score=partial(classes.in_top, k=k))
    base, at, threshold = name.partition("@")
    if at and base in ("binary-accuracy", "f1"):
        try:
            value = float(threshold)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise SpecError(f"the threshold {threshold!r} of {base} is no number; write it as in "
                            f"{base}@0.3.")
        one = METRICS[base]
        return replace(one, id=name, title=f"{one.title} at {value:g}",
                       score=partial(one.score, threshold=value))
    raise unknown_name("metric", name, METRICS)


def _own(name: str) -> Metric:
    """A metric that somebody wrote."""
    found = named_object(name)
    if isinstance(found, Metric):
        return found
    direction = getattr(found, "direction", None)
    if not callable(found) or direction not in ("higher", "lower"):
        raise SpecError(f"{name} is neither a qinspect.metrics.Metric nor a function with an "
                        "attribute direction, 'higher' or 'lower', that says which is better.")
    title = getattr(found, "title", name.rpartition(":")[2].replace("_", " "))
    kind: Any = getattr(found, "kind", "example")
    if kind not in ("example", "set"):
        raise SpecError(f"{name} has kind {kind!r}; it must be 'example' or 'set'.")
    return Metric(name, title, getattr(found, "unit", ""), direction, kind, _told(name, found),
                  scale=float(getattr(found, "scale", 1.0)), margin=getattr(found, "margin", None))


def _told(name: str, score: Callable[..., Any]) -> Callable[..., Any]:
    """Somebody's function, whose errors are told in a sentence."""

    def told(y: Any, output: Any) -> Any:
        try:
            return score(y, output)
        except QinspectError:
            raise
        except Exception as error:
            raise DataError(f"{name} fails on y of shape {np.shape(y)} and outputs of shape "
                            f"{np.shape(output)} ({type(error).__name__}: {error}); mend this "
                            "function.") from error

    return told
