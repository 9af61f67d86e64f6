"""Finished studies and sweeps, read back from their folders; nothing here needs TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.errors import DataError, QinspectError, StoreError, unknown_name
from qinspect.measure.layer_tables import EXAMPLES, Layers, layer_tables
from qinspect.metrics import ACCURACY, Metric
from qinspect.metrics import metric as named_metric
from qinspect.predictions import Results
from qinspect.progress import Progress, no_progress
from qinspect.schema import HISTORY, OBSERVERS, RUNS, Array
from qinspect.shown import Shown
from qinspect.stats import SeedComparison, wilson_interval
from qinspect.studies.arms import ASKED, QUESTION
from qinspect.studies.spec import StudySpec
from qinspect.tflite.sandbox import open_model
from qinspect.verdicts import counted

# Columns of a sweep's table: name of a gap and its arms (a, b), accuracy of b - accuracy of a.
GAPS = {
    "qat_minus_ptq": QUESTION,
    "ptq_minus_float": ("float", "ptq_int8"),
    "qat_minus_float": ("float", "qat"),
    "ptq_ft_minus_ptq": ("ptq_int8", "ptq_int8_ft"),
    "qat_minus_ptq_ft": ("ptq_int8_ft", "qat"),
}
_SPEC_COLUMNS = tuple(field.name for field in fields(StudySpec))
# Two runs that differ in these alone repeat one experiment.
_REPEATS = ("seed", "split_seed")
# Folder of a study's repeats with other seeds.
REPEATS = "repeats"
# Trainings that an answer about ways of training takes: three contradict those of twenty seeds too
# often (``docs/intervals.md``).
USUAL_REPEATS = 5
# What a study ends with; its last marker tells their content.
RESULT_FILES = ("spec.json", "predictions.npz", "runs.csv", "history.csv", "observers.csv",
                "summary.json")
_AGAIN = ("restore it, or delete steps/summary.json there and run 'qinspect study' with the same "
          "settings and --out, which makes it again.")
_SHAPELESS = (LookupError, TypeError, ValueError, AttributeError, StopIteration)
# Arms whose layers are shown.
_LAYER_ARMS = ("float", "ptq_int8", "qat")


@dataclass(frozen=True, eq=False)
class Study(Shown):
    """A finished study.

    Attributes
    ----------
    folder : Path
        Where it lives.
    spec : StudySpec
        Its settings.
    summary : dict
        The content of ``summary.json``: arms, comparisons, decomposition, spec, environment.
    runs : DataFrame
        One row an arm (``schema.RUNS``).
    history : DataFrame
        One row an epoch (``schema.HISTORY``).
    observers : DataFrame
        One row a logged range (``schema.OBSERVERS`` and ``phase``).
    arrays : dict of ndarray
        ``id``, ``y``, ``group`` where there are groups and, for each arm, ``raw__ARM``; of a
        classifier ``prediction__ARM`` and ``tied__ARM``, and ``output__ARM``, what is scored, where
        the metric is not accuracy.

    Examples
    --------
    >>> found = load_study("study")
    >>> found.arms, found.results.n
    (('float', 'ptq_int8', 'ptq_int8_ft', 'qat'), 200)
    """

    folder: Path
    spec: StudySpec
    summary: dict[str, Any]
    runs: pd.DataFrame
    history: pd.DataFrame
    observers: pd.DataFrame
    arrays: dict[str, Array]

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms, in table order."""
        return tuple(self.runs["arm"])

    @cached_property
    def results(self) -> Results:
        """What every arm predicted, to be compared as the study's settings say."""
        return study_results(self.arrays, self.spec, self.objective["metric"])

    @cached_property
    def objective(self) -> dict[str, Any]:
        """What was trained for: ``loss``, ``metric`` and ``target``."""
        return read_objective(self.folder)

    def prediction(self, arm: str) -> Array:
        """Predicted class of each test example, int64, shape (n,)."""
        found = self.arrays.get(f"prediction__{self._known(arm)}")
        if found is None:
            raise DataError(f"the study in {str(self.folder)!r} is of no classifier, so there are "
                            "no predicted classes; see results.outputs.")
        return found

    def correct(self, arm: str) -> Array:
        """Which test examples the arm gets right, bool, or their scores, shape (n,)."""
        return self.results.scores(arm)

    def file(self, arm: str) -> Path:
        """The model file of an arm."""
        path = self.folder / str(self.runs.set_index("arm").loc[self._known(arm), "file"])
        if not path.is_file():
            raise StoreError(
                f"the study in {str(self.folder)!r} is kept as results, without the file of "
                f"{arm!r}; qi.study with the settings in its spec.json and another folder trains "
                "its models.")
        return path

    def pair(self, a: str, b: str) -> dict[str, Any]:
        """The row of the comparison b - a in the summary."""
        return next(row for row in self.summary["comparisons"] if (row["a"], row["b"]) == (a, b))

    @property
    def frame(self) -> pd.DataFrame:
        """One row an arm."""
        return self.runs

    @cached_property
    def repeats(self) -> Results | None:
        """What every arm of this study and of its repeats gave, by seed; None without any."""
        folder = self.folder / REPEATS
        done = _finished(sweep_frame(read_records(folder, lambda text: None).values()))
        own = self.results.take(np.argsort(self.arrays["id"]))
        runs = {str(self.spec.seed): own, **dict(zip(
            done["seed"].astype(str), _runs(folder, done).values(), strict=True))}
        if len(runs) < 2 or _stranger(runs) is not None:
            return None
        arms = [arm for arm in own.models if all(arm in one.models for one in runs.values())]
        return _stacked(runs, arms)

    @cached_property
    def training(self) -> SeedComparison | None:
        """QAT against PTQ as ways of training, over this run and its repeats."""
        return None if self.repeats is None else self.repeats.over_runs(*QUESTION)

    @property
    def about_training(self) -> str:
        """What the study can say of the ways of training, instead of its files alone."""
        found = self.training
        if found is None:
            return ("All of this is about these files on other test examples. Another training "
                    "seed may turn it round: "
                    f"'qinspect study --repeats {USUAL_REPEATS}' trains again and tells.")
        words = {"a_better": f"{found.a} is the better way of training",
                 "b_better": f"{found.b} is the better way of training",
                 "no_gap_seen": "neither is shown to be the better way of training",
                 "cannot_tell": "nothing can be told of the ways of training",
                 "equivalent": "the ways of training are equivalent"}[found.verdict]
        return (f"All of that is about the files of seed {self.spec.seed}. Of the ways of "
                f"training: {words}. {found.sentence}")

    @property
    def sentence(self) -> str:
        """QAT against PTQ, and PTQ against float; of these files, and of the ways of training."""
        said = [self.pair(a, b)["sentence"] for a, b in ASKED]
        return " ".join([*said, self.about_training])

    def to_json(self) -> dict[str, Any]:
        """The content of ``summary.json``, and ``training`` where there are repeats."""
        found = self.training
        return {**self.summary, "training": None if found is None else found.to_json()}

    def layers(self, examples: int = EXAMPLES, progress: Progress = no_progress) -> Layers:
        """Layers of the float, PTQ and QAT files, measured on the first test examples.

        Without activations, and with a note, where the data set cannot be loaded.
        """
        from qinspect.studies.run import load_splits

        files = {arm: open_model(self.file(arm)) for arm in _LAYER_ARMS if arm in self.arms}
        try:
            return layer_tables(files, load_splits(self.spec).test.x[:examples],
                                progress)
        except QinspectError as error:
            tables = layer_tables(files, None)
            return replace(tables, notes=(*tables.notes, f"no activations and errors: {error}"))

    def _known(self, arm: str) -> str:
        if arm not in self.arms:
            raise unknown_name("arm", arm, self.arms)
        return arm


