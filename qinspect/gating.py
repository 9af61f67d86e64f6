"""May the new file take the place of the old one?  One decision, for a pipeline to act upon."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.data.dataset import Dataset
from qinspect.data.sources import Source
from qinspect.errors import DataError, SpecError
from qinspect.evaluation import evaluate
from qinspect.families import Comparisons
from qinspect.metrics import METRICS, Metric
from qinspect.predictions import Results, results
from qinspect.shown import Shown
from qinspect.stats import Comparison
from qinspect.stats.planning import NextStep, not_worse_step
from qinspect.tflite.recorded import RECORDED, Place, recorded_name
from qinspect.verdicts import GATE, GateVerdict, gate_verdict

File = str | os.PathLike[str]
# Exit codes of the command; 2 is an error.
CODES: dict[GateVerdict, int] = {"not_worse": 0, "worse": 1, "cannot_tell": 3}


@dataclass(frozen=True)
class Gate(Shown):
    """Whether new models are not worse than old ones by more than a margin.

    Attributes
    ----------
    comparisons : Comparisons
        New - old of every pair, one family of tests.

    Examples
    --------
    >>> y = np.arange(2000) % 10
    >>> found = gate("old", "new", predictions=results({"old": y, "new": y}, y), margin=1)
    >>> found.verdict, found.code
    ('not_worse', 0)
    """

    comparisons: Comparisons = field(repr=False)

    @property
    def results(self) -> Results:
        """What was compared."""
        return self.comparisons.results

    @property
    def verdicts(self) -> tuple[GateVerdict, ...]:
        """``not_worse``, ``worse`` or ``cannot_tell`` of each pair."""
        return tuple(_verdict(one) for one in self.comparisons)

    @property
    def verdict(self) -> GateVerdict:
        """Of all pairs: ``worse`` where one is, else ``cannot_tell`` where one is."""
        return max(self.verdicts, key=("not_worse", "cannot_tell", "worse").index)

    @property
    def code(self) -> int:
        """Exit code of the command: 0 not worse, 1 worse, 3 cannot tell (2 is an error)."""
        return CODES[self.verdict]

    @cached_property
    def needed(self) -> tuple[NextStep | None, ...]:
        """Of each pair that cannot be told, how many more examples or groups would tell."""
        return tuple(_needed(one) if said == "cannot_tell" else None
                     for one, said in zip(self.comparisons, self.verdicts, strict=True))

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """The decision on each pair, with its numbers."""
        return tuple(map(_sentence, self.comparisons, self.verdicts, self.needed))

    @property
    def sentence(self) -> str:
        """Every decision in words."""
        return " ".join((*self.results.first, *self.sentences))

    @property
    def frame(self) -> pd.DataFrame:
        """One row a pair: its comparison, with ``gate``, ``not_worse_p``, ``margin``, ``more``."""
        rows = [{"gate": said, "not_worse_p": one.not_worse_p, "margin": one.margin,
                 "more": None if step is None else step.more}
                for one, said, step in zip(self.comparisons, self.verdicts, self.needed,
                                           strict=True)]
        return pd.concat([self.comparisons.frame, pd.DataFrame(rows)], axis=1)

    def flips(self, old: str, new: str) -> dict[str, list[Any]]:
        """Ids of examples that the new model loses (``lost``) and that it wins (``won``)."""
        if self.results.metric.kind == "set":
            return {"lost": [], "won": []}
        return {name: store.plain(self.results.flips(old, new, side)["id"].tolist())
                for name, side in (("lost", "a"), ("won", "b"))}

    def to_json(self) -> dict[str, Any]:
        """The same as ``qinspect gate --json``."""
        pairs = [{"old": one.a, "new": one.b, "verdict": said, "sentence": text,
                  "more": None if step is None else step.more,
                  "of": None if step is None else step.of,
                  "flips": self.flips(one.a, one.b), "comparison": one.to_json()}
                 for one, said, text, step in zip(self.comparisons, self.verdicts, self.sentences,
                                                  self.needed, strict=True)]
        return {"verdict": self.verdict, "code": self.code, "n": self.results.n,
                "margin": self.comparisons.comparisons[0].margin,
                "unit": self.results.metric.unit, "metric": self.results.metric.id,
                "notes": [*self.results.first, *self.results.notes], "pairs": pairs}

    def write_baseline(self, path: File, data: File | Source, old: File) -> None:
        """Keep what the old file gave, with checksums, so that it need not be run again."""
        name = self.comparisons.comparisons[0].a
        found = self.results
        if len(self.comparisons) > 1:
            raise SpecError(f"a baseline is of one old file, and there are "
                            f"{len(self.comparisons)} pairs; write one at a time.")
        if found.metric.id not in METRICS:
            raise SpecError(f"a baseline cannot keep the metric {found.metric.id}, which is your "
                            "own code; run both files instead.")
        kept = {"y": found.y, "id": found.ids, "group": found.groups,
                "output": np.asarray(found.outputs[name])}
        store.write_arrays(Path(path), {
            **{key: np.asarray(values) for key, values in kept.items() if values is not None},
            "name": np.array(name), "metric": np.array(found.metric.id),
            "data_sha256": np.array(_checksum(data)),
            "model_sha256": np.array(store.digest(Path(old)))})


def gate(
    base: File | None = None, new: File | None = None, data: File | Source | Dataset | None = None,
    *, margin: float | None = None, pairs: Iterable[tuple[File, File]] = (),
    baseline: File | None = None, predictions: File | Sequence[File] | Results | None = None,
    recorded: Mapping[str, Place] | None = None,
    metric: Metric | str | None = None, output: str | None = None, confidence: float = 0.95,
    seed: int = 0,
) -> Gate:
    """Decide whether a new model may take the place of an old one.

    A new model passes only if a one-sided test at 1 - confidence shows that it is not worse than
    the old one by the margin or more; a real loss smaller than the margin passes.  It is ``worse``
    if it does not pass and is shown to be worse; otherwise the examples cannot tell.  A loss that
    happens to be small is no pass: with few examples it is chance.

    Parameters
    ----------
    base, new : path or str
        Old and new ``.tflite`` file; with ``predictions`` the names of their columns.
    data : path, Source or Dataset, optional
        Evaluation examples with labels, as :func:`qinspect.evaluate` takes them.
    margin : float, optional
        Loss that would matter, in the unit of the metric; of accuracy 1 point by default.
    pairs : iterable of (old, new)
        Further pairs on the same examples.  All are one family: p-values are corrected.
    baseline : path, optional
        What :meth:`Gate.write_baseline` wrote, in the place of ``base``.
    predictions : path, sequence of paths, or Results, optional
        Predictions of any framework, as :func:`qinspect.results` reads them, in the place of data.
    recorded : mapping of file to path or array, optional
        Outputs recorded elsewhere, as :func:`qinspect.evaluate` takes them; ``"<file>, recorded"``
        is then one of the models that ``base``, ``new`` and ``pairs`` may name.
    metric, output, confidence, seed
        As of :func:`qinspect.evaluate`.

    Returns
    -------
    Gate

    Raises
    ------
    DataError
        When the data or the baseline are of other examples, or do not fit the files.
    SpecError
        When it is not said what to compare.

    References
    ----------
    Non-inferiority: Tango (1998), Statistics in Medicine 17, 891-908; of several pairs Holm (1979).

    Examples
    --------
    >>> y = np.arange(300) % 10
    >>> some = results({"old": y, "new": np.where(y == 3, 0, y)}, y)
    >>> gate("old", "new", predictions=some, margin=1).verdict
    'worse'
    """
    wanted = [(os.fspath(a), os.fspath(b)) for a, b in pairs]
    if baseline is not None:
        if base is not None and new is None:
            base, new = None, base
        if base is not None or wanted or predictions is not None:
            raise SpecError("a baseline stands for the one old file; give the new file alone, and "
                            "--data.")
    elif base is not None and new is not None:
        wanted.insert(0, (os.fspath(base), os.fspath(new)))
    elif base is not None or new is not None or not wanted:
        raise SpecError("there is nothing to compare; give the old and the new file, pairs of "
                        "them, or a new file and a baseline.")
    if recorded and (predictions is not None or baseline is not None):
        raise SpecError("recorded outputs stand beside files that are run; give these with --data, "
                        "without predictions or a baseline.")
    options: dict[str, Any] = {"confidence": confidence, "margin": margin, "seed": seed}
    if predictions is not None:
        found = (predictions if isinstance(predictions, Results) else
                 results(predictions, metric=metric, **options))
        if margin is not None:
            found = replace(found, margin=margin)
        return Gate(replace(found, non_inferior=True).compare(wanted))
    if data is None:
        raise SpecError("there are no examples to compare on; give --data, or predictions.")
    if baseline is not None:
        assert new is not None
        found = _beside(Path(baseline), new, data, metric, output, options)
        return Gate(found.compare([(found.models[0], found.models[1])]))
    names = list(dict.fromkeys(name for pair in wanted for name in pair))
    of = {name: name.removesuffix(RECORDED) if recorded else name for name in names}
    files = list(dict.fromkeys(of.values()))
    found = evaluate(files, data, recorded=recorded, metric=metric, output=output, **options)
    ran = dict(zip(files, (one for one in found.models if not one.endswith(RECORDED)),
                   strict=True))
    named = {name: ran[file] if name == file else recorded_name(ran[file])
             for name, file in of.items()}
    if missing := set(named.values()) - set(found.models):
        raise SpecError(f"there are no {min(missing)} outputs; give them with --recorded.")
    found = replace(found, non_inferior=True)
    return Gate(found.compare([(named[a], named[b]) for a, b in wanted]))


def _beside(
    baseline: Path, new: File, data: File | Source | Dataset, metric: Metric | str | None,
    output: str | None, options: dict[str, Any],
) -> Results:
    """The new file's results with the old one's from a baseline, which must be of the same data."""
    kept = store.read_arrays(baseline, kind=DataError)
    if missing := {"output", "name", "metric", "data_sha256"} - set(kept):
        raise DataError(f"{baseline}: no baseline ({', '.join(sorted(missing))} missing); write "
                        "one with --write-baseline.")
    if isinstance(data, Dataset) or _checksum(data) != str(kept["data_sha256"]):
        raise DataError(f"{baseline}: written from other data than those given now (their "
                        "checksums differ); run both files, or write it again.")
    found = evaluate([new], data, metric=metric or str(kept["metric"]), output=output, **options)
    if found.metric.id != str(kept["metric"]):
        raise SpecError(f"{baseline}: of the metric {kept['metric']}, and {found.metric.id} is "
                        "asked for; write it again with that metric.")
    for name, values in (("y", found.y), ("id", found.ids)):
        if values is not None and not np.array_equal(values, kept.get(name, ())):
            raise DataError(f"{baseline}: its {name} are not those of the data as they are read "
                            "now; write it again.")
    (model,) = found.models
    old = str(kept["name"]) if str(kept["name"]) != model else f"{model} (baseline)"
    said = f"{old}: as kept in {baseline} (SHA-256 {str(kept.get('model_sha256', ''))[:12]})."
    return replace(found, non_inferior=True, notes=(*found.notes, said),
                   outputs={old: kept["output"], model: found.outputs[model]})


def _checksum(data: File | Source) -> str:
    """SHA-256 of a file, or of a folder's files with their names."""
    path = Path(data.path if isinstance(data, Source) else data)
    if not store.is_folder(path):
        return store.digest(path)
    found = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        found.update(f"{file.relative_to(path).as_posix()} {store.digest(file)}\n".encode())
    return found.hexdigest()


