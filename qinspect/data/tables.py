"""Files of predictions as people keep them, read without ever unpickling."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.data.names import Y_NAMES
from qinspect.errors import DataError, require_extra, unknown_name
from qinspect.schema import Array
from qinspect.stats.exact import binomial_cdf
from qinspect.stats.paired import as_correct

# Names of columns that are no model's, whatever their case: besides the true label the example, its
# cluster, the training run, and what is only left out.
_IDS = ("id", "ids", "example_id", "example", "sample_id", "filename", "file_name", "file", "path",
        "filepath", "file_path", "image", "image_id", "image_name", "image_path", "image_file")
_GROUPS = ("group", "groups")
_RUNS = ("seed", "run", "random_seed")
_ASIDE = ("fold", "split", "index", "idx")
# Of a long table, one row an example and model.
_MODEL = ("model", "model_name")
_PREDICTED = ("prediction", "predictions", "predicted", "pred", "y_pred", "correct")
# Starts the name of a column that says which examples are right.
CORRECT = "correct_"
# Start the names of columns that are surely predicted classes.
_CLASSES = ("pred_", "prediction_", "predicted_")
# A file name or path.
_FILE_NAME = re.compile(r".*[/\\].+|.*\.[A-Za-z0-9]{1,5}")
# Share of examples that a constant difference to y explains from which the labels are shifted, and
# the correlation of wrong answers with y from which numbers are a quantity, no classes; chosen.
_SHIFTED, _QUANTITY = 0.5, 0.95
# Chance of as few right answers by guessing, below which it is said; chosen.
_BELOW_CHANCE = 1e-4
_FEW_WRONG = 20

# How numbers are read: classes or, for a metric that takes them, scores and quantities.
Reading = Literal["guess", "classes", "numbers"]


@dataclass(frozen=True)
class Table:
    """What files hold: of each model labels, numbers or, as booleans, which examples are right.

    ``outputs`` are of shape (n,), of numbers also (n, ...), with ``runs`` (runs, n, ...); ``y`` is
    not needed by correctness.
    """

    outputs: dict[str, Array]
    y: Array | None
    ids: Array | None = None
    groups: Array | None = None
    runs: tuple[Any, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def real(self) -> bool:
        """Whether y is a quantity, not classes."""
        return self.y is not None and not _is_whole(self.y)


@dataclass(frozen=True)
class _Part:
    """Columns of one file, or of one model of a long one, by what they are."""

    file: Path
    columns: dict[str, Array]
    where: str
    y: Array | None
    ids: Array | None
    groups: Array | None
    runs: Array | None
    notes: tuple[str, ...]

    def take(self, at: Array) -> _Part:
        """The same columns of some of the rows."""

        def of_rows(values: Array | None) -> Array | None:
            return None if values is None else values[at]

        return replace(
            self, columns={name: values[at] for name, values in self.columns.items()},
            y=of_rows(self.y), ids=of_rows(self.ids), groups=of_rows(self.groups),
            runs=of_rows(self.runs))


def _keys(part: _Part) -> pd.Index[str]:
    """What tells the rows apart, each once: the id, and the run where there are several."""
    if part.ids is None:
        raise DataError(f"{part.where} has no column of ids, by which rows are put together; add a "
                        "column id with one name an example.")
    ids = _text(part.ids)
    found = pd.Index(ids if part.runs is None else
                     np.char.add(np.char.add(_text(part.runs), " / "), ids))
    if twice := found[found.duplicated()].tolist():
        name, run = twice[0], "" if part.runs is None else "run / "
        raise DataError(
            f"{part.where}: the {run}id {name[:60]!r} occurs {(found == name).sum()} times, "
            f"{len(set(twice))} ids more than once; an example counts once, so drop the repeats, "
            "add a column 'seed' if they are runs, or name this one 'group' if its rows only "
            "belong together.")
    return found


def read_table(
    files: Sequence[Path], *, models: Collection[str] = (), correct: Collection[str] = (),
    reading: Reading = "guess",
) -> Table:
    """The columns of files of predictions, of several files joined by id.

    ``models`` chooses columns, ``correct`` names those that say which examples are right.
    """
    wide = reading == "numbers"
    parts = [part for file in files for part in _parts(file, models, wide=wide)]
    joined = _join(parts) if len(parts) > 1 else parts[0]
    where = joined.where
    named = _named(joined.columns, where)
    for kind in (models, correct):
        for name in kind:
            if name not in named:
                raise unknown_name("model", name, named)
    if models:
        named = {name: named[name] for name in models}
    y = joined.y
    outputs, notes = {}, list(joined.notes)
    for name, column in named.items():
        values = joined.columns[column]
        if name in correct or column.startswith(CORRECT) or (
                values.dtype == bool and (y is None or y.dtype != bool)):
            if reading == "numbers":
                raise DataError(f"{where}: {column} says which examples are right, of which only "
                                "the accuracy can be made; choose other columns with --models, or "
                                "no other metric.")
            outputs[name] = as_correct(values, f"{column} in {where}")
        elif y is None and not wide:
            listed = ", ".join(joined.columns)
            raise DataError(f"{where} has no column y with the true labels; it holds {listed}.")
        elif y is None or wide or not _is_whole(y):
            outputs[name] = _numbers(values, y, column, where)
        else:
            # Truth values of a two-class problem are its classes 0 and 1.
            outputs[name] = values.astype(np.int64) if values.dtype == bool else values
            _check_classes(outputs[name], y, column, where, guess=reading == "guess")
            notes += _remarks(outputs[name], y, name)
    if len(outputs) < 2:
        found = f"only {next(iter(outputs))}" if outputs else "none"
        raise DataError(f"{where} must hold at least two models besides y, but holds {found}.")
    if joined.runs is not None or joined.ids is not None:
        _keys(joined)
    if y is not None and y.dtype == bool:
        y = y.astype(np.int64)
    table = Table(outputs, y, joined.ids, joined.groups, notes=tuple(notes))
    return table if joined.runs is None else _by_run(table, joined)


def _named(columns: Mapping[str, Array], where: str) -> dict[str, str]:
    """Columns by the names of their models."""
    named: dict[str, str] = {}
    for column in columns:
        name = column.removeprefix(CORRECT) or column
        if name in named:
            raise DataError(f"{where} has two columns for the model {name!r}; rename one.")
        named[name] = column
    return named


def read_claim(file: Path) -> tuple[Array, Array | None, Array | None]:
    """Predictions of one model, ids and labels in a table, as far as they are there."""
    part, *others = _parts(file, ())
    if part.runs is not None:
        raise DataError(f"{file} holds several runs; give the predictions of one file.")
    if others or len(part.columns) != 1:
        listed = ", ".join([*part.columns, *(name for other in others for name in other.columns)])
        raise DataError(f"{file} must hold predictions of one model, in a column prediction, but "
                        f"has {listed or 'none'}.")
    ids = None if part.ids is None else _text(part.ids)
    return next(iter(part.columns.values())), ids, part.y


def read_columns(file: Path) -> dict[str, Array | DataError]:
    """Columns of a .csv, .parquet or .npz; one with missing values is the error that its use is."""
    if not store.is_file(file):
        raise DataError(f"there is no file {store.shown(file)}.")
    readers = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
    if file.suffix.lower() not in readers:
        raise DataError(f"{file} ends in {file.suffix or 'nothing'!r}; give an .npz, a .csv or a "
                        ".parquet.")
    return readers[file.suffix.lower()](file)


def present(values: Array | DataError) -> Array:
    """A column that is used; the error that it is, if it lacks values."""
    if isinstance(values, DataError):
        raise values
    return values


def _parts(file: Path, models: Collection[str], *, wide: bool = False) -> list[_Part]:
    """The columns of a file by what their names say; a long table is one part a model.

    ``wide``: labels and predictions may be several numbers an example.
    """
    raw, where = read_columns(file), str(file)
    chosen = {name for name in raw if {name, name.removeprefix(CORRECT)} & set(models)}
    free = [name for name in raw if name not in chosen]

    def called(names: tuple[str, ...]) -> list[str]:
        found = [name for name in free if _plain(name) in names]
        return sorted(found, key=lambda name: names.index(_plain(name)))

    def one(names: tuple[str, ...], what: str) -> str | None:
        found = called(names)
        if len(found) > 1:
            raise DataError(f"{where}: {' and '.join(found)} may both be {what}; remove or rename "
                            "all but one, or name the models with --models.")
        return found[0] if found else None

    label, group = one(Y_NAMES, "the true label"), one(_GROUPS, "the group")
    run, model = one(_RUNS, "the training run"), one(_MODEL, "the model's name")
    predicted = one(_PREDICTED, "the prediction") if model else None
    long = bool(model and predicted)
    aside = called(_ASIDE)
    taken = {label, group, run, *aside, *((model, predicted) if long else ())}
    ids = called(_IDS)
    ids += [name for name in free
            if name not in taken and name not in ids and _is_id(name, raw[name], label, raw)]
    _check_same_examples(raw, ids, where)
    _check_split(raw, aside, where)
    used = [name for name in (label, group, run, *ids[:1]) if name]
    used += [name for name in (model, predicted) if name and long]
    known = {name: _column(raw, name, where, wide=wide and name == label) for name in used}
    # Where models are chosen, what cannot be one is none of them.
    columns = {} if long else {
        name: _column(raw, name, where, wide=wide) for name in raw
        if name not in (*taken, *ids) and (not models or name in chosen or _is_column(raw[name]))}
    first = next(iter({**known, **columns}.items()), None)
    for name, values in {**known, **columns}.items():
        if first is None or len(values) == len(first[1]):
            continue
        if name in columns and models and name not in chosen:
            del columns[name]
            continue
        raise DataError(f"{where}: {name} has shape {values.shape} but {first[0]} has "
                        f"{len(first[1])} labels; every column needs one value an example.")
    notes = [f"{', '.join([*ids[1:], *aside])} of {file.name}: no model, left out."] if (
        ids[1:] or aside) else []
    if run and len(np.unique(known[run])) == 1:
        notes.append(f"All examples are of {run} {known.pop(run)[0]}.")

    def role(name: str | None) -> Array | None:
        return known.get(name) if name else None

    whole = _Part(file, columns, where, role(label), role(ids[0] if ids else None), role(group),
                  role(run), tuple(notes))
    return _by_model(whole, known[model], known[predicted], predicted) if (
        long and model and predicted) else [whole]


def _by_model(whole: _Part, models: Array, predicted: Array, column: str) -> list[_Part]:
    """The parts of a long table, one a model."""
    prefix = CORRECT if _plain(column) == "correct" else ""
    found: list[_Part] = []
    for name in dict.fromkeys(_text(models).tolist()):
        rows = np.flatnonzero(_text(models) == name)
        found.append(replace(
            whole.take(rows), columns={prefix + name: predicted[rows]},
            where=f"{whole.where} ({name})", notes=() if found else whole.notes))
    return found


def _is_column(values: Array | DataError) -> TypeGuard[Array]:
    """Whether values are one number, truth value or text an example, without gaps."""
    return (not isinstance(values, DataError) and values.ndim == 1 and values.size > 0
            and values.dtype.kind in "biufUS"
            and (values.dtype.kind != "f" or bool(np.isfinite(values).all())))


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _is_id(name: str, values: Array | DataError, label: str | None, raw: Mapping[str, Any]) -> bool:
    """Whether a column names the examples: id_... or ..._id, or text of unique file names."""
    called = _plain(name).startswith("id_") or _plain(name).endswith("_id")
    if not _is_column(values) or not (called or values.dtype.kind == "U"):
        return False
    found = set(values.tolist())
    return len(found) == len(values) and (called or (
        len(found) > 1 and all(_FILE_NAME.fullmatch(one) for one in found)
        and (label is None or not found & set(np.ravel(raw[label]).tolist()))))


def _check_same_examples(raw: Mapping[str, Any], ids: list[str], where: str) -> None:
    """Refuse rows whose ids name different examples: a table pasted together without a join."""
    texts = {name: _text(raw[name]) for name in ids if _is_column(raw[name])}
    for name, text in list(texts.items())[1:]:
        first, other = next(iter(texts.items()))
        if other.shape != text.shape:
            continue
        at = np.flatnonzero(other != text)
        if len(at) and set(other.tolist()) == set(text.tolist()):
            raise DataError(
                f"{where}: {first} and {name} hold the same ids in another order, first "
                f"{other[at[0]][:60]!r} beside {text[at[0]][:60]!r}, so rows mix examples; give "
                "the models in files of their own, which are joined by id.")


def _check_split(raw: Mapping[str, Any], aside: list[str], where: str) -> None:
    """Refuse training examples beside others."""
    for name in aside:
        found = set(_text(raw[name]).tolist()) if _is_column(raw[name]) else set()
        if len(found) > 1 and {one.lower() for one in found} & {"train", "training"}:
            listed = ", ".join(sorted(found)[:5])
            raise DataError(f"{where}: {name} holds {listed}; keep the rows of one of them.")


def _join(parts: list[_Part]) -> _Part:
    """Rows of the same id put together; the order of ids is not trusted."""
    first = parts[0]
    if len({part.runs is None for part in parts}) > 1:
        bare = next(part.where for part in parts if part.runs is None)
        raise DataError(f"{bare} has no runs (no column seed) but another table has; give both "
                        "the same seeds.")
    keys = _keys(first)
    aligned = [first]
    for part in parts[1:]:
        own = _keys(part)
        at = keys.get_indexer(own)
        if (at < 0).any() or len(own) != len(keys):
            lacks, more = keys.difference(own), own.difference(keys)
            name = [*lacks, *more][0]
            raise DataError(
                f"{first.where} and {part.where} hold different examples: {len(lacks)} are only in "
                f"the first, {len(more)} only in the second, such as {name[:60]!r}; keep those "
                "that both have.")
        aligned.append(part.take(np.argsort(at)))

    def agreed(name: str) -> Array | None:
        known = [(part.where, values) for part in aligned
                 if (values := getattr(part, name)) is not None]
        for where, values in known[1:]:
            if values.shape != known[0][1].shape:
                raise DataError(f"{known[0][0]} and {where} disagree on the shape of {name}: "
                                f"{known[0][1].shape} and {values.shape}.")
            unlike = _text(values) != _text(known[0][1])
            at = np.flatnonzero(unlike.reshape(len(keys), -1).any(axis=1))
            if len(at):
                raise DataError(f"{known[0][0]} and {where} disagree on {name} of "
                                f"{keys[at[0]][:60]!r}: {known[0][1][at[0]]} and "
                                f"{values[at[0]]}; are they of the same data?")
        return known[0][1] if known else None

    owners = [name for part in parts for name in part.columns]
    stems = [file.stem for file in dict.fromkeys(part.file for part in parts)]
    columns: dict[str, Array] = {}
    for part in aligned:
        # A file's own name says more than 'prediction', its folder's where the names are alike.
        stem = part.file.stem
        stem = part.file.absolute().parent.name if stems.count(stem) > 1 else stem
        for name, values in part.columns.items():
            new = name
            if owners.count(name) > 1 or _plain(name) in _PREDICTED:
                prefix = CORRECT if name.startswith(CORRECT) or _plain(name) == "correct" else ""
                rest = "" if len(part.columns) == 1 else f" {name.removeprefix(CORRECT)}"
                new = f"{prefix}{stem}{rest}"
            if new in columns:
                raise DataError(f"{part.where} has another column for the model {new!r}; rename "
                                "one.")
            columns[new] = values
    return _Part(first.file, columns, ", ".join(dict.fromkeys(str(part.file) for part in parts)),
                 agreed("y"), first.ids, agreed("groups"), first.runs,
                 tuple(note for part in aligned for note in part.notes))


def _by_run(table: Table, part: _Part) -> Table:
    """Outputs with a first axis of runs, of the same examples in the same order."""
    runs, ids = np.asarray(part.runs), _text(np.asarray(part.ids))
    labels = list(dict.fromkeys(runs.tolist()))
    rows = [np.flatnonzero(runs == one) for one in labels]
    keys = pd.Index(ids[rows[0]])
    ordered = []
    for label, at in zip(labels, rows, strict=True):
        place = keys.get_indexer(pd.Index(ids[at]))
        if (place < 0).any() or len(at) != len(keys):
            raise DataError(
                f"{part.where}: run {label} has other examples than run {labels[0]} "
                f"({len(at)} and {len(keys)}); runs are compared on the same examples, so keep "
                "those that every run has, or give a file a run.")
        ordered.append(at[np.argsort(place)])
    for name, values in (("y", table.y), ("groups", table.groups)):
        if values is not None and any((values[at] != values[ordered[0]]).any() for at in ordered):
            raise DataError(f"{part.where}: {name} of the same id differs between runs; are the "
                            "ids those of one data set?")
    at = ordered[0]
    return Table(
        {name: np.stack([values[one] for one in ordered]) for name, values in
         table.outputs.items()}, None if table.y is None else table.y[at], np.asarray(part.ids)[at],
        None if table.groups is None else table.groups[at], tuple(labels), table.notes)


def _read_npz(file: Path) -> dict[str, Array | DataError]:
    return dict(store.read_arrays(file, kind=DataError))


def read_csv(file: Path) -> pd.DataFrame:
    """A table with a header line, separated by commas, semicolons or tabs; what lacks is NaN."""
    if not store.is_file(file):
        raise DataError(f"there is no file {store.shown(file)}.")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
        separator = max(",;\t", key=first.count)
        header = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
        with warnings.catch_warnings():
            # A row with more fields than the header is an error, not a shift of the columns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                file,
                sep=separator,
                encoding="utf-8-sig",
                index_col=False,
                skipinitialspace=True,
                low_memory=False,
            )
    except (ValueError, OSError, csv.Error, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file} cannot be read as .csv: {reason.rstrip('.')}.") from None
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{file} has more than one column {twice[0]!r}; rename one.")
    if len(header) != frame.shape[1]:
        raise DataError(f"{file} has a header line that cannot be split into columns.")
    frame.columns = pd.Index(header)
    # The nameless first column is a data frame's own index.
    return frame.loc[:, frame.columns != ""]


def _read_csv(file: Path) -> dict[str, Array | DataError]:
    frame = read_csv(file)
    # The header is line 1.
    return {name: _of_series(frame[name], f"{file}: {name}", "line", 2) for name in frame.columns}


def _read_parquet(file: Path) -> dict[str, Array | DataError]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise require_extra("pyarrow", "parquet", "reading a .parquet file") from None
    try:
        # Without what pandas noted in the file: an index of its own is a column like others.
        frame = ParquetFile(file).read().to_pandas(ignore_metadata=True)
    except (ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file} cannot be read as .parquet: {reason.rstrip('.')}.") from None
    if frame.columns.has_duplicates:
        raise DataError(f"{file} has more than one column "
                        f"{str(frame.columns[frame.columns.duplicated()][0])!r}; rename one.")
    return {str(name): _of_series(frame[name], f"{file}: {name}", "row", 0)
            for name in frame.columns if not str(name).startswith("__index_level_")}


def _of_series(values: pd.Series[Any], named: str, place: str, first: int) -> Array | DataError:
    missing = values.isna().to_numpy()
    if missing.any():
        return DataError(f"{named} has {int(missing.sum())} missing values, the first in {place} "
                         f"{int(np.argmax(missing)) + first}; fill or remove them.")
    return values.to_numpy() if values.dtype.kind in "biuf" else values.to_numpy(dtype=str)


def _column(
    raw: Mapping[str, Array | DataError], name: str, where: str, *, wide: bool = False
) -> Array:
    """A column as numbers or text without blanks around it, one value an example if not wide."""
    values = present(raw[name])
    if values.ndim != 1 and not (wide and values.ndim):
        raise DataError(
            f"{where}: {name} has shape {values.shape}; it must be one value an example (take the "
            "arg max of class scores first, or give a metric of several numbers with --metric)."
        )
    if values.size == 0:
        raise DataError(f"{where}: {name} is empty; at least one example is needed.")
    if values.dtype.kind not in "biufUS":
        raise DataError(f"{where}: {name} is of type {values.dtype}; labels are numbers or text.")
    if values.dtype.kind == "f":
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad and not name.startswith(CORRECT):
            raise DataError(
                f"{where}: {name} has {bad} NaN or infinite values; remove or mend them."
            )
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    return np.char.strip(values) if values.dtype.kind == "U" else values


def _text(values: Array) -> Array:
    """Values as text that is the same for 3, 3.0 and '3'."""
    if values.dtype.kind == "f" and _is_whole(values) and bool((np.abs(values) < 2.0**53).all()):
        values = values.astype(np.int64)
    return np.char.strip(values.astype(str)) if values.ndim == 1 else values.astype(str)


def _is_whole(values: Array) -> bool:
    return values.dtype.kind != "f" or bool((values == np.round(values)).all())


def _numbers(values: Array, y: Array | None, name: str, where: str) -> Array:
    """Predicted quantities or scores."""
    for one, found in ((name, values), ("y", y)):
        if found is not None and found.dtype.kind == "U":
            raise DataError(f"{where}: {one} holds text; this needs numbers.")
    return values if y is None or _is_whole(y) else values.astype(np.float64)


def _check_classes(values: Array, y: Array, name: str, where: str, *, guess: bool) -> None:
    """Refuse a column that can hardly be predicted classes."""
    declared = name.startswith(_CLASSES)
    right = f"name it {CORRECT}{name} (or give --correct {name}) if 1 means right"
    flags = values.dtype.kind in "iuf" and set(np.unique(values).tolist()) <= {0, 1}
    if (values.dtype.kind == "U") != (y.dtype.kind == "U"):
        kinds = ["text" if array.dtype.kind == "U" else "numbers" for array in (values, y)]
        raise DataError(
            f"{where}: {name} holds {kinds[0]} but y holds {kinds[1]}; they cannot be compared, "
            f"so {right if flags else 'write both alike, or choose other columns with --models'}."
        )
    if not _is_whole(values):
        broken = values[values != np.round(values)][0]
        raise DataError(
            f"{where}: {name} holds {broken:g}, which is no class label; give predicted classes, "
            "choose other columns with --models, or give a metric that takes numbers: auc or "
            "log-loss for scores of two classes, mae or mse for a quantity."
        )
    classes = np.unique(y)
    if flags and values.any() and len(classes) > 2 and not declared:
        raise DataError(
            f"{where}: {name} holds only 0 and 1 but y has {len(classes)} classes; {right}, "
            f"pred_{name} if these are classes."
        )
    known = np.isin(values, classes)
    if values.dtype.kind == "U":
        folded = {one.casefold(): one for one in classes.tolist()}
        for one in np.unique(values[~known]).tolist():
            if one.casefold() in folded:
                raise DataError(f"{where}: {name} holds {one[:60]!r} where y has "
                                f"{folded[one.casefold()][:60]!r}; write classes alike.")
    else:
        _check_numbered(values.astype(np.float64), y.astype(np.float64), name, where, guess=guess)
    if not known.any():
        raise DataError(
            f"{where}: no value of {name} (such as {str(values[0])[:60]!r}) ever occurs in y (such "
            f"as {str(y[0])[:60]!r}); write classes alike, or choose other columns with --models."
        )


def _check_numbered(values: Array, y: Array, name: str, where: str, *, guess: bool) -> None:
    """Refuse classes counted from another start, and quantities."""
    wrong = values != y
    if not wrong.any():
        return
    right = len(y) - int(wrong.sum())
    steps, counts = np.unique((values - y)[wrong], return_counts=True)
    step, count = steps[counts.argmax()], int(counts.max())
    # A network that gives one class all the time is so many off y on examples of one class only.
    many = len(np.unique(y[values - y == step])) > 2
    if guess and many and count > max(_SHIFTED * len(y), right):
        raise DataError(
            f"{where}: {name} is y {'+' if step > 0 else '-'} {abs(step):g} on {count:,} of "
            f"{len(y):,} examples and y on {right:,}; if its classes are counted from another "
            f"start, {'subtract' if step > 0 else 'add'} {abs(step):g}, else give --metric "
            "accuracy."
        )
    if not guess or len(np.unique(y)) < 8 or wrong.sum() < _FEW_WRONG:
        return
    if min(np.ptp(values[wrong]), np.ptp(y[wrong])) == 0:
        return
    if np.corrcoef(values[wrong], y[wrong])[0, 1] > _QUANTITY:
        off = float(np.abs(values - y).mean())
        raise DataError(
            f"{where}: {name} misses y by {off:.3g} in the mean and hits it in "
            f"{100 * (1 - wrong.mean()):.0f} %, so both may be quantities, not classes; give "
            "--metric mae for a quantity, --metric accuracy for classes."
        )


def _remarks(values: Array, y: Array, name: str) -> list[str]:
    """What is odd about predicted classes, in sentences."""
    classes, found = np.unique(y), []
    foreign = values[~np.isin(values, classes)]
    if len(foreign):
        listed = ", ".join(str(one)[:40] for one in np.unique(foreign)[:5].tolist())
        found.append(f"{name} predicts classes that never occur in y ({listed}): "
                     f"{len(foreign):,} of {len(y):,} predictions.")
    if len(classes) > 1 and len(np.unique(values)) == 1:
        found.append(f"{name} predicts {str(values[0])[:40]} in all {len(y):,} predictions.")
    right = int(np.count_nonzero(values == y))
    if len(classes) > 1 and binomial_cdf(right, len(y), 1 / len(classes)) < _BELOW_CHANCE:
        found.append(f"{name} is right in {right:,} of {len(y):,} predictions, far fewer than by "
                     f"guessing one of {len(classes)} classes: are labels and order those of y?")
    return found
