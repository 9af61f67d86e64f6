"""Every widget without a browser: set values, look at children and data."""

from __future__ import annotations

import re
import shutil
import threading
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from parts import need_package
from show_study import HOSTILE, write_study

for package in ("ipywidgets", "anywidget"):
    need_package(package)

import ipywidgets as widgets  # noqa: E402

from qinspect.diagnosis.answer import Cause, Diagnosis, Effect  # noqa: E402
from qinspect.diagnosis.cases import case  # noqa: E402
from qinspect.diagnosis.engine import diagnose  # noqa: E402
from qinspect.errors import DataError  # noqa: E402
from qinspect.measure.layer_tables import Layers  # noqa: E402
from qinspect.predictions import results  # noqa: E402
from qinspect.show.figure import Figure  # noqa: E402
from qinspect.show.style import figure_of, legend_beside  # noqa: E402
from qinspect.show.table import table  # noqa: E402
from qinspect.show.view import view_of  # noqa: E402
from qinspect.show.widgets import (  # noqa: E402
    Dashboard,
    DiagnosisBoard,
    ErrorExplorer,
    FlipBrowser,
    ObserverPlayer,
    QuantizationPlayground,
    RangeExplorer,
    SignificanceExplorer,
    SweepBoard,
)
from qinspect.show.widgets.base import alert, sentence, shown  # noqa: E402
from qinspect.show.widgets.figure import FigureView  # noqa: E402
from qinspect.show.widgets.flips import Answers  # noqa: E402
from qinspect.show.widgets.making import Maker, Work  # noqa: E402
from qinspect.show.widgets.observers import holders  # noqa: E402
from qinspect.studies.run import load_splits  # noqa: E402
from qinspect.studies.stored import (  # noqa: E402
    Study,
    Sweep,
    finished_record,
    sweep_frame,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("widgets") / "study")


@pytest.fixture(scope="module")
def tables(study: Study) -> Layers:
    return study.layers()


@pytest.fixture(scope="module")
def diagnosis(study: Study) -> Diagnosis:
    """What the files say, and as if a warm start had been tried; with a hostile name."""
    found = diagnose(case(study), interventions=False)

    def told(cause: Cause) -> Cause:
        if cause.rule.id != "stale-observers":
            return cause
        rule = replace(cause.rule, title=f"ranges of {HOSTILE}", code="if a < b: pass")
        finding = replace(cause.finding, sentence=f"{HOSTILE} is too wide")
        effect = Effect("warm start", -1.7, (-2.9, -0.4), 0.5, True)
        return replace(cause, rule=rule, finding=finding, verdict="explains", effect=effect)

    return replace(found, causes=tuple(map(told, found.causes)), primary="stale-observers",
                   proved=True)


@pytest.fixture(scope="module")
def dashboard(study: Study, diagnosis: Diagnosis) -> Dashboard:
    made = Dashboard(study, diagnosis=diagnosis)
    made.measured.wait()
    for name in made.pages:
        made.page(name)
    return made


def descend(widget: widgets.Widget) -> list[widgets.Widget]:
    found = [widget]
    for child in getattr(widget, "children", ()):
        found += descend(child)
    return found


def shown_error(explorer: widgets.Widget) -> str:
    return explorer.error.value


