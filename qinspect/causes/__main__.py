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
A cause *explains* a gap only if its remedy, applied alone, closes a significant part of it: the
paired interval of the effect leaves out zero and the effect is at least 30 % of the gap. When
several do, the one whose remedy changes least is primary; the causes below are in that order.

| verdict | meaning |
| --- | --- |
| `explains` | confirmed by its intervention |
| `indicated` | the evidence speaks for it, no intervention has proved it |
| `not_shown` | tried without effect, inconclusive, or there but not shown to move this gap |
| `ruled_out` | the evidence speaks against it |
| `does_not_apply` | there is nothing that it could act on |
| `not_tried` | inputs are missing, or there was no time |

`primary` is the id of a cause, `noise` (a gap of half a point or more whose interval holds zero),
`none` (shown to be equivalent), `undecided` (no gap seen, and not shown to be equivalent either)
or `unexplained` (a real gap for which nothing was found). Without interventions it
is what the evidence indicates best, and the answer says that it is not proved. A cause that hurts
only the better of the two files cannot explain the gap.

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
