"""The fault benchmark: studies with a known cause, diagnosed, and scored as a confusion matrix.

What counts as right is decided here, before any diagnosis is looked at, from the examples alone:

- *opened*: the gap that the diagnosis explains is significant, and the fault has changed it
  significantly towards what it is, by at least half of what it is.  Right is the injected cause as
  the primary one.
- *silent*: the fault opened no gap that a test can tell from chance.  There is nothing to
  explain, so right is ``none`` or ``noise``; whether the fault was still noticed (evidence of
  it was seen) is counted apart.
- *other gap*: a gap is significant, but not by the fault.  Not scored, counted.

A fault of every file is opened whatever the gap is: the evaluation is worth nothing.
``noise`` as an injected cause is opened where the claimed gap is half a point or more and may be
chance.  Pairs are right when evidence of both causes was seen.  Healthy controls are right
when the answer is ``none``, ``undecided`` or ``noise``.

An answer that is not right is *wrong, proved*, *wrong* or, where no cause was claimed,
*cannot tell*.  Every case is diagnosed twice: with everything that a study has, and with files
and examples only.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect import store
from qinspect.causes import all_rules
from qinspect.diagnosis.answer import Diagnosis
from qinspect.diagnosis.engine import diagnose
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.judging import NOTICEABLE
from qinspect.errors import QinspectError
from qinspect.progress import no_progress
from qinspect.show.figure import Figure
from qinspect.show.style import row_height
from qinspect.stats.paired import share_interval
from qinspect.studies.pool import run_on_processes
from qinspect_bench.architectures import HALVES
from qinspect_bench.base import CELLS, Base, Cell, Injected, files_only, make_base
from qinspect_bench.faults import FAULTS, NEEDS, PAIRS, control
from qinspect_bench.rivals import RIVALS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRENGTHS: tuple[str, ...] = ("mild", "strong")
# Healthy cases of each network, in several forms of what a person may have at hand.
CONTROLS: tuple[str, ...] = (
    "study", "equal-budget", "files-only", "two-files", "loose-files", "other-calibration",
    "half-of-examples", "other-half",
)
GIVEN: tuple[str, ...] = ("all", "files")
# One row a case; of the confusion matrix a truth and an answer.
ROW = ("key", "kind", "truth", "strength", "given", "data", "model", "half", "status", "answer",
       "right", "outcome", "noticed", "named", "proved", "gap", "gap_pp", "fault_pp", "seconds",
       "cpu_seconds", *RIVALS, "summary")
CONFUSION = ("half", "truth", "answer", "cases")
# What the benchmark is held to, shares.
TARGETS = {"right first, everything given": 0.90, "right first, files only": 0.75,
           "wrong and proved": 0.02, "false alarms": 0.05}
_HEALTHY = frozenset({"none", "undecided", "noise"})
_CANNOT_TELL = frozenset({"undecided", "unexplained", "noise"})
# In the full benchmark a cause is put into so many networks of either half.
_NETWORKS = 3
# Share of a gap that the fault must have made; less, and something else is the greater part.
_MOST = 0.5
# Cases of one network that a process takes on at once.
_TASK = 10
# More than the default, so that what a busy machine is slow at is not reported as not tried.
_BUDGET_SECONDS = 900.0


@dataclass(frozen=True)
class Plan:
    """One case to be made and diagnosed."""

    kind: str  # ``single``, ``pair`` or ``control``
    truth: tuple[str, ...]  # ids of the injected causes; none for a control
    strength: str  # of all of them, or the form of a control
    cell: Cell
    # Number of this setting among those of the same truth, from which a fault with several variants
    # takes its one.
    variant: int
    given: str  # ``all`` that a study has, or ``files`` and examples only

    @property
    def key(self) -> str:
        """Unique name, fit for a file."""
        what = "+".join(self.truth) or "healthy"
        return f"{what}.{self.strength}.{self.cell.key}.{self.variant}.{self.given}"


def plans(*, full: bool = False) -> tuple[Plan, ...]:
    """The cases of the benchmark, by cell, so that each network is made once.

    The fixed design has every cause once in either half, strengths in turn, every pair in one of
    them, a healthy control of every network; always the network with the fewest cases so far.
    The full one has every cause at both strengths on three networks of either half, and all forms
    of controls.  A new fault in ``FAULTS`` comes in by itself.
    """
    found: list[tuple[str, tuple[str, ...], str, Cell, int]] = []
    for at, cell in enumerate(CELLS):
        forms = CONTROLS if full else (CONTROLS[at % len(CONTROLS)],)
        found += [("control", (), form, cell, 0) for form in forms]
    for number, half in enumerate(HALVES):
        taken = Counter({cell: 0 for cell in CELLS if cell.half == half})
        for at, cause in enumerate(FAULTS):
            strengths = STRENGTHS if full else (STRENGTHS[(at + number) % 2],)
            for more, cell in enumerate(_fewest(taken, (cause,), _NETWORKS if full else 1)):
                found += [("single", (cause,), strength, cell, at + number + more)
                          for strength in strengths]
        for at, pair in enumerate(PAIRS):
            if full or at % 2 == number:
                found += [("pair", pair, "strong", cell, at)
                          for cell in _fewest(taken, pair, 2 if full else 1)]
    return tuple(Plan(*each, given) for each in sorted(found, key=lambda each: (each[3], each))
                 for given in GIVEN)


def _fewest(taken: Counter[Cell], causes: tuple[str, ...], count: int) -> list[Cell]:
    """So many networks that can have the causes, those with the fewest cases so far."""
    needs = frozenset().union(*(NEEDS.get(cause, frozenset()) for cause in causes))
    fitting = [cell for cell in taken if needs <= cell.architecture.traits]
    # Those that fit fewer causes first, so that all get some.
    fitting.sort(key=lambda cell: (taken[cell], len(cell.architecture.traits)))
    taken.update(fitting[:count])
    return fitting[:count]


def inject(base: Base, plan: Plan) -> Injected:
    """The case of a plan, as far as it is given."""
    if plan.kind == "control":
        made = Injected(control(base, base.case, plan.strength), None)
    else:
        case, before = base.case, None
        for at, cause in enumerate(plan.truth):
            made = FAULTS[cause](base, case, plan.strength, plan.variant)
            case = made.case
            before = made.before if at == 0 else before
        made = Injected(case, before)
    return made if plan.given == "all" else _with_files_only(base, made)


def _with_files_only(base: Base, made: Injected) -> Injected:
    """Neither Keras models nor logs; of predictions got elsewhere those of the fault alone."""
    known = list((made.before or base.case).claims.values())
    claims = {role: claim for role, claim in made.case.claims.items()
              if not any(claim is one for one in known)}
    before = None if made.before is None else files_only(made.before)
    return Injected(replace(files_only(made.case), claims=claims), before)


def run_benchmark(
    folder: Path, chosen: Iterable[Plan], *, workers: int = 2,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> pd.DataFrame:
    """Make and diagnose every case that is not done yet; one row a case.

    ``on_row`` is told of every task that is done, and what failed in it.
    """
    store.prepare_folder(folder, ("rows",))
    chosen = list(chosen)
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
        "strength": plan.strength, "given": plan.given, "data": plan.cell.architecture.data,
        "model": plan.cell.model, "half": plan.cell.half,
    }
    made = inject(base, plan)
    started, used = time.perf_counter(), time.process_time()
    try:
        found = diagnose(made.case, num_threads=1, budget=_BUDGET_SECONDS,
                         progress=no_progress, notify=lambda text: None)
    except QinspectError as error:
        return {**row, "status": "failed", "answer": "failed", "right": False,
                "outcome": "failed", "noticed": False, "named": "", "proved": False, "gap": "",
                "gap_pp": None, "fault_pp": None, **dict.fromkeys(RIVALS),
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time() - used, "summary": str(error)}
    seconds, used = time.perf_counter() - started, time.process_time() - used
    changed = fault_effect(made, found)
    status = status_of(plan, found, changed)
    named = [c.rule.id for c in found.ordered() if c.there]
    right = is_right(plan, status, found.primary, named)
    store.write_text(
        base.folder / "made" / f"{plan.key}.json", json.dumps(found.to_json(), indent=1)
    )
    return {
        **row,
        "status": status,
        "answer": found.primary,
        "right": right,
        "outcome": outcome_of(right, found.primary, found.proved),
        "noticed": all(cause in named for cause in plan.truth),
        "named": " ".join(named),
        "proved": found.proved,
        "gap": f"{found.focus.b} - {found.focus.a}",
        "gap_pp": round(found.focus.gap, 3),
        "fault_pp": None if changed is None else round(changed[0], 3),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used, 2),
        **{name: answer(made.case, found.gaps) for name, answer in RIVALS.items()},
        "summary": found.sentence,
    }


def fault_effect(made: Injected, found: Diagnosis) -> tuple[float, float, float] | None:
    """Points by which the fault changed the gap that was explained, with its paired interval."""
    if made.before is None:
        # The examples themselves were changed, so there is no pair.
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
        large = abs(gap.gap) >= NOTICEABLE * gap.margin
        claimed = large and not gap.significant and not gap.equivalent
        return "opened" if claimed else "silent"
    if any(all_rules()[cause].every_file for cause in plan.truth):
        return "opened"
    if not gap.significant:
        return "silent"
    if changed is None:
        return "opened"
    nearer_zero = changed[1] if gap.gap > 0 else -changed[2]
    most = changed[0] / gap.gap >= _MOST
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


def outcome_of(right: bool, answer: str, proved: bool) -> str:
    """``right``, ``cannot tell``, ``wrong`` or ``wrong, proved``."""
    if right:
        return "right"
    if answer in _CANNOT_TELL:
        return "cannot tell"
    return "wrong, proved" if proved else "wrong"


def _row_path(folder: Path, plan: Plan) -> Path:
    return folder / "rows" / f"{plan.key}.json"


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Counts of answers to each truth; faults that opened no gap, and controls, under none."""
    shown = rows[rows["kind"].isin(["single", "control"]) & (rows["status"] != "other gap")]
    truth = shown["truth"].where(shown["status"] == "opened", "none (silent fault)")
    truth = truth.where(shown["kind"] == "single", "none (healthy)")
    counted = shown.assign(truth=truth).groupby(["half", "truth", "answer"], sort=True).size()
    return counted.rename("cases").reset_index()[list(CONFUSION)]


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Shares by half and by what was given, with what they are shares of.

    Cases of one network are not independent: the intervals are score intervals (95 %) whose number
    of cases is divided by the design effect of the networks
    (:func:`qinspect.stats.groups.design_effect`).
    """
    found = []
    for half in HALVES:
        for given in GIVEN:
            part = rows[(rows["half"] == half) & (rows["given"] == given)]
            single = part[part["kind"] == "single"]
            opened, silent = (single[single["status"] == s] for s in ("opened", "silent"))
            pairs, healthy = (part[part["kind"] == kind] for kind in ("pair", "control"))
            # The best of all constant answers.
            commonest = opened["truth"].mode()
            counted = {
                "right first": (opened, opened["right"]),
                "right, silent faults included": (
                    single[single["status"].isin(["opened", "silent"])], single["right"]),
                "wrong and proved": (part, part["outcome"] == "wrong, proved"),
                "wrong, not proved": (part, part["outcome"] == "wrong"),
                "cannot tell": (part, part["outcome"] == "cannot tell"),
                "failed": (part, part["outcome"] == "failed"),
                "right and proved": (opened, opened["proved"] & opened["right"]),
                "silent faults: no cause claimed": (silent, silent["right"]),
                "pairs: both named": (pairs, pairs["right"]),
                "false alarms": (healthy, ~healthy["right"].astype(bool)),
                "rival, one answer for all": (opened, opened["truth"].isin(commonest[:1])),
                **{f"rival, {name}": (opened, opened[name] == opened["truth"])
                   for name in RIVALS},
            }
            found += [{"half": half, "given": given, "score": name, **_share(of, values)}
                      for name, (of, values) in counted.items()]
    return pd.DataFrame(found)


def _share(of: pd.DataFrame, values: pd.Series) -> dict[str, Any]:
    hits = values.reindex(of.index).to_numpy(dtype=bool)
    networks = of["model"].to_numpy()
    low = high = float("nan")
    if len(set(networks.tolist())) > 1:
        low, high = share_interval(hits, 0.95, networks)
    return {"hits": int(hits.sum()), "n": len(hits), "networks": len(set(networks.tolist())),
            "share": float(hits.mean()) if len(hits) else float("nan"), "low": low, "high": high}


def by_cause(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a cause: how many of its cases opened a gap, and were right, in each half."""
    found = []
    for truth, part in rows[rows["kind"] == "single"].groupby("truth", sort=True):
        row: dict[str, Any] = {"truth": truth, "cases": len(part)}
        for half in HALVES:
            here = part[part["half"] == half]
            opened = here[here["status"] == "opened"]
            row[f"{half}_opened"] = len(opened)
            row[f"{half}_right"] = int(opened["right"].astype(bool).sum())
            row[f"{half}_silent"] = int((here["status"] == "silent").sum())
        found.append(row)
    return pd.DataFrame(found)


