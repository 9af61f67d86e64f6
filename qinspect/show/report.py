"""Write reports: one HTML file that opens without network, the same as Markdown, and as JSON."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from qinspect import store
from qinspect.show import markdown, plots
from qinspect.show.inline import png_bytes
from qinspect.show.layer_tables import LayerTables, study_layer_tables
from qinspect.show.report_layers import layer_histograms, layer_range_rows
from qinspect.show.static import source
from qinspect.show.study_table import arm_rows, find_comparison, headline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qinspect.studies.stored import Study


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


def render(template: str, tables: LayerTables | None = None, **values: Any) -> str:
    """Fill a template of ``show/templates`` with everything escaped.

    Parameters
    ----------
    template : str
        File name.
    tables : LayerTables, optional
        Layers whose histograms the page shows.
    **values
        What the template names.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("qinspect.show", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        # The project's own files, the only thing that is not escaped.
        script=Markup(source("histogram.js") + source("report.js")),
        histograms=[] if tables is None else layer_histograms(tables),
        layer_rows=[] if tables is None else layer_range_rows(tables),
        layer_notes=() if tables is None else tables.notes,
        layer_examples=0 if tables is None else tables.examples,
        **values,
    )


def write_beside(page: Path, markdown_text: str, summary: dict[str, Any] | None) -> None:
    """Write what stands beside a report: the same as Markdown and the numbers as JSON.

    Parameters
    ----------
    page : Path
        The HTML file, such as ``report.html``.
    markdown_text : str
        Goes to the same name with ``.md``.
    summary : dict or None
        Goes to ``summary.json``, or to ``<name>-summary.json`` where the folder is a study's,
        which has a ``summary.json`` of its own; None writes nothing.
    """
    store.write_text(page.with_suffix(".md"), markdown_text)
    if summary is not None:
        own = (page.parent / "spec.json").exists()
        name = f"{page.stem}-summary.json" if own else "summary.json"
        store.write_json(page.with_name(name), summary)


def write_study_report(
    study: Study,
    path: str | os.PathLike[str] | None = None,
    tables: LayerTables | None = None,
) -> Path:
    """Write ``report.html`` of a finished study, and ``report.md`` and ``summary.json`` beside it.

    Parameters
    ----------
    study : Study
        From ``run_study`` or ``load_study``.
    path : path, optional
        Where to write; ``report.html`` in the study's folder when not given.
    tables : LayerTables, optional
        Its layers, for the histograms; measured when not given.

    Returns
    -------
    Path
        The HTML file.
    """
    summary = study.summary
    gap = find_comparison(summary, "ptq_int8", "qat")["diff_pp"]
    parts = summary["decomposition"]
    observers = study.observers[study.observers["phase"] == "qat"]
    pairs = pd.DataFrame(summary["comparisons"])
    figures = [
        as_figure("Accuracy of each model", plots.accuracy_forest(study.runs),
                  plots.describe_forest(study.runs)),
        as_figure("Where the gap comes from", plots.waterfall(parts, gap, total="qat - ptq_int8"),
                  plots.describe_waterfall(parts, gap)),
        as_figure("Examples on which two models part", plots.discordance(pairs),
                  plots.describe_discordance(pairs)),
        as_figure("Learning curves", plots.learning_curves(study.history),
                  plots.describe_learning(study.history)),
        as_figure("Ranges held by the QAT observers", plots.observer_ranges(observers),
                  plots.describe_observers(observers)),
        as_figure("Accuracy against size", plots.accuracy_size(study.runs),
                  plots.describe_size(study.runs)),
    ]
    target = study.folder / "report.html" if path is None else Path(path)
    rows = arm_rows(summary)
    store.write_text(
        target,
        render(
            "study.html",
            study_layer_tables(study) if tables is None else tables,
            spec=summary["spec"],
            environment=summary["environment"],
            rows=rows,
            titles={arm["arm"]: arm["title"] for arm in summary["arms"]},
            headline=headline(summary),
            notes=summary["notes"],
            figures=figures,
            n=summary["arms"][0]["n"],
            comparisons=summary["comparisons"],
        ),
    )
    spec = summary["spec"]
    text = markdown.page(
        f"Study: {spec['dataset']}, {spec['model']}, seed {spec['seed']}",
        [*headline(summary), *summary["notes"]],
        [
            ("Models", markdown.table(rows)),
            ("Figures in words", _in_words(figures)),
            ("Settings", markdown.table(_settings(summary))),
        ],
    )
    in_study = target.parent.resolve() == study.folder.resolve()
    write_beside(target, text, None if in_study else summary)
    return target


def _in_words(figures: list[Figure]) -> str:
    return "\n".join(
        f"- {markdown.escaped(figure.title)}: {markdown.escaped(figure.sentence)}"
        for figure in figures
    )


def _settings(summary: dict[str, Any]) -> list[dict[str, Any]]:
    environment = summary["environment"]
    named = {**summary["spec"], "python": environment.get("python", ""),
             **environment.get("packages", {})}
    return [{"setting": key, "value": value} for key, value in named.items()]
