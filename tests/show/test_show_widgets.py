"""Every widget without a browser: set values, look at children and data."""

from __future__ import annotations

import re
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

from qinspect.errors import DataError  # noqa: E402
from qinspect.show.layer_tables import LayerTables, study_layer_tables  # noqa: E402
from qinspect.show.widgets import (  # noqa: E402
    Dashboard,
    DiagnosisBoard,
    ErrorExplorer,
    FlipBrowser,
    ObserverPlayer,
    QuantizationPlayground,
    RangeExplorer,
    SignificanceExplorer,
    markup,
)
from qinspect.studies.run import load_splits  # noqa: E402
from qinspect.studies.stored import Study  # noqa: E402

DIAGNOSIS = {
    "summary": f"QAT is worse {HOSTILE}.",
    "causes": [
        {"id": "stale-observers", "title": f"ranges of {HOSTILE}", "verdict": "explains",
         "effect_pp": 1.7, "ci_pp": [0.4, 2.9], "confirmed_by_intervention": True,
         "intervention": "warm start", "sentence": f"{HOSTILE} is too wide", "remedy": "warm start",
         "code": "if a < b: pass", "evidence": {"bits": 1.25, "by_layer": {HOSTILE: [1.0, 2.0]}}},
        {"id": "noise", "title": "chance", "verdict": "ruled_out", "effect_pp": None, "ci_pp": None,
         "not_tried": "needs more seeds"},
        {"id": "argmax-ties", "title": "ties", "verdict": "not_tried"},
    ],
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("widgets") / "study")


@pytest.fixture(scope="module")
def tables(study: Study) -> LayerTables:
    return study_layer_tables(study)


@pytest.fixture(scope="module")
def dashboard(study: Study) -> Dashboard:
    made = Dashboard(study, diagnosis=DIAGNOSIS)
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
        "Overview", "Ranges", "Errors", "Significance", "Flips", "Observers", "Diagnosis",
        "Playground",
    ]
    texts = [w.value for w in descend(dashboard) if isinstance(w, widgets.HTML)]
    assert len(texts) > 20
    assert not [text for text in texts if 'role="alert"' in text]


def test_tabs_are_built_when_first_opened(study: Study) -> None:
    made = Dashboard(study)
    assert [bool(page.children) for page in made.pages.values()] == [True] + [False] * 7
    made.tabs.selected_index = 7
    assert isinstance(made.pages["Playground"].children[0], QuantizationPlayground)
    made.tabs.selected_index = 6
    alert = made.pages["Diagnosis"].children[0]
    assert "no diagnosis was given" in alert.value


def test_every_control_has_a_name(dashboard: Dashboard) -> None:
    controls = [w for w in descend(dashboard) if isinstance(w, widgets.ValueWidget)]
    controls = [w for w in controls if not isinstance(w, (widgets.HTML, widgets.Image))]
    assert len(controls) > 25
    for control in controls:
        assert control.description or getattr(control, "tooltip", None), control


def test_every_figure_has_a_sentence(dashboard: Dashboard) -> None:
    from qinspect.show.widgets.figure import FigureView

    views = [w for w in descend(dashboard) if isinstance(w, FigureView)]
    assert len(views) >= 9
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
    made = SignificanceExplorer({arm: study.correct(arm) for arm in study.arms})
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


