"""Task metrics: what a model's outputs are worth, an example at a time or over a set."""

from qinspect.metrics.metric import Metric, towards
from qinspect.metrics.registry import ACCURACY, AGREEMENT, DIFFERENCE, METRICS, metric

__all__ = ["ACCURACY", "AGREEMENT", "DIFFERENCE", "METRICS", "Metric", "metric", "towards"]