def _verdict(one: Comparison) -> GateVerdict:
    return gate_verdict(one.verdict, one.not_worse_p, 1 - one.confidence)


def _needed(one: Comparison) -> NextStep | None:
    alpha = (1 - one.confidence) / one.family
    if one.groups is not None:  # whose p-value of being not worse is a two-sided one
        return not_worse_step(one.groups, one.margin, one.improvement, one.error, alpha=alpha / 2,
                              of="groups")
    shared = (None if one.mcnemar_p is None else ((one.a_only or 0) + (one.b_only or 0)) / one.n)
    return not_worse_step(one.n, one.margin, one.improvement, one.error, alpha=alpha,
                          disagreement=shared)


def _sentence(one: Comparison, said: GateVerdict, step: NextStep | None) -> str:
    limit = one.metric.limit(one.margin)
    head = {"not_worse": f"{one.b} is not worse than {one.a} by {limit} or more",
            "worse": f"{one.b} is worse than {one.a}",
            "cannot_tell": f"Cannot tell whether {one.b} is worse than {one.a} by {limit} or more",
            }[said]
    alike = one.metric.words
    text = (f"{GATE[said].upper()}: {head} ({one.a} {alike(one.value_a)}, {one.b} "
            f"{alike(one.value_b)}; {one.brief}; margin {limit}; one-sided p = "
            f"{one.not_worse_p:.3g}"
            + (f", corrected for {one.family} pairs" if one.family > 1 else "") + ").")
    if step is not None:
        text += (f" To show it in 80 % of cases takes {step.words}"
                 + (", if the two are equally good." if step.finds >= one.margin else
                    ", if the difference is as seen."))
    elif said == "cannot_tell":
        text += " The loss seen is so large that more examples would rather show it to be worse."
    return text