def test_a_redrawn_figure_is_the_same_as_one_drawn_first() -> None:
    from qinspect.show.plots.style import legend_beside
    from qinspect.show.widgets.figure import FigureView

    view = FigureView(5, 3, "x")
    pictures: dict[int, bytes] = {}
    for value in (1, 2, 1, 3, 2, 1, 3):
        view.show(
            lambda ax, v=value: (ax.plot([0, 1], [0, v], label="line"), ax.set_ylim(0, 2 + v // 3),
                                 legend_beside(ax)),
            "said", layout="same",
        )
        assert pictures.setdefault(value, view.image.value) == view.image.value
    assert len(set(pictures.values())) == 3


def test_longer_numbers_do_not_fall_off_the_edge() -> None:
    from qinspect.show.plots.style import figure_of
    from qinspect.show.widgets.figure import FigureView

    view = FigureView(5, 3, "x")
    for factor in (1, 1e3, 1e6, 10):
        view.show(lambda ax, f=factor: (ax.plot([0, 1], [0, f]), ax.set_ylabel("label"),
                                        ax.yaxis.set_major_formatter("{x:,.2f}")),
                  "said", layout="same")
        figure = figure_of(view.axes)
        taken = view.axes.get_tightbbox(figure.canvas.get_renderer())
        assert taken.x0 >= 0
        assert taken.x1 <= figure.bbox.width


def test_markup_escapes() -> None:
    table = markup.table([{HOSTILE: HOSTILE}], HOSTILE)
    for made in (markup.sentence(HOSTILE), markup.alert(HOSTILE, HOSTILE), table,
                 markup.code_block(HOSTILE)):
        assert "<img" not in made
        assert "&lt;img" in made


# --- one by one -------------------------------------------------------------------------------


def changed(before: dict[str, object], after: dict[str, object]) -> set[str]:
    return {key for key in before if before[key] != after[key]}


def test_significance_moves_with_every_control(study: Study) -> None:
    made = SignificanceExplorer({arm: study.correct(arm) for arm in study.arms}, "ptq_int8", "qat")

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
        SignificanceExplorer({"float": study.correct("float")})


def test_ranges_every_control(tables: LayerTables) -> None:
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


def test_dragging_a_limit_is_by_hand_and_changes_the_numbers(tables: LayerTables) -> None:
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


def test_layers_without_weights_are_not_offered_for_weights(tables: LayerTables) -> None:
    made = RangeExplorer(tables)
    assert "softmax" not in [value for _, value in made.layer.options]
    made.kind.value = "activation"
    made.layer.value = "softmax"
    made.kind.value = "weight"
    assert made.layer.value != "softmax"
    assert shown_error(made) == ""


def test_errors_sort_and_choose(tables: LayerTables) -> None:
    made = ErrorExplorer(tables.errors)
    frame = tables.errors["ptq_int8"].errors
    rows = frame[frame["reference"] == "accumulated"].sort_values("sqnr_db")
    assert [value for _, value in made.layer.options] == list(rows["layer"])
    before = made.histogram.image.value, made.table.value
    made.layer.value = HOSTILE
    assert (made.histogram.image.value, made.table.value) != before
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
    assert "-5.16 to 5.44" in made.table.value  # -6 x 0.999^150, 2 + 4 x 0.999^150
    made.runs.value = ("warm <b>",)
    assert "default" not in made.table.value
    made.runs.value = ()
    assert "no run is chosen" in shown_error(made)
    with pytest.raises(DataError, match="no QAT run"):
        ObserverPlayer({"qat": pd.DataFrame(columns=own.columns)})


def test_flips_show_the_examples(study: Study) -> None:
    data = load_splits(study.spec).test
    data = replace(data, x=data.x[..., :1])
    made = FlipBrowser(study, data)
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
    made = FlipBrowser(replace(study, arrays=arrays), None)
    made.which.value = "a"
    assert made.page.max > 10
    before = made.table.value
    made.page.value = 2
    assert made.table.value != before
    made.which.value = "b"
    assert made.page.value == 1
    assert made.pictures.value == ""


def test_board_opens_causes(study: Study, tables: LayerTables) -> None:
    from qinspect.show.evidence import evidence_figures

    figures = evidence_figures(study, tables)
    made = DiagnosisBoard(DIAGNOSIS, figures)
    assert "if a &lt; b: pass" in made.detail.value
    assert "+1.70 points [+0.40, +2.90]" in made.detail.value
    assert "Activation ranges of qat" in made.evidence.sentence.value
    made.cause.value = "noise"
    assert "needs more seeds" in made.detail.value
    assert "qat - ptq_int8" in made.evidence.sentence.value
    made.cause.value = "argmax-ties"
    assert made.evidence.layout.display == "none"
    assert shown_error(made) == ""
    with pytest.raises(DataError, match="no causes"):
        DiagnosisBoard({"causes": []})


@pytest.mark.parametrize("cause", ["noise", "different-format", "undertrained", "stale-observers",
                                   "calibration-outliers", "different-network",
                                   "per-tensor-weights", "sensitive-layer"])
def test_evidence_is_drawn(study: Study, tables: LayerTables, cause: str) -> None:
    from qinspect.show.evidence import evidence_figures
    from qinspect.show.plots.style import new_axes

    ax = new_axes()
    said = evidence_figures(study, tables)[cause](ax)
    assert len(said) > 30
    assert ax.lines or ax.collections


def test_histogram_module_is_shipped() -> None:
    from qinspect.show.static import source

    module = source("histogram.js")
    assert "innerHTML" not in module
    assert 'role: "img"' in module
    assert np.all([word in module for word in ("ArrowLeft", "PageUp", "Home", "aria-valuenow")])
