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
from show_study import HOSTILE

from qinspect.measure.streaming import Histogram
from qinspect.show import markdown
from qinspect.show.clipping import Binned
from qinspect.show.evidence import deciding
from qinspect.show.layer_tables import study_layer_tables
from qinspect.show.plots import describe_thresholds, threshold_plot
from qinspect.show.report import write_study_report
from qinspect.studies.stored import load_study

LIMIT = 5_000_000
KINDS = ("study", "compare", "diagnose")


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


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_are_text_everywhere(reports: dict[str, Path], kind: str) -> None:
    assert HOSTILE not in reports[kind].read_text()
    assert "&lt;img src=x" in reports[kind].read_text()
    beside = reports[kind].with_suffix(".md").read_text()
    assert "<img" not in beside


@pytest.mark.parametrize("kind", KINDS)
def test_markdown_and_numbers_stand_beside(reports: dict[str, Path], kind: str) -> None:
    beside = reports[kind].with_suffix(".md").read_text()
    assert beside.startswith("# ")
    assert "| --- |" in beside
    assert len(beside) < 65_536  # the longest text an issue of a well-known host takes
    name = {"diagnose": "diagnosis-summary.json"}.get(kind, "summary.json")
    numbers = json.loads(reports[kind].with_name(name).read_text())
    assert numbers["causes" if kind == "diagnose" else "comparisons"]


def test_a_study_keeps_its_own_summary(reports: dict[str, Path]) -> None:
    assert load_study(reports["study"].parent).summary["arms"]


def test_every_rule_has_a_figure(reports: dict[str, Path]) -> None:
    text = reports["diagnose"].read_text()
    numbers = json.loads(reports["diagnose"].with_name("diagnosis-summary.json").read_text())
    blocks = re.split(r"<details><summary>", text)[1:]
    without = []
    for row in numbers["causes"]:
        if row["verdict"] in ("explains", "indicated") and row["id"] != "noise":
            start = text.index(f"<h2>{row['title']}</h2>")
            block = text[start : text.index("Source:", start)]
        else:
            block = next(part for part in blocks if part.startswith(f"{row['id']}:"))
        if "<img" not in block:
            without.append(row["id"])
    # Nothing was given to these two, so nothing was measured.
    assert set(without) <= {"lucky-checkpoint", "batchnorm-lag"}


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
    tables = study_layer_tables(study)
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
    path = write_study_report(study, tmp_path / "large.html", large)
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
    text = markdown.table(rows)
    assert "<img" not in text
    assert text.count("\n") == 2
    assert "@someone" not in text
    cells = re.sub(r"\\.", "", text.splitlines()[2])
    assert cells.count("|") == 2
    assert not set("`*[]#$") & set(cells)
    assert markdown.code("a = '''```'''").startswith("````python")
    assert "40 more rows" in markdown.table([{"n": i} for i in range(100)])


def test_a_number_speaks_for_a_cause_on_its_side_of_the_threshold() -> None:
    """Also where a logarithmic axis cannot show it: a threshold below zero, a yes, a zero."""
    told = {
        "dB": (5.0, 25.0, "below", True), "low dB": (-5.0, -2.0, "below", True),
        "not so low": (-1.0, -2.0, "below", False), "share": (0.1, 0.3, "above", False),
        "none": (0.0, 1.0, "below", True), "yes": (True, True, "above", True),
        "on the line": (0.3, 0.3, "above", True), "just under": (0.3, 0.3, "below", False),
    }
    measures = [{"id": name, "title": name, "value": value, "threshold": threshold, "side": side,
                 "unit": ""} for name, (value, threshold, side, _) in told.items()]
    frame = deciding({"measures": [*measures, {**measures[0], "threshold": None, "side": None}]})
    assert list(frame["title"]) == list(told)
    assert list(frame["speaks"]) == [speaks for *_, speaks in told.values()]
    ax = threshold_plot(frame)
    for line, colour_speaks in zip(ax.lines[1:3], (True, False), strict=True):
        drawn = {int(at): x for x, at in zip(*line.get_data(), strict=True)}
        assert [list(told)[at] for at in drawn] == [n for n in told if told[n][3] == colour_speaks]
        assert all(x >= 1 if colour_speaks else x <= 1 for x in drawn.values())
    said = describe_thresholds(frame)
    assert "dB: 5 (below 25), which speaks for it" in said
    assert "share: 0.1 (from 0.3), which speaks against it" in said
    assert "yes: yes, which speaks for it" in said
