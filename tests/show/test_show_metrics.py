"""Whatever is shown speaks the unit and direction of the metric: tables, figures, widgets."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from parts import need_package
from show_study import write_study
from small_net import examples, small_net

from qinspect.comparisons import compare
from qinspect.errors import DataError
from qinspect.measure.layer_cost import sensitivity
from qinspect.metrics import METRICS, Metric, metric
from qinspect.predictions import Results, results
from qinspect.show import figures, text
from qinspect.show.report import markdown
from qinspect.show.terminal import as_text
from qinspect.show.view import view_of
from qinspect.studies.arms import compare_arms, decompose_gap
from qinspect.studies.stored import Study
from qinspect.tflite import evaluate
from qinspect.tflite.requantize import quantize_file

NAMES = ("float", "ptq", "qat")
# Words that belong to accuracies; levels of intervals and shares of studies are told in percent.
FOREIGN = re.compile(r"accurac|points|\bright\b(?! model)|%", re.IGNORECASE)
LEVELS = re.compile(r"\d+ % (interval|each|of it)|in \d+ % of|interval \d+ to \d+ %|"
                    r"(ahead|level) in \d+ %|power for the difference on all +\d+ %")


def of_numbers(name: str = "mae", n: int = 90, runs: int | None = None, **more: Any) -> Results:
    """Numbers of three models, the later the worse."""
    rng = np.random.default_rng(0)
    y = 10 + 3 * rng.normal(size=n)
    shape = (n,) if runs is None else (runs, n)
    outputs = {model: y + 0.3 * (1 + at) * rng.normal(size=shape) for at, model in enumerate(NAMES)}
    return results(outputs, y, metric=name, runs=None if runs is None else range(runs), **more)


def of_two(name: str, n: int = 120, **more: Any) -> Results:
    """Outputs of one sigmoid, the later model the worse."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, n)
    return results({model: 1 / (1 + np.exp(-(4 * y - 2 + (1 + at) * rng.normal(size=n))))
                    for at, model in enumerate(NAMES)}, y, metric=name, **more)