@dataclass(frozen=True, eq=False)
class Sweep(Shown):
    """Studies that repeat one or several experiments with other seeds.

    Attributes
    ----------
    frame : DataFrame
        One row a run: ``key``, ``status`` (``finished`` or ``failed``), the fields of its
        :class:`StudySpec`, gaps, parts of the gap and accuracies, ``seconds``, ``error``.
    folder : Path or None
        Where the runs are; None for a table alone, which tells nothing of single examples.

    Examples
    --------
    >>> from qinspect.data.shipped import shipped_table
    >>> found = Sweep(shipped_table("one_epoch_sweep"))
    >>> found.finding[0]
    'digits, bn_cnn: 20 runs.'
    """

    frame: pd.DataFrame
    folder: Path | None = None

    @property
    def experiments(self) -> dict[str, pd.DataFrame]:
        """Rows that repeat one experiment, by data set, model and every other setting varied."""
        return dict(_experiments(self.frame))

    def where(self, **settings: Any) -> Sweep:
        """The runs with these settings, such as ``dataset="digits"``."""
        frame = self.frame
        for name, value in settings.items():
            if name not in frame:
                raise unknown_name("setting", name, [c for c in _SPEC_COLUMNS if c in frame])
            frame = frame[frame[name] == value]
        return Sweep(frame, self.folder)

    @cached_property
    def seeds(self) -> dict[str, SeedComparison]:
        """QAT against PTQ over the runs of each experiment, paired by seed and by example.

        Left out is what has fewer than two finished runs, or other test examples in each. The
        experiments are one family: of many, one would else be found by chance.
        """
        if self.folder is None:
            return {}
        compared = {}
        for name, rows in self.experiments.items():
            runs = _runs(self.folder, _finished(rows))
            if len(runs) > 1 and _stranger(runs) is None:
                compared[name] = _stacked(runs, QUESTION)
        return {name: results.over_runs(*QUESTION, family=len(compared))
                for name, results in compared.items()}

    @property
    def results(self) -> Results:
        """What every arm gave in every finished run of a sweep of one experiment."""
        names = list(self.experiments)
        if self.folder is None or len(names) > 1:
            raise DataError("there are no results of this sweep as a whole: "
                            + ("it is a table alone." if self.folder is None
                               else f"it holds several experiments ({'; '.join(names)})."))
        runs = _runs(self.folder, _finished(self.frame))
        if not runs:
            raise DataError("there are no finished runs to compare.")
        if (stranger := _stranger(runs)) is not None:
            raise DataError(f"run {stranger} was tested on other examples than the first one; "
                            "give all runs the same split_seed to compare them by example.")
        shared = [arm for arm in next(iter(runs.values())).models
                  if all(arm in one.models for one in runs.values())]
        return _stacked(runs, shared)

    @property
    def finding(self) -> list[str]:
        """How often PTQ beats QAT, and float, by how much, and why; Wilson's 95 % intervals."""
        lines = []
        for name, rows in self.experiments.items():
            done = _finished(rows)
            failed = len(rows) - len(done)
            lines.append(f"{name}: {counted(len(done), 'run')}"
                         + (f", {failed} more failed." if failed else "."))
            lines += _group_finding(done) if len(done) else []
        return lines

    @property
    def sentence(self) -> str:
        """All that was found, in words."""
        return " ".join(self.finding)

    def to_json(self) -> dict[str, Any]:
        """The table, the finding and ``seeds``; what a run lacks is None."""
        plain = self.frame.astype(object).where(self.frame.notna(), None)
        return {
            "runs": plain.to_dict(orient="records"), "finding": self.finding,
            "seeds": {name: compared.to_json() for name, compared in self.seeds.items()},
        }


