"""The fault benchmark: studies with a known cause, diagnosed, and scored as a confusion matrix.

What counts as right is decided here, before any diagnosis is looked at, from the examples alone:

- *opened*: the gap that the diagnosis explains is significant, and the fault has changed it
  significantly towards what it is, by at least half of what it is.  Right is the injected cause as
  the primary one.
- *silent*: the fault opened no gap that a test can tell from chance.  There is nothing to
  explain, so right is ``none`` or ``noise``; whether the fault was still noticed (evidence of
  it was seen) is counted apart.
- *other gap*: a gap is significant, but not by the fault.  Not scored, counted.

``noise`` as an injected cause is opened where the claimed gap is half a point or more and may be
chance.  Pairs are right when evidence of both causes was seen.  Healthy controls are right
when the answer is ``none`` or ``noise``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from qinspect import store
from qinspect.causes import all_rules
from qinspect.diagnosis.answer import Diagnosis
from qinspect.diagnosis.engine import NOTICEABLE_PP, diagnose
from qinspect.diagnosis.evidence import Evidence
from qinspect.errors import QinspectError
from qinspect.studies.pool import run_on_processes
from qinspect_bench import faults_evaluation as evaluation
from qinspect_bench import faults_files as files
from qinspect_bench import faults_training as training
from qinspect_bench.faults_base import Base, Inject, Injected, make_base
from qinspect_bench.faults_design import ARCHITECTURES, CELLS, Cell, Plan, design

# The function that injects a cause bears its name.
FAULTS: dict[str, Inject] = {
    cause: getattr(module, cause.replace("-", "_"))
    for cause in all_rules()
    for module in (evaluation, files, training)
    if hasattr(module, cause.replace("-", "_"))
}
# Faults that not every architecture can have.
_WITH_BATCHNORM = ("bn_cnn", "depthwise_cnn")
SINGLE: dict[str, tuple[str, ...]] = {
    cause: _WITH_BATCHNORM if cause == "batchnorm-lag" else ARCHITECTURES for cause in FAULTS
}
# The first is injected first: what is made later is made from what the earlier one left.
PAIRS: tuple[tuple[str, str], ...] = (
    ("batchnorm-lag", "calibration-outliers"),
    ("stale-observers", "calibration-shift"),
    ("qat-learning-rate", "calibration-outliers"),
    ("calibration-shift", "evaluation-mismatch"),
    ("calibration-outliers", "bias-saturation"),
    ("different-network", "argmax-ties"),
)
ROW = ("key", "kind", "truth", "strength", "dataset", "model", "seed", "half", "status", "answer",
       "right", "noticed", "named", "proved", "gap", "gap_pp", "fault_pp", "seconds", "cpu_seconds",
       "summary")
_HEALTHY = frozenset({"none", "noise"})
# Share of a gap that the fault must have made; less, and something else is the greater part.
_MOST = 0.5
# Cases of one network that a process takes on at once.
_TASK = 10
# More than the default, so that what a busy machine is slow at is not reported as not tried.
_BUDGET_SECONDS = 900.0


def plans() -> tuple[Plan, ...]:
    """Every case of the benchmark."""
    return design(SINGLE, PAIRS)


def inject(base: Base, plan: Plan) -> Injected:
    """The case of a plan."""
    if plan.kind == "control":
        return Injected(evaluation.control(base, base.case, plan.strength), None)
    case, before = base.case, None
    for at, cause in enumerate(plan.truth):
        made = FAULTS[cause](base, case, plan.strength, plan.variant)
        case = made.case
        before = made.before if at == 0 else before
    return Injected(case, before)


def run_benchmark(
    folder: Path,
    *,
    keys: Iterable[str] | None = None,
    workers: int = 2,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> pd.DataFrame:
    """Make and diagnose every case that is not done yet.

    Parameters
    ----------
    folder : Path
        Scratch folder; rows are written there one by one, and an interrupted run goes on.
    keys : iterable of str, optional
        Only these plans.
    workers : int
        Processes of one thread each.
    on_row : callable, optional
        Told of every task that is done, and what failed in it.

    Returns
    -------
    DataFrame
        Columns :data:`ROW`, one row a case.
    """
    store.prepare_folder(folder, ("rows",))
    wanted = None if keys is None else set(keys)
    chosen = [plan for plan in plans() if wanted is None or plan.key in wanted]
    todo = {cell: [p for p in chosen if p.cell == cell and not _row_path(folder, p).exists()]
            for cell in CELLS}
    # Short tasks, so that a process gives TensorFlow's memory back from time to time; in turn over
    # the cells, because only one process can make the base of a cell.
    tasks: dict[str, tuple[Any, ...]] = {
        f"{cell.key}/{start}": (str(folder), cell, cases[start : start + _TASK])
        for start in range(0, max(map(len, todo.values())), _TASK)
        for cell, cases in todo.items()
        if start < len(cases)
    }
    for key, result in run_on_processes(work, tasks, workers, runs_per_process=6):
        if on_row is not None:
            on_row({"task": key, "result": str(result)})
    rows = [store.read_json(_row_path(folder, p)) for p in chosen if _row_path(folder, p).exists()]
    return pd.DataFrame(rows, columns=list(ROW))


def work(folder: str, cell: Cell, todo: list[Plan]) -> str:
    """Make and diagnose some cases of one cell; the job of a worker process."""
    from filelock import FileLock

    root = Path(folder)
    failed = []
    with FileLock(root / f"{cell.key}.lock"):
        base = make_base(cell, root)
    for plan in todo:
        try:
            store.write_json(_row_path(root, plan), diagnosed(base, plan))
        # A mistake in one injector or rule must not cost the cases behind it.
        except Exception as error:
            failed.append(f"{plan.key}: {type(error).__name__}: {error}")
    return "; ".join([f"{len(todo) - len(failed)} of {len(todo)} cases", *failed])


def diagnosed(base: Base, plan: Plan) -> dict[str, Any]:
    """One row of the benchmark."""
    row: dict[str, Any] = {
        "key": plan.key, "kind": plan.kind, "truth": "+".join(plan.truth) or "none",
        "strength": plan.strength, "dataset": plan.cell.dataset, "model": plan.cell.model,
        "seed": plan.cell.seed, "half": plan.cell.half,
    }
    made = inject(base, plan)
    started, used = time.perf_counter(), time.process_time()
    try:
        found = diagnose(made.case, num_threads=1, budget=_BUDGET_SECONDS)
    except QinspectError as error:
        return {**row, "status": "failed", "answer": "failed", "right": False, "noticed": False,
                "named": "", "proved": False, "gap": "", "gap_pp": None, "fault_pp": None,
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time() - used, "summary": str(error)}
    seconds, used = time.perf_counter() - started, time.process_time() - used
    changed = fault_effect(made, found)
    status = status_of(plan, found, changed)
    named = [c.rule.id for c in found.ordered() if c.there]
    store.write_text(
        base.folder / "made" / f"{plan.key}.json", json.dumps(found.to_json(), indent=1)
    )
    return {
        **row,
        "status": status,
        "answer": found.primary,
        "right": is_right(plan, status, found.primary, named),
        "noticed": all(cause in named for cause in plan.truth),
        "named": " ".join(named),
        "proved": found.proved,
        "gap": f"{found.focus.b} - {found.focus.a}",
        "gap_pp": round(found.focus.diff_pp, 3),
        "fault_pp": None if changed is None else round(changed[0], 3),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used, 2),
        "summary": found.sentence,
    }


def fault_effect(made: Injected, found: Diagnosis) -> tuple[float, float, float] | None:
    """Points by which the fault changed the gap that was explained, with its paired interval.

    None where the examples themselves were changed, so that there is no pair.
    """
    if made.before is None:
        return None
    after, before = Evidence(made.case, 1).results(), Evidence(made.before, 1).results()
    a, b = found.focus.a, found.focus.b
    healthy = {f"{role} before": before.scores(role) for role in (a, b)}
    return after.with_outputs(**healthy).contrast(
        {b: 1.0, a: -1.0, f"{b} before": -1.0, f"{a} before": 1.0})


def status_of(plan: Plan, found: Diagnosis, changed: tuple[float, float, float] | None) -> str:
    """``healthy``, ``opened``, ``silent`` or ``other gap``; see the head of this file."""
    if plan.kind == "control":
        return "healthy"
    gap = found.focus
    if plan.truth == ("noise",):
        claimed = abs(gap.diff_pp) >= NOTICEABLE_PP and not gap.significant and not gap.equivalent
        return "opened" if claimed else "silent"
    if not gap.significant:
        return "silent"
    if changed is None:
        return "opened"
    nearer_zero = changed[1] if gap.diff_pp > 0 else -changed[2]
    most = changed[0] / gap.diff_pp >= _MOST
    return "opened" if nearer_zero > 0 and most else "other gap"


def is_right(plan: Plan, status: str, answer: str, named: list[str]) -> bool:
    """Whether a diagnosis gave the right answer; see the head of this file."""
    if plan.kind == "pair":
        return all(cause in named for cause in plan.truth)
    if status == "opened":
        return answer == plan.truth[0]
    if status == "other gap":
        return answer not in plan.truth
    return answer in _HEALTHY


def _row_path(folder: Path, plan: Plan) -> Path:
    return folder / "rows" / f"{plan.key}.json"
