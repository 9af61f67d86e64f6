"""The card of a diagnosis: its numbers are the comparison's, its words those of one vocabulary."""

from __future__ import annotations

import dataclasses
import functools
import html
import json
import re

import numpy as np
import pytest
from diagnose_cases import N, calibration, case, data, int8, moved, ranges
from parts import ROOT

from qinspect.causes import all_rules
from qinspect.diagnosis.answer import Diagnosis, Effect
from qinspect.diagnosis.card import better, change, closing
from qinspect.diagnosis.cases import Claim
from qinspect.diagnosis.engine import diagnose
from qinspect.diagnosis.rule import Measure, Remedy, Rule, Trial, indicated
from qinspect.metrics import metric
from qinspect.predictions import results
from qinspect.show.figures.causes import VERDICT_LOOK
from qinspect.show.report import write_report
from qinspect.show.terminal import as_text
from qinspect.show.view import Section, View, view_of
from qinspect.verdicts import ANSWERS, CAUSES, counted

THERE = Measure("there", "it is there", True, True, "above")
SIZE = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"


def rule(swaps: dict[str, np.ndarray]) -> Rule:
    """A cause that is there, whose remedy gives other answers."""
    remedy = Remedy("x", (), lambda evidence, finding: Trial("mending", swaps, claim=True))
    return dataclasses.replace(
        all_rules()["calibration-shift"], id="made", requires=(), remedies=(remedy,),
        check=lambda evidence: indicated("it is there.", [THERE], {}, (), 0.9))


def off(count: int, start: int = 0) -> np.ndarray:
    """Answers of which ``count`` are wrong."""
    y, at = data().y, np.arange(N)
    return np.where((at >= start) & (at < start + count), (y + 1) % 4, y)


def found(wrong: dict[str, np.ndarray], *rules: Rule, **parts: object) -> Diagnosis:
    """A diagnosis of files whose answers are claimed."""
    given = case(int8(ranges(calibration())), claims={r: Claim(a) for r, a in wrong.items()},
                 **({"qat_graph": moved(0.02)} if "qat" in wrong else {}), **parts)
    return diagnose(given, causes=rules, progress=lambda *said: None, notify=lambda said: None)


