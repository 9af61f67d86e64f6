"""One form for a difference everywhere: who is better, by how much, and no sign to look up."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import ROOT

from qinspect.metrics import METRICS, metric
from qinspect.predictions import results
from qinspect.show import figures, text
from qinspect.show.terminal import as_text
from qinspect.show.view import view_of
from qinspect.show.views.predictions import answer
from qinspect.stats import compare_seeds
from qinspect.verdicts import counted, examples

SIZE = r"by ([\d.][\d.e-]*)[^\[;]* \[(\S+), (\S+)\]"
SIGNED = re.compile(r"(?<![\w.])\+\d")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(("accuracy", "mae", "r2")),
       st.integers(2, 3), st.sampled_from((0.0, 0.02, 0.3)))
def test_every_sentence_says_what_the_numbers_say(
    seed: int, name: str, models: int, worse: float,
) -> None:
    """Property: of every verdict, metric, order and family."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, 120).astype(float)
    made = {f"m{at}": y + (rng.random(120) < 0.1 + at * worse) * rng.integers(1, 3, 120)
            for at in rng.permutation(models)}
    if name == "accuracy":
        y, made = y.astype(int), {model: values.astype(int) for model, values in made.items()}
    found = results(made, y, metric=name).compare()
    for one in found:
        short = answer(one.to_json(), one.metric)
        for said in (one.sentence, short, one.brief):
            assert not SIGNED.search(said), said
        if " better " not in one.sentence:
            continue
        for said, ends in ((one.sentence, one.interval), (short, (
                one.interval if one.equivalent else one.possible))):
            if (told := re.search(SIZE, said)) is None:
                assert one.a_only == one.b_only == 0, said
                continue
            size, low, high = (float(number.rstrip(",.")) for number in told.groups())
            sign = np.sign(one.gap) or 1
            wanted = (abs(one.gap), *sorted(sign * end for end in ends))
            assert (size, low, high) == pytest.approx(wanted, rel=1e-3, abs=0.006), said
            if one.gap:
                better = one.b if one.improvement > 0 else one.a
                assert re.search(rf"{better} is better (than \w+ )?by ", said), said


@pytest.mark.parametrize("name", METRICS)
def test_the_lead_is_that_of_the_better_one(name: str) -> None:
    chosen = metric(name)
    up = chosen.better > 0
    assert chosen.lead("a", "b", 2.0, (1.0, 3.0))[:2] == (("b", "a") if up else ("a", "b"))
    assert chosen.lead("a", "b", -2.0, (-3.0, -1.0))[:2] == (("a", "b") if up else ("b", "a"))
    for gap, ends in ((2.0, (1.0, 3.0)), (-2.0, (-3.0, -1.0))):
        assert chosen.lead("a", "b", gap, ends)[2] == chosen.by(2.0, (1.0, 3.0))
    said = chosen.between("a", "b", (-1.0, 3.0))
    first, second = re.findall(r"(\w) better by (\S+)", said)
    assert (first[0], second[0]) == ("a", "b")
    assert (float(first[1]), float(second[1])) == ((1.0, 3.0) if up else (3.0, 1.0))
    assert chosen.between("a", "b", (1.0, 3.0)).startswith("b" if up else "a")
    assert chosen.ahead("a", "b", 0.0, (-1.0, 1.0)).startswith("a and b differ by 0")


def test_margins_and_numbers_of_things_have_a_plural() -> None:
    accuracy = metric("accuracy")
    assert [accuracy.limit(margin) for margin in (1, 1.0, 2, 0.5)] == [
        "1 point", "1 point", "2 points", "0.5 points"]
    assert [counted(n, "layer") for n in (0, 1, 2, 1200)] == [
        "0 layers", "1 layer", "2 layers", "1,200 layers"]
    assert examples(1) == "1 example"


def test_no_text_of_the_package_leaves_the_plural_to_the_reader() -> None:
    for path in sorted((ROOT / "qinspect").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"\b[a-z]{3,}\((s|es)\)", node.value), (path, node.value)


@pytest.mark.parametrize("direction", [1, -1])
def test_seeds_are_told_in_the_same_form(direction: int) -> None:
    rng = np.random.default_rng(0)
    right = rng.random((4, 300)) < 0.9
    worse = right & (rng.random((4, 300)) < 0.9)
    a, b = (worse, right) if direction > 0 else (right, worse)
    found = compare_seeds(a, b, a="ptq", b="qat")
    best = "qat" if direction > 0 else "ptq"
    assert f"{best} is better by {abs(found.gap):.2f} points [" in found.sentence
    assert not SIGNED.search(found.sentence)
    drawn = figures.seeds_plot(found.frame, found.interval, pair=("ptq", "qat"))
    assert f"{best} is better by {abs(found.gap):.2f} points [" in drawn.sentence
    assert not SIGNED.search(as_text(view_of(found)).split("Ways of training")[0])


def test_a_waterfall_says_whom_each_part_makes_better() -> None:
    parts = [{"title": "x", "diff_pp": -3.0, "ci_pp": [-4.0, -2.0]},
             {"title": "y", "diff_pp": 1.0, "ci_pp": [0.5, 1.5]}]
    said = figures.waterfall(parts, -2.0, pair=("ptq", "qat")).sentence
    assert said == ("The gap, ptq by 2.00 points, is the sum of: x makes ptq better by 3.00 points "
                    "[2.00, 4.00]; y makes qat better by 1.00 points [0.50, 1.50].")


def test_heads_of_signed_numbers_say_which_sign_is_good() -> None:
    assert text.signed("to float", metric("accuracy")) == "to float, points (+: better)"
    assert text.signed("b - a", metric("mae"), "b") == "b - a, units of y (-: b better)"
