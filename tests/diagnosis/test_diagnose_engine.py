"""The engine: effects by hand, verdicts, the order of causes, and the form of every rule."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import time

import numpy as np
import pytest
from diagnose_cases import N, calibration, case, data, float_graph, int8, ranges
from parts import ROOT

from qinspect.causes import all_rules
from qinspect.causes.__main__ import document
from qinspect.diagnosis import engine
from qinspect.diagnosis.cases import NEEDS, Case, Claim
from qinspect.diagnosis.engine import _try_remedies, diagnose, measure_effect
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.replicates import measure_replicates
from qinspect.diagnosis.rule import (
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    not_tried,
    ruled_out,
)
from qinspect.errors import DataError, ModelFileError, QinspectError, SpecError
from qinspect.stats import Comparison
from qinspect.store import read_frame
from qinspect_bench.faults import NOT_INJECTED

THERE = Measure("there", "it is there", True, True, "above")


def broken(factor: float = 0.1) -> Case:
    """PTQ calibrated in other units, without the calibration set."""
    return case(int8(ranges(calibration() * np.float32(factor))))


# --- rules ------------------------------------------------------------------------------------


def healthy() -> Case:
    return case(int8(ranges(calibration())))


@pytest.mark.parametrize("rule", all_rules().values(), ids=lambda rule: rule.id)
def test_rules_are_complete(rule: Rule) -> None:
    for text in (rule.title, rule.question, rule.symptom, rule.cause, rule.remedy, rule.source):
        assert len(text) > 10
    assert rule.question.endswith("?")
    for measure in rule.measures:  # longer ones are cut in the figure
        assert len(measure.title) + 7 * ("{role}" in measure.id) <= 60
    for need in (*rule.requires, *(n for remedy in rule.remedies for n in remedy.requires)):
        assert set(need.split("|")) <= set(NEEDS)


@pytest.mark.parametrize("rule", all_rules().values(), ids=lambda rule: rule.id)
def test_remedies_import_what_exists(rule: Rule) -> None:
    for node in ast.walk(ast.parse(rule.code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qinspect"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                known = getattr(module, "__all__", None)
                assert alias.name in known if known else hasattr(module, alias.name)


def test_the_document_is_made_from_the_rules() -> None:
    text = (ROOT / "docs" / "causes.md").read_text()
    rows = read_frame(ROOT / "data" / "diagnosis_full_cases.csv")
    assert text == document(rows, NOT_INJECTED), "run make docs"
    assert text.splitlines() == [line for line in text.splitlines() if len(line) <= 100]


@pytest.mark.parametrize("rule", all_rules().values(), ids=lambda rule: rule.id)
def test_missing_inputs_are_named(rule: Rule) -> None:
    bare = Case(ptq_graph=float_graph(), float_graph=float_graph())
    missing = bare.missing(rule.requires)
    found = engine._check(rule, Evidence(bare)) if missing else None
    if found is not None:
        assert found.verdict == "not_tried"
        assert all(words in found.sentence for words in missing)


def test_a_case_says_what_it_has() -> None:
    bare = Case(ptq_graph=float_graph(), float_graph=float_graph())
    given = bare.frame.set_index("input")["given"]
    assert set(given.index[given]) == {"float", "ptq"} == set(bare.roles)
    assert "the training data" in bare.sentence
    assert "the PTQ .tflite file" not in bare.sentence
    shown = bare._repr_mimebundle_()
    assert "the training history" in shown["text/html"]
    assert len(repr(bare)) < 120


# --- effects ----------------------------------------------------------------------------------


def random_trial(seed: int) -> tuple[Evidence, Comparison, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    evidence = Evidence(broken())
    gap = evidence.comparison("float", "ptq")
    swap = {
        role: np.where(rng.random(N) < 0.8, data().y, (data().y + 1) % 4)
        for role in ("float", "ptq")
    }
    return evidence, gap, swap


@pytest.mark.parametrize("roles", [("float",), ("ptq",), ("float", "ptq")])
def test_effect_is_gap_before_minus_gap_after(roles: tuple[str, ...]) -> None:
    evidence, gap, swap = random_trial(0)
    chosen = {role: swap[role] for role in roles}
    found = measure_effect(evidence, gap, Trial("x", chosen))
    after = {
        role: (chosen[role] == data().y).mean() if role in chosen else evidence.put(role).mean()
        for role in ("float", "ptq")
    }
    assert found.amount == pytest.approx(gap.gap - 100 * (after["ptq"] - after["float"]))
    assert found.interval[0] < found.amount < found.interval[1]


def test_effect_on_some_examples_and_against_a_control() -> None:
    evidence, gap, swap = random_trial(1)
    index = np.arange(0, N, 3)
    trial = Trial("x", {"ptq": swap["ptq"][index]}, index, controls={"ptq": swap["float"][index]})
    y = data().y[index]
    by_hand = (swap["float"][index] == y).mean() - (swap["ptq"][index] == y).mean()
    assert measure_effect(evidence, gap, trial).amount == pytest.approx(100 * by_hand)


def test_no_change_confirms_nothing() -> None:
    evidence, gap, _ = random_trial(2)
    same = evidence.evaluation("ptq").prediction
    found = measure_effect(evidence, gap, Trial("nothing", {"ptq": same}))
    assert found.amount == 0
    assert not found.confirmed


# --- verdicts ---------------------------------------------------------------------------------


def fake(name: str, rank: int, *, mends: bool, harms: tuple[str, ...] = ()) -> Rule:
    like = all_rules()["calibration-shift"]
    swap = data().y if mends else np.zeros(N, dtype=np.int64)
    remedy = Remedy("x", (), lambda evidence, finding: Trial(name, {"ptq": swap}))
    return dataclasses.replace(
        like, id=name, rank=rank, requires=(), remedies=(remedy,),
        check=lambda evidence: indicated("there.", [THERE], {}, harms, 0.9 if mends else 0.1),
    )


def test_the_remedy_that_changes_least_is_primary() -> None:
    rules = (fake("late", 5, mends=True), fake("early", 2, mends=True),
             fake("useless", 1, mends=False))
    found = diagnose(broken(), causes=rules)
    assert (found.primary, found.proved) == ("early", True)
    assert {c.rule.id: c.verdict for c in found.causes} == {
        "late": "explains", "early": "explains", "useless": "not_shown",
    }


def test_without_interventions_the_evidence_decides_and_says_so() -> None:
    rules = (fake("strong", 5, mends=True), fake("weak", 1, mends=False))
    found = diagnose(broken(), causes=rules, interventions=False)
    assert (found.primary, found.proved) == ("strong", False)
    assert "not proved" in found.sentence
    assert found.cause("strong").row()["confirmed_by_intervention"] is None


def stopped(evidence: Evidence, finding: object) -> Trial:
    raise KeyboardInterrupt


def test_the_answer_so_far_is_told_before_anything_trains_and_survives_a_stop() -> None:
    trains = dataclasses.replace(
        fake("early", 1, mends=True), remedies=(Remedy("training", (), stopped, trains=True),))
    told: list[str] = []
    steps: list[tuple[str, int, int]] = []
    found = diagnose(broken(), causes=[trains, fake("late", 5, mends=True)], notify=told.append,
                     progress=lambda phase, done, total, _: steps.append((phase, done, total)))
    assert (found.primary, found.proved) == ("late", True)
    assert found.cause("early").note == "its training was stopped."
    said, = told
    assert said.startswith(f"So far, with nothing trained: {found.sentence}\n")
    assert "None is begun after" in said
    for phase in ("evidence", "remedies", "training"):
        done = [step[1] for step in steps if step[0] == phase]
        assert done == sorted(done)
        assert done[-1] == max(step[2] for step in steps if step[0] == phase)


def test_a_gap_within_the_margin_is_not_explained_by_evidence_alone() -> None:
    """Real or not, anything may make so little."""
    rule = fake("there", 1, mends=False)
    for margin, primary in ((0.1, "there"), (99.0, "unexplained")):
        puzzle = dataclasses.replace(broken(), margin=margin)
        found = diagnose(puzzle, causes=[rule], interventions=False)
        assert found.primary == primary
    assert "smaller than the margin of 99 points" in found.sentence


def test_a_cause_that_hurts_the_better_file_is_not_tried() -> None:
    found = diagnose(broken(), causes=[fake("elsewhere", 1, mends=True, harms=("float",))])
    assert found.cause("elsewhere").verdict == "not_shown"
    assert found.primary == "unexplained"


def test_a_failing_rule_does_not_stop_the_others() -> None:
    def fail(evidence: Evidence) -> object:
        raise ModelFileError("the file is odd.")

    bad = dataclasses.replace(fake("bad", 1, mends=True), check=fail, remedies=())  # type: ignore[arg-type]
    found = diagnose(broken(), causes=[bad, fake("good", 2, mends=True)])
    assert found.cause("bad").verdict == "not_tried"
    assert found.primary == "good"


def test_causes_that_are_ruled_out_are_not_tried() -> None:
    for finding in (ruled_out("no."), does_not_apply("no.")):
        rule = dataclasses.replace(fake("no", 1, mends=True), check=lambda _, said=finding: said)
        cause = diagnose(broken(), causes=[rule]).cause("no")
        assert (cause.effect, cause.verdict) == (None, finding.verdict)


def test_what_only_an_intervention_can_tell_is_tried() -> None:
    """A remedy without effect does not rule a cause out; one that closes the gap indicates it."""
    for mends, verdict in ((False, "not_shown"), (True, "indicated")):
        rule = dataclasses.replace(fake("open", 1, mends=mends),
                                   check=lambda evidence: not_tried("cannot tell."))
        assert diagnose(broken(), causes=[rule]).cause("open").verdict == verdict
        found = diagnose(broken(), causes=[rule])
        assert (found.primary, found.proved) == ("open" if mends else "unexplained", False)
        told = diagnose(broken(), causes=[rule], interventions=False)
        assert told.cause("open").verdict == "not_tried"


def test_what_closes_a_lucky_gap_is_indicated() -> None:
    """The gap has only just reached significance; a remedy that closes it proves nothing yet."""
    y = data().y
    claims = {"float": Claim(y), "ptq": Claim(np.where(np.arange(N) < 6, (y + 1) % 4, y))}
    puzzle = dataclasses.replace(healthy(), claims=claims)
    rule = dataclasses.replace(fake("cure", 1, mends=True), remedies=(
        Remedy("x", (), lambda evidence, finding: Trial("x", {"ptq": y}, claim=True)),))
    found = diagnose(puzzle, causes=[rule])
    assert found.focus.significant
    assert abs(found.focus.unselected) < abs(found.focus.gap)
    cause = found.cause("cure")
    assert (cause.effect.closed_share, cause.confirmed, cause.verdict) == (1.0, False, "indicated")
    assert (found.primary, found.proved) == ("cure", False)
    assert "too large by luck" in str(cause.note)


def test_what_applying_a_remedy_showed_is_evidence() -> None:
    like = fake("open", 1, mends=True)
    rule = dataclasses.replace(
        like, check=lambda evidence: not_tried("cannot tell."), remedies=(Remedy(
            "x", (), lambda evidence, finding: Trial("x", {"ptq": data().y}, seen=(THERE,))),))
    found = diagnose(broken(), causes=[rule])
    assert (found.primary, found.proved) == ("open", True)


def test_chance_is_never_proved() -> None:
    rule = dataclasses.replace(fake("noise", 1, mends=True),
                               check=lambda evidence: ruled_out("real on these examples."))
    found = diagnose(broken(), causes=[rule])
    assert (found.primary, found.proved) == ("noise", False)
    assert "another run of the training does not have it" in found.sentence


def test_a_training_cause_does_not_explain_float_against_ptq() -> None:
    rule = dataclasses.replace(fake("trained", 1, mends=True), acts_on=("qat",))
    found = diagnose(broken(), causes=[rule])
    assert (found.focus.a, found.focus.b, found.primary) == ("float", "ptq", "unexplained")


def test_a_narrower_remedy_that_closes_as_much_wins() -> None:
    wide, narrow = fake("wide", 1, mends=True), fake("narrow", 2, mends=True)
    wide = dataclasses.replace(wide, remedies=(
        dataclasses.replace(wide.remedies[0], mends=("narrow",)),))
    assert diagnose(broken(), causes=[wide, narrow]).primary == "narrow"
    assert diagnose(broken(), causes=[wide]).primary == "wide"


def test_one_that_closes_far_more_wins_over_one_that_changes_less() -> None:
    y, own = data().y, Evidence(broken()).own_answers("ptq")
    wrong = np.flatnonzero(own != y)
    half = own.copy()
    half[wrong[: len(wrong) // 2]] = y[wrong[: len(wrong) // 2]]
    little = dataclasses.replace(fake("little", 1, mends=True), remedies=(
        Remedy("x", (), lambda evidence, finding: Trial("x", {"ptq": half})),))
    found = diagnose(broken(), causes=[little, fake("much", 5, mends=True)])
    assert found.cause("little").confirmed
    assert found.primary == "much"


def test_what_lifts_both_files_by_more_than_the_gap_comes_first() -> None:
    """Both files are half right and a little apart; one remedy closes that, one mends both."""
    y, own = data().y, Evidence(broken()).own_answers("float")
    low = np.where(np.arange(N) % 2 == 0, (y + 1) % 4, own)
    lower = np.where(np.arange(N) % 20 == 1, (y + 1) % 4, low)
    puzzle = dataclasses.replace(broken(), claims={"float": Claim(low), "ptq": Claim(lower)})

    def mending(swaps: dict[str, np.ndarray]) -> tuple[Remedy, ...]:
        return (Remedy("x", (), lambda evidence, finding: Trial("x", swaps, claim=True)),)

    small = dataclasses.replace(fake("small", 1, mends=True), remedies=mending({"ptq": low}))
    large = dataclasses.replace(fake("large", 5, mends=True),
                                remedies=mending({"float": y, "ptq": y}))
    found = diagnose(puzzle, causes=[small, large])
    assert found.cause("small").confirmed
    assert (found.primary, found.proved) == ("large", True)
    assert "more than the gap" in found.sentence


def test_a_remedy_of_the_file_does_not_count_that_a_claim_was_wrong() -> None:
    """The gap is made of a claim; other kernels would replace it, and prove nothing."""
    own = Evidence(healthy()).own_answers("ptq")
    wrong = np.where(np.arange(N) % 3 == 0, (own + 1) % 4, own)
    puzzle = dataclasses.replace(healthy(), claims={"ptq": Claim(wrong)})
    found = diagnose(puzzle, causes=[fake("file", 1, mends=True)])
    effect = found.cause("file").effect
    assert effect is not None
    assert effect.closed_share < 0.3
    assert not found.proved
    assert diagnose(puzzle).primary == "evaluation-mismatch"


def test_a_far_larger_gap_to_float_is_the_one_to_explain() -> None:
    y = data().y
    rng = np.random.default_rng(0)
    wrong = (y + 1) % 4

    def right(share: float) -> Claim:
        return Claim(np.where(rng.permutation(N) < share * N, y, wrong))

    three = dataclasses.replace(healthy(), qat_graph=healthy().ptq_graph)
    for shares, pair in (((0.3, 0.9, 0.96), ("float", "ptq")), ((0.9, 0.85, 0.95), ("ptq", "qat"))):
        claims = dict(zip(("float", "ptq", "qat"), map(right, shares), strict=True))
        found = diagnose(dataclasses.replace(three, claims=claims), interventions=False)
        assert (found.focus.a, found.focus.b) == pair


def test_an_unknown_cause_is_named() -> None:
    with pytest.raises(SpecError, match=r"unknown cause 'nois'; did you mean noise"):
        diagnose(broken(), causes=["nois"])


def test_no_time_is_said() -> None:
    found = diagnose(broken(), budget=0.0)
    assert not found.proved
    assert "for lack of time" in str(found.cause("calibration-shift").note)


def test_an_intervention_that_ends_late_says_so() -> None:
    """It is started while there is time, and is not stopped."""
    found = diagnose(broken(), interventions=False)
    cause = found.cause("calibration-shift")
    for _ in range(20):  # a busy machine may use up the time before it starts
        evidence = Evidence(broken())
        deadline = time.perf_counter() + 0.005
        tried = _try_remedies(cause, evidence, found.focus, training=False, deadline=deadline,
                              replicate=measure_replicates)
        if tried.effect is not None:
            break
        assert "lack of time" in str(tried.note)
    assert tried.effect is not None
    assert 0 < tried.effect.late_seconds <= tried.effect.seconds


# --- the answer -------------------------------------------------------------------------------


def test_answer_is_json_with_the_promised_keys() -> None:
    answer = diagnose(broken()).to_json()
    again = json.loads(json.dumps(answer, allow_nan=False))
    assert again == answer
    assert {"gap_pp", "gap_ptq_float_pp", "ci_pp", "causes", "primary", "summary"} <= set(answer)
    assert answer["gap_pp"] is None
    low, high = answer["ci_pp"]
    assert low < answer["gap_ptq_float_pp"] < high
    for row in answer["causes"]:
        assert {"id", "verdict", "confirmed_by_intervention", "effect_pp", "ci_pp", "evidence",
                "remedy"} <= set(row)
    sizes = [abs(row["effect_pp"]) for row in answer["decomposition"]]
    assert sizes == sorted(sizes, reverse=True)
    assert answer["causes"][0]["id"] == answer["primary"]


def test_same_case_same_answer() -> None:
    one, two = (diagnose(broken()).to_json() for _ in range(2))
    for answer in (one, two):
        answer.pop("seconds")
    assert one == two
    assert one["late_seconds"] == 0


def test_errors_are_one_sentence() -> None:
    with pytest.raises(SpecError, match="at least two"):
        Case(float_graph=float_graph())
    unlabelled = dataclasses.replace(data(), y=None)
    with pytest.raises(DataError, match="without labels y"):
        diagnose(dataclasses.replace(case(float_graph(), data=unlabelled), float_graph=None,
                                     qat_graph=float_graph()))
    with pytest.raises(QinspectError, match="arm"):
        case(float_graph(), arms={"float_bn": np.zeros(3, dtype=np.int64)})


def test_the_first_cut_is_a_part_of_the_answer() -> None:
    found = diagnose(dataclasses.replace(broken(), qat_graph=float_graph()), causes=[],
                     interventions=False)
    ptq, qat = found.cuts
    assert (ptq.file, qat.file) == ("ptq", "qat")
    assert "the activations matter more" in ptq.sentence
    assert not qat.loss.significant
    assert qat.frame["share"].isna().all()
    shown = found._repr_mimebundle_()["text/html"]
    assert "First cut of PTQ" in shown
    assert [one["file"] for one in found.to_json()["first_cut"]] == ["ptq", "qat"]
    bare = dataclasses.replace(broken(), float_graph=None, qat_graph=int8(ranges(calibration())))
    assert diagnose(bare, causes=[], interventions=False).cuts == ()