@functools.cache
def proved() -> Diagnosis:
    return found({"float": off(10), "ptq": off(20), "qat": off(120)}, rule({"qat": off(30)}))


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mae", "mse", "r2"])
@pytest.mark.parametrize("seed", range(4))
def test_the_better_one_is_named_and_no_size_is_negative(name: str, seed: int) -> None:
    """Property: whatever the metric and the order, the sentence says what the numbers say."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=80)
    near, far = y + 0.1 * rng.normal(size=80), y + rng.normal(size=80)
    for a, b in ((near, far), (far, near)):
        gap = results({"ptq": a, "qat": b}, y=y, metric=metric(name), margin=0.01).compare().pair(
            "ptq", "qat")
        assert gap.significant
        best = "PTQ" if a is near else "QAT"
        said = better(gap)
        assert said.startswith(f"{best} is better than ")
        size, low, high = map(float, re.findall(SIZE, said.split(" by ")[1]))
        ends = sorted(abs(end) for end in gap.interval)
        assert (size, low, high) == pytest.approx((abs(gap.gap), *ends), rel=1e-3)
        assert 0 < low < size < high


def test_models_and_intervals_are_those_of_the_comparisons() -> None:
    answer = proved()
    values = {model.role: model for model in answer.card.models}
    assert list(values) == ["float", "ptq", "qat"]
    for gap in answer.gaps:
        assert values[gap.a].value == gap.value_a
        assert values[gap.a].interval == gap.interval_a
        assert values[gap.b].value == gap.value_b
        assert values[gap.b].interval == gap.interval_b
    graph = answer.case.graph("ptq")
    assert graph is not None
    assert (values["ptq"].size, values["ptq"].format) == (len(graph.content), "int8")


def test_a_proved_cause_says_what_its_remedy_changes_and_what_is_left() -> None:
    answer = proved()
    card = answer.card
    assert card.gap.startswith("PTQ is better than QAT by 10.00 points [")
    assert card.sure == f"{CAUSES['explains']}."
    assert card.change.startswith("Mending makes QAT better by 9.00 points [")
    assert card.change.endswith("which is 90 % of the gap.")
    assert card.left.startswith("PTQ is still better by 1.00 points [")
    assert card.left.endswith("10 % of the gap: unexplained.")
    assert card.advice.startswith(all_rules()["calibration-shift"].remedy)
    assert "--write-fix fix.py" in card.advice


def test_what_is_left_may_be_chance_or_turn_round() -> None:
    wrong = {"float": off(10), "ptq": off(20), "qat": off(120)}
    near = np.where(np.arange(N) >= N - 22, (data().y + 1) % 4, data().y)
    assert found(wrong, rule({"qat": near})).card.left.endswith("which may be chance.")
    same = found(wrong, rule({"qat": off(20)})).card.left
    assert same.startswith("No gap is left: they differ by 0.00 points [")
    turned = found(wrong, rule({"qat": off(0)})).card
    assert "more than the gap (120 % of it)" in turned.change
    assert "turned round" in turned.left


def test_a_remedy_that_makes_the_gap_larger_says_so_without_a_sign() -> None:
    answer = found({"float": off(10), "ptq": off(20), "qat": off(120)}, rule({"qat": off(300)}))
    effect = answer.cause("made").effect
    assert effect is not None
    assert closing(answer.focus, effect)[0] == pytest.approx(-18)
    said = change(answer, answer.cause("made"), effect)
    assert said.startswith("mending makes QAT worse by 18.00 points [")
    assert said.endswith("which makes the gap larger")
    assert answer.primary == "unexplained"


def test_a_file_that_stays_as_good_is_not_called_better() -> None:
    wrong = {"float": off(10), "ptq": off(20), "qat": off(120)}
    # Other answers, as many of them wrong.
    answer = found(wrong, rule({"qat": np.where(wrong["qat"] == data().y, data().y,
                                                (data().y + 2) % 4)}))
    effect = answer.cause("made").effect
    assert effect is not None
    said = change(answer, answer.cause("made"), effect)
    assert said.startswith("mending leaves QAT as good as it was (0.00 points [")
    assert "larger" not in said
    assert "better" not in said


@pytest.mark.parametrize("sign", [1, -1])
def test_an_effect_reads_alike_whichever_way_the_gap_is(sign: int) -> None:
    """Metamorphic: the sign of gap and effect together changes no word."""
    answer = proved()
    gap = dataclasses.replace(answer.focus, gap=-2.0 * sign,
                              interval=(-2.0 - sign, -2.0 + sign) if sign > 0 else (1.0, 3.0))
    effect = Effect("x", -1.5 * sign, (-2.0, -1.0) if sign > 0 else (1.0, 2.0), 0.75, True)
    assert closing(gap, effect) == (1.5, (1.0, 2.0))


# --- the other answers ---------------------------------------------------------------------------


def test_without_qat_the_two_that_there_are_stand_on_the_card() -> None:
    card = found({"float": off(10), "ptq": off(120)}, rule({"ptq": off(10)})).card
    assert [model.role for model in card.models] == ["float", "ptq"]
    assert card.gap.startswith("Float is better than PTQ by 11.00 points [")
    assert card.gaps == ""


def test_no_gap_undecided_and_chance() -> None:
    same = found({"float": off(10), "ptq": off(10)}).card
    assert same.gap.startswith("No gap: float and PTQ are equivalent within 1 point")
    assert same.sure == f"{ANSWERS['none']}."
    chance = found({"float": off(20), "ptq": off(30, 500)})
    assert chance.primary == "noise"
    assert "which may be chance" in chance.card.gap
    assert "more examples would find" in chance.card.advice
    unsure = found({"float": off(60), "ptq": off(61, 500)})
    assert unsure.primary == "undecided"
    assert unsure.card.sure == f"{ANSWERS['undecided']}."


def test_unexplained_says_what_to_give() -> None:
    needing = all_rules()["distribution-shift"]
    answer = found({"float": off(10), "ptq": off(120)}, needing)
    assert answer.primary == "unexplained"
    assert answer.card.sure == f"{ANSWERS['unexplained']}."
    assert "the training data" in answer.card.advice
    # What cannot explain float against PTQ is not asked for.
    other = found({"float": off(10), "ptq": off(120)}, all_rules()["undertrained"])
    assert "the training history" not in other.card.advice


def test_supported_says_why_it_is_not_proved() -> None:
    broken = case(int8(ranges(calibration() * np.float32(0.1))))
    answer = diagnose(broken, interventions=False, progress=lambda *said: None)
    assert answer.card.sure == f"{CAUSES['indicated']}: no remedy was tried."
    assert answer.card.left == ""


def test_groups_make_the_intervals_wider() -> None:
    group = np.repeat(np.arange(N // 20), 20)
    wrong = {"float": off(10), "ptq": off(120)}
    alone = found(wrong)
    grouped = found(wrong, data=dataclasses.replace(data(), group=group))
    assert "in 50 groups" in grouped.card.gap
    for one, other in zip(alone.card.models, grouped.card.models, strict=True):
        assert other.value == one.value
    wide = [np.ptp(answer.card.models[1].interval) for answer in (alone, grouped)]
    assert wide[1] > wide[0]


# --- one vocabulary ------------------------------------------------------------------------------


def test_every_verdict_of_a_cause_has_its_word_in_one_place() -> None:
    assert set(VERDICT_LOOK) == set(CAUSES)
    phrases = ["explains it\"", "not confirmed", "refuted", *(
        f'"{word}"' for word in CAUSES.values())]
    for room in ("diagnosis", "causes", "show", "cli"):
        for path in sorted((ROOT / "qinspect" / room).rglob("*.py")):
            told = path.read_text(encoding="utf-8")
            assert [phrase for phrase in phrases if phrase in told] == [], path


def every_section(view: View) -> list[Section]:
    return [one for section in view.sections for one in (section, *section.parts)]


def test_the_other_causes_are_folded_by_verdict(tmp_path) -> None:
    answer = proved()
    groups = [section for section in view_of(answer).sections if section.parts]
    told = [part.title.split(": ")[0] for group in groups for part in group.parts]
    assert sorted(told) == sorted(c.rule.id for c in answer.causes if c is not answer.leading)
    for group in groups:
        words, n = group.title.rsplit(": ", 1)
        assert group.folded
        assert n == counted(len(group.parts), "cause")
        assert {part.title.split(": ", 1)[1] for part in group.parts} == {
            words[0].lower() + words[1:]}
    page = write_report(answer, tmp_path / "r.html")
    text = page.read_text(encoding="utf-8")
    assert text.count("<details>") == text.count("</details>")
    lines = page.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("### ") for line in lines) == len(told)


def test_tables_sections_and_board_use_these_words_only() -> None:
    answer = proved()
    view = view_of(answer)
    titled = [section.title.rsplit(": ", 1)[1] for section in every_section(view)
              if section.title.startswith(("made: ", "PTQ was calibrated"))]
    assert titled
    assert set(titled) <= set(CAUSES.values())
    rows = [table.frame for section in every_section(view) for table in section.tables
            if "verdict" in table.heads]
    assert rows
    assert {word for frame in rows for word in frame["verdict"]} <= set(CAUSES.values())


# --- every surface -------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Words alone: without markup, escapes and line breaks."""
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", text, flags=re.S).replace("\\", "")
    return " ".join(html.unescape(text).split())


