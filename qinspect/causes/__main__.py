"""Write docs/causes.md from the rules: ``python -m qinspect.causes > docs/causes.md``."""

from __future__ import annotations

import textwrap

from qinspect.causes import all_rules
from qinspect.diagnosis.cases import NEEDS
from qinspect.diagnosis.rule import Measure, Remedy, Rule

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

| verdict | meaning |
| --- | --- |
| `explains` | confirmed by its intervention |
| `indicated` | the evidence speaks for it, no intervention has proved it |
| `not_shown` | tried without effect, inconclusive, or there but not shown to move this gap |
| `ruled_out` | the evidence speaks against it |
| `does_not_apply` | there is nothing that it could act on |
| `not_tried` | inputs are missing, or there was no time |

`primary` is the id of a cause, `noise` (a gap of half the margin or more whose interval holds zero,
or one that another run of the training does not have), `none` (shown to be equivalent), `undecided`
(no gap seen, and not shown to be equivalent either) or `unexplained` (a real gap for which nothing
was found). Without interventions it is what the evidence indicates best, and the answer says that
it is not proved. A cause that hurts only the better of the two files cannot explain the gap.

The evidence indicates a cause if one of the measures listed with it is on the side of its threshold
that speaks for the cause, or several together where that is said. `measured` thresholds were seen
on the project's own studies and on the files of the MLPerf Tiny networks; `chosen` ones are
conventions that no measurement stands behind yet.
"""


def document() -> str:
    """The text of docs/causes.md."""
    return "\n".join([_HEAD, *(_section(rule) for rule in all_rules().values())])


def _section(rule: Rule) -> str:
    title = f"{rule.title[0].upper()}{rule.title[1:]}"
    said = f"*Symptom.* {rule.symptom} *Cause.* {rule.cause} *Remedy.* {rule.remedy}"
    needs = " and ".join(
        " or ".join(NEEDS[name] for name in need.split("|")) for need in rule.requires
    )
    tried = "; ".join(map(_remedy, rule.remedies)) or "none"
    parts = [
        f"## {rule.id}", _wrapped(f"{title}. {rule.question}"), _wrapped(said),
        f"```python\n{rule.code}\n```",
        "Speaks for it:\n\n" + "\n".join(map(_measure, rule.measures)),
        *([_wrapped(rule.note)] if rule.note else []),
        _wrapped(f"Needs {needs}. Intervention: {tried}."), _wrapped(f"Source: {rule.source}."),
    ]
    return "\n\n".join(parts) + "\n"


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


if __name__ == "__main__":
    print(document(), end="")
