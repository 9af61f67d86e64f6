"""The specs of a sweep: every combination of the values of its axes."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect import store
from qinspect.errors import QinspectError, SpecError, StoreError, unknown_name
from qinspect.studies.pool import one_thread, run_on_executor, run_on_processes
from qinspect.studies.run import run_study
from qinspect.studies.spec import StudySpec, input_digests, make_spec
from qinspect.studies.stored import Study

if TYPE_CHECKING:
    from qinspect.train.progress import Progress

_MOST_SEEDS = 100_000


def grid(base: str | Mapping[str, Any] | None = None, **axes: Iterable[Any]) -> list[StudySpec]:
    """Every combination of the axes' values, the last axis changing fastest.

    Parameters
    ----------
    base : str, mapping or None
        What all runs share: the name of a preset, or settings of :class:`StudySpec`, which may
        hold a ``preset`` to start from.
    **axes : iterable
        Fields of :class:`StudySpec`, each with the values to try.

    Returns
    -------
    list of StudySpec

    Raises
    ------
    SpecError
        If a field, a value or the preset is unknown, an axis is empty or a single value, or a
        combination occurs twice.

    Examples
    --------
    >>> len(grid("one-epoch", dataset=["digits", "glyphs"], seed=range(20)))
    40
    """
    shared: dict[str, Any] = {"preset": base} if base is None or isinstance(base, str) else {**base}
    known = {field.name for field in dataclasses.fields(StudySpec)}
    values = {}
    for name, given in axes.items():
        if name not in known:
            raise unknown_name("study setting", name, known)
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise SpecError(f"the axis {name} is {given!r}; give a list of values.")
        # NumPy scalars are not JSON; their Python values are.
        values[name] = [value.item() if hasattr(value, "item") else value for value in given]
        if not values[name]:
            raise SpecError(f"the axis {name} has no values; give at least one.")
    specs = [
        # None is a value here (the data set's own size, say), not "keep the preset's".
        dataclasses.replace(make_spec(**shared), **dict(zip(values, combination, strict=True)))
        for combination in itertools.product(*values.values())
    ]
    check_distinct(specs)
    return specs


def run_key(spec: StudySpec) -> str:
    """Name of a run's files: 16 hexadecimal digits that depend on every setting of the spec."""
    text = json.dumps(spec.to_dict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_distinct(specs: list[StudySpec]) -> None:
    """Refuse an empty list, and the same spec twice.

    Raises
    ------
    SpecError
        In either case.
    """
    if not specs:
        raise SpecError("the sweep has no runs; give at least one spec.")
    keys = [run_key(spec) for spec in specs]
    if len(set(keys)) < len(keys):
        again = next(spec for spec, key in zip(specs, keys, strict=True) if keys.count(key) > 1)
        raise SpecError(
            f"the sweep has the same run twice ({again.dataset}, {again.model}, "
            f"seed {again.seed}); every combination may occur once."
        )


def parse_seeds(text: str) -> list[int]:
    """Seeds from text such as ``0-19`` or ``0,3,10-12``.

    Raises
    ------
    SpecError
        If the text is anything else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part, re.ASCII)
        if not found:
            raise SpecError(f"the seeds are {text!r}; write them as 0-19 or 0,3,10-12.")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last - first >= _MOST_SEEDS:
            raise SpecError(
                f"the seeds {part.strip()!r} are not a range from low to high of at most "
                f"{_MOST_SEEDS:,} seeds."
            )
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise SpecError(f"the seeds {text!r} hold one seed twice.")
    return seeds


# --- its settings, accuracies, gaps and the parts of the gap ------------------------------------

# Name of a gap and its arms (a, b): accuracy of b - accuracy of a.
GAPS = {
    "qat_minus_ptq": ("ptq_int8", "qat"),
    "ptq_minus_float": ("float", "ptq_int8"),
    "qat_minus_float": ("float", "qat"),
    "ptq_ft_minus_ptq": ("ptq_int8", "ptq_int8_ft"),
    "qat_minus_ptq_ft": ("ptq_int8_ft", "qat"),
}
SPEC_COLUMNS = tuple(field.name for field in dataclasses.fields(StudySpec))


def finished_record(key: str, study: Study, seconds: float) -> dict[str, Any]:
    """What is kept of a finished run.

    Parameters
    ----------
    key : str
        Name of the run's files.
    study : Study
        The run.
    seconds : float
        Wall-clock time of the attempt that finished it.

    Returns
    -------
    dict
        JSON-able: ``key``, ``status``, ``spec``, ``results``, ``seconds``, ``error``.
    """
    summary = study.summary
    results: dict[str, Any] = {"n": summary["arms"][0]["n"]}
    for name, (a, b) in GAPS.items():
        found = next(row for row in summary["comparisons"] if (row["a"], row["b"]) == (a, b))
        results[f"{name}_pp"] = found["diff_pp"]
        results[f"{name}_low_pp"], results[f"{name}_high_pp"] = found["ci_pp"]
        # The better arm by name: "b_better" says nothing in a row with five gaps.
        results[f"{name}_verdict"] = {"a_better": a, "b_better": b}.get(
            found["verdict"], found["verdict"]
        )
    for part in summary["decomposition"]:
        name = f"part_{part['id'].replace('-', '_')}"
        results[f"{name}_pp"] = part["diff_pp"]
        results[f"{name}_low_pp"], results[f"{name}_high_pp"] = part["ci_pp"]
    results |= {f"accuracy_{arm['arm']}": arm["accuracy"] for arm in summary["arms"]}
    return _record(key, study.spec, "finished", results, seconds, None)


def failed_record(key: str, spec: StudySpec, seconds: float, error: BaseException | str) -> Any:
    """What is kept of a failed run; the arguments are those of :func:`finished_record`."""
    from qinspect.errors import QinspectError

    text = str(error) or type(error).__name__
    if isinstance(error, BaseException) and not isinstance(error, QinspectError):
        text = f"{type(error).__name__}: {error}"
    return _record(key, spec, "failed", {}, seconds, " ".join(text.split())[:500])


def sweep_frame(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row a record: ``key``, ``status``, the spec, results, ``seconds``, ``error``.

    Settings that hold several names (``skip_layers``, ``recipes``) are joined with spaces.
    Results that a run does not have are NaN.
    """
    rows, columns = [], ["key", "status", *SPEC_COLUMNS]
    for record in records:
        spec = {
            name: " ".join(value) if isinstance(value, list) else value
            for name, value in record["spec"].items()
        }
        columns += [name for name in record["results"] if name not in columns]
        rows.append(
            {
                "key": record["key"],
                "status": record["status"],
                **spec,
                **record["results"],
                "seconds": record["seconds"],
                "error": record["error"],
            }
        )
    return pd.DataFrame(rows, columns=[*columns, "seconds", "error"])


def _record(
    key: str,
    spec: StudySpec,
    status: str,
    results: dict[str, Any],
    seconds: float,
    error: str | None,
) -> dict[str, Any]:
    return {
        "key": key,
        "status": status,
        "spec": spec.to_dict(),
        "results": results,
        "seconds": round(seconds, 3),
        "error": error,
    }


# --- Run many studies on local processes or a cluster; what is finished is  ---------------------


def run_sweep(
    specs: Sequence[StudySpec],
    out: str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    workers: int = 2,
    keep: str = "summary",
    notify: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run every spec that has not finished yet, one row each.

    Parameters
    ----------
    specs : sequence of StudySpec
        The runs, as :func:`grid` makes them.
    out : path
        Folder of the sweep.  Finished runs found there are kept, failed ones are tried again.
        With an executor on other machines it must be a folder that they share.
    executor : concurrent.futures.Executor, optional
        Where to run; ``Client.get_executor()`` of Dask is one.  Local processes when not given.
        It is not shut down.
    workers : int
        Local processes, each held to one thread; not used with ``executor``.
    keep : {"summary", "all"}
        ``summary`` deletes model files and raw outputs of a finished run and keeps its tables,
        its summary and the predictions of every arm.
    notify : callable, optional
        Receives one-line messages; standard error when not given.
    progress : callable, optional
        ``progress(phase, done, total, message)``; chosen for terminal, notebook or log when not
        given.

    Returns
    -------
    DataFrame
        One row a spec, in their order; see :func:`qinspect.study.sweep_row.sweep_frame`.
        ``status`` is ``finished`` or ``failed``, and ``error`` says why.

    Raises
    ------
    SpecError
        If there are no specs, one is there twice, or an option is not allowed.
    StoreError
        If ``out`` cannot be written; finished runs stay and are not run again.
    QinspectError
        If ``executor`` breaks.
    """
    if keep not in ("summary", "all"):
        raise SpecError(f"keep is {keep!r}; choose summary or all.")
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise SpecError(f"workers is {workers!r}; it must be a whole number of at least 1.")
    check_distinct(list(specs))
    say = notify or (lambda text: print(text, file=sys.stderr))
    wanted = {run_key(spec): spec for spec in specs}
    folder = store.prepare_folder(out, parts=("runs",)).absolute()
    with store.locked(folder, say):
        records = read_records(folder, say)
        missing = {
            key: spec
            for key, spec in wanted.items()
            if not _is_finished(folder, records, key, spec)
        }
        if len(missing) < len(wanted):
            say(f"{len(wanted) - len(missing)} of {len(wanted)} runs are finished already.")
        show = _TimeLeft(progress, len(wanted), len(missing))
        for record in _run_missing(missing, folder, executor, workers, keep):
            records[record["key"]] = record
            show(record)
            _write_table(folder, wanted, records)
        _write_table(folder, wanted, records)
    return sweep_frame(records[key] for key in wanted)


def load_sweep(out: str | os.PathLike[str]) -> pd.DataFrame:
    """The table of a sweep, from its records.

    Raises
    ------
    StoreError
        If the folder does not hold a sweep.
    """
    folder = Path(out)
    if not (folder / "runs").is_dir():
        raise StoreError(f"{str(folder)!r} is not a sweep folder: it has no runs in it.")
    return sweep_frame(read_records(folder, lambda text: None).values())


def read_records(folder: Path, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Records of a sweep's folder by key; one that cannot be read counts as missing."""
    records = {}
    for path in sorted((folder / "runs").glob("*.json")):
        try:
            records[path.stem] = store.read_json(path)
        except StoreError as error:
            say(f"{error} The run is done again.")
    return records


def _is_finished(
    folder: Path, records: dict[str, dict[str, Any]], key: str, spec: StudySpec
) -> bool:
    """Whether a run need not be done; results of a file that has changed are thrown away."""
    stored = folder / "runs" / key / "spec.json"
    try:
        changed = stored.exists() and store.read_json(stored).get("digests") != input_digests(spec)
    except QinspectError:
        # The user's file is gone: what was measured on it still holds.
        changed = False
    if changed:
        shutil.rmtree(stored.parent)
    return not changed and records.get(key, {}).get("status") == "finished"


def _run_missing(
    missing: dict[str, StudySpec],
    folder: Path,
    executor: Executor | None,
    workers: int,
    keep: str,
) -> Iterator[dict[str, Any]]:
    """Records as they come in; failures are written here, successes by the worker."""
    tasks = {key: (spec, str(folder), keep) for key, spec in missing.items()}
    if executor is None:
        outcomes = run_on_processes(run_one, tasks, workers)
    else:
        outcomes = run_on_executor(run_one, tasks, executor)
    for key, outcome in outcomes:
        record = outcome
        path = folder / "runs" / f"{key}.json"
        if isinstance(outcome, Exception):
            record = failed_record(key, missing[key], 0.0, outcome)
        elif record["status"] == "finished" and not path.exists():
            record = failed_record(
                key, missing[key], record["seconds"],
                f"the worker wrote its result to {str(path)!r} on its own machine; choose a "
                "folder that all machines share.",
            )
        if record["status"] == "failed":
            store.write_json(path, record)
        yield record


def run_one(spec: StudySpec, out: str, keep: str) -> dict[str, Any]:
    """One run, in a worker process: its record, which is on disk too if it has finished."""
    started = time.perf_counter()
    key = run_key(spec)
    folder = Path(out) / "runs" / key
    with one_thread():
        try:
            study = run_study(
                spec, folder, progress=_silent, notify=lambda text: None, num_threads=1
            )
            record = finished_record(key, study, time.perf_counter() - started)
            if keep == "summary":
                _drop_models(folder)
            # Last of all: a run with a record is never looked at again.
            store.write_json(folder.with_name(f"{key}.json"), record)
        except Exception as error:
            record = failed_record(key, spec, time.perf_counter() - started, error)
    return record


def _drop_models(folder: Path) -> None:
    """Delete what a finished run no longer needs for its tables and for paired tests."""
    shutil.rmtree(folder / "models", ignore_errors=True)
    (folder / "splits.json").unlink(missing_ok=True)
    arrays = store.read_arrays(folder / "predictions.npz")
    kept = {name: values for name, values in arrays.items() if not name.startswith("raw__")}
    store.write_arrays(folder / "predictions.npz", kept)


def _write_table(
    folder: Path, wanted: dict[str, StudySpec], records: dict[str, dict[str, Any]]
) -> None:
    """Rebuild ``sweep.csv``: this sweep's runs in order, then others that share the folder."""
    keys = [key for key in wanted if key in records]
    keys += [key for key in records if key not in wanted]
    store.write_frame(folder / "sweep.csv", sweep_frame(records[key] for key in keys))


def _silent(phase: str, done: int, total: int, message: str) -> None:
    """The runs of a sweep have one progress line together."""


class _TimeLeft:
    """The sweep's progress line."""

    def __init__(self, progress: Progress | None, total: int, missing: int) -> None:
        from qinspect.train.progress import make_progress

        self._show = progress or make_progress()
        self._total, self._missing = total, missing
        self._came, self._failed = 0, 0
        self._started = time.monotonic()
        if missing:
            self._show("sweep", total - missing, total, f"{missing} runs to do")

    def __call__(self, record: dict[str, Any]) -> None:
        self._came += 1
        self._failed += record["status"] == "failed"
        left = self._missing - self._came
        seconds = (time.monotonic() - self._started) / self._came * left
        text = f"{self._came} of {self._missing} runs done"
        text += f", {self._failed} failed" if self._failed else ""
        text += f", about {duration(seconds)} left" if left else ""
        self._show("sweep", self._total - left, self._total, text)


def duration(seconds: float) -> str:
    """A time span to the precision that an estimate has."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
