"""Remedies for a quantized model, each of one cause and usable alone."""

from __future__ import annotations

from qinspect.train.batchnorm import reestimate_batchnorm
from qinspect.train.warmstart import warm_start_observers

__all__ = ["reestimate_batchnorm", "warm_start_observers"]
