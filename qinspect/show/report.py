"""Write a study's report: one HTML file that opens without network."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qinspect.show import plots
from qinspect.show.inline import png_bytes
from qinspect.show.study_table import arm_rows, find_comparison, headline
from qinspect.study import store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qinspect.study import Study


@dataclass(frozen=True)
class Figure:
    """A figure of a report: inline PNG, and the sentence that says what it shows."""

    title: str
    data_uri: str
    sentence: str


def as_figure(title: str, ax: Axes, sentence: str) -> Figure:
    """Freeze axes into a report figure."""
    encoded = base64.b64encode(png_bytes(ax, dpi=130)).decode()
    return Figure(title, f"data:image/png;base64,{encoded}", sentence)


def render(template: str, **values: Any) -> str:
    """Fill a template of ``show/templates`` with everything escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("qinspect.show", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def write_study_report(study: Study, path: Path | None = None) -> Path:
    """Write ``report.html`` of a finished study.

    Parameters
    ----------
    study : Study
        From ``run_study`` or ``load_study``.
    path : Path, optional
        Where to write; ``report.html`` in the study's folder when not given.

    Returns
    -------
    Path
        The file written.
    """
    summary = study.summary
    gap = find_comparison(summary, "ptq_int8", "qat")["diff_pp"]
    parts = summary["decomposition"]
    observers = study.observers[study.observers["phase"] == "qat"]
    figures = [
        as_figure("Accuracy of each model", plots.accuracy_forest(study.runs),
                  plots.describe_forest(study.runs)),
        as_figure("Where the gap comes from", plots.waterfall(parts, gap, total="qat - ptq_int8"),
                  plots.describe_waterfall(parts, gap)),
        as_figure("Learning curves", plots.learning_curves(study.history),
                  plots.describe_learning(study.history)),
        as_figure("Ranges held by the QAT observers", plots.observer_ranges(observers),
                  plots.describe_observers(observers)),
    ]  # fmt: skip
    target = path or study.folder / "report.html"
    store.write_text(
        target,
        render(
            "study.html",
            spec=summary["spec"],
            environment=summary["environment"],
            rows=arm_rows(summary),
            titles={arm["arm"]: arm["title"] for arm in summary["arms"]},
            headline=headline(summary),
            notes=summary["notes"],
            figures=figures,
            n=summary["arms"][0]["n"],
            comparisons=summary["comparisons"],
        ),
    )
    return target