def misses(rows: pd.DataFrame, half: str) -> list[str]:
    """One line for each answer that is not right: what was injected, what came out, and why."""
    wrong = rows[(rows["half"] == half) & ~rows["right"].astype(bool)]
    return [
        f"{r['key']} ({r['data']}, {r['status']}): {r['outcome']}, answered {r['answer']}; named: "
        f"{r['named'] or 'nothing'}. {r['summary']}"
        for r in wrong.sort_values("key").to_dict("records")
    ]


def confusion_figure(counts: pd.DataFrame) -> Figure:
    """Injected cause against answer: shares of a row, the counts written in."""
    truths = sorted(set(counts["truth"]), key=lambda name: (name.startswith("none"), name))
    given = set(counts["answer"])
    # In one order, so that right answers lie on the diagonal.
    answers = [name for name in truths if name in given] + sorted(given - set(truths))
    table = counts.pivot_table(index="truth", columns="answer", values="cases", aggfunc="sum")
    table = table.reindex(index=truths, columns=answers).fillna(0).astype(int)

    def draw(ax: Axes) -> None:
        import seaborn as sns

        shares = table.div(table.sum(axis=1), axis=0)
        sns.heatmap(shares, annot=table.where(table > 0, "").astype(str), fmt="", cmap="Blues",
                    vmin=0, vmax=1, cbar=False, ax=ax, xticklabels=True, yticklabels=True)
        ax.set_xlabel("answer")
        ax.set_ylabel("injected")

    wrong = [f"{row['truth']} answered as {row['answer']} ({row['cases']})"
             for row in counts.to_dict("records")
             if row["truth"] != row["answer"] and not row["truth"].startswith("none")]
    said = f"{table.to_numpy().sum()} cases of {len(truths)} truths."
    said += f" Taken for something else: {'; '.join(wrong)}." if wrong else ""
    return Figure(draw, said, "Answers to known faults",
                  (row_height(len(answers), 0.36, 3.4), row_height(len(truths), 0.3, 2.4)))
