"""Remedies that train are told from luck: by simulation, by real trainings, by what is written."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnose_cases import calibration, case, data, float_graph, int8, ranges

from qinspect.diagnosis.answer import CLOSED_SHARE, Effect
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.replicates import LOOKS, closed, measure_replicates
from qinspect.diagnosis.retrain import Maker, Materials, Training, _in_others, side_by_side
from qinspect.diagnosis.rule import Trial
from qinspect.errors import TrainError
from qinspect.studies.pool import Tasks, processes
from qinspect.tflite import evaluate
from qinspect_bench.coverage_remedies import Setting, simulated


def test_shams_are_seldom_confirmed_and_remedies_mostly() -> None:
    """Simulated by the function that decides; data/remedy_coverage.csv has more of it."""
    none, all_of_it = (simulated(Setting(449, effect), 300) for effect in (0.0, 10.0))
    assert none["confirmed"] <= 0.04
    assert all_of_it["confirmed"] >= 0.85
    assert all_of_it["runs"] <= 4.7
    # Of 300 trials, three standard errors.
    assert min(none["covered"], all_of_it["covered"]) > 0.95 - 0.038
    alike = simulated(Setting(449, 0.0, sham_spreads=False), 300)
    assert alike["confirmed"] <= 0.04


def test_what_few_groups_show_is_not_taken_for_more() -> None:
    """Six groups of 75 examples: the interval holds, and is wider than of 450 examples alone."""
    six, alone = (simulated(Setting(450, 0.0, groups=groups), 150) for groups in (6, 0))
    assert six["covered"] > 0.95 - 0.054
    assert six["width"] > 1.5 * alone["width"]
    right = np.random.default_rng(0).random((2, 3, 60)) < 0.5
    right[1] = right[0]
    nothing = closed(*right.astype(float), 0.2, 0.95, groups=np.arange(60) // 12, bound=1.0)
    # Nothing differs in five groups: it says as little as five examples do.
    assert nothing.interval[1] > 0.4
    assert not nothing.confirmed


def evidence() -> Evidence:
    good = case(int8(ranges(calibration())), calibration_x=calibration())
    return Evidence(dataclasses.replace(
        good, qat_graph=int8(ranges(calibration() * np.float32(0.2)))))


_NOTHING = Materials(Path("none.h5"), None, 0, None, None)
# Which of the two a run is of is told by the rate, which nothing here is trained at.
TRIAL = Trial("putting some answers right", again={"qat": Training("qat", rate_factor=2.0)},
              sham={"qat": Training("qat")})


def maker(answers: Callable[[bool, int], Any], backwards: bool = False) -> Maker:
    """Answers by whether they are those of the remedy, and by the order of batches."""

    def make(trainings: Sequence[Training], until: float) -> Iterator[tuple[Training, Any]]:
        for one in reversed(trainings) if backwards else trainings:
            if time.perf_counter() >= until:
                raise TimeoutError
            yield one, answers(one.rate_factor == 2.0, one.seed_shift)

    return make


def measured(remedy: float, luck: float, deadline: float | None = None,
             backwards: bool = False) -> Effect | str:
    """QAT's answers with a share of them put right: ``remedy`` of them, and a little by luck."""
    kept = evidence()
    own, y = kept.own_answers("qat"), kept.data.labels

    def mended(of_remedy: bool, order: int) -> Any:
        rng = np.random.default_rng(order)
        share = (remedy if of_remedy else 0.3) + luck * rng.normal()
        return np.where(rng.random(len(y)) < share, y, own)

    return measure_replicates(
        kept, kept.comparison("ptq", "qat"), TRIAL, cause="x", make=maker(mended, backwards),
        deadline=time.perf_counter() + 600 if deadline is None else deadline, say=print)


def test_an_effect_is_what_closes_beyond_the_same_again() -> None:
    found = measured(0.8, 0.02)
    assert isinstance(found, Effect)
    gap = evidence().comparison("ptq", "qat").gap
    assert found.confirmed
    assert found.runs == LOOKS[0]
    # Of the wrong answers 80 % are put right with the remedy, 30 % without.
    assert found.closed_share == pytest.approx(0.5, abs=0.1)
    assert found.luck == pytest.approx(0.3 * gap, rel=0.2)
    assert found.interval[0] < found.amount < found.interval[1]
    assert len(found.numbers["of_each_run_pp"]) == found.runs


def test_what_is_made_first_changes_nothing() -> None:
    for luck in (0.02, 0.3):
        assert measured(0.6, luck) == measured(0.6, luck, backwards=True)


def test_luck_alone_is_not_shown_and_ends_early() -> None:
    found = measured(0.3, 0.1)
    assert isinstance(found, Effect)
    assert not found.confirmed
    assert found.closed_share < CLOSED_SHARE


def test_without_time_for_three_runs_nothing_is_claimed() -> None:
    said = measured(0.8, 0.02, deadline=time.perf_counter() - 1)
    assert isinstance(said, str)
    assert "for lack of time" in said


def test_the_same_in_the_unit_of_a_metric_and_over_groups() -> None:
    wanted = evaluate(float_graph(), data().x).outputs
    told = dataclasses.replace(data(), y=wanted, num_classes=0, group=np.arange(len(wanted)) // 4)
    kept = Evidence(dataclasses.replace(evidence().case, data=told, metric="mae"))
    own = kept.own_answers("qat")

    def nearer(of_remedy: bool, order: int) -> Any:
        return own + ((0.9 if of_remedy else 0.2) + 0.01 * (order % 3)) * (wanted - own)

    gap = kept.comparison("ptq", "qat")
    found = measure_replicates(kept, gap, TRIAL, cause="x", make=maker(nearer),
                               deadline=time.perf_counter() + 600, say=print)
    assert isinstance(found, Effect)
    assert found.confirmed
    # The error is linear in how near the outputs are brought.
    assert found.amount == pytest.approx(0.7 * kept.results().value("qat"), rel=0.05)


def test_where_no_process_may_be_started_it_goes_on_here_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was made before is not made again, so that nothing is trained here."""
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    kept = Evidence(dataclasses.replace(evidence().case, keras_float=Path("float.h5")))
    known = [Training("qat", seed_shift=order) for order in range(4)]
    for one in known:
        kept.once(one.key, lambda order=one.seed_shift: order)
    told: list[str] = []
    with side_by_side(kept, 2, told.append) as make:
        for _ in range(2):
            assert list(make(known, 0.0)) == [(one, one.seed_shift) for one in known]
        with pytest.raises(TimeoutError):
            list(make([Training("qat", seed_shift=9)], 0.0))
    assert told == ["Trainings run one after the other in this process: cannot start worker "
                    "processes: this process is a daemon, which may have none."]


@pytest.mark.slow
def test_what_a_training_failed_of_comes_over_from_another_process() -> None:
    kept = Evidence(dataclasses.replace(evidence().case, keras_float=Path("none.h5")))
    with side_by_side(kept, 2, print) as make, pytest.raises(TrainError, match=r"none\.h5"):
        list(make([Training("ptq")], time.perf_counter() + 600))


def end_at_once(given: None, training: Training) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_training_whose_process_dies_is_told_and_not_tried_in_this_one() -> None:
    def run(job: object, tasks: Tasks, until: float) -> Iterator[tuple[str, Any]]:
        return others(end_at_once, {key: (None, one) for key, (_, one) in tasks.items()}, until)

    with processes(1) as others, pytest.raises(TrainError, match="the worker process died twice"):
        list(_in_others(evidence(), run, _NOTHING, [Training("qat")], time.perf_counter() + 600))
