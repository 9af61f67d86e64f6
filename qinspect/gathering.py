"""Many studies, sweeps and reports in one table: which seed, which gap, which cause."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from qinspect import store
from qinspect.errors import DataError, QinspectError
from qinspect.shown import Shown
from qinspect.studies.arms import ASKED, QUESTION
from qinspect.studies.stored import REPEATS, load_study
from qinspect.verdicts import ANSWERS, difference_words

# One row a gap: b - a, in the unit of the metric; ``cause`` of a diagnosis alone.
GATHERED = ("path", "kind", "dataset", "model", "seed", "a", "b", "metric", "unit", "value_a",
            "value_b", "gap", "low", "high", "n", "verdict", "cause", "proved")
_DEEPEST = 6
_PLURALS = {"study": "studies", "diagnosis": "diagnoses"}
# JSON in the folder of a study that is its own.
_OF_STUDY = {"summary.json", "objective.json"}


@dataclass(frozen=True, eq=False)
class Gathered(Shown):
    """What finished studies and reports of diagnoses say of their gaps.

    Attributes
    ----------
    frame : DataFrame
        Columns ``GATHERED``, one row a gap: of each study QAT - PTQ and PTQ - float, of each
        diagnosis the gap that it explains. ``path`` is that of the study's folder or the report.
    unread : tuple of str
        What looked like one and could not be read, and why.
    """

    frame: pd.DataFrame
    unread: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """How many, how often QAT was behind, and which causes were named."""
        counts = self.frame.drop_duplicates("path")["kind"].value_counts()
        said = " and ".join(f"{count} {kind if count == 1 else _PLURALS[str(kind)]}"
                            for kind, count in counts.items())
        asked = self.frame[(self.frame["kind"] == "study") & (self.frame["b"] == QUESTION[1])]
        parts = [f"{said[0].upper()}{said[1:]}."]
        if len(asked):
            shown = asked["verdict"].map(lambda one: difference_words(one, "PTQ", "QAT"))
            parts.append("QAT against PTQ: " + ", ".join(
                f"{word} in {count}" for word, count in shown.value_counts().items()) + ".")
        causes = self.frame["cause"].dropna()
        if len(causes):
            parts.append("Causes named: " + ", ".join(
                f"{cause} ({count})" for cause, count in causes.value_counts().items()) + ".")
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Rows, and what could not be read."""
        return store.plain({"runs": self.frame.to_dict("records"), "unread": list(self.unread)})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table as CSV, or as Parquet where the name ends so."""
        target = Path(path)
        if target.suffix == ".parquet":
            store.write_bytes(target, self.frame.to_parquet(None, index=False))
        else:
            store.write_frame(target, self.frame)
        return target


def runs(folders: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> Gathered:
    """Gather studies, runs of sweeps and reports of diagnoses from folders.

    Parameters
    ----------
    folders : path or sequence of path
        Folders of studies or sweeps, or folders that hold such, six deep; JSON files that
        ``qinspect diagnose`` wrote (``--report``, ``--json``) are found by what is in them.

    Returns
    -------
    Gathered

    Raises
    ------
    DataError
        If a folder does not exist, or nothing was found.

    Examples
    --------
    >>> found = runs("study")
    >>> found.frame[["b", "a"]].values.tolist()
    [['qat', 'ptq_int8'], ['ptq_int8', 'float']]
    """
    given = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
    rows: list[dict[str, Any]] = []
    unread: list[str] = []
    seen: set[Path] = set()
    for folder in map(Path, given):
        if not store.is_folder(folder):
            raise DataError(f"{str(folder)!r} is no folder.")
        for path in _candidates(folder, _DEEPEST):
            if (real := path.resolve()) in seen:
                continue
            seen.add(real)
            try:
                rows += _study(path) if path.name == "spec.json" else _report(path)
            except QinspectError as error:
                unread.append(str(error))
    if not rows:
        named = ", ".join(repr(str(folder)) for folder in given)
        raise DataError(f"no finished study and no report of a diagnosis was found in {named}."
                        + (f" {unread[0]}" if unread else ""))
    return Gathered(pd.DataFrame(rows, columns=list(GATHERED)), tuple(unread))


def _candidates(folder: Path, depth: int) -> Iterator[Path]:
    """The settings of every study, and every JSON file outside of studies, in order of names."""
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot look into {str(folder)!r}: {error.strerror}.") from error
    of_study = any(path.name == "spec.json" for path in inside)
    for path in inside:
        if path.is_symlink():
            continue
        if path.is_dir():
            if depth > 0 and (not of_study or path.name == REPEATS):
                yield from _candidates(path, depth - 1)
        elif path.name == "spec.json" or (path.suffix == ".json" and path.name not in _OF_STUDY):
            yield path


def _study(path: Path) -> list[dict[str, Any]]:
    """Two gaps of a study; none of one that is not finished."""
    if not store.is_file(path.parent / "summary.json"):
        raise DataError(f"{str(path.parent)!r} holds a study that is not finished.")
    study = load_study(path.parent)
    about = {"path": str(path.parent), "kind": "study", "dataset": study.spec.dataset,
             "model": study.spec.model, "seed": study.spec.seed}
    pairs = {(row["a"], row["b"]): row for row in study.summary["comparisons"]}
    return [{**about, **_gap(pairs[pair], *pair)} for pair in ASKED if pair in pairs]


def _report(path: Path) -> list[dict[str, Any]]:
    """The gap and the cause of a diagnosis; no row of other JSON."""
    found = store.read_json(path)
    if not isinstance(found, dict) or not {"focus", "primary", "causes"} <= found.keys():
        return []
    focus, primary = found["focus"], found["primary"]
    if not isinstance(focus, dict) or not isinstance(primary, str):
        raise DataError(f"{str(path)!r} is no report of a diagnosis.")
    try:
        row = _gap({**focus, "interval": found["interval"], "n": found["n"]}, focus["a"],
                   focus["b"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{str(path)!r} is no complete report of a diagnosis.") from None
    return [{"path": str(path), "kind": "diagnosis", **row,
             "cause": None if primary in ANSWERS else primary, "proved": bool(found["proved"])}]


def _gap(row: dict[str, Any], a: str, b: str) -> dict[str, Any]:
    low, high = row["interval"]
    # The metric by its name: one of the user's own is not looked up, that would run code.
    return {"a": a, "b": b, "metric": str(row["metric"]), "unit": str(row["unit"]),
            "value_a": float(row["value_a"]), "value_b": float(row["value_b"]),
            "gap": float(row["gap"]), "low": float(low), "high": float(high), "n": int(row["n"]),
            "verdict": str(row["verdict"]), "cause": None, "proved": None}
