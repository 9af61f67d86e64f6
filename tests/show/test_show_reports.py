"""Reports as files: HTML without any address, Markdown and JSON beside it, and their size."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_files import write_reports
from show_study import HOSTILE, write_study

from qinspect.causes import all_rules
from qinspect.cli.options import show
from qinspect.diagnosis.rule import Measure
from qinspect.measure.clipping import Binned
from qinspect.measure.streaming import Histogram
from qinspect.predictions import results
from qinspect.show.figures import threshold_plot
from qinspect.show.report import markdown, write_view
from qinspect.show.table import table
from qinspect.show.view import Section, View, view_of
from qinspect.show.views.diagnosis import KINDS
from qinspect.studies.stored import _BEFORE, load_study

LIMIT = 5_000_000
REPORTS = ("study", "compare", "diagnose")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_reports(tmp_path_factory.mktemp("reports"))


class Page(HTMLParser):
    """Every tag with its attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_asks_for_nothing_outside_itself(reports: dict[str, Path], kind: str) -> None:
    page = Page(reports[kind].read_text())
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert images
    for attributes in images:
        assert (attributes["src"] or "").startswith("data:image/png;base64,")
        assert len(attributes["alt"] or "") > 30
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        assert not any(name.startswith("on") for name in attributes)
        if tag == "script":
            assert "src" not in attributes
    text = reports[kind].read_text()
    assert "export function mount" not in text.split("<script", 1)[0]
    assert text.count("</script>") == 2


@pytest.mark.parametrize("kind", REPORTS)
def test_hostile_names_are_text_everywhere(reports: dict[str, Path], kind: str) -> None:
    assert HOSTILE not in reports[kind].read_text()
    assert "&lt;img src=x" in reports[kind].read_text()
    beside = reports[kind].with_suffix(".md").read_text()
    assert "<img" not in beside


@pytest.mark.parametrize("kind", REPORTS)
def test_markdown_and_numbers_stand_beside(reports: dict[str, Path], kind: str) -> None:
    beside = reports[kind].with_suffix(".md").read_text()
    assert beside.startswith("# ")
    assert "| --- |" in beside
    assert len(beside) < 65_536  # the longest text an issue of a well-known host takes
    numbers = json.loads(reports[kind].with_suffix(".json").read_text())
    assert numbers["causes" if kind == "diagnose" else "comparisons"]


def test_a_study_keeps_its_own_summary(reports: dict[str, Path]) -> None:
    assert load_study(reports["study"].parent).summary["arms"]


def test_every_rule_has_a_figure(reports: dict[str, Path]) -> None:
    text = reports["diagnose"].read_text()
    numbers = json.loads(reports["diagnose"].with_suffix(".json").read_text())
    without = []
    for row in numbers["causes"]:
        folded = text.find(f"<summary>{row['id']}:")
        title = row["title"][0].upper() + row["title"][1:]
        start = folded if folded >= 0 else text.index(f"<h4>{title}")
        end = text.index("</details>" if folded >= 0 else "<details>", start)
        if "<img" not in text[start:end] and row["measures"]:
            without.append(row["id"])
    assert without == []


@pytest.mark.slow
def test_a_hundred_layers_stay_under_the_limit(tmp_path: Path) -> None:
    for kind, path in write_reports(tmp_path, deeper=98).items():
        size = path.stat().st_size
        print(f"{kind}: {size / 1e6:.2f} MB")
        assert size < LIMIT, kind


