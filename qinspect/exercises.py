"""Answers to the exercises of the notebooks, checked by computing; a wrong one gets a hint.

A notebook gives what it has made by name, so that the truth is that of this machine.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qinspect import stats
from qinspect.affine import affine_parameters, fake_quantize
from qinspect.data.shipped import shipped_table
from qinspect.errors import QinspectError, SpecError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

    from qinspect.diagnosis.answer import Diagnosis
    from qinspect.measure.layer_cost import Sensitivity
    from qinspect.measure.layer_tables import Layers
    from qinspect.predictions import Comparison, Results
    from qinspect.schema import Array
    from qinspect.studies.stored import Study


__all__ = ["Reply", "check"]


class Reply(str):
    """What is said to an answer; a notebook shows it as text that wraps."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return re.sub(r"([*_<>$`\\])", r"\\\1", self)


@dataclass(frozen=True)
class _Exercise:
    form: str  # what an answer is
    why: str  # said when it is right
    hint: Callable[..., str | None]  # None when it is right


_EXERCISES: dict[str, _Exercise] = {}


def check(name: str, answer: Any = None, **given: Any) -> Reply:
    """Whether the answer to an exercise is right, and if not, what to think about.

    Parameters
    ----------
    name : str
        Notebook and number, such as ``"04.2"``.
    answer : object
        The answer; None while there is none.
    **given : object
        What the notebook has made and the check needs, as its cell passes it.

    Returns
    -------
    Reply
        Text that begins with *Right*, *Not yet* or *No answer yet*.

    Raises
    ------
    SpecError
        When there is no such exercise, or something that it needs is not given.

    Examples
    --------
    >>> print(check("04.2"))
    No answer yet. It is a number of steps.
    >>> print(check("04.2", 1000))
    Not yet. A share of 0.999 is left after each step: which power of it is a hundredth?
    >>> check("04.2", 4603).startswith("Right.")
    True
    """
    if name not in _EXERCISES:
        raise unknown_name("exercise", name, _EXERCISES)
    exercise = _EXERCISES[name]
    if answer is None:
        return Reply(f"No answer yet. It is {exercise.form}.")
    try:
        inspect.signature(exercise.hint).bind(answer, **given)
    except TypeError as error:
        raise SpecError(f"the check of exercise {name} does not fit what it is given ({error}); "
                        "run the cell as the notebook has it.") from error
    if empty := [key for key, value in given.items() if value is None]:
        return Reply(f"No answer yet. {empty[0]} is still None.")
    try:
        hint = exercise.hint(answer, **given)
    except (TypeError, ValueError, LookupError, AttributeError):
        hint = f"The answer has another form: it is {exercise.form}."
    return Reply(f"Right. {exercise.why}" if hint is None else f"Not yet. {hint}")


def _exercise(name: str, form: str, why: str) -> Callable[[Callable[..., str | None]], None]:
    def add(hint: Callable[..., str | None]) -> None:
        _EXERCISES[name] = _Exercise(form, why, hint)

    return add


def _off(answer: Any, true: float, tolerance: float) -> bool:
    return not abs(float(answer) - true) <= tolerance


def _word(answer: str) -> str:
    return " ".join(answer.lower().replace("_", " ").replace("-", " ").split())


def _yes(answer: str | bool) -> bool:
    said = {True: True, False: False, "yes": True, "no": False}
    return said[answer if isinstance(answer, bool) else _word(answer)]


def _verdict(pair: Comparison) -> str:
    return {"a_better": f"{pair.a} better", "b_better": f"{pair.b} better"}.get(
        pair.verdict, pair.verdict).replace("_", " ")


def _sweep_gaps(dataset: str) -> Array:
    table = shipped_table("one_epoch_sweep")
    return table.loc[table["dataset"] == dataset, "qat_minus_ptq_pp"].to_numpy(dtype=float)


@_exercise("00.1", "a number of points, above 0 where qat is ahead",
           "Take away what batch norm's statistics did, and the sign of the gap has changed.")
def _left_of_the_gap(answer: float, study: Study) -> str | None:
    gap = study.results.comparison("ptq_int8", "qat").gap
    parts = {part["id"]: part["diff_pp"] for part in study.to_json()["decomposition"]}
    if not _off(answer, gap - parts["batchnorm-lag"], 0.1):
        return None
    if not _off(answer, gap + parts["batchnorm-lag"], 0.1):
        return "Mind the sign: taking away a negative part makes the rest larger."
    return "The parts add up to the gap. What is left of the sum without the first one?"


@_exercise("00.2", "a number of seeds",
           "QAT is ahead with eleven, level with one: a pair of files says little of the methods.")
def _seeds_with_ptq_ahead(answer: int) -> str | None:
    gaps = _sweep_gaps("digits")
    if not _off(answer, (gaps < 0).sum(), 0):
        return None
    if not _off(answer, (gaps > 0).sum(), 0):
        return "That many have QAT ahead. The column is qat minus ptq."
    return "Count the rows of data set digits in which qat_minus_ptq_pp is below zero."


@_exercise("01.1", "a factor", "One outlier takes most of the marks away from all the others.")
def _outlier(answer: float, numbers: Sequence[float]) -> str | None:
    step = affine_parameters(min(numbers), max(numbers)).scale[0]
    wide = affine_parameters(min(numbers), 100.0).scale[0]
    if not _off(answer, wide / step, 0.02 * wide / step):
        return None
    return "A step is the range divided by 255. How wide is the range with 100 in it, and without?"


@_exercise("01.2", "a factor", "One bit less halves the number of steps, so each is twice as wide.")
def _bit(answer: float) -> str | None:
    line = np.linspace(-1, 1, 20_001)
    seven, eight = (float(np.std(fake_quantize(line, affine_parameters(-1, 1, bits)) - line))
                    for bits in (7, 8))
    if not _off(answer, seven / eight, 0.1):
        return None
    return "How many steps does one bit more give, and how wide is each of them then?"


@_exercise("01.3", "a factor", "The range is widened to hold zero, although no number lies there.")
def _far_from_zero(answer: float, numbers: Sequence[float]) -> str | None:
    moved = affine_parameters(min(numbers) + 10, max(numbers) + 10).scale[0]
    step = affine_parameters(min(numbers), max(numbers)).scale[0]
    if not _off(answer, moved / step, 0.02 * moved / step):
        return None
    if not _off(answer, 1, 0.05):
        return "That would hold if the range began at 8.8. Which number must every range hold?"
    return "Divide the new range by the old one, after widening each to hold zero."


@_exercise("02.1", "two entries, each a number of trainings or the word 'never'",
           "More trainings cure the luck of the seed alone: the images' part stays.")
def _trainings_needed(answer: Sequence[Any], right: Array) -> str | None:
    parts, n = stats.variance_components(right), right.shape[1]

    def fewest(points: float) -> int | str:
        for runs in range(1, 1001):
            variance = parts["seed"] / runs + parts["example"] / n + parts["residual"] / (runs * n)
            if 100 * np.sqrt(variance) < points:
                return runs
        return "never"

    one, half = answer
    if one != fewest(1.0):
        return "First entry: put S = 1, 2, 3 into the formula until its root is below 0.01."
    if half != fewest(0.5):
        return "Second entry: what does the formula tend to when S grows without end?"
    return None


@_exercise("02.2", "a number of points", "And on other images the best of ten need not be best.")
def _best_of_ten(answer: float, right: Array) -> str | None:
    accuracy = 100 * right.mean(axis=1)
    if not _off(answer, accuracy.max() - accuracy.mean(), 0.02):
        return None
    return "The best of the ten accuracies, less their mean, in points."


@_exercise("02.3", "'weights', 'order' or 'cannot tell', with three accuracies of each",
           "That is all that so few trainings allow; more of each would settle it.")
def _weights_or_order(answer: str, weights: Sequence[float], order: Sequence[float]) -> str | None:
    from scipy.stats import f

    spread = [float(np.var(one, ddof=1)) for one in (weights, order)]
    if min(len(weights), len(order)) < 3:
        return "Train at least three times each."
    tails = f.cdf(spread[0] / max(spread[1], 1e-9), len(weights) - 1, len(order) - 1)
    if 2 * min(tails, 1 - tails) > 0.05:
        truth = "cannot tell"
    else:
        truth = "weights" if spread[0] > spread[1] else "order"
    if _word(answer) == truth:
        return None
    return ("How far apart would two spreads of so few values have to be, before luck alone does "
            "not explain it?")


@_exercise("03.1", "a scheme, such as 'int8' or 'float16'", "The file tells, its name does not.")
def _what_is_it(answer: str, file: str | Path) -> str | None:
    from qinspect.tflite import identify, read_graph

    if answer.strip().lower() == identify(read_graph(file)).scheme:
        return None
    return "Ask the file: qi.inspect(file), column or line 'scheme'."


@_exercise("03.2", "'yes' or 'no'", "One image is a draw of luck; fifty are hardly any.")
def _which_image(answer: str, judge: Callable[..., Any], images: Array, by_size: pd.DataFrame
                 ) -> str | None:
    same = judge({f"image {at}": images[at:at + 1] for at in range(3)})[1]["same answer"]
    spread = float(same.max() - same.min())
    growth = float(abs(by_size["same answer"][200] - by_size["same answer"][50]))
    if _yes(answer) == (spread > growth):
        return None
    return (f"Three single images give agreements that are {100 * spread:.2f} points apart; from "
            f"50 to 200 images they move by {100 * growth:.2f}.")


@_exercise("03.3", "a number of bits", "Eight bits are left of sixteen, as many as int8 has.")
def _bits_left(answer: float) -> str | None:
    if not _off(answer, 16 - np.log2(255), 0.1):
        return None
    return "A range 255 times too wide uses one step in 255. How many bits count to 255?"


@_exercise("04.1", "a number of points with its sign, and the results of the files named "
           "'default' and 'warm'", "Ranges near 6 fit these activations far better than those of "
           "pixels up to 255.")
def _gentle(answer: float, results: Results) -> str | None:
    if not _off(answer, results.comparison("default", "warm").gap, 0.05):
        return None
    return "The gap of 'default' and 'warm' in their comparison: what the warm start brings."


@_exercise("04.2", "a number of steps",
           "That is 184 epochs of 25 steps, or two and a half of 1,875.")
def _steps_to_one_percent(answer: float) -> str | None:
    if not _off(answer, np.log(0.01) / np.log(0.999), 46):
        return None
    return "A share of 0.999 is left after each step: which power of it is a hundredth?"


@_exercise("04.3", "'yes' or 'no', and the results of the files named 'after' and 'before'",
           "The interval of the pair decides it.")
def _mark_in_the_weights(answer: str, results: Results) -> str | None:
    pair = results.comparison("after", "before")
    if _yes(answer) == (pair.interval[0] <= 0):
        return None
    return ("All of it is back if 'before' is not shown to be ahead of 'after': read the interval "
            "of that pair.")


@_exercise("05.1", "the int8 array that is fed", "One step at most, and few answers change.")
def _cut_off(answer: Array, x: Array, scale: float, zero_point: int) -> str | None:
    fed = np.asarray(answer)
    if fed.dtype != np.int8:
        return f"The file takes int8; this is {fed.dtype}."
    stored = x / scale + zero_point
    if np.array_equal(fed, np.clip(np.trunc(stored), -128, 127)):
        return None
    if np.array_equal(fed, np.clip(np.rint(stored), -128, 127)):
        return "That is rounded. Which function of NumPy cuts off?"
    return "Divide by the scale, add the zero point, cut off, clip to -128 to 127."


@_exercise("05.2", "a list of columns of the table",
           "The answers themselves are good, only their order is not: that is the signature.")
def _shuffled(answer: Iterable[str]) -> str | None:
    named = {_word(one) for one in ([answer] if isinstance(answer, str) else answer)}
    if named == {"accuracy"}:
        return None
    if "accuracy" not in named:
        return "What happens to the share of right answers when labels belong to other images?"
    return "Does shuffling change how often a class is predicted, or what the two files agree on?"


@_exercise("05.3", "a set of numbers of mistakes",
           "A scale of 1/255 and a zero point of 0: the bytes of an image are what it wants.")
def _uint8(answer: Iterable[int], x: Array) -> str | None:
    fed = {1: np.trunc(x), 2: 255 * x, 3: 255 * x, 4: x}
    harmless = {one for one, values in fed.items()
                if np.array_equal(np.rint(values), np.rint(255 * x))}
    named = {answer} if isinstance(answer, int) else {int(one) for one in answer}
    if named == harmless:
        return None
    if named < harmless:
        return "There is another one: what does dividing by 1/255 without a zero point give?"
    return "Its input has scale 1/255 and zero point 0. Which of the four then give the right byte?"


@_exercise("06.1", "a number of layers, and what qi.sensitivity returned with keep='int16x8'",
           "Sixteen bits for the activations are cheaper than floats and often enough.")
def _wider_layers(answer: int, cost: Sensitivity) -> str | None:
    kept = cost.proposal()
    if not _off(answer, len(cost.order) if kept is None else kept, 0):
        return None
    return "Its sentence names the fewest layers, and cost.proposal() is that number."


@_exercise("06.2", "a layer and 'rounded' or 'clipped', as ('conv1', 'rounded')",
           "The lowest signal-to-noise ratio says where, the histogram says how.")
def _weakest_layer(answer: tuple[str, str], measured: Layers) -> str | None:
    local = measured.frame.query("file == 'good' and reference == 'local'")
    ratio = local.set_index("layer")["sqnr_db"].replace([np.inf, -np.inf], np.nan)
    layer, how = answer
    if layer != ratio.idxmin():
        return "Which layer has the smallest number in the column of 'good', local?"
    counts = measured.errors["good"].histogram(layer).groupby("part")["count"].sum()
    clipped = counts.get("clipped", 0) > counts.get("rounded", 0)
    if _word(how) == ("clipped" if clipped else "rounded"):
        return None
    return "Draw its histogram: where do most of the errors lie, within half a step or beyond?"


@_exercise("06.3", "a layer, and what qi.sensitivity returned without labels",
           "How often the answer stays the same needs no labels.")
def _without_labels(answer: str, cost: Sensitivity) -> str | None:
    alone = cost.layers.query("variant == 'only'").set_index("layer")["agreement"]
    if answer in set(alone.index[alone == alone.min()]):
        return None
    return "The rows of variant 'only': with which layer does the answer change most often?"


@_exercise("07.1", "a number of points",
           "Honest would be: choose on validation images, and measure once on the test images.")
def _best_seed(answer: float, right: Mapping[str, Array]) -> str | None:
    accuracy = 100 * right["qat"].mean(axis=1)
    if not _off(answer, accuracy.max() - accuracy.mean(), 0.02):
        return None
    return "The best accuracy of QAT over the seeds, less the mean of all of them."


@_exercise("07.2", "two numbers of images", "Fewer disagreements, a steadier difference.")
def _images_needed(answer: Sequence[int]) -> str | None:
    often, rarely = answer
    for given, disagreement, which in ((often, 0.02, "first"), (rarely, 0.005, "second")):
        needed = stats.examples_needed(0.2, disagreement)
        if _off(given, needed, 0.05 * needed):
            return f"The {which} number: qi.stats.examples_needed(points, share of disagreements)."
    return None


@_exercise("07.3", "a percentage and the name of a function, as (50, 'name')",
           "Bonferroni's correction does as well, more strictly.")
def _many_tests(answer: tuple[float, str]) -> str | None:
    percent, name = answer
    if _off(percent, 100 * (1 - 0.95**20), 2):
        return "How likely is it that none of twenty is significant, each with 0.95?"
    if name.removesuffix("()").split(".")[-1] == "holm":
        return None
    return "Look through dir(qi.stats) for the name of somebody who steps down."


@_exercise("08.1", "a verdict, and what qat_bn compared with qat_bn_warm gave",
           "Read its interval as well: what lies in it remains possible.")
def _settled_observers(answer: str, pair: Comparison) -> str | None:
    said = _verdict(pair)
    return None if _word(answer) == _word(said) else "The verdict stands in the row of the pair."


@_exercise("08.2", "'a', 'b' or 'c'",
           "Both are settled, both are trained on at the same rate: only QAT differs.")
def _rate_by_itself(answer: str) -> str | None:
    return {
        "a": "These differ in the state of batch norm, too: the lag of the statistics gets in.",
        "b": None,
        "c": "Only one of these was trained on: the extra epoch gets in.",
    }[_word(answer)]


@_exercise("08.3", "an arm and a number of seeds, as ('qat', 3)",
           "On a longer epoch the statistics have settled, and QAT keeps its extra epoch.")
def _on_fashion(answer: tuple[str, int]) -> str | None:
    gaps = _sweep_gaps("fashion_mnist")
    ahead = "qat" if (gaps > 0).sum() > len(gaps) / 2 else "ptq"
    arm, count = answer
    if not _word(arm).startswith(ahead):
        return "The column is qat minus ptq. Which sign has it in most rows?"
    if not _off(count, max((gaps > 0).sum(), (gaps < 0).sum()), 0):
        return None
    return "Count the rows with that sign."


@_exercise("09.1", "a number of points", "Candidates that differ more flatter more.")
def _flattered(answer: float, by_size: pd.DataFrame) -> str | None:
    if not _off(answer, by_size["best of 40 calibrations"][300], 0.3):
        return None
    return "8 recipes with 5 sets are 40 candidates: read the table at 300 images."


@_exercise("09.2", "the name of a file, and the results of 'float', 'ptq' and 'clipped float'",
           "And clipping the input of the float file does the same, without a single integer.")
def _bright(answer: str, results: Results) -> str | None:
    ahead = "ptq" if results.value("ptq") > results.value("float") else "float"
    if _word(answer) == ahead:
        return None
    return "results.value('float') and results.value('ptq'): which one is greater?"


@_exercise("09.3", "the six letters in your order, as 'abcdef'",
           "What costs nothing comes first, what trains again comes last.")
def _order_of_checks(answer: str) -> str | None:
    at = {letter: answer.lower().index(letter) for letter in "abcdef"}
    if at["a"] > 1 or at["b"] > 1:
        return "Two of them cost nothing and may end the search: put them first."
    if at["f"] < 5:
        return "One of them trains again. It is the dearest; put it last."
    return None


@_exercise("10.1", "'ptq better', 'qat better' or 'cannot tell', and the gaps of the seeds",
           "Whatever the verdict, it is now one about a way of training.")
def _three_seeds(answer: str, gaps: Sequence[float]) -> str | None:
    if len(gaps) < 3:
        return "Three seeds: the one of the claim and two more."
    low, high = stats.mean_interval(np.asarray(gaps, dtype=float))
    truth = "qat better" if low > 0 else "ptq better" if high < 0 else "cannot tell"
    if _word(answer) == truth:
        return None
    return (f"Student's interval of the mean over these seeds is {low:+.1f} to {high:+.1f} points. "
            "Does it leave out zero?")


@_exercise("10.2", "a dict with a, b, control, refuted_if (texts), points, disagreement and images "
           "(numbers)", "An experiment with a control, an outcome that would refute it, and enough "
           "images to see it.")
def _own_claim(answer: Mapping[str, Any]) -> str | None:
    for name in ("a", "b", "control", "refuted_if"):
        if not str(answer[name]).strip():
            return f"'{name}' is still empty."
    if answer["a"] == answer["b"]:
        return "The two files to compare are the same one."
    needed = stats.examples_needed(answer["points"], answer["disagreement"])
    if answer["images"] >= needed:
        return None
    return f"To find {answer['points']:g} points with these disagreements takes {needed:,} images."


@_exercise("11.1", "a cause and True or False, as ('noise', False), and the diagnosis",
           "Evidence alone names a suspect; without training data its remedy cannot be tried.")
def _fewer_inputs(answer: tuple[str, bool], found: Diagnosis) -> str | None:
    cause, proved = answer
    if _word(cause) != _word(found.primary):
        return "Its first sentence names the cause, and found.primary is its id."
    if bool(proved) == bool(found.proved):
        return None
    return "Was a remedy applied that closed the gap? found.proved knows."


@_exercise("11.2", "the id of a cause, and the diagnosis",
           "Claimed predictions that the files do not give: the evaluation, not the model.")
def _spoiled_evaluation(answer: str, found: Diagnosis) -> str | None:
    return None if _word(answer) == _word(found.primary) else "What does found.primary say?"


@_exercise("11.3", "your sentence", "A colleague can check every part of it.")
def _letter(answer: str, found: Diagnosis) -> str | None:
    numbers = [float(one) for one in re.findall(r"\d+(?:\.\d+)?", answer.replace(",", ""))]
    pair = found.focus
    if not any(abs(one - abs(pair.gap)) < 0.06 for one in numbers):
        return f"It does not hold the gap of {pair.a} and {pair.b} in points."
    if not all(any(abs(one - abs(end)) < 0.06 for one in numbers) for end in pair.interval):
        return "It does not hold both ends of the gap's interval."
    if pair.n not in numbers:
        return "It does not say on how many examples."
    words = {word for word in re.split(r"[-\s]+", found.primary.lower()) if len(word) > 3}
    if not any(word.rstrip("s") in answer.lower() for word in words):
        return f"It does not name the cause, {found.primary}."
    return None if "remed" in answer.lower() else "It does not say which remedy was tried."


@_exercise("12.2", "the id of a cause, and the diagnosis",
           "Its evidence names the number that rules it out.")
def _ruled_out(answer: str, found: Diagnosis) -> str | None:
    table = found.frame.set_index("id")
    if answer not in table.index:
        return "That is no id in the first column of found.frame."
    if "ruled" in str(table.loc[answer, "verdict"]):
        return None
    return f"The diagnosis says of it: {_word(str(table.loc[answer, 'verdict']))}."


@_exercise("12.3", "a dict of paths with the keys float, ptq and qat",
           "They run. Hand them over with the accuracies, and without a word.")
def _own_mystery(answer: Mapping[str, str | Path]) -> str | None:
    from qinspect.tflite import inspect as read

    if set(answer) != {"float", "ptq", "qat"}:
        return "It takes three files: float, ptq and qat."
    try:
        table = read(*answer.values()).frame
    except QinspectError as error:
        return str(error)
    broken = table.loc[table["runs"] != "ok", "file"]
    return None if broken.empty else f"{broken.iloc[0]} does not run."


@_exercise("13.1", "a number of degrees",
           "The unit of the metric is that of the labels, so ask whether it matters in that unit.")
def _gap_in_degrees(answer: float, results: Results) -> str | None:
    gap = results.comparison("ptq_int8", "qat").gap
    if not _off(abs(answer), abs(gap), 0.05):
        return None
    return "The row of ptq_int8 and qat: the difference of the two mean absolute errors."


@_exercise("13.2", "a number of examples",
           "The errors of a regression are numbers, so their spread decides, not their count.")
def _examples_for_gap(answer: float, differences: Array, unit: float) -> str | None:
    needed = (2.8 * float(np.std(differences, ddof=1)) / unit) ** 2
    if not _off(answer, needed, 0.1 * needed + 1):
        return None
    return ("The mean of n differences has the standard deviation s / sqrt(n), and a difference of "
            "2.8 standard deviations is found in 80 % of cases at the level 0.05. Solve for n.")
