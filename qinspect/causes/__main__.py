"""Write docs/causes.md from the rules, or tell one cause: ``python -m qinspect.causes noise``.

``python -m qinspect.causes data/diagnosis_full_cases.csv qinspect_bench.faults:NOT_INJECTED``
(`make docs`); without the rows of the fault benchmark there are no scores, without the name it is
not said why a cause has no rows.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qinspect import store
from qinspect.causes import all_rules
from qinspect.diagnosis.cases import NEEDS
from qinspect.diagnosis.rule import Measure, Remedy, Rule
from qinspect.errors import DataError, QinspectError, unknown_name
from qinspect.named import named_object
from qinspect.verdicts import CAUSES

if TYPE_CHECKING:
    import pandas as pd

_HEAD = """\
# Causes

<!-- Made by `make docs` from qinspect/causes; change the files there. -->

What `qinspect diagnose` asks about, what each cause needs, what it looks at, and what it rests on.
A cause *explains* a gap only if something speaks for it and its remedy, applied alone, closes at
least 30 % of the gap, with an interval that leaves out zero (and what a gap that is looked at for
being significant is too large by). A remedy that trains nothing is applied once, and the interval
is of other examples: it is about these files. One that trains is luck in part. It is run three to
six times, and as often the same training without it (a sham: nothing but the batch order is
another); the interval is of new runs and new examples. When several explain a gap, the primary one
is that which makes a file surely better by more than the whole gap; else, of those that close about
as much, the one whose remedy changes least. The causes below are in that order.

| id in JSON | in words | meaning |
| --- | --- | --- |
| `explains` | {explains} | confirmed by its intervention |
| `indicated` | {indicated} | the evidence speaks for it, no intervention has proved it |
| `not_shown` | {not_shown} | tried in vain, inconclusive, or not seen to move the gap |
| `ruled_out` | {ruled_out} | the evidence speaks against it |
| `does_not_apply` | {does_not_apply} | there is nothing that it could act on |
| `not_tried` | {not_tried} | inputs are missing, or there was no time |

`primary` is the id of a cause, `noise` (a gap of half the margin or more whose interval holds zero,
or one that another run of the training does not have), `none` (shown to be equivalent), `undecided`
(no gap seen, and not shown to be equivalent either) or `unexplained` (a real gap for which nothing
was found). Without interventions it is what the evidence indicates best, and the answer says that
it is not proved. A cause that hurts only the better of the two files cannot explain the gap.

The evidence indicates a cause if one of the measures listed with it is on the side of its threshold
that speaks for the cause, or several together where that is said. `measured` thresholds were seen
on the project's own studies and on the files of the MLPerf Tiny networks; `chosen` ones are
conventions that no measurement stands behind yet.

The code of a remedy stands in the script that `qinspect diagnose ... --write-fix fix.py` writes.
There `float_file`, `ptq_file`, `qat_file`, `float_h5`, `qat_h5` are paths of what was given and
`files` those of the `.tflite` files; `data`, `x`, `y` the evaluation examples; `train`, `train_x`
the training data; `calibration_x` the calibration set and `fresh_x` one drawn anew; epochs, rates
and `batch_size` what is known of the training, or assumed, which the script says. `content` is the
file that it makes anew.