@pytest.mark.slow
def test_a_hundred_large_layers_stay_under_the_limit(
    reports: dict[str, Path], tmp_path: Path
) -> None:
    study = load_study(reports["study"].parent)
    tables = study.layers()
    rng = np.random.default_rng(0)
    names = tuple(f"layer{i}" for i in range(100))
    histogram = Histogram()
    histogram.add(rng.normal(size=2_000_000).astype(np.float32))
    weights = rng.normal(size=(8, 100_000)).astype(np.float32)
    stored = tables.tensors[tables.tensors["channel"] == -1].iloc[:1]
    frames = [
        stored.assign(file=model, layer=name, kind=kind, stored_min=-3.0, stored_max=3.0)
        for model in tables.models
        for name in names
        for kind in ("weight", "activation")
    ]
    large = replace(
        tables, layers=names, tensors=pd.concat(frames, ignore_index=True),
        weights={(m, n): weights for m in tables.models for n in names},
        activations={(m, n): histogram for m in tables.models for n in names},
    )
    view = replace(view_of(study), layers=lambda: large)
    path = write_view(view, study.to_json(), tmp_path / "large.html")
    print(f"{path.stat().st_size / 1e6:.2f} MB")
    assert path.stat().st_size < LIMIT


def test_coarser_bins_keep_what_they_hold() -> None:
    rng = np.random.default_rng(3)
    binned = Binned.values(rng.normal(size=5000).astype(np.float32))
    for most in (1, 7, 288, 100_000):
        coarse = binned.coarser(most)
        assert len(coarse.counts) <= most
        assert coarse.counts.sum() == binned.counts.sum()
        assert coarse.low == binned.low
        assert coarse.high >= binned.high - 1e-9
        assert coarse.high - binned.high < coarse.width


def test_markdown_is_inert() -> None:
    rows = [{HOSTILE: "a|b`c`*d*\n# e @someone [x](y) $z$"}]
    text = table("", rows, {HOSTILE: HOSTILE}).markdown()
    assert "<img" not in text
    assert text.count("\n") == 2
    assert "@someone" not in text
    cells = re.sub(r"\\.", "", text.splitlines()[2])
    assert cells.count("|") == 2
    assert not set("`*[]#$") & set(cells)
    assert "40 more rows" in table("", [{"n": i} for i in range(100)], {"n": "n"}).markdown()
    assert "````python" in markdown(View("t", sections=(Section("s", code="a = '''```'''"),)))


def test_a_figure_that_fails_does_not_take_the_report_with_it(tmp_path: Path) -> None:
    def broken() -> None:
        raise KeyError(HOSTILE)

    view = View("t", ("said",), figures={"broken": broken}, layers=None)
    text = write_view(view, {"n": 1}, tmp_path / "a.b").read_text()
    assert (tmp_path / "a.b.html").exists()
    assert "The figure broken could not be drawn: KeyError" in text
    assert HOSTILE not in text
    assert json.loads((tmp_path / "a.b.json").read_text()) == {"n": 1}


def test_a_number_speaks_for_a_cause_on_its_side_of_the_threshold() -> None:
    """Also where a logarithmic axis cannot show it: a threshold below zero, a yes, a zero."""
    told = {
        "dB": (5.0, 25.0, "below", True), "low dB": (-5.0, -2.0, "below", True),
        "not so low": (-1.0, -2.0, "below", False), "share": (0.1, 0.3, "above", False),
        "none": (0.0, 1.0, "below", True), "yes": (True, True, "above", True),
        "on the line": (0.3, 0.3, "above", True), "just under": (0.3, 0.3, "below", False),
    }
    measures = [Measure(name, name, value, threshold, side)
                for name, (value, threshold, side, _) in told.items()]
    made = threshold_plot([*measures, measures[0].plain()])
    ax = made.axes()
    for line, colour_speaks in zip(ax.lines[1:3], (True, False), strict=True):
        drawn = {int(at): x for x, at in zip(*line.get_data(), strict=True)}
        assert [list(told)[at] for at in drawn] == [n for n in told if told[n][3] == colour_speaks]
        assert all(x >= 1 if colour_speaks else x <= 1 for x in drawn.values())
    assert "dB: 5 (below 25), which speaks for it" in made.sentence
    assert "share: 0.1 (from 0.3), which speaks against it" in made.sentence
    assert "yes: yes, which speaks for it" in made.sentence


