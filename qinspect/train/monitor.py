"""What QAT's observers do while it trains, and whether the run is heading for a known cause."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.data.dataset import Dataset
from qinspect.errors import SpecError
from qinspect.measure.ranges import LAYER_SHARE, MEAN_SHIFT, NARROW, STALE_BITS, bits_unused
from qinspect.schema import Array
from qinspect.shown import tell
from qinspect.stats import mcnemar_exact
from qinspect.tflite.origin import OBSERVER_DECAY
from qinspect.tflite.run import evaluate
from qinspect.train.conversion import convert_qat
from qinspect.train.keras import tensorflow, tf_keras
from qinspect.train.observers import ObserverLog, calibrated_ranges
from qinspect.train.remedies import batchnorm_shift
from qinspect.train.training import predict

# One row a check; NaN where it was not asked for.
MONITOR = ("step", "epoch", "start_left", "bits_unused", "bits_unused_at_end", "narrow_share",
           "batchnorm_shift", "keras", "tflite", "agreement", "seconds")
# Of the time so far, what checks between the first epoch and the last may take; chosen.
_CHECKS_SHARE = 1 / 40
# Ranges that move by less than this share in an epoch have settled.
_SETTLED = 0.01
# A gap between Keras and the file that is chance less often than this is told.
_GAP_LEVEL = 1e-3


class QATMonitor(tf_keras().callbacks.Callback):  # type: ignore[misc, name-defined, unused-ignore]
    """A Keras callback that watches QAT and warns when it is heading for a known cause.

    Parameters
    ----------
    calibration : ndarray, shape (n, ...), optional
        Examples in the units of the model's input; the ranges that they give are what the
        observers should come to.  Without them ranges are only logged.
    check : Dataset, optional
        A small set of examples of classes on which the Keras model is held against the ``.tflite``
        file that it would become.
    every : int
        Steps between two such conversions; the first is made at the end of the first epoch.
    share : float
        Share of the time so far that conversions may take together; a later one is left out where
        it would take more.  Ranges and batch norm are measured once an epoch, within a fortieth.
    csv, tensorboard : path, optional
        A file of the checks, and a folder for TensorBoard's scalars.
    stop_when_settled : bool
        End the training when the ranges have settled where calibration would put them.
    notify : callable
        Is given each warning, once.

    Attributes
    ----------
    frame : DataFrame
        Columns ``MONITOR``, one row a check: share of the start values left, bits that the median
        range leaves unused now and, with what is left of them, when training ends, share of layers
        whose range will then be less than half of what flows, shift of the moving means in standard
        deviations (median of channels), accuracy of Keras model and file and their agreement.
    observers : DataFrame
        ``schema.OBSERVERS``: the ranges at some early steps and after each epoch.
    warnings : list of str
        What was told.
    seconds, gap_seconds : float
        What watching took so far, and what conversions and their evaluation took.

    Notes
    -----
    tfmot moves an activation's range by a moving average of decay 0.999, so after t more steps a
    range r that should be c is c + 0.999^t (r - c): where a run ends can be told at its first step.

    Examples
    --------
    >>> from qinspect.data import load_dataset
    >>> from qinspect.train import build_model, fit_qat, quantize_aware
    >>> data = load_dataset("digits", limit=96)
    >>> model = quantize_aware(build_model("mlp", (8, 8, 1), 10, seed=0))
    >>> monitor = QATMonitor(data.x)
    >>> found = fit_qat(model, data, None, epochs=2, learning_rate=1e-3, seed=0, monitor=monitor)
    >>> monitor.frame["step"].tolist()
    [0, 3, 6]
    """

    def __init__(
        self, calibration: Array | None = None, *, check: Dataset | None = None, every: int = 500,
        share: float = 0.1, csv: str | os.PathLike[str] | None = None,
        tensorboard: str | os.PathLike[str] | None = None, stop_when_settled: bool = False,
        notify: Callable[[str], None] = tell,
    ) -> None:
        super().__init__()
        if every < 1:
            raise SpecError(f"every is {every}; choose at least 1 step.")
        if not 0 < share <= 1:
            raise SpecError(f"share is {share:g}; choose above 0 and at most 1.")
        if stop_when_settled and calibration is None:
            raise SpecError("whether ranges have settled is told by calibration examples; "
                            "give calibration.")
        self.calibration, self.check, self.every, self.share = calibration, check, every, share
        self.csv = None if csv is None else Path(csv)
        self.tensorboard, self.stop_when_settled = tensorboard, stop_when_settled
        self.notify = notify
        self.on_check: Callable[[QATMonitor], None] | None = None
        self.warnings: list[str] = []
        self.seconds = self.gap_seconds = 0.0
        self._rows: list[dict[str, float]] = []
        self._said: set[str] = set()
        self._log: ObserverLog | None = None
        self._writer: _Events | None = None
        self._step = self._epoch = 0
        self._wanted: list[tuple[dict[str, Any], float, float]] = []
        self._began = time.perf_counter()

    @property
    def frame(self) -> pd.DataFrame:
        """One row a check."""
        return pd.DataFrame(self._rows, columns=list(MONITOR))

    @property
    def observers(self) -> pd.DataFrame:
        """The ranges at some early steps and after each epoch."""
        if self._log is None:
            raise SpecError("the monitor has seen no training; give it to fit as a callback.")
        return self._log.frame()

    def watch(self, qat_model: Any) -> None:
        """Log the ranges that a model starts with; done by itself when training begins."""
        if self._log is None:
            self._log = ObserverLog(qat_model)

    # --- hooks of Keras --------------------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        """Measure where the ranges should come to, and tell where they will be at the end."""
        del logs
        self.watch(self.model)
        self._began = time.perf_counter()
        if self.tensorboard is not None:
            self._writer = _Events(Path(self.tensorboard))
        if self.calibration is not None:
            self._take(self._ranges)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the step; convert where it is time."""
        del batch, logs
        self._step += 1
        assert self._log is not None
        self._log.after_step()
        if self.check is not None and self._step % self.every == 0 and self._may_convert():
            self._take(self._gap)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Measure everything that was asked for."""
        del logs
        self._epoch = epoch + 1
        assert self._log is not None
        self._log.record()
        parts: list[Callable[[], dict[str, float]]] = []
        last = self._left() == 0
        if self.calibration is not None and (epoch == 0 or last or self._cheap()):
            parts += [self._ranges, self._batchnorm]
        if self.check is not None and (self.gap_seconds == 0 or self._may_convert()):
            parts.append(self._gap)
        if parts:
            before = self._rows[-1] if self._rows else {}
            self._take(*parts)
            if self.stop_when_settled and not last and self._settled(before):
                self.notify(f"step {self._step}: the activation ranges have settled; training "
                            "ends here.")
                self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Close what was opened."""
        del logs
        if self._writer is not None:
            self._writer.close()

    # --- one check -------------------------------------------------------------------------------

    def _take(self, *parts: Callable[[], dict[str, float]]) -> None:
        """One row of the frame, and what follows from it."""
        start, gaps = time.perf_counter(), self.gap_seconds
        row = dict.fromkeys(MONITOR, float("nan"))
        row |= {"step": self._step, "epoch": self._epoch,
                "start_left": OBSERVER_DECAY ** self._step,
                "seconds": start - self._began}
        for part in parts:
            row |= part()
        self._rows.append(row)
        if self.csv is not None:
            store.write_text(self.csv, self.frame.to_csv(index=False))
        if self._writer is not None:
            self._writer.add(self._step, {f"qat/{name}": value for name, value in row.items()
                                          if name not in ("step", "epoch", "seconds")})
        if self.on_check is not None:
            self.on_check(self)
        self.seconds += time.perf_counter() - start - (self.gap_seconds - gaps)

    def _ranges(self) -> dict[str, float]:
        """Bits unused now and at the end, and the share of layers that will be cut off."""
        assert self.calibration is not None
        self._wanted = calibrated_ranges(self.model, self.calibration)
        wanted = np.array([found[1:] for found in self._wanted])
        held = np.array([[float(variables[f"{end}_var"]) for end in ("min", "max")]
                         for variables, _, _ in self._wanted])
        left = OBSERVER_DECAY ** self._left()
        at_end = _after(self._left(), wanted, held)
        now, later = (_unused(wanted, ends) for ends in (held, at_end))
        narrow = float(np.mean(np.ptp(at_end, axis=1) < NARROW * np.ptp(wanted, axis=1)))
        if later > STALE_BITS:
            self._warn("stale", (
                f"QAT's activation ranges leave {now:.1f} of 8 bits unused (median of {len(held)} "
                f"ranges), and {later:.1f} still at the end, where {100 * left:.0f} % of the "
                "distance to where calibration puts them is left. This run is heading for "
                "stale-observers: set the ranges first (warm_start_x of fit_qat, or "
                f"warm_start_observers), or train for {self._needed(wanted, held):,} steps more."))
        elif narrow > LAYER_SHARE:
            self._warn("narrow", (
                f"{100 * narrow:.0f} % of QAT's activation ranges will be less than half of what "
                "flows through them at the end, which will be cut off. This run is heading for "
                "stale-observers: set the ranges first (warm_start_x of fit_qat)."))
        return {"bits_unused": now, "bits_unused_at_end": later, "narrow_share": narrow}

    def _needed(self, wanted: Array, held: Array) -> int:
        """Steps from now after which the median range leaves no more unused than is allowed."""
        for steps in np.unique(np.geomspace(1, 20_000, 200).astype(int)):
            if _unused(wanted, _after(int(steps), wanted, held)) <= STALE_BITS:
                return int(steps)
        return 20_000

    def _batchnorm(self) -> dict[str, float]:
        """How far the moving means are from those of the calibration examples."""
        assert self.calibration is not None
        shift = batchnorm_shift(self.model, self.calibration)
        # Chance is added; positions of one example are alike, so the examples are counted.
        if shift > MEAN_SHIFT + 3 / np.sqrt(len(self.calibration)):
            self._warn("batchnorm", (
                f"the moving means of batch norm are {shift:.2f} standard deviations from those of "
                "the calibration examples (median of channels). This run is heading for "
                "batchnorm-lag: train longer, lower the momentum, or call reestimate_batchnorm "
                "before converting."))
        return {"batchnorm_shift": shift}

    def _gap(self) -> dict[str, float]:
        """The Keras model against the file that it would become."""
        assert self.check is not None
        start = time.perf_counter()
        x, y = self.check.array, self.check.y
        keras = predict(self.model, x).argmax(axis=1)
        file = evaluate(convert_qat(self.model), x, isolated=False).prediction
        assert y is not None
        right, still = keras == y, file == y
        p = mcnemar_exact(int(np.sum(right & ~still)), int(np.sum(~right & still)))
        if p < _GAP_LEVEL:
            self._warn("gap", (
                f"the Keras model is right on {100 * right.mean():.1f} % of {len(y)} examples, its "
                f".tflite on {100 * still.mean():.1f} % (exact McNemar test: p = {p:.2g}). What "
                "is trained is not what is converted: qat-not-applied or kernel-difference."))
        self.gap_seconds += time.perf_counter() - start
        return {"keras": float(right.mean()), "tflite": float(still.mean()),
                "agreement": float(np.mean(keras == file))}

    # --- what may still be done ------------------------------------------------------------------

    def _left(self) -> int:
        """Steps until training ends."""
        params = self.params or {}
        return max(int(params.get("steps") or 0) * int(params.get("epochs") or 1) - self._step, 0)

    def _cheap(self) -> bool:
        checks = max(len(self._rows), 1)
        passed = time.perf_counter() - self._began
        return self.seconds * (1 + 1 / checks) <= _CHECKS_SHARE * passed

    def _may_convert(self) -> bool:
        checks = max(sum(bool(np.isfinite(row["keras"])) for row in self._rows), 1)
        passed = time.perf_counter() - self._began
        return self.gap_seconds * (1 + 1 / checks) <= self.share * passed

    def _settled(self, before: dict[str, float]) -> bool:
        now = self._rows[-1]
        return bool(now["bits_unused"] <= STALE_BITS and now["narrow_share"] <= LAYER_SHARE
                    and abs(now["bits_unused"] - before.get("bits_unused", np.nan)) < _SETTLED)

    def _warn(self, kind: str, sentence: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            total = self._step + self._left()
            self.warnings.append(f"step {self._step} of {total}: {sentence}")
            self.notify(self.warnings[-1])


def _after(steps: int, wanted: Array, held: Array) -> Array:
    """Ranges after more steps; that of the input takes all values, and starts with no width."""
    later = wanted + OBSERVER_DECAY**steps * (held - wanted)
    return np.where(np.ptp(held, axis=1, keepdims=True) > 0, later, wanted)


def _unused(wanted: Array, held: Array) -> float:
    """Bits that the median range leaves unused; of no width, as the input starts, it has none."""
    some = np.ptp(held, axis=1) > 0
    return float(np.median(bits_unused(*wanted[some].T, *held[some].T)))


class _Events:
    """Scalars in the form that TensorBoard reads, which need not be installed here."""

    def __init__(self, folder: Path) -> None:
        self._tf = tensorflow()
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{os.getpid()}.qat"
        self._writer = self._tf.io.TFRecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")

    def add(self, step: int, values: dict[str, float]) -> None:
        """One point of each curve; NaN was not measured."""
        make = self._tf.compat.v1.Summary
        points = [make.Value(tag=tag, simple_value=value) for tag, value in values.items()
                  if np.isfinite(value)]
        self._write(step=step, summary=make(value=points))

    def _write(self, **content: Any) -> None:
        event = self._tf.compat.v1.Event(wall_time=time.time(), **content)
        self._writer.write(event.SerializeToString())
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()