def test_the_same_card_on_a_terminal_a_cell_a_page_and_in_markdown(tmp_path) -> None:
    answer = proved()
    page = write_report(answer, tmp_path / "r.html")
    shown = answer._repr_mimebundle_()
    surfaces = {
        "terminal": as_text(view_of(answer)), "cell": shown["text/html"],
        "page": page.read_text(encoding="utf-8"),
        "Markdown": page.with_suffix(".md").read_text(encoding="utf-8"),
    }
    pytest.importorskip("ipywidgets")
    from qinspect.show.widgets import DiagnosisBoard

    surfaces["board"] = DiagnosisBoard(answer).summary.value
    for name, text in surfaces.items():
        said = plain(text)
        at = said.index(answer.card.gap)
        for label, line in answer.card.rows:
            assert label in said or label == "Gap", (name, label)  # the gap is the headline
            assert plain(line) in said, (name, label)
        assert at < said.index("Cause"), name
    numbers = json.loads(page.with_suffix(".json").read_text())
    assert [(row["label"], row["said"]) for row in numbers["card"]] == list(answer.card.rows)
    assert [m["role"] for m in numbers["models"]] == ["float", "ptq", "qat"]


def test_a_sentence_of_the_card_stands_once_on_the_page(tmp_path) -> None:
    answer = proved()
    said = plain(write_report(answer, tmp_path / "r.html").read_text(encoding="utf-8"))
    for line in (answer.card.gap, answer.card.change, answer.card.left, answer.card.cause):
        assert said.count(line) == 1, line


def test_the_first_figure_is_what_the_models_are_worth() -> None:
    answer = proved()
    view = view_of(answer)
    assert next(iter(view.figures)) == "values"
    made = answer.figure()
    assert made.axes().lines
    assert "88.00 % (QAT)" in made.sentence
    open_ones = [section for section in view.sections if not section.folded]
    assert open_ones[0].title.endswith(CAUSES["explains"])


def test_unused_evidence_has_plain_titles() -> None:
    """No raw key of a number stands in a folded cause."""
    answer = diagnose(case(int8(ranges(calibration() * np.float32(0.3)))),
                      progress=lambda *said: None, interventions=False)
    titles = {m.title for cause in answer.causes for m in cause.finding.measures}
    found = [table.frame for section in every_section(view_of(answer)) for table in section.tables
             if "what was measured" in table.heads]
    assert found
    for frame in found:
        assert set(frame["what was measured"]) <= titles
