"""Affine arithmetic, streaming statistics and error metrics: arrays in, tables out.

Names are loaded on first use: the arithmetic needs neither the interpreter nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Affine": "qinspect.measure.affine",
    "ErrorSums": "qinspect.measure.metrics",
    "Grid": "qinspect.measure.metrics",
    "Histogram": "qinspect.measure.histogram",
    "Pair": "qinspect.measure.pairs",
    "StreamingStatistics": "qinspect.measure.streaming",
    "activation_tensors": "qinspect.measure.activations",
    "activation_statistics": "qinspect.measure.activations",
    "affine_parameters": "qinspect.measure.affine",
    "channel_summary": "qinspect.measure.weights",
    "choose_range": "qinspect.measure.ranges",
    "dequantize": "qinspect.measure.affine",
    "error_metrics": "qinspect.measure.metrics",
    "fake_quantize": "qinspect.measure.affine",
    "kmeans_codebook": "qinspect.measure.ranges",
    "layer_errors": "qinspect.measure.local",
    "quantize": "qinspect.measure.affine",
    "recipe_table": "qinspect.measure.recipe",
    "weight_errors": "qinspect.measure.weights",
}

__all__ = [
    "Affine",
    "ErrorSums",
    "Grid",
    "Histogram",
    "Pair",
    "StreamingStatistics",
    "activation_statistics",
    "activation_tensors",
    "affine_parameters",
    "channel_summary",
    "choose_range",
    "dequantize",
    "error_metrics",
    "fake_quantize",
    "kmeans_codebook",
    "layer_errors",
    "quantize",
    "recipe_table",
    "weight_errors",
]

if TYPE_CHECKING:
    from qinspect.measure.activations import activation_statistics, activation_tensors
    from qinspect.measure.affine import (
        Affine,
        affine_parameters,
        dequantize,
        fake_quantize,
        quantize,
    )
    from qinspect.measure.histogram import Histogram
    from qinspect.measure.local import layer_errors
    from qinspect.measure.metrics import ErrorSums, Grid, error_metrics
    from qinspect.measure.pairs import Pair
    from qinspect.measure.ranges import choose_range, kmeans_codebook
    from qinspect.measure.recipe import recipe_table
    from qinspect.measure.streaming import StreamingStatistics
    from qinspect.measure.weights import channel_summary, weight_errors


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'qinspect.measure' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