EVERY = {
    "mae": of_numbers(), "mae in groups": of_numbers(groups=np.arange(90) // 3),
    "r2": of_numbers("r2"), "relative error": of_numbers("relative-error"),
    "auc": of_two("auc"), "auc in groups": of_two("auc", groups=np.arange(120) // 4),
    "binary": of_two("binary-accuracy"), "one's own": of_numbers("mae", margin=0.5),
}


def everything(result: Any) -> str:
    """All that is said of a result: text, page, Markdown, axes and sentences of figures."""
    view = view_of(result)
    said = [as_text(view), markdown(view), unmarked(result._repr_mimebundle_()["text/html"])]
    for kind in view.figures:
        figure = view.figure(kind)
        ax = figure.axes()
        figure.png(50)
        said += [figure.sentence, figure.title, ax.get_xlabel(), ax.get_ylabel()]
    return "\n".join(said)


def unmarked(page: str) -> str:
    """Text of a page; what a picture shows stands below it, too."""
    return re.sub("<[^>]*>", " ", re.sub("<style>.*?</style>", "", page))


def foreign(said: str) -> list[str]:
    return FOREIGN.findall(LEVELS.sub("", " ".join(said.split())))


def assert_speaks(said: str, chosen: Metric) -> None:
    """The metric's own words, and none that are accuracies' only."""
    assert chosen.title.lower() in said.lower()
    assert not re.search(r"\bnan\b|\bNone\b|could not be drawn", said)
    assert ("lower is better" in said.lower()) == (chosen.direction == "lower")
    if chosen.unit != "points":
        assert foreign(said) == []


# --- numbers and intervals as text ------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_gaps_keep_their_sign_and_intervals_their_ends(name: str) -> None:
    chosen = metric(name)
    for value in (-1234.5, -0.5, 0.0, 0.01234, 7.0):
        written = text.gap_of(chosen)(value)
        back = float(written.replace(",", ""))
        assert back == pytest.approx(value, abs=0.005 if chosen.scale == 100 else 1e-12, rel=6e-4)
        assert written.startswith("+") == (back > 0)
    both = (text.gap_of(chosen)(-0.25), text.gap_of(chosen)(0.5))
    assert text.interval_of(chosen)((-0.25, 0.5)) == f"[{both[0]}, {both[1]}]"


def test_accuracies_are_written_as_ever() -> None:
    chosen = metric("accuracy")
    assert text.gap_of(chosen) is text.points
    assert text.value_of(chosen) is text.percent
    assert text.interval_of(chosen)((-0.001, 2)) == text.interval((-0.001, 2)) == "[0.00, +2.00]"
    assert text.gap_axis("difference", chosen) == "difference, percentage points"
    y = np.arange(200) % 10
    found = view_of(results({"ptq": np.where(y == 3, 0, y), "qat": y}, y).compare())
    assert found.tables[0].heads == ("model", "accuracy", "95 % interval", "read as")
    assert found.tables[1].heads == (
        "a", "b", "verdict", "b - a, points (+: b better)", "95 % interval", "only a right",
        "only b right", "p", "detectable, points")
    assert found.tables[1].cells()[0][2:7:2] == ["qat better", "[+6.57, +14.94]", "20"]
    assert found.tables[1].title == "Accuracy, paired"


# --- results and comparisons ------------------------------------------------------------------


@pytest.mark.parametrize("case", EVERY)
def test_results_and_comparisons_speak_the_metric(case: str) -> None:
    found = EVERY[case]
    for shown in (found, found.compare(), found.compare([("ptq", "qat")])):
        said = everything(shown)
        assert_speaks(said, found.metric)
    rows = view_of(found.compare()).tables[1]
    assert text.signed("b - a", found.metric, "b") in rows.heads
    for one, cells in zip(found.compare(), rows.cells(), strict=True):
        worse_or_none = {"a_better": f"{one.a} better"}.get(one.verdict)
        assert worse_or_none is None or worse_or_none in cells


def test_the_better_file_is_named_by_direction() -> None:
    for name in ("mae", "r2"):
        found = of_numbers(name).compare([("float", "qat")])
        assert found.comparisons[0].verdict == "a_better"
        assert "float better" in as_text(view_of(found))


def test_columns_that_mean_nothing_are_left_out() -> None:
    heads = {name: view_of(EVERY[name].compare()).tables[1].heads
             for name in ("mae", "auc", "binary")}
    assert "a better on" in heads["mae"]
    assert not {"a better on", "only a right"} & set(heads["auc"])
    assert "only a right" in heads["binary"]
    assert "disagreement" not in EVERY["auc"].compare().figures
    assert "read as" not in view_of(EVERY["mae"]).tables[0].heads


def test_scores_better_on_are_drawn_as_they_are_counted() -> None:
    found = EVERY["mae"].compare()
    ax = found.figure("disagreement").axes()
    assert ax.get_xlabel() == "examples: the left model better | the right model better"
    assert [bar.get_width() for bar in ax.patches] == [
        n for one in found for n in (-one.a_only, one.b_only)]


def test_figures_stand_at_the_numbers() -> None:
    found = EVERY["mae"]
    points = [line for line in found.figure().axes().lines if line.get_marker() == "o"]
    np.testing.assert_allclose([p.get_xdata()[0] for p in points],
                               [found.value(name) for name in NAMES])
    assert found.figure().sentence.startswith(
        f"Mean absolute error runs from {text.number(found.value('qat'))} (qat)")
    one = found.compare([("float", "qat")])
    heights = one.figure("resamples").axes().collections[0].get_paths()
    assert sum(path.vertices[:, 1].max() for path in heights) == pytest.approx(1)
    assert len(heights) <= 61
    sized = figures.accuracy_size(found.frame.assign(bytes=[3000, 2000, 1000]), found.metric)
    assert [tuple(line.get_xydata()[0]) for line in sized.axes().lines] == [
        (kb, found.value(name)) for kb, name in zip((3.0, 2.0, 1.0), NAMES, strict=True)]
    assert foreign(sized.sentence) == []


# --- runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mae", "r2"])
def test_ways_of_training_speak_the_metric(name: str) -> None:
    found = of_numbers(name, runs=4, groups=np.arange(90) // 3)
    for shown in (found, found.compare_runs()):
        assert_speaks(everything(shown), found.metric)
    over = found.over_runs("float", "qat")
    said = everything(over)
    assert_speaks(said, found.metric)
    assert (over.b_wins, over.a_wins) == (0, 4)  # ahead is what is better
    assert over.frame["gap"].mean() == pytest.approx(over.gap)
    assert repr(over).startswith("<SeedComparison: ")
    drawn = over.figure().axes()
    colour = {line.get_color() for line in drawn.lines if line.get_marker() in "^v"
              and len(line.get_xdata())}
    assert len(colour) == 1  # every seed on the worse side
    assert pd.Series(found.by_run("float", "qat")["gap"]).mean() == pytest.approx(over.gap)


# --- files ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Any]:
    """A float file and two quantized ones as regressions of several numbers."""
    from qinspect.measure.activations import observe_ranges
    from qinspect.tflite import read_graph
    folder = tmp_path_factory.mktemp("files")
    content, x = small_net(), examples(96)
    (folder / "float.tflite").write_bytes(content)
    graph = read_graph(folder / "float.tflite")
    good = observe_ranges(graph, x).over()
    fed = graph.main.tensors[graph.main.inputs[0]].name
    narrow = replace(good, bounds={
        name: ends if name == fed else (ends[0] / 3, ends[1] / 3)
        for name, ends in good.bounds.items()})
    for name, ranges in (("ptq", good), ("qat", narrow)):
        (folder / f"{name}.tflite").write_bytes(quantize_file(graph, ranges))
    y = evaluate(content, x).outputs + 0.01 * np.random.default_rng(0).normal(size=(96, 4))
    np.savez(folder / "data.npz", x=x, y=y)
    return [folder / f"{name}.tflite" for name in NAMES], folder / "data.npz"


def test_files_speak_the_metric(regression: tuple[list[Any], Any], tmp_path: Any) -> None:
    files, data = regression
    found = compare(files, data, metric="mae")
    # Shares of clipped values are no accuracies.
    assert_speaks(re.sub(r"[\d.]+ %", "", everything(found)), metric("mae"))
    heads = view_of(found).tables[0].heads
    assert "mean absolute error" in heads
    assert not {"tied outputs", "flips, reference kernels"} & set(heads)
    page = found.report(tmp_path / "r.html").read_text()
    assert "mean absolute error" in page
    titles = [section.title for section in view_of(found).sections]
    assert any(title.startswith("Where float.tflite is better than qat") for title in titles)


def test_layers_cost_in_the_metric(regression: tuple[list[Any], Any]) -> None:
    files, data = regression
    found = sensitivity(files[0], data, calibration=data, metric="mae")
    # Shares of a loss are percent in any metric.
    assert_speaks(re.sub(r"-?\d+ %", "", everything(found)), metric("mae"))
    ax = found.figure("layers").axes()
    only = found.layers[found.layers["variant"] == "only"]
    assert [bar.get_width() for bar in ax.patches] == sorted(only["to_float"], reverse=True)
    dashed = [line for line in found.figure("curve").axes().lines if line.get_linestyle() == "--"]
    assert dashed[0].get_ydata()[0] == found.margin > 0  # a loss is above zero


# --- studies and widgets ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("show") / "study")


def test_learning_curves_of_losses() -> None:
    history = pd.DataFrame({"phase": ["float", "float", "qat"], "epoch": [1, 2, 1],
                            "steps": [10, 20, 10], "loss": [3.0, 2.0, 1.5],
                            "val_loss": [3.5, 2.5, 2.0], "accuracy": np.nan})
    made = figures.learning_curves(history)
    assert made.axes().get_ylabel() == "loss"
    assert made.sentence == ("Loss: float after 20 steps: validation 2.5, training 2; "
                             "qat after 10 steps: validation 2, training 1.5.")


@pytest.mark.parametrize("case", EVERY)
def test_the_significance_widget_speaks_the_metric(case: str) -> None:
    need_package("ipywidgets")
    from qinspect.show.widgets import SignificanceExplorer

    found = EVERY[case]
    made = SignificanceExplorer(found, "float", "qat")
    assert made.error.value == ""
    assert made.margin.value == pytest.approx(found.limit, rel=0.01)
    assert made.margin.description == text.headed("margin", found.metric.unit)
    assert found.compare([("float", "qat")]).comparisons[0].sentence.split("(")[0] in (
        made.verdict.value.replace("&#x27;", "'"))
    for control, value in ((made.n, 50), (made.draw, 2), (made.confidence, 0.8),
                           (made.margin, made.margin.value * 2), (made.a, "ptq")):
        before = made.verdict.value, made.figure.image.value
        control.value = value
        assert made.error.value == "", made.error.value
        assert (made.verdict.value, made.figure.image.value) != before
    if found.metric.unit != "points":
        assert foreign(unmarked(made._repr_mimebundle_()["text/html"])) == []


def scored(study: Study, name: str) -> Study:
    """The study with its classes taken for numbers."""
    own = study.results
    found = replace(own, y=own.y + 0.25, metric=metric(name), margin=None, outputs={
        model: own.answers(model).astype(float) for model in own.models})
    summary = {**study.summary, "comparisons": [one.to_json() for one in compare_arms(found)],
               "decomposition": decompose_gap(found)}
    kind = type("Study", (Study,), {"results": found})
    return kind(study.folder, study.spec, summary, study.runs, study.history, study.observers,
                study.arrays)


@pytest.mark.parametrize("name", ["mae", "r2"])
def test_a_study_speaks_the_metric(study: Study, name: str) -> None:
    own = scored(study, name)
    view = replace(view_of(own), sections=())
    said = "\n".join([as_text(view), *(view.figure(kind).sentence for kind in view.figures
                                       if kind not in ("learning", "observers"))])
    assert_speaks(said, metric(name))
    assert next(iter(view.figures)) == name
    assert ("disagreement" in view.figures) == (name == "mae")


def test_flips_of_scores_are_those_that_differ_most(study: Study) -> None:
    need_package("ipywidgets")
    from qinspect.show.widgets import FlipBrowser
    from qinspect.show.widgets.flips import Answers

    own = scored(study, "mae")
    made = FlipBrowser(Answers(own.results), "ptq_int8", "qat")
    assert made.error.value == ""
    flips = own.results.flips("ptq_int8", "qat", "b")
    assert f"{len(flips)} of 800 examples: qat better" in made.said.value
    assert "mean absolute error of qat" in made.table.value
    assert "true class" not in made.table.value
    with pytest.raises(DataError, match="no single ones"):
        FlipBrowser(Answers(scored(study, "r2").results))