def read_objective(folder: Path) -> dict[str, Any]:
    """Loss, metric and target of a study; one that was made before it had these is a classifier."""
    path = folder / "objective.json"
    return store.read_json(path) if path.exists() else {
        "loss": "crossentropy", "metric": "accuracy"}


def study_results(
    arrays: Mapping[str, Array], spec: StudySpec, metric: str = ACCURACY.id
) -> Results:
    """The content of ``predictions.npz`` as results."""
    prefix = "prediction__" if metric == ACCURACY.id else "output__"
    judged = named_metric(metric)
    return Results(
        {name.removeprefix(prefix): values for name, values in arrays.items()
         if name.startswith(prefix)},
        arrays.get("y"), arrays["id"], arrays.get("group"), metric=judged,
        # The margin of the spec is in percentage points; other units have the metric's own.
        confidence=spec.confidence, margin=spec.margin_pp if judged.scale == 100 else None,
        seed=spec.seed)


# What studies from before there were other metrics, which have points alone, call it.
_BEFORE = {"gap": "diff_pp", "interval": "ci_pp", "detectable": "mde_pp", "margin": "margin_pp",
           "value_a": "accuracy_a", "value_b": "accuracy_b", "value_a_ci": "accuracy_a_ci",
           "value_b_ci": "accuracy_b_ci"}