def test_every_figure_that_a_cause_names_can_be_drawn() -> None:
    named = {rule.figure for rule in all_rules().values() if rule.figure}
    assert named <= KINDS


def test_the_text_of_a_cell_is_returned_not_displayed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = results({"ptq": [0, 1, 1], "qat": [0, 1, 2]}, y=[0, 1, 2])
    wanted = found._repr_mimebundle_()["text/plain"]
    assert found.sentence.split()[0] in wanted
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert found._repr_mimebundle_()["text/plain"] == wanted


@pytest.mark.parametrize("models", [3, 4])
def test_many_verdicts_are_counted_and_folded(models: int) -> None:
    y = np.arange(2_000) % 4
    right = {f"m{i}": np.where((np.arange(2_000) < 500) & (i == 0), y + 1, y)
             for i in range(models)}
    found = results(right, y).compare()
    view = view_of(found)
    folded = [line for section in view.sections if section.folded for line in section.sentences]
    every = [one.sentence for one in found]
    assert folded == every
    if models == 3:
        assert [line.split(" by ")[0] for line in view.sentences[:2]] == [
            "m1 is better than m0", "m2 is better than m0"]
        assert view.sentences[2].startswith("No gap: m1 and m2 are equivalent within 1 point; ")
    else:
        assert view.sentences == ("Of 6 pairs: one better in 3, equivalent in 3.",)


@pytest.mark.parametrize("metric", [None, "mae"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_short_answer_has_the_sign_of_better(metric: str | None, turned: bool) -> None:
    """The lead is above zero, whichever comes first and whichever way is better."""
    y = np.arange(400) % 4
    bad = np.where(np.arange(400) < 60, y + 1, y)
    given = {"good": y + 0.1, "bad": bad + 0.5} if metric else {"good": y, "bad": bad}
    made = results(dict(reversed(given.items())) if turned else given, y, metric=metric)
    said = view_of(made.compare()).sentences[0]
    assert said.startswith("good is better than bad by ")
    found = re.search(r"\[(\S+), (\S+)\]", said)
    assert found is not None
    assert 0 < float(found[1]) < float(found[2])


def test_files_of_something_else_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("my own notes")
    made = write_view(View("one"), {"n": 1}, tmp_path / "new" / "a.html")
    assert made == tmp_path / "new" / "a.html"
    assert write_view(View("one"), {"n": 2}, made) == made  # the same report is made anew
    other = write_view(View("other <"), {"n": 3}, made)
    assert other.name == "a-2.html"
    assert write_view(View("other <"), {"n": 4}, made) == other
    assert [json.loads(path.with_suffix(".json").read_text())["n"] for path in (made, other)] == [
        2, 4]
    assert write_view(View("one"), {}, tmp_path / "a.html").name == "a-2.html"
    assert (tmp_path / "a.md").read_text() == "my own notes"


def test_an_answer_outlives_figures_and_layers_that_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ValueError("no")

    view = View("t", ("the answer",), figures={"broken": broken}, layers=broken)
    show(view, {"n": 1}, as_json=False, report=tmp_path / "a.html")
    said = capsys.readouterr().out
    assert said.startswith("the answer")
    assert "a.md" in said
    assert "a.json" in said
    page = (tmp_path / "a.html").read_text()
    assert "The figure broken could not be drawn: ValueError: no" in page
    assert "no values of layers: no" in page


def test_a_study_from_before_there_were_other_metrics_shows_itself(tmp_path) -> None:
    study = write_study(tmp_path / "study")
    path = study.folder / "summary.json"
    summary = json.loads(path.read_text())
    for row in summary["comparisons"]:
        for name in _BEFORE:
            row.pop(name, None)
    path.write_text(json.dumps(summary))
    before = load_study(study.folder)
    assert before.pair("ptq_int8", "qat")["gap"] == study.pair("ptq_int8", "qat")["gap"]
    assert before.report(tmp_path / "page.html").read_text()