class Tags(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


# --- all together -----------------------------------------------------------------------------


def test_every_tab_opens_without_error(dashboard: Dashboard) -> None:
    assert list(dashboard.tabs.titles) == [
        "Overview", "Diagnosis", "Ranges", "Errors", "Significance", "Flips", "Examples",
        "Observers", "Playground",
    ]
    texts = [w.value for w in descend(dashboard) if isinstance(w, widgets.HTML)]
    assert len(texts) > 20
    assert not [text for text in texts if 'role="alert"' in text]


def test_tabs_are_built_when_first_opened(study: Study) -> None:
    made = Dashboard(study)
    assert [bool(page.children) for page in made.pages.values()] == [True] + [False] * 8
    made.tabs.selected_index = 8
    assert isinstance(made.pages["Playground"].children[0], QuantizationPlayground)
    made.tabs.selected_index = 1
    assert made.pages["Diagnosis"].children[0].button.description == "Run the diagnosis"


def test_every_control_has_a_name(dashboard: Dashboard) -> None:
    controls = [w for w in descend(dashboard) if isinstance(w, widgets.ValueWidget)]
    controls = [w for w in controls if not isinstance(w, (widgets.HTML, widgets.Image))]
    assert len(controls) > 25
    for control in controls:
        assert control.description or getattr(control, "tooltip", None), control


def test_every_figure_has_a_sentence(dashboard: Dashboard) -> None:
    views = [w for w in descend(dashboard) if isinstance(w, FigureView)]
    assert len(views) >= 8
    for view in views:
        if view.layout.display != "none":
            assert bytes(view.image.value).startswith(b"\x89PNG")
            assert re.search(r"<p [^>]*>[^<]{30,}</p>", view.sentence.value)


def test_no_name_becomes_markup(dashboard: Dashboard) -> None:
    texts = [w.value for w in descend(dashboard) if isinstance(w, widgets.HTML)]
    assert any("&lt;img src=x" in text for text in texts), "the hostile name must be on show"
    for text in texts:
        for tag, attributes in Tags(text).tags:
            assert tag != "script"
            assert not any(name.startswith("on") for name in attributes)
            if tag == "img":
                assert (attributes["src"] or "").startswith("data:image/png;base64,")
    for widget in descend(dashboard):
        assert not getattr(widget, "description_allow_html", False)


def test_a_failing_callback_shows_in_the_widget_and_recovers(study: Study) -> None:
    made = SignificanceExplorer(study.results)
    made.a.value = made.b.value
    assert "choose two different ones" in shown_error(made)
    made.a.value = "float"
    assert shown_error(made) == ""

    def broken() -> None:
        raise ZeroDivisionError(HOSTILE)

    made.guarded(broken)()
    assert "ZeroDivisionError" in shown_error(made)
    assert "Traceback" in shown_error(made)
    assert "<img" not in shown_error(made)


def test_a_kernel_that_handles_messages_in_threads_draws_one_at_a_time(study: Study) -> None:
    made = SignificanceExplorer(study.results, "ptq_int8", "qat")
    said: list[str] = []

    def turn(thread: int) -> None:
        for draw in range(8):
            made.draw.value = 10 * draw + thread
            said.append(shown_error(made))

    threads = [threading.Thread(target=turn, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 32
    assert not any(said)


def test_a_redrawn_figure_is_the_same_as_one_drawn_first() -> None:

    view = FigureView(5, 3, "x")
    pictures: dict[int, bytes] = {}
    for value in (1, 2, 1, 3, 2, 1, 3):
        def draw(ax, v=value) -> None:
            ax.plot([0, 1], [0, v], label="line")
            ax.set_ylim(0, 2 + v // 3)
            legend_beside(ax)

        view.show(Figure(draw, "said", size=(5, 3)), layout="same")
        assert pictures.setdefault(value, view.image.value) == view.image.value
    assert len(set(pictures.values())) == 3


def test_longer_numbers_do_not_fall_off_the_edge() -> None:

    view = FigureView(5, 3, "x")
    for factor in (1, 1e3, 1e6, 10):
        def draw(ax, f=factor) -> None:
            ax.plot([0, 1], [0, f])
            ax.set_ylabel("label")
            ax.yaxis.set_major_formatter("{x:,.2f}")

        view.show(Figure(draw, "said", size=(5, 3)), layout="same")
        figure = figure_of(view.axes)
        taken = view.axes.get_tightbbox(figure.canvas.get_renderer())
        assert taken.x0 >= 0
        assert taken.x1 <= figure.bbox.width


def test_markup_escapes() -> None:
    hostile = table(HOSTILE, [{HOSTILE: HOSTILE}], {HOSTILE: HOSTILE})
    for made in (sentence(HOSTILE), alert(ValueError(HOSTILE)), shown(hostile)):
        assert "<img" not in made
        assert "&lt;img" in made


def test_without_a_kernel_pictures_and_tables_are_left(dashboard: Dashboard) -> None:
    bundle = dashboard.pages["Overview"].children[0]._repr_mimebundle_()
    tags = [tag for tag, _ in Tags(bundle["text/html"]).tags]
    assert tags.count("img") == 1
    assert tags.count("table") == 2
    assert bundle["text/plain"] == "<Overview>"


# --- one by one -------------------------------------------------------------------------------


def changed(before: dict[str, object], after: dict[str, object]) -> set[str]:
    return {key for key in before if before[key] != after[key]}


def test_significance_moves_with_every_control(study: Study) -> None:
    made = SignificanceExplorer(study.results, "ptq_int8", "qat")

    def state() -> dict[str, object]:
        return {"image": made.figure.image.value, "said": made.figure.sentence.value,
                "verdict": made.verdict.value, "table": made.table.value}

    for control, value in ((made.n, 50), (made.draw, 5), (made.confidence, 0.8),
                           (made.margin, 5.0), (made.a, "float")):
        before = state()
        control.value = value
        assert shown_error(made) == ""
        assert {"image", "verdict"} <= changed(before, state()), control.description
    assert "50 examples" in made.verdict.value


def test_significance_needs_two_models(study: Study) -> None:
    with pytest.raises(DataError, match="two models"):
        SignificanceExplorer(results({"float": study.correct("float")}))


def test_ranges_every_control(tables: Layers) -> None:
    made = RangeExplorer(tables)
    assert shown_error(made) == ""
    assert made.histogram.series[0]["name"] == "float"
    assert [mark["name"] for mark in made.histogram.marks] == ["ptq_int8", "qat"]
    assert sum(made.histogram.series[0]["counts"]) == tables.weights["float", HOSTILE].size

    made.kind.value = "activation"
    assert made.channel.disabled
    assert sum(made.histogram.series[0]["counts"]) == tables.activations["float", HOSTILE].count
    made.method.value = "stored in qat"
    assert made.histogram.clip == pytest.approx([-6, 6], abs=0.05)
    said = made.effect.value
    made.method.value = "mse"
    assert made.effect.value != said
    assert made.histogram.clip[0] == 0  # after a ReLU nothing is negative

    made.layer.value = "dense"
    made.kind.value = "weight"
    made.channel.value = 2
    assert sum(made.histogram.series[0]["counts"]) == tables.weights["float", "dense"][2].size
    made.model.value = "qat"
    assert made.histogram.series[0]["name"] == "qat"
    made.symmetric.value = True
    assert made.histogram.clip[0] == -made.histogram.clip[1]
    made.bits.value = 3
    assert made.histogram.bits == 3
    assert "at 3 bits" in made.effect.value
    made.log_scale.value = False
    assert made.histogram.log is False
    assert shown_error(made) == ""


def test_dragging_a_limit_is_by_hand_and_changes_the_numbers(tables: Layers) -> None:
    made = RangeExplorer(tables)
    before = made.effect.value
    low, high = made.histogram.clip
    made.histogram.clip = [low / 4, high / 4]
    assert made.method.value == "by hand"
    assert made.effect.value != before
    assert float(re.search(r"([\d.]+) % of the values", made.effect.value)[1]) > 1
    made.layer.value = "dense"  # another layer starts from its own range
    assert made.method.value == "minmax"
    assert shown_error(made) == ""


def test_layers_without_weights_are_not_offered_for_weights(tables: Layers) -> None:
    made = RangeExplorer(tables)
    assert "softmax" not in [value for _, value in made.layer.options]
    made.kind.value = "activation"
    made.layer.value = "softmax"
    made.kind.value = "weight"
    assert made.layer.value != "softmax"
    assert shown_error(made) == ""


def test_errors_sort_and_choose(tables: Layers) -> None:
    made = ErrorExplorer(tables.errors)
    frame = tables.errors["ptq_int8"].errors
    rows = frame[frame["reference"] == "accumulated"].sort_values("sqnr_db")
    assert [value for _, value in made.layer.options] == list(rows["layer"])
    before = made.histogram.image.value, made.table.still()
    made.layer.value = HOSTILE
    assert (made.histogram.image.value, made.table.still()) != before
    assert "&lt;img" in made.histogram.sentence.value
    made.metric.value = "max_abs"
    made.reference.value = "local"
    made.model.value = "qat"
    local = tables.errors["qat"].errors
    local = local[local["reference"] == "local"]
    worst = local.sort_values("max_abs", ascending=False, kind="stable")["layer"]
    assert [value for _, value in made.layer.options] == list(worst)
    assert shown_error(made) == ""
    with pytest.raises(DataError, match="no layer errors"):
        ErrorExplorer({})


def test_playground_every_control() -> None:
    made = QuantizationPlayground()
    for control, value in ((made.bits, 3), (made.distribution, "normal with outliers"),
                           (made.method, "percentile"), (made.percentile, 95.0),
                           (made.symmetric, True), (made.per_channel, True), (made.seed, 1),
                           (made.count, 400), (made.method, "kmeans")):
        before = made.said.value, made.table.value, made.figure.image.value
        control.value = value
        assert shown_error(made) == ""
        assert (made.said.value, made.table.value, made.figure.image.value) != before
    made.histogram.clip = [-0.5, 0.5]
    assert made.method.value == "by hand"
    assert not made.per_channel.value
    assert "by hand" in made.said.value
    made.per_channel.value = True
    assert "choose per tensor" in shown_error(made)


def test_observers_play_over_the_steps(study: Study) -> None:
    own = study.observers
    warm = own.assign(min=0.0, max=2.0)
    made = ObserverPlayer({"default": own, "warm <b>": warm})
    assert made.play.max == len(made.step.options) - 1
    seen = set()
    for step in made.step.options:
        made.step.value = step
        seen.add(made.figure.image.value)
        assert f"At step {step}" in made.figure.sentence.value
    assert len(seen) >= 4  # the first step moves by less than a pixel
    assert "-5.164 to 5.443" in made.table.value  # -6 x 0.999^150, 2 + 4 x 0.999^150
    made.runs.value = ("warm <b>",)
    assert "default" not in made.table.value
    made.runs.value = ()
    assert "no run is chosen" in shown_error(made)
    with pytest.raises(DataError, match="no QAT run"):
        ObserverPlayer({"qat": pd.DataFrame(columns=own.columns)})


def test_flips_show_the_examples(study: Study) -> None:
    data = load_splits(study.spec).test
    data = replace(data, x=data.x[..., :1])
    made = FlipBrowser(Answers(study.results, data), "ptq_int8", "qat")
    only_b = ~study.correct("ptq_int8") & study.correct("qat")
    assert f"{only_b.sum()} of 800 examples: only qat right" in made.said.value
    assert [tag for tag, _ in Tags(made.pictures.value).tags].count("img") == only_b.sum()
    for _, attributes in Tags(made.pictures.value).tags:
        assert attributes.get("alt", "x")
    for name in study.arrays["id"][only_b]:
        assert str(name) in made.table.value
    made.which.value = "a"
    only_a = study.correct("ptq_int8") & ~study.correct("qat")
    assert f"{only_a.sum()} of 800" in made.said.value
    made.a.value = "qat"
    assert "choose two different ones" in shown_error(made)


def test_flips_turn_pages(study: Study) -> None:
    arrays = {**study.arrays, "prediction__qat": (study.prediction("qat") + 1) % 4}
    made = FlipBrowser(Answers(replace(study, arrays=arrays).results), "ptq_int8", "qat")
    made.which.value = "a"
    assert made.page.max > 10
    before = made.table.value
    made.page.value = 2
    assert made.table.value != before
    made.which.value = "b"
    assert made.page.value == 1
    assert made.pictures.value == ""


def test_board_opens_causes(diagnosis: Diagnosis) -> None:
    made = DiagnosisBoard(diagnosis)
    assert "if a &lt; b: pass" in made.detail.value
    # The remedy takes the gap away: never a negative number of points closed.
    assert "makes the gap smaller by 1.70 points [0.40, 2.90]" in made.detail.value
    assert made.evidence.sentence.value.count("QAT: Of 5 stored ranges") == 1
    made.cause.value = "noise"
    assert "only PTQ right on" in made.evidence.sentence.value
    assert "which speaks for it" in made.measured.sentence.value
    made.cause.value = "lucky-checkpoint"
    assert made.evidence.layout.display == made.measured.layout.display == "none"
    assert shown_error(made) == ""
    assert made.board.layout.display == ""
    causes = tuple(replace(cause, effect=None) for cause in diagnosis.causes)
    # Where no remedy was tried there is nothing to draw.
    assert DiagnosisBoard(replace(diagnosis, causes=causes)).board.layout.display == "none"
    with pytest.raises(DataError, match="no causes"):
        DiagnosisBoard(replace(diagnosis, causes=()))


@pytest.mark.slow
def test_every_figure_of_a_diagnosis_is_drawn(diagnosis: Diagnosis) -> None:
    for kind in view_of(diagnosis).figures:
        made = diagnosis.figure(kind)
        ax = made.axes()
        assert len(made.sentence) > 30, kind
        assert ax.lines or ax.collections or ax.patches, kind


def test_a_long_table_sorts_and_filters(tables: Layers) -> None:
    from qinspect.show.widgets.base import TableView

    view = TableView("x")
    short = table("t", [{"n": i} for i in range(5)], {"n": "n"})
    view.show(short)
    assert [type(child).__name__ for child in view.children] == ["HTML"]
    need_package("itables")
    view.show(table("t", [{"n": i, "name": HOSTILE} for i in range(40)],
                    {"n": "n", "name": "name"}))
    assert [type(child).__name__ for child in view.children] == ["ITable"]
    assert "<img" not in str(view.children[0]._dt_args)
    assert view.still().count("<tr>") == 41
    view.show(short)
    assert [type(child).__name__ for child in view.children] == ["HTML"]


def test_histogram_module_is_shipped() -> None:
    from qinspect.show.view import script

    module = script("histogram.js")
    assert "innerHTML" not in module
    assert 'role: "img"' in module
    assert np.all([word in module for word in ("ArrowLeft", "PageUp", "Home", "aria-valuenow")])


# --- what is made at a button, and one choice for all views -------------------------------------


def test_a_work_is_made_once_and_stopped_at_its_next_step() -> None:
    step, begun, calls = threading.Event(), threading.Event(), []

    def make(progress) -> str:
        calls.append(1)
        progress("phase", 0, 2, "first")
        begun.set()
        step.wait(10)
        progress("phase", 1, 2, "second")
        return "made"

    work = Work("Make it", "about it", make)
    shown_work = Maker(work)
    shown_work.button.click()
    assert begun.wait(10)
    assert shown_work.button.disabled
    assert "first" in shown_work.said.value
    shown_work.button.click()
    shown_work.cancel.click()
    assert "Stopping when this step ends" in shown_work.said.value
    step.set()
    assert work._thread is not None
    work._thread.join(10)
    assert (work.state, work.value, len(calls)) == ("to do", None, 1)
    assert "Stopped" in shown_work.said.value
    assert not shown_work.button.disabled
    assert work.wait() == "made"
    assert work.share == 0.5


def test_a_work_that_fails_says_so_and_can_be_tried_again() -> None:
    def make(progress) -> None:
        raise DataError(HOSTILE)

    work = Work("Make it", "about it", make)
    made = Maker(work)
    for _ in range(2):
        with pytest.raises(DataError):
            work.wait()
        assert "&lt;img" in shown_error(made)
        assert not made.button.disabled


def test_what_was_made_fills_the_tabs_that_wait_for_it(study: Study) -> None:
    made = Dashboard(case(study))
    for name in made.pages:
        made.page(name)
    assert isinstance(made.page("Ranges"), Maker)
    made.page("Ranges").button.click()
    made.measured.wait()
    assert not any(isinstance(made.page(name), Maker) for name in ("Ranges", "Errors"))
    made.remedies.value = "none: the evidence alone"
    assert isinstance(made.diagnosed.wait(), Diagnosis)
    assert isinstance(made.page("Diagnosis"), DiagnosisBoard)
    made.evaluated.wait()
    assert isinstance(made.page("Flips"), FlipBrowser)
    answers = made.evaluated.value.results
    np.testing.assert_array_equal(answers.answers("qat"), study.prediction("qat"))


def test_what_is_chosen_in_one_view_is_chosen_in_all(dashboard: Dashboard) -> None:
    ranges, errors = (dashboard.page(name).children[0] for name in ("Ranges", "Errors"))
    observers = dashboard.page("Observers")
    for other, layer in ((HOSTILE, "dense"), ("dense", HOSTILE)):
        for source in (ranges.layer, errors.layer, observers.layer):
            dashboard.selection.layer = other
            source.value = layer
            assert {ranges.layer.value, errors.layer.value, observers.layer.value,
                    dashboard.selection.layer} == {layer}
            assert errors.profile.chart.names[errors.profile.chart.chosen] == layer
            assert ranges.every.chart.names[ranges.every.chart.chosen] == layer
    errors.profile.chart.chosen = errors.profile.chart.names.index("dense")
    assert ranges.layer.value == observers.layer.value == "dense"
    ranges.kind.value = "weight"
    ranges.channels.chart.chosen = 2
    assert ranges.channel.value == dashboard.selection.channel == 2
    assert errors.channels.chart.chosen == 2
    errors.channels.chart.chosen = 1
    assert ranges.channel.value == ranges.channels.chart.chosen == 1
    # A layer without weights turns the ranges to activations.
    errors.layer.value = "softmax"
    assert (ranges.kind.value, ranges.layer.value) == ("activation", "softmax")
    flips, single = dashboard.page("Flips"), dashboard.page("Examples")
    _, name = flips.example.options[1]
    flips.example.value = name
    assert single._answers.ids[single.number.value] == name
    single.number.value = single._answers.ids.index(flips.example.options[0][1])
    assert flips.example.value == flips.example.options[0][1]
    for view in (ranges, errors, observers, flips, single):
        assert shown_error(view) == ""


def test_thresholds_filter_the_table(tables: Layers) -> None:
    made = ErrorExplorer(tables.errors)
    made.model.value = "qat"
    rows = tables.errors["qat"].errors
    rows = rows[rows["reference"] == "accumulated"]
    middle = [float(rows[key].median()) for key in ("rmse_over_scale", "clipped_share")]
    for error, clipped in ((middle[0], 0.0), (0.0, middle[1]), (0.9 * middle[0], middle[1])):
        made.least["rmse_over_scale"].value = error
        made.least["clipped_share"].value = clipped
        wanted = rows[(rows["rmse_over_scale"] > made.least["rmse_over_scale"].value)
                      if error else rows["layer"].notna()]
        wanted = wanted[wanted["clipped_share"] > clipped] if clipped else wanted
        assert 0 < len(wanted) < len(rows)
        assert f"{len(wanted)} of {len(rows)} layers: " in made.count.value
        assert made.table.still().count("<tr>") == len(wanted) + 1
        passing = dict(zip(made.profile.chart.names, made.profile.chart.passing, strict=True))
        assert {name for name, passes in passing.items() if passes} == set(wanted["layer"])


def test_charts_hold_the_numbers_of_the_tables(tables: Layers) -> None:
    made = RangeExplorer(tables)
    rows = tables.of("weight", "qat")
    rows = rows[rows["channel"] == -1].set_index("layer")
    shown_series = {one["name"]: one for one in made.every.chart.series}
    for at, layer in enumerate(made.every.chart.names):
        assert shown_series["qat"]["high"][at] == rows.loc[layer, "stored_max"]
    assert made.every.still().count("<img") == 1


def test_errors_of_weights_by_channel(tables: Layers) -> None:
    given, stored = (tables.weights[model, "dense"] for model in ("float", "qat"))
    found = tables.channel_sqnr("qat", "dense")
    for channel, (w, q) in enumerate(zip(given, stored, strict=True)):
        wanted = 20 * np.log10(np.linalg.norm(w) / np.linalg.norm(w - q))
        assert found[channel] == pytest.approx(wanted, rel=1e-4)
    assert len(tables.channel_sqnr("qat", "softmax")) == 0
    made = ErrorExplorer(tables.errors, layers=tables)
    made.layer.value = "dense"
    shown_series = {one["name"]: one for one in made.channels.chart.series}
    assert shown_series["qat"]["high"] == pytest.approx(found.tolist())
    made.layer.value = "softmax"
    assert made.channels.layout.display == "none"


def test_the_holder_of_a_range_is_the_activation_behind() -> None:
    rows = [("a", "input", "activation"), ("conv", "kernel", "weight"),
            ("relu", "output", "activation"), ("dense", "kernel", "weight"),
            ("dense", "post_activation", "activation")]
    log = pd.DataFrame([(0, *row, -6.0, 6.0, "qat") for row in rows],
                       columns=["step", "layer", "tensor", "kind", "min", "max", "run"])
    assert holders(log) == {"conv": "relu", "relu": "relu", "dense": "dense"}
    made = ObserverPlayer({"qat": log})
    assert [name for name, _ in made.layer.options] == ["relu", "dense"]
    assert [layer for _, layer in made.layer.options] == ["conv", "dense"]


def test_a_sweep_opens_its_runs(study: Study, tmp_path) -> None:
    record = finished_record("one", study, 1.0)
    (tmp_path / "runs").mkdir()
    shutil.copytree(study.folder, tmp_path / "runs" / "one")
    made = SweepBoard(Sweep(sweep_frame([record]), tmp_path))
    made.page("One run")
    assert shown_error(made.page("One run")) == ""
    assert "Flips" in made.page("One run").children[2].children[0].pages
    assert list(SweepBoard(Sweep(sweep_frame([record]))).pages) == ["Overview"]