def load_study(folder: str | os.PathLike[str]) -> Study:
    """Load a finished study."""
    path = Path(folder)
    if not store.is_folder(path):
        raise StoreError(f"the study folder {store.shown(path)!r} does not exist.")
    if not (path / "spec.json").exists():
        raise StoreError(f"{str(path)!r} is not a study folder: it has no spec.json.")
    if not store.is_done(path, "summary"):
        raise StoreError(f"the study in {str(path)!r} is not finished; run 'qinspect study' with "
                         "the same settings to continue it.")
    _check_unchanged(path)
    spec = read_spec(path)
    runs, history, observers = (
        _frame(path / f"{name}.csv", columns) for name, columns in (
            ("runs", RUNS), ("history", ("phase", *HISTORY[1:])),
            ("observers", ("phase", *OBSERVERS))))
    summary = store.read_json(path / "summary.json")
    arrays = store.read_arrays(path / "predictions.npz")
    try:
        for row in summary["comparisons"]:
            for name, before in _BEFORE.items():
                row.setdefault(name, row[before])
        found = Study(path, spec, summary, runs, history, observers, arrays)
        for part in ("arms", "decomposition", "notes", "environment"):
            summary[part]
        for a, b in ASKED:
            found.pair(a, b)["sentence"]
        for arm in found.arms:
            found.results.value(arm)
    except _SHAPELESS as error:
        raise StoreError(f"{str(path)!r} holds results that do not fit each other "
                         f"({type(error).__name__}: {error}); {_AGAIN}") from error
    return found


def read_spec(folder: Path) -> StudySpec:
    """The settings of a study; what is left out of the file is not taken as the default."""
    path = folder / "spec.json"
    stored = store.read_json(path)
    if not isinstance(stored, dict):
        raise StoreError(f"{str(path)!r} holds no settings of a study; {_AGAIN}")
    stored.pop("digests", None)
    absent = [one.name for one in fields(StudySpec)
              if one.default is not None and one.name not in stored]
    if absent:
        raise StoreError(f"{str(path)!r} lacks the setting {absent[0]!r}; {_AGAIN}")
    return StudySpec.from_dict(stored)


def _check_unchanged(folder: Path) -> None:
    """Refuse results that are not those that the study ended with; older studies cannot tell."""
    marker = store.read_json(folder / "steps" / "summary.json")
    ended = marker.get("digests") if isinstance(marker, dict) else None
    for name, digest in ended.items() if isinstance(ended, dict) else ():
        if name in RESULT_FILES and store.digest(folder / name) != digest:
            raise StoreError(f"{str(folder / name)!r} is not as the study left it; {_AGAIN}")