The threads are those where people met what a cause describes, or its symptom. Facts and numbers are
theirs: nobody has looked at their files with this kit.
"""
_SCORES = """\
The fault benchmark (`docs/diagnosis_benchmark.md`) puts one cause into a network and asks for it
twice, with everything that a study has and with files and examples only. Networks held out are of
other architectures than those on which thresholds were set.
"""
_GIVEN = {"all": "with everything given", "files": "with files only"}
_COLUMNS = ("kind", "truth", "given", "half", "status", "right", "outcome")


def document(rows: pd.DataFrame | None = None, reasons: Mapping[str, str] | None = None) -> str:
    """The text of docs/causes.md, with scores from the fault benchmark's rows where given.

    ``reasons``: why a cause has no rows, by its id.
    """
    words = _HEAD
    for verdict, word in CAUSES.items():
        words = words.replace(f"{{{verdict}}}", word)
    head = [words] if rows is None else [words, _SCORES]
    return "\n".join([*head, *(_section(rule, rows, reasons or {})
                               for rule in all_rules().values())])


def _section(rule: Rule, rows: pd.DataFrame | None, reasons: Mapping[str, str]) -> str:
    title = f"{rule.title[0].upper()}{rule.title[1:]}"
    said = f"*Symptom.* {rule.symptom} *Cause.* {rule.cause} *Remedy.* {rule.remedy}"
    needs = " and ".join(
        " or ".join(NEEDS[name] for name in need.split("|")) for need in rule.requires
    )
    tried = "; ".join(map(_remedy, rule.remedies)) or "none"
    parts = [
        f"## {rule.id}", _wrapped(f"{title}. {rule.question}"), _wrapped(said),
        f"```python\n{rule.code}\n```",
        *[f"{when}:\n\n```python\n{code}\n```" for when, code in (
            ("With files alone", rule.code_of_files), ("For the QAT file", rule.code_of_qat))
          if code],
        "Speaks for it:\n\n" + "\n".join(map(_measure, rule.measures)),
        *([_wrapped(rule.note)] if rule.note else []),
        _wrapped(f"Needs {needs}. Intervention: {tried}."), _wrapped(f"Source: {rule.source}."),
        _met(rule),
        *([] if rows is None else [_wrapped(_score(rule.id, rows, reasons))]),
    ]
    return "\n\n".join(parts) + "\n"


def _met(rule: Rule) -> str:
    if not rule.met:
        return "No public thread is known to us."
    return "Met in public:\n\n" + "\n".join(_wrapped(f"- {fact}", "  ") for fact in rule.met)


def _score(cause: str, rows: pd.DataFrame, reasons: Mapping[str, str]) -> str:
    here = rows[(rows["kind"] == "single") & (rows["truth"] == cause)]
    if here.empty:
        return f"Not in the fault benchmark{f': {reasons[cause]}' if cause in reasons else ''}."
    opened = here[here["status"] == "opened"]
    shares = [
        f"{title} {_right(part)} (networks held out {_right(part[part['half'] == 'scored'])})"
        for given, title in _GIVEN.items() for part in [opened[opened["given"] == given]]
    ]
    proved = int((here["outcome"] == "wrong, proved").sum())
    return (f"In the fault benchmark, right first where it opened a gap: {', '.join(shares)}; "
            f"wrong and proved in {proved} of all {len(here)} diagnoses.")


def _right(part: pd.DataFrame) -> str:
    return f"{int(part['right'].astype(bool).sum())} of {len(part)}"


def _remedy(remedy: Remedy) -> str:
    return f"{remedy.title} (TensorFlow)" if remedy.trains else remedy.title


def _measure(measure: Measure) -> str:
    unit = f" {measure.unit}" if measure.unit else ""
    if isinstance(measure.threshold, bool):
        limit = "yes" if measure.side == "above" else "no"
    elif measure.threshold is None:
        # It is computed, and the basis says how.
        return _wrapped(f"- {measure.title}: {measure.basis}", hanging="  ")
    else:
        limit = f"{'from' if measure.side == 'above' else 'below'} {measure.threshold:g}{unit}"
    basis = f" ({measure.basis})" if measure.basis else ""
    return _wrapped(f"- {measure.title}: {limit}{basis}", hanging="  ")


def _wrapped(text: str, hanging: str = "") -> str:
    return textwrap.fill(text, 100, subsequent_indent=hanging, break_long_words=False,
                         break_on_hyphens=False)


def main() -> int:
    """Print the document or one cause; exit code 2 and one sentence where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m qinspect.causes")
    parser.add_argument("rows", nargs="?", type=Path, metavar="ID",
                        help="a cause to tell; or data/diagnosis_full_cases.csv, for the document")
    parser.add_argument("reasons", nargs="?", help="module:name of why a cause has no rows, by id")
    given = parser.parse_args()
    rules = all_rules()
    if str(given.rows) in rules:
        print(_section(rules[str(given.rows)], None, {}), end="")
        return 0
    try:
        if given.rows is not None and not (given.rows.exists() or given.rows.suffix == ".csv"):
            raise unknown_name("cause", str(given.rows), tuple(rules))
        rows = None if given.rows is None else read_rows(given.rows)
        reasons = None if given.reasons is None else named_object(given.reasons)
    except QinspectError as error:
        print(f"qinspect: {error}", file=sys.stderr)
        return 2
    print(document(rows, reasons), end="")
    return 0


def read_rows(path: Path) -> pd.DataFrame:
    """Rows of the fault benchmark as `make bench-diagnosis` writes them."""
    rows = store.read_frame(path)
    missing = [name for name in _COLUMNS if name not in rows]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; `make bench-diagnosis` writes "
                        "the table anew.")
    return rows


if __name__ == "__main__":
    sys.exit(main())
