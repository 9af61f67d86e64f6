"""QATMonitor: it says where a run will end, changes nothing, and keeps to its budget."""

from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd
import pytest
from parts import need_package
from train_models import copied, digits, trained

from qinspect.errors import SpecError
from qinspect.train import QATMonitor, fit_qat, quantize_aware, warm_start_observers
from qinspect.train.observers import calibrated_ranges, observers

need_package("tensorflow_model_optimization")
pytestmark = pytest.mark.slow


@cache
def narrow() -> Any:
    """``mlp`` whose hidden activations are 16 times smaller, the function unchanged."""
    model = copied("mlp")
    for name, into, out in (("dense1", 1 / 16, 1 / 16), ("dense2", 1, 1 / 16), ("logits", 16, 1)):
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([kernel * into, bias * out])
    return model


@cache
def run(kind: str, **options: Any) -> tuple[Any, QATMonitor | None, list[str]]:
    """One epoch of QAT: from tfmot's start, or with ranges set first."""
    said: list[str] = []
    model = quantize_aware(narrow())
    monitor = None if kind == "unwatched" else QATMonitor(
        digits().calibration.x, check=digits().validation, notify=said.append, **options)
    fit_qat(model, digits().train, None, epochs=1, learning_rate=3e-4, seed=5, monitor=monitor,
            warm_start_x=digits().calibration.x if kind == "warm" else None)
    return model, monitor, said


def test_the_warning_comes_before_the_first_step_and_never_in_a_healthy_run() -> None:
    _, stale, said = run("cold")
    assert stale is not None
    assert len(said) == 1
    assert said[0].startswith("step 0 of ")
    assert "stale-observers" in said[0]
    _, healthy, quiet = run("warm")
    assert healthy is not None
    assert quiet == healthy.warnings == []
    assert healthy.frame["bits_unused_at_end"].max() < 0.5 < stale.frame["bits_unused"].min()


def test_what_it_says_of_the_end_is_what_the_ranges_are_at_the_end() -> None:
    _, monitor, _ = run("cold")
    assert monitor is not None
    first, last = monitor.frame.iloc[0], monitor.frame.iloc[-1]
    assert last["bits_unused"] == pytest.approx(first["bits_unused_at_end"], abs=0.1)
    assert last["bits_unused"] == last["bits_unused_at_end"]  # nothing is left to train
    assert last["start_left"] == pytest.approx(0.999 ** last["step"])


def test_watching_changes_no_bit_of_what_is_trained() -> None:
    plain, _, _ = run("unwatched")
    watched, _, _ = run("cold")
    for one, other in zip(plain.get_weights(), watched.get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()


def test_wanted_ranges_are_those_of_a_warm_start() -> None:
    model = quantize_aware(trained("mlp"))
    x = digits().calibration.x
    wanted = {id(variables["min_var"]): ends for variables, *ends in calibrated_ranges(model, x)}
    before = model.get_weights()
    for one, other in zip(before, model.get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()
    warm_start_observers(model, x)
    for seen in observers(model):
        if seen.kind == "activation" and id(seen.variables["min_var"]) in wanted:
            assert seen.range == pytest.approx(wanted[id(seen.variables["min_var"])])


def test_checks_are_written_as_csv_and_for_tensorboard(tmp_path) -> None:
    import tensorflow as tf

    from qinspect.show.widgets import QATWatch

    model = quantize_aware(trained("mlp"))
    monitor = QATMonitor(digits().calibration.x, check=digits().validation, every=10, share=1.0,
                         csv=tmp_path / "qat.csv", tensorboard=tmp_path / "events",
                         notify=lambda said: None)
    watch = QATWatch(monitor)
    fit_qat(model, digits().train, None, epochs=1, learning_rate=3e-4, seed=5, monitor=monitor)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "qat.csv"), monitor.frame,
                                  check_dtype=False)
    assert monitor.frame["keras"].notna().sum() >= 2
    assert "31" in watch.table.value
    assert bytes(watch.figure.image.value[:4]) == b"\x89PNG"
    assert (monitor.frame["agreement"].dropna() > 0.8).all()
    (file,) = (tmp_path / "events").iterdir()
    found = {event.step: value.simple_value
             for event in tf.compat.v1.train.summary_iterator(str(file))
             for value in event.summary.value if value.tag == "qat/bits_unused"}
    rows = monitor.frame.dropna(subset=["bits_unused"]).set_index("step")["bits_unused"]
    assert found == pytest.approx(rows.to_dict(), rel=1e-6)


def test_a_run_whose_ranges_have_settled_ends() -> None:
    said: list[str] = []
    model = quantize_aware(trained("mlp"))
    monitor = QATMonitor(digits().calibration.x, stop_when_settled=True, notify=said.append)
    history, _ = fit_qat(model, digits().train, None, epochs=6, learning_rate=1e-6, seed=5,
                         warm_start_x=digits().calibration.x, monitor=monitor)
    assert len(history) < 6
    assert "settled" in said[-1]


@pytest.mark.parametrize(("options", "word"), [
    ({"every": 0}, "every"), ({"share": 0.0}, "share"), ({"stop_when_settled": True}, "settled")])
def test_what_makes_no_sense_is_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(SpecError, match=word):
        QATMonitor(**options)
