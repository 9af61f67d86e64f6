"""Sweeps: studies over all combinations of some settings, on local processes or a cluster."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from qinspect import store
from qinspect.errors import QinspectError, SpecError, unknown_name
from qinspect.progress import Progress, make_progress, no_progress
from qinspect.shown import tell
from qinspect.studies.pool import (
    dask_executor,
    one_thread,
    refuse_in_worker_import,
    run_on_executor,
    run_on_processes,
)
from qinspect.studies.run import run_study
from qinspect.studies.spec import StudySpec, input_digests, make_spec
from qinspect.studies.stored import (
    RESULT_FILES,
    Sweep,
    failed_record,
    finished_record,
    read_records,
    sweep_frame,
)

Records = dict[str, dict[str, Any]]
_MOST_SEEDS = 100_000


def sweep(
    spec: StudySpec | Iterable[StudySpec] | str, *,
    seeds: Iterable[int] | str = range(20), out: str | os.PathLike[str] = "sweep",
    workers: int = 2, dask: str | None = None, new_splits: bool = False, keep: str = "summary",
    notify: Callable[[str], None] | None = None, progress: Progress | None = None,
) -> Sweep:
    """Repeat studies with other seeds: how often would PTQ beat QAT?

    Parameters
    ----------
    spec : StudySpec, iterable of StudySpec, or str
        What is repeated: one study or several, as :func:`grid` makes them, or a preset's name.
    seeds : iterable of int, or str
        Training seeds; as text ``0-19`` or ``0,3,10-12``.
    out : path
        Folder of the sweep.  Finished runs found there are kept, failed ones are tried again.
    workers : int
        Local processes, each held to one thread.
    dask : str, optional
        Address of a Dask scheduler, such as ``tcp://host:8786``, to run on instead; ``out`` must
        then be a folder that its machines share.
    new_splits : bool
        Draw other test examples for each seed, too.  Without it all runs share those of the
        spec's ``split_seed`` (0 by default), so that they can be paired example by example.
    keep : {"summary", "all"}
        ``summary`` deletes the model files of a finished run and keeps its tables, its summary and
        the predictions of every arm.
    notify, progress : callable, optional
        As in :func:`qinspect.studies.run.run_study`.

    Returns
    -------
    Sweep
        Failed runs are rows of it, which say why.

    Raises
    ------
    SpecError
        If there is no spec or seed, a run is there twice, or an option is not allowed.
    StoreError
        If ``out`` cannot be written; finished runs stay and are not run again.

    Examples
    --------
    >>> small = make_spec("one-epoch", model="mlp", train_size=100, test_size=100, recipes=())
    >>> found = sweep(small, seeds="3", workers=1, out="small-sweep")
    >>> found.frame[["status", "model", "seed"]].to_dict("records")
    [{'status': 'finished', 'model': 'mlp', 'seed': 3}]
    """
    if isinstance(spec, str):
        spec = make_spec(spec)
    chosen = [spec] if isinstance(spec, StudySpec) else list(spec)
    numbers = parse_seeds(seeds) if isinstance(seeds, str) else list(seeds)
    specs = [
        dataclasses.replace(one, seed=seed, split_seed=None if new_splits else one.split_seed or 0)
        for one in chosen for seed in numbers
    ]
    told: dict[str, Any] = {"keep": keep, "notify": notify, "progress": progress}
    if dask is None:
        return run_sweep(specs, out, workers=workers, **told)
    with dask_executor(dask) as executor:
        return run_sweep(specs, out, executor=executor, **told)


def grid(base: str | Mapping[str, Any] | None = None, **axes: Iterable[Any]) -> list[StudySpec]:
    """Every combination of the axes' values over shared settings, the last axis fastest.

    ``base`` is the name of a preset, or settings, which may hold a ``preset`` to start from.

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
    """Refuse an empty list, and the same spec twice."""
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
    """Seeds from text such as ``0-19`` or ``0,3,10-12``."""
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


def run_sweep(
    specs: Sequence[StudySpec], out: str | os.PathLike[str], *, executor: Executor | None = None,
    workers: int = 2, keep: str = "summary", notify: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Run every spec that has not finished yet, on local processes or on an open executor."""
    refuse_in_worker_import()
    if keep not in ("summary", "all"):
        raise SpecError(f"keep is {keep!r}; choose summary or all.")
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise SpecError(f"workers is {workers!r}; it must be a whole number of at least 1.")
    check_distinct(list(specs))
    say = notify or tell
    wanted = {run_key(spec): spec for spec in specs}
    folder = store.prepare_folder(out, parts=("runs",)).absolute()
    with store.locked(folder, say):
        records = read_records(folder, say)
        missing = {key: spec for key, spec in wanted.items()
                   if not _is_finished(folder, records, key, spec)}
        if len(missing) < len(wanted):
            say(f"{len(wanted) - len(missing)} of {len(wanted)} runs are finished already.")
        show = _TimeLeft(progress, len(wanted), len(missing))
        for record in _run_missing(missing, folder, executor, workers, keep):
            records[record["key"]] = record
            show(record)
            _write_table(folder, wanted, records)
        _write_table(folder, wanted, records)
    return Sweep(sweep_frame(records[key] for key in wanted), folder)


def _is_finished(folder: Path, records: Records, key: str, spec: StudySpec) -> bool:
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
    missing: dict[str, StudySpec], folder: Path, executor: Executor | None, workers: int,
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
            study = run_study(spec, folder, progress=no_progress, notify=lambda text: None,
                              num_threads=1)
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
    # The marker goes first: killed in between, the folder is as readable as before or after.
    store.mark_done(folder, "summary", {"digests": {
        name: store.digest(folder / name) for name in RESULT_FILES if name != "predictions.npz"}})
    kept = {name: values for name, values in arrays.items() if not name.startswith("raw__")}
    store.write_arrays(folder / "predictions.npz", kept)


def _write_table(folder: Path, wanted: dict[str, StudySpec], records: Records) -> None:
    """Rebuild ``sweep.csv``: this sweep's runs in order, then others that share the folder."""
    keys = [key for key in wanted if key in records]
    keys += [key for key in records if key not in wanted]
    store.write_frame(folder / "sweep.csv", sweep_frame(records[key] for key in keys))


class _TimeLeft:
    """The sweep's progress line."""

    def __init__(self, progress: Progress | None, total: int, missing: int) -> None:
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
