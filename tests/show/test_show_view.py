"""How results show themselves: names and numbers as text, tables of any width, the mixin."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from show_study import HOSTILE, write_study

from qinspect.errors import DataError, SpecError
from qinspect.predictions import results
from qinspect.show import Figure, text
from qinspect.show.report import markdown
from qinspect.show.table import table
from qinspect.show.terminal import as_text, print_view
from qinspect.show.view import _HOMES, Section, View, view_of
from qinspect.shown import Shown

ROWS = [
    {"name": f"block_{i}/a_rather_long_layer_name", "n": 1000 * i, "gap": 1.5 - i,
     "ci": (1.0 - i, 2.0 - i), "p": math.nan if i == 2 else 0.5 ** (7 * i), "none": None}
    for i in range(30)
]
COLUMNS: dict[str, Any] = {
    "layer": "name", "examples": "n", "points": ("gap", text.points),
    "interval": ("ci", text.interval), "p": ("p", text.p_value), "unknown": "none",
}


# --- names and numbers ------------------------------------------------------------------------


def test_long_names_are_cut_to_what_tells_them_apart() -> None:
    files = [f"/data/run_7/model_resnet8_cifar_{kind}_final.tflite" for kind in ("float32", "int8")]
    assert list(text.short_names(files).values()) == ["float32", "int8"]
    assert text.short_names(["float", "ptq"]) == {"float": "float", "ptq": "ptq"}
    long = [f"vision_v3_{kind}.tflite" for kind in ("float32_export", "ptq_int8_full_integer",
                                                    "qat_int8_epoch_17")]
    assert list(text.short_names(long).values()) == ["float32", "ptq", "qat"]
    same = ["x" * 30 + c * 30 for c in "abc"]
    assert list(text.short_names(same).values()) == ["…" + c * 15 for c in "abc"]
    middle = ["x" * 30 + c + "y" * 30 for c in "abc"]
    assert list(text.short_names(middle).values()) == ["A", "B", "C"]
    said = f"{middle[0]} is better than {middle[1]}."
    assert text.renamed(said, text.short_names(middle)) == "A is better than B."
    assert text.short_names(["mobilenet_v2_quantized"]) == {
        "mobilenet_v2_quantized": "mobilenet_v2_quantized"}


@given(st.lists(st.text("ab/_.1\x01", min_size=1, max_size=60), min_size=1, max_size=40,
                unique=True))
def test_short_names_are_short_and_never_meet(names: list[str]) -> None:
    found = text.short_names(names)
    assert list(found) == names
    assert len(set(map(text.printable, found.values()))) == len(names)
    assert all(0 < len(name) <= (28 if len(names) == 1 else 16) for name in found.values())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("ab_", min_size=1, max_size=40), min_size=2, max_size=3, unique=True),
       st.text("ab_", max_size=60), st.text("ab_", max_size=60))
def test_long_names_stay_apart_at_80_columns(names: list[str], start: str, end: str) -> None:
    """Each is told by a short name of its own, and in full where that stands for it."""
    whole = [f"{start}{name}{end}" for name in names]
    y = np.arange(20) % 2
    view = view_of(results(dict.fromkeys(whole, y), y).compare())
    stream = io.StringIO()
    print_view(view, Console(file=stream, width=80))
    printed = stream.getvalue()
    assert max(map(len, printed.splitlines())) <= 80
    assert len({view.names[name] for name in whole}) == len(whole)
    joined = "".join(printed.split())
    for name in whole:
        short = view.names[name]
        assert "".join(short.split()) in joined
        assert short == name or f"{short}:{name}" in joined


@given(st.floats(-1e300, 1e300))
def test_numbers_keep_four_figures(value: float) -> None:
    back = float(text.number(value).replace(",", ""))
    assert back == pytest.approx(value, rel=5.1e-4, abs=1e-300)


def test_numbers_as_people_write_them() -> None:
    assert [text.number(v) for v in (100.0, 20.045737, 0.62, 9.766e-6, math.inf)] == [
        "100", "20.05", "0.62", "0.000009766", "infinite"]
    assert [text.share(v) for v in (0, 1, 0.123, 0.0123, 0.00123, 1e-6)] == [
        "0 %", "100 %", "12 %", "1.2 %", "0.12 %", "<0.01 %"]


# --- tables -----------------------------------------------------------------------------------


def test_what_is_not_known_is_a_dash_or_no_column_at_all() -> None:
    made = table("t", ROWS, COLUMNS)
    assert "unknown" not in made.heads
    assert made.cells()[2][-1] == "-"
    for shown in (made.html(), made.markdown(), as_text(View("t", tables=(made,)))):
        assert not re.search(r"\bnan\b|\bNone\b", shown, re.IGNORECASE)
    assert made.frame["points"].tolist() == [row["gap"] for row in ROWS]
    assert made.right() == (False, True, True, True, True)


@pytest.mark.parametrize("width", [30, 46, 60, 80, 120, 200])
def test_no_terminal_is_too_narrow_for_a_table(width: int) -> None:
    made = table("t", ROWS, COLUMNS, most=5, spare=("examples", "p"))
    stream = io.StringIO()
    print_view(View("t", tables=(made,)), Console(file=stream, width=width))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for cell in made.cells()[1][2:4]:  # numbers are never broken
        assert any(cell in line for line in lines), cell
    assert "and 25 more." in lines
    assert ("examples" in stream.getvalue()) == (width >= 80 or width <= 46)


def test_numbers_sort_as_numbers() -> None:
    orders = re.findall(r'data-order="([^"]*)"', table("t", ROWS, {"p": COLUMNS["p"]}).html())
    assert [float(order) for order in orders][:2] == [1.0, 0.5**7]
    assert float(orders[2]) < 0  # not known stands before all


# --- views ------------------------------------------------------------------------------------


def test_a_folded_section_is_for_pages_only() -> None:
    long = Section("open", ("one",), code="x = 1\n" + "y" * 200)
    view = View("title", ("said",), sections=(long, Section("shut", ("two",), folded=True)))
    printed = as_text(view)
    assert "one" in printed
    assert "y" * 200 in printed  # code is not wrapped: it can be copied
    assert "two" not in printed
    assert "two" in markdown(view)


def test_every_result_has_a_view() -> None:
    def below(kind: type) -> set[type]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    for module in ("comparisons", "diagnosis.answer", "gathering", "gating", "measure.layer_cost",
                   "measure.node_data", "studies.stored", "tflite.identity", "train.robust"):
        import_module(f"qinspect.{module}")
    named = {kind.__name__ for kind in below(Shown) - {Shown}
             if kind.__module__.startswith("qinspect.")}
    assert named == set(_HOMES)


def test_a_result_shows_itself(tmp_path: Any) -> None:
    study = write_study(tmp_path / "study")
    assert len(repr(study)) < 130
    assert "\n" not in repr(study)
    bundle = study._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/html"].count("<img ") == 2
    assert "ptq_int8" in bundle["text/plain"]
    assert study.figures[0] == "accuracy"
    assert study.figure().sentence == study.figure("accuracy").sentence
    with pytest.raises(SpecError, match="learning"):
        study.figure("lerning")
    compared = study.results.compare()
    assert compared.figures == ("differences", "disagreement")
    assert len(repr(compared)) < 130
    page = study.results.report(tmp_path / "r.html")
    assert {file.suffix for file in tmp_path.glob("r.*")} == {".html", ".md", ".json"}
    assert "<img src=x" not in page.read_text()


def test_a_figure_is_found_by_the_name_that_was_given() -> None:
    drawn = Figure(lambda ax: None, "drawn")
    view = View("ranges", figures={"ranges of ptq": lambda: drawn},
                names={"a/long/ptq.tflite": "ptq"})
    assert view.figure("ranges of a/long/ptq.tflite") is view.figure("ranges of ptq") is drawn
    with pytest.raises(SpecError, match="unknown figure"):
        view.figure("ranges of a/long/qat.tflite")


def test_what_has_no_widget_or_figure_says_so() -> None:
    with pytest.raises(DataError, match="nothing to draw"):
        View("t").figure()
    with pytest.raises(DataError, match="no widget"):
        View("t").widget()


def test_a_subclass_keeps_the_short_repr() -> None:
    @dataclass(frozen=True)
    class Long(Shown):
        values: tuple[int, ...]
        sentence: str = "a " * 200

    assert len(repr(Long(tuple(range(1000))))) < 130


def test_hostile_names_are_text(tmp_path: Any) -> None:
    y = np.arange(40) % 4
    found = results({HOSTILE: y, "b\x1b[31m": np.roll(y, 1)}, y).compare()
    shown = found._repr_mimebundle_()
    assert "<img src=x" not in shown["text/html"]
    assert "\x1b" not in shown["text/html"] + shown["text/plain"] + markdown(view_of(found))
    assert "<img" not in markdown(view_of(found))


@pytest.mark.parametrize("width", range(54, 140, 7))
def test_long_numbers_and_names_are_whole_or_in_rows_of_their_own(width: int) -> None:
    rows = [{"name": "reg_float.tflite", "verdict": "reg_ptq_dyn.tflite better", "gap": -0.00178,
             "ends": (-0.003339, -0.0002125)}] * 2
    made = table("t", rows, {
        "file": "name", "verdict": "verdict", "only it int8: to float, units of y": ("gap", str),
        "only it int8: interval": ("ends", lambda ends: f"[{ends[0]}, {ends[1]}]")})
    stream = io.StringIO()
    print_view(View("t", tables=(made,)), Console(file=stream, width=width))
    printed = stream.getvalue()
    assert max(map(len, printed.splitlines())) <= width
    for whole in ("reg_float.tflite", "reg_ptq_dyn.tflite", "-0.00178", "[-0.003339, -0.0002125]"):
        assert printed.count(whole) == 2, whole


def test_probabilities_are_told_of_the_compared_models_alone() -> None:
    y = np.arange(60) % 3
    right = np.where(y[:, None] == np.arange(3), 0.6, 0.2)
    pair = results({"first": right, "second": right, "left out": right}, y).compare(
        [("first", "second")])
    said = as_text(view_of(pair))
    assert "Probabilities" in said
    assert "left out" not in said
