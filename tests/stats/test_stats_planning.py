"""What to do next: numbers that suffice, and predictive signs against simulation."""

import numpy as np
import pytest
from scipy.special import stdtrit

from qinspect import results
from qinspect.stats import compare_paired, compare_seeds, mcnemar_power
from qinspect.stats.planning import new_sign, new_sign_of, next_step, steps_of_runs


@pytest.mark.parametrize(("n", "a_only", "b_only"), [
    (449, 2, 3), (449, 10, 16), (1000, 30, 45), (10_000, 100, 125), (449, 0, 1), (5, 5, 0),
    (3, 2, 1), (50, 25, 25), (10_000, 1000, 1010)])
def test_predictive_sign_against_simulation(n, a_only, b_only):
    """Draw the true shares from Jeffreys' posterior, a new set from them, and count."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([a_only + 0.5, b_only + 0.5, n - a_only - b_only + 0.5], 40_000)
    drawn = rng.multinomial(n, shares)
    difference = (drawn[:, 1] - drawn[:, 0]) * (1 if b_only >= a_only else -1)
    assert new_sign(n, a_only, b_only) == pytest.approx(
        (np.mean(difference < 0), np.mean(difference == 0)), abs=0.008)
    assert new_sign(n, a_only, b_only) == pytest.approx(new_sign(n, b_only, a_only))


def test_predictive_sign_is_less_sure_than_the_plug_in():
    assert new_sign(449, 2, 3)[0] == pytest.approx(0.32, abs=0.01)
    assert new_sign_of(1.0, 1.0)[0] == pytest.approx(0.2398, abs=1e-3)


def test_the_step_named_reaches_the_power():
    step = next_step(449, 2.3, (1.0,), disagreement=0.03)
    assert mcnemar_power(449 + step.more, 1.0, 0.03) >= 0.8 > mcnemar_power(
        449 + step.more - 1, 1.0, 0.03)
    # The margin is within reach, the difference seen is not.
    assert next_step(10_000, 0.6, (1.0, 0.3), disagreement=0.03).finds == 0.3
    assert next_step(10_000, 0.6, (1.0, 0.0), disagreement=0.03) is None
    assert next_step(10, float("nan"), (1.0,)) is None


def test_words_are_rounded_up_to_two_digits():
    assert next_step(100, 0.2, (0.1,)).words == "about 300 more examples"
    assert next_step(20, 0.3, (0.1999,), of="groups").words == "about 26 more groups"
    assert next_step(449, 2.3, (1.0,), disagreement=0.0312).words == "about 2,200 more examples"


def test_verdicts_that_show_nothing_say_what_would():
    a, b = np.ones((2, 449), bool)
    a[:3], b[3:5] = False, False
    c = compare_paired(a, b, a="ptq", b="qat")
    assert c.verdict == "no_gap_seen"
    assert f"a difference of 1 point in 80 % of studies takes {c.next.words}." in c.sentence
    assert "449 new examples would show the opposite sign in 32 % of studies, none" in c.sentence
    assert c.to_json()["next"] == {"more": c.next.more, "of": "examples", "finds": 1.0}
    shown = compare_paired(np.zeros(449), b, a="ptq", b="qat")
    assert shown.next is shown.opposite_sign is shown.tie is None


def test_other_scores_and_groups_have_a_next_step_too():
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    made = {name: y + rng.normal(0, 1, 300) for name in "ab"}
    c = results(made, y, metric="mae", margin=0.02).comparison("a", "b")
    assert (c.next.of, c.next.finds) == ("examples", 0.02)
    assert c.next.more == pytest.approx(300 * (c.detectable / 0.02) ** 2 - 300, abs=1)
    right = {name: rng.random(300) < 0.8 for name in "ab"}
    grouped = results(right, groups=np.repeat(np.arange(30), 10)).comparison("a", "b")
    assert grouped.next.of == "groups"
    assert "more groups" in grouped.sentence


def test_more_seeds_find_the_margin_in_80_percent_of_simulated_repetitions():
    """Differences that vary by seed alone: Student's interval of the seeds' means decides."""
    (step,) = steps_of_runs({"seed": 4.0, "example": 0.0, "residual": 0.0}, 5, 1000, 2.0)
    assert step.of == "seeds"
    rng = np.random.default_rng(0)
    runs = 5 + step.more
    drawn = rng.normal(2.0, 2.0, (20_000, runs))
    half = stdtrit(runs - 1, 0.975) * drawn.std(axis=1, ddof=1) / np.sqrt(runs)
    assert np.mean(drawn.mean(axis=1) > half) == pytest.approx(0.8, abs=0.06)


def test_runs_say_what_would_tell_only_where_nothing_is_shown():
    rng = np.random.default_rng(0)
    right = rng.random((5, 300)) < 0.9
    other = rng.random((5, 300)) < 0.9
    c = compare_seeds(right, other, a="ptq", b="qat")
    assert c.next
    assert "To find a difference of 1 point in 80 % of such repetitions takes about" in c.sentence
    assert c.to_json()["next"][0]["of"] in ("seeds", "examples")
    shown = compare_seeds(right & (np.arange(300) % 10 > 0), right)
    assert shown.next == ()
