"""regularisation and lucky-checkpoint: gains that are, or are not, more than luck."""

from __future__ import annotations

import numpy as np

from qinspect.diagnosis import thresholds as t
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import some_examples
from qinspect.diagnosis.rule import (
    EVALUATION,
    TRAIN_ON,
    Finding,
    Remedy,
    Rule,
    Trial,
    cannot_tell,
    refuted,
    supported,
)
from qinspect.measure.perturbation import perturbation_null
from qinspect.schema import Array
from qinspect.verdicts import p_words

_SPLITS = 200


def _check_gain(evidence: Evidence) -> Finding:
    found = evidence.comparison("float", "ptq", own=True)
    numbers: dict[str, object] = {"gain_pp": found.diff_pp, "p": found.p}
    if found.verdict != "b_better":
        return refuted(
            f"PTQ minus float is {found.diff_pp:+.2f} points ({p_words(found.p)}): there is "
            "no gain to explain.", numbers,
        )
    index = some_examples(evidence, t.PERTURBATION_EXAMPLES)
    x, y = evidence.data.x, evidence.data.y
    if index is not None:
        x, y = x[index], y[index]
    null = perturbation_null(
        evidence.graph("float"), evidence.graph("ptq"), x, y, draws=t.PERTURBATION_DRAWS,
        seed=evidence.case.seed, num_threads=evidence.num_threads,
    ).output
    numbers |= {"random_gain_mean_pp": null.mean_pp, "random_gain_sd_pp": null.sd_pp,
                "perturbation_p": null.p, "perturbation_examples": len(x)}
    if null.p >= t.REGULARISATION_P:
        return refuted(null.sentence, numbers)
    return supported(
        f"{null.sentence} Whether it holds, only fresh data and other seeds can tell.", numbers,
        ("float",), strength=0.4,
    )


def _optimism(right: Array, rng: np.random.Generator) -> float:
    """Points by which the best of k checkpoints looks better than on examples not used to choose.

    Repeated split: the best on one half is scored on the other half (the correction of selection
    by a fresh split, done within the data at hand).
    """
    n = right.shape[1]
    gains = []
    for _ in range(_SPLITS):
        order = rng.permutation(n)
        one, other = order[: n // 2], order[n // 2 :]
        best = int(right[:, one].mean(axis=1).argmax())
        gains.append(right[best, one].mean() - right[best, other].mean())
    # Half the examples double the variance, and so the optimism grows by the root of two.
    return 100 * float(np.mean(gains)) / np.sqrt(2)


def _check_checkpoints(evidence: Evidence) -> Finding:
    numbers: dict[str, object] = {}
    words, gained = [], []
    for role, table in evidence.case.checkpoints.items():
        if role not in evidence.case.roles:
            continue
        right = table == evidence.data.y
        accuracies = right.mean(axis=1)
        optimism = _optimism(right, evidence.rng(5))
        chosen = float(evidence.correct(role).mean())
        numbers |= {f"{role}_checkpoints": len(table), f"{role}_optimism_pp": optimism,
                    f"{role}_best_pp": 100 * float(accuracies.max()),
                    f"{role}_last_pp": 100 * float(accuracies[-1])}
        if optimism >= t.OPTIMISM_PP and chosen >= accuracies.max() - 1e-9:
            gained.append(role)
            words.append(
                f"the {role.upper()} file is the best of {len(table)} checkpoints on the "
                f"evaluation examples, which flatters it by {optimism:.2f} points"
            )
    if not numbers:
        return cannot_tell("cannot tell: the checkpoints belong to no file of the case.")
    if not gained:
        return refuted("no file was chosen for its score on these examples.", numbers)
    hurt = tuple(role for role in evidence.case.roles if role not in gained)
    return supported("; ".join(words) + ".", numbers, hurt, strength=0.6)


def _last(evidence: Evidence, finding: Finding) -> Trial | None:
    swaps = {
        role: table[-1]
        for role, table in evidence.case.checkpoints.items()
        if role not in finding.harms
    }
    return Trial("taking the last checkpoint instead of the best one", swaps)


RULES = (
    Rule(
        id="regularisation",
        title="quantization noise itself helps",
        question="Is PTQ's gain over float more than random noise of that size gives?",
        requires=("float", "ptq", "data"),
        check=_check_gain,
        rank=TRAIN_ON,
        symptom="PTQ beats the float model it was made from.",
        cause="Rounding weights disturbs the network; by chance or as a regulariser that may help.",
        remedy="Confirm on fresh examples and other seeds before believing it.",
        code=(
            "from qinspect.measure.perturbation import perturbation_null\n"
            "from qinspect.tflite import read_graph\n"
            'graph, ptq = read_graph("float.tflite"), read_graph("ptq.tflite")\n'
            "print(perturbation_null(graph, ptq, x, y).output.sentence)"
        ),
        source="AskariHemmat et al. 2022, QReg: On regularization effects of quantization, "
        "arXiv:2206.12372",
    ),
    Rule(
        id="lucky-checkpoint",
        title="the best of many checkpoints was chosen on these examples",
        question="Was a file chosen because it scored best on the evaluation examples?",
        requires=("data", "checkpoints"),
        check=_check_checkpoints,
        rank=EVALUATION,
        symptom="The better file is the best epoch of many; the other one is the last.",
        cause="The maximum of many noisy scores is too high, the more so the more are compared.",
        remedy="Choose on validation examples, compare on examples that nothing was chosen with.",
        code=(
            "import numpy as np\n"
            "best = np.argmax(validation_accuracies)  # never test accuracies\n"
            "print(test_accuracies[best])"
        ),
        source="Cawley & Talbot 2010, Journal of Machine Learning Research 11, 2079-2107",
        remedies=(Remedy("the last checkpoint", ("data", "checkpoints"), _last),),
    ),
)
