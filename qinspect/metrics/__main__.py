"""Write docs/metrics.md from the registry: ``python -m qinspect.metrics > docs/metrics.md``."""

from __future__ import annotations

from qinspect.metrics import METRICS, Metric

_HEAD = """\
# Metrics

<!-- Made by `make docs` from qinspect/metrics; change the files there. -->

What the outputs of a model are worth. `evaluate`, `compare`, `sensitivity`, `significance` and
`diagnose` take one by name (`--metric mae`, in Python `metric="mae"`); every interval, test, table
and figure is then in its unit and knows which way is better.

A metric is of one of two kinds. A score *of each example* has a mean, whose differences are paired
example by example: McNemar's test and Tango's interval where an example is right or wrong, else a
sign-flip test and Student's interval. A statistic *of the set*, such as an area under a curve, has
no value for one example; its interval and test are a bootstrap over examples. Examples in groups
are flipped and resampled as whole groups in both.

The margin is the difference that would matter, for "equivalent"; `--margin` sets another, in the
same unit.

| name | what it is | for each example or for the set | unit of differences | better | margin |
| --- | --- | --- | --- | --- | --- |
"""
_TAIL = """
`topK` takes any K; `binary-accuracy@0.3` and `f1@0.3` another threshold: of the probability of yes,
or of a score (of two scores, of how much the second is above the first). A label that a file gives
no score, maps under a metric of classes, NaN, a threshold beyond probabilities and the like are
refused in one sentence; only under accuracy do scores with NaN count, as wrong, and the result says
first how many. `docs/tasks.md` shows every command on every kind of task.

## Which one is taken

Without `--metric` one is guessed where there is one reading only, and a note says which and why:

| output that is looked at | `y` | metric |
| --- | --- | --- |
| several numbers an example | whole numbers below their count | `accuracy` |
| one number, made by a sigmoid | 0 and 1 | `binary-accuracy` |
| one number | not whole | `mae` |
| shaped like the input | none | `reconstruction` |

Anything else is refused with the names that would fit: whole numbers beside one plain number may be
classes or quantities, a map may be a segmentation or a reconstruction, and an autoencoder with as
many outputs as there are classes is no classifier. Predictions in a table (`significance`) are
taken for classes, and where `y` is not whole for quantities, judged by `mae`.

## Several outputs

`--output` (`output=`) takes a name or a position, from 0, in the first file. The same output is
then found in the other files by name, shape and values, because converters change the order; where
the order differs a note says so. Without it files with several outputs are refused if there are
labels. `map` takes all outputs together.

## Examples that follow each other

A file that keeps state (an LSTM, a streaming model) is reset before each example, and a note says
so. `--sequence` of `evaluate` and `compare` keeps the state in the order of the examples.

## One of your own

`--metric mine:score` is the function `score(y, output)` of the module `mine`: one number for each
example, or one number if it says `score.kind = "set"`.

```python
import numpy as np

def within_one_degree(y, output):
    return np.abs(output[:, 0] - y) <= 1

within_one_degree.direction = "higher"
within_one_degree.unit, within_one_degree.scale = "points", 100
```

`direction` is required; `unit`, `title`, `scale` (100 for shares), `kind` and `margin` are not. A
`qinspect.metrics.Metric` is taken as it is.
"""


def document() -> str:
    """The text of docs/metrics.md."""
    return _HEAD + "\n".join(map(_row, METRICS.values())) + "\n" + _TAIL


def _row(metric: Metric) -> str:
    said = getattr(metric.score, "func", metric.score).__doc__ or ""
    margin = ("a twentieth of the first file's" if metric.margin is None else
              f"{metric.margin:g} {metric.unit}".rstrip())
    cells = (f"`{metric.id}`", f"*{metric.title}.* {said.splitlines()[0].rstrip('.')}",
             metric.kind, metric.unit or "none", metric.direction, margin)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(document(), end="")