def _frame(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    found = store.read_frame(path)
    if absent := [name for name in columns if name not in found]:
        raise StoreError(f"the table {str(path)!r} has no column {absent[0]!r}; {_AGAIN}")
    return found


def load_sweep(folder: str | os.PathLike[str]) -> Sweep:
    """Load a sweep from the records of its runs."""
    path = Path(folder)
    if not (path / "runs").is_dir():
        raise StoreError(f"{str(path)!r} is not a sweep folder: it has no runs in it.")
    records = read_records(path, lambda text: None)
    if not records:
        raise StoreError(f"the sweep in {str(path)!r} has no run that has ended yet.")
    return Sweep(sweep_frame(records.values()), path)


def read_records(folder: Path, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Records of a sweep's folder by key; one that cannot be read counts as missing."""
    records = {}
    for path in sorted((folder / "runs").glob("*.json")):
        try:
            records[path.stem] = store.read_json(path)
        except StoreError as error:
            say(f"{error} The run is done again.")
    return records


def finished_record(key: str, study: Study, seconds: float) -> dict[str, Any]:
    """What a sweep keeps of a finished run: its settings, accuracies, gaps and parts of the gap."""
    judged = study.results.metric
    unit = "_pp" if judged.unit == "points" else ""
    results: dict[str, Any] = {"n": study.summary["arms"][0]["n"], "judged_by": judged.id}

    def add(name: str, gap: float, interval: tuple[float, float]) -> None:
        results[f"{name}{unit}"] = gap
        results[f"{name}_low{unit}"], results[f"{name}_high{unit}"] = interval

    for name, (a, b) in GAPS.items():
        row = study.pair(a, b)
        add(name, row["gap"], row["interval"])
        # The better arm by name: "b_better" says nothing in a row with five gaps.
        results[f"{name}_verdict"] = {"a_better": a, "b_better": b}.get(
            row["verdict"], row["verdict"])
    for part in study.summary["decomposition"]:
        # A part of another metric is in its unit, whatever the name of the key.
        add(f"part_{part['id'].replace('-', '_')}", part["diff_pp"], part["ci_pp"])
    results |= {f"{judged.id}_{arm}": study.results.value(arm) for arm in study.arms}
    return _record(key, study.spec, "finished", results, seconds, None)


def failed_record(
    key: str, spec: StudySpec, seconds: float, error: BaseException | str
) -> dict[str, Any]:
    """What a sweep keeps of a failed run."""
    text = str(error) or type(error).__name__
    if isinstance(error, BaseException) and not isinstance(error, QinspectError):
        text = f"{type(error).__name__}: {error}"
    return _record(key, spec, "failed", {}, seconds, " ".join(text.split())[:500])


def sweep_frame(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row a record; names in a list are joined with spaces, results that are not there NaN."""
    rows, columns = [], ["key", "status", *_SPEC_COLUMNS]
    for record in records:
        spec = {name: " ".join(value) if isinstance(value, list) else value
                for name, value in record["spec"].items()}
        columns += [name for name in record["results"] if name not in columns]
        kept = {name: record[name] for name in ("key", "status", "seconds", "error")}
        rows.append({**kept, **spec, **record["results"]})
    return pd.DataFrame(rows, columns=[*columns, "seconds", "error"])


def _record(
    key: str, spec: StudySpec, status: str, results: dict[str, Any], seconds: float,
    error: str | None,
) -> dict[str, Any]:
    return {"key": key, "status": status, "spec": spec.to_dict(), "results": results,
            "seconds": round(seconds, 3), "error": error}


def _runs(folder: Path, rows: pd.DataFrame) -> dict[str, Results]:
    """Results of each run by its key, examples sorted by id."""
    found = {}
    for key in rows["key"]:
        study = load_study(folder / "runs" / str(key))
        found[str(key)] = study.results.take(np.argsort(study.arrays["id"]))
    return found


def _stranger(runs: Mapping[str, Results]) -> str | None:
    """A run with other examples than the first one has, which cannot be paired with it."""
    first, *others = runs
    wanted = list(runs[first].ids)  # type: ignore[arg-type]
    return next((key for key in others
                 if list(runs[key].ids) != wanted), None)  # type: ignore[arg-type]


def _stacked(runs: Mapping[str, Results], arms: Iterable[str]) -> Results:
    """What some arms gave, an axis of runs before that of examples."""
    found = list(runs.values())
    return replace(
        found[0], outputs={arm: np.stack([one.outputs[arm] for one in found]) for arm in arms},
        runs=tuple(runs), seed=0)


def _finished(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["status"] == "finished"]


def _experiments(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    needed = ("status", "dataset", "model", "seed")
    if absent := [name for name in needed if name not in frame.columns]:
        raise DataError(f"the table of the sweep has no column {', '.join(absent)}.")
    if frame.empty:
        raise DataError("the table of the sweep has no rows.")
    settings = [name for name in _SPEC_COLUMNS if name in frame.columns and name not in _REPEATS]
    # An empty cell is a value (the default), not a row to leave out.
    keys = frame[settings].astype(object).where(frame[settings].notna(), "")
    varied = [name for name in settings
              if keys[name].nunique() > 1 and name not in ("dataset", "model")]
    for values, rows in keys.groupby(settings, sort=False):
        named = dict(zip(settings, values, strict=True))
        name = f"{named['dataset']}, {named['model']}"
        name += "".join(f", {key} {_setting(named[key])}" for key in varied)
        yield name, frame.loc[rows.index]


def _setting(value: Any) -> str:
    """A setting as a person would write it; pandas turns whole numbers beside gaps into floats."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value != "" else "default"


def gap_unit(rows: pd.DataFrame) -> str:
    """How the columns of gaps end in these runs of one experiment: ``_pp`` where in points."""
    known = "qat_minus_ptq_pp" in rows and (
        rows["qat_minus_ptq_pp"].notna().any() or "qat_minus_ptq" not in rows)
    return "_pp" if known else ""


def judged_by(rows: pd.DataFrame) -> Metric:
    """The metric of the runs of one experiment; an older table is of accuracies."""
    named = list(rows["judged_by"].dropna()) if "judged_by" in rows else []
    return named_metric(named[0]) if named else ACCURACY


def _group_finding(done: pd.DataFrame) -> list[str]:
    metric, unit = judged_by(done), gap_unit(done)

    def ahead(a: str, b: str, difference: pd.Series) -> str:
        return _ahead(a, b, difference, metric)

    equal = done[f"qat_minus_ptq_ft{unit}"]
    lines = [
        f"{ahead('PTQ', 'QAT', -done[f'qat_minus_ptq{unit}'])} Run by run, the test on its "
        f"examples calls {_calls(done['qat_minus_ptq_verdict'])}.",
        ahead("PTQ", "the float model", done[f"ptq_minus_float{unit}"]),
        "Training the float model for as many epochs more as QAT had, and then quantizing it: "
        + ahead("that PTQ", "the PTQ of the float model", done[f"ptq_ft_minus_ptq{unit}"]),
        "With that budget-matched control: " + ahead("QAT", "the equally trained PTQ", equal),
    ]
    part = f"part_batchnorm_lag{unit}"
    if part in done.columns and done[part].notna().all():
        lines.append(
            "By the batch-norm statistics alone, in the median "
            f"{_spread('PTQ', 'QAT', done[part], metric)}. With these re-estimated on both sides: "
            + ahead("PTQ trained on", "that PTQ", done[f"part_training_budget{unit}"]) + " "
            + ahead("QAT", "the equally trained PTQ", done[f"part_quantization_aware{unit}"])
        )
    return lines


def _ahead(a: str, b: str, difference: pd.Series, metric: Metric) -> str:
    """How often and by how much ``a`` is ahead of ``b``; ``difference`` is a - b."""
    values = metric.better * difference.to_numpy(dtype=float)
    n, wins = len(values), int(np.count_nonzero(values > 0))
    level = int(np.count_nonzero(values == 0))
    low, high = wilson_interval(wins, n)
    ties = f", level in {level}" if level else ""
    return (
        f"{a} was ahead of {b} in {wins} of {n} runs ({100 * wins / n:.0f} %, 95 % interval "
        f"{100 * low:.0f} to {100 * high:.0f} %){ties}; in the median "
        f"{_spread(b, a, difference, metric)}."
    )


def _spread(a: str, b: str, difference: pd.Series, metric: Metric) -> str:
    """Who was better in the median of the runs, and by how much; ``difference`` is b - a."""
    values = difference.to_numpy(dtype=float)
    middle = float(np.median(values))
    better = b if metric.better * middle >= 0 else a
    return (f"{better} was better by {metric.size(middle)} (from "
            f"{metric.between(a, b, (values.min(), values.max()))})")


def _calls(verdicts: pd.Series) -> str:
    """The counts of the verdicts of single runs."""
    counts = verdicts.value_counts()
    named = (("ptq_int8", "PTQ better"), ("qat", "QAT better"), ("equivalent", "them equivalent"),
             ("no_gap_seen", "no gap seen"))
    parts = [f"{words} in {int(counts.get(key, 0))}" for key, words in named]
    return f"{', '.join(parts)}, and cannot tell in {int(counts.get('cannot_tell', 0))}"
