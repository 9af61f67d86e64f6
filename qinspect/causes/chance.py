"""noise, lucky-checkpoint, regularisation: gaps and gains that may be luck."""

from __future__ import annotations

import numpy as np

from qinspect.data.dataset import take
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import some_examples
from qinspect.diagnosis.retrain import Training
from qinspect.diagnosis.rule import (
    EVALUATION,
    TRAIN_ON,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    does_not_apply,
    indicated,
    not_shown,
    not_tried,
    ruled_out,
    together,
)
from qinspect.measure.perturbation import perturbation_null
from qinspect.schema import Array
from qinspect.verdicts import p_words

_SPLITS = 200
_PERTURBATION_EXAMPLES = 1_000
_PERTURBATION_DRAWS = 100

_ZERO = Measure(
    "interval_holds_zero", "the interval of the gap holds zero", threshold=True, side="above",
)
_EQUIVALENT = Measure(
    "shown_equivalent", "the two are shown to be equal within the margin", threshold=True,
    side="below",
)
_BETTER = Measure(
    "{role}_better_checkpoints", "checkpoints that score better than the file", threshold=1,
    side="below",
)
_OPTIMISM = Measure(
    "{role}_optimism_pp", "points gained by choosing", threshold=0.2, side="above", basis="chosen",
)
_GAIN = Measure(
    "ptq_better", "PTQ is better than float beyond sampling chance", threshold=True, side="above",
)
_LUCK = Measure(
    "perturbation_p", "p of the gain against random noise of that size", threshold=0.05,
    side="below", basis="convention",
)


# --- noise ------------------------------------------------------------------------------------


def _check_noise(evidence: Evidence) -> Finding:
    a, b = evidence.case.pair
    c = evidence.comparison(a, b)
    facts = {
        f"gap{evidence.suffix}": c.gap, f"low{evidence.suffix}": c.interval[0],
        f"high{evidence.suffix}": c.interval[1], "p": c.p_single, "p_adjusted": c.p_adjusted,
        "only_a_right": c.a_only, "only_b_right": c.b_only,
        f"smallest_detectable{evidence.suffix}": c.detectable, "examples": c.n,
    }
    zero = _ZERO.of(c.interval[0] <= 0 <= c.interval[1])
    if c.verdict in ("a_better", "b_better"):
        return ruled_out(
            f"the difference is real on these {c.n:,} examples ({p_words(c.p)}); whether "
            "it comes back with another training seed only more seeds can tell.", [zero], facts,
        )
    measures = together(zero, _EQUIVALENT.of(c.verdict == "equivalent"))
    if c.verdict == "equivalent":
        return ruled_out(
            f"{a} and {b} are equal within {c.metric.limit(c.margin)}; there is no gap.",
            measures, facts,
        )
    if zero.speaks:
        few = (c.a_only or 0) + (c.b_only or 0)
        decide = "" if c.mcnemar_p is None else f" of which {few} decide"
        return indicated(
            f"the interval of {b} minus {a} holds zero; with {c.n:,} examples{decide}, "
            f"a gap under {c.metric.size(c.detectable)} is likely to be missed or made up.",
            measures, facts, strength=1.0,
        )
    return not_shown("the interval leaves out zero but the exact test does not reject.", [zero],
                     facts)


def _other_order(evidence: Evidence, finding: Finding) -> Trial | None:
    return Trial("training QAT again with its batches in another order",
                 again={"qat": Training("qat")})


# --- lucky-checkpoint -------------------------------------------------------------------------


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
    facts: dict[str, object] = {}
    measures: list[Measure] = []
    words, gained, flattered = [], [], 0.0
    if not evidence.of_classes:
        return not_tried("cannot tell: predictions of checkpoints are classes, and files are "
                         f"scored by {evidence.metric.title}.")
    for role, table in evidence.case.checkpoints.items():
        if role not in evidence.case.roles:
            continue
        right = np.asarray(table == evidence.data.labels)
        accuracies = right.mean(axis=1)
        optimism = _optimism(right, evidence.rng(5))
        chosen = float(evidence.put(role).mean())
        facts |= {f"{role}_checkpoints": len(table),
                  f"{role}_best_pp": 100 * float(accuracies.max()),
                  f"{role}_last_pp": 100 * float(accuracies[-1])}
        better = int(np.count_nonzero(accuracies > chosen + 1e-9))
        both = together(_BETTER.of(better, role), _OPTIMISM.of(optimism, role))
        measures += both
        if both[1].speaks:
            gained.append(role)
            flattered = max(flattered, optimism)
            words.append(
                f"the {role.upper()} file is the best of {len(table)} checkpoints on the "
                f"evaluation examples, which flatters it by {optimism:.2f} points"
            )
    if not facts:
        return not_tried("cannot tell: the checkpoints belong to no file of the case.")
    if not gained:
        return ruled_out("no file was chosen for its score on these examples.", measures, facts)
    hurt = tuple(role for role in evidence.case.roles if role not in gained)
    return indicated("; ".join(words) + ".", measures, facts, hurt, strength=0.6,
                     most=dict.fromkeys(hurt, flattered))


def _last(evidence: Evidence, finding: Finding) -> Trial | None:
    swaps = {
        role: table[-1]
        for role, table in evidence.case.checkpoints.items()
        if role not in finding.hurts
    }
    return Trial("taking the last checkpoint instead of the best one", swaps)


# --- regularisation ---------------------------------------------------------------------------


def _check_gain(evidence: Evidence) -> Finding:
    found = evidence.comparison("float", "ptq", own=True)
    facts: dict[str, object] = {
        f"gain{evidence.suffix}": found.gap, "p": found.p_single, "p_adjusted": found.p_adjusted,
    }
    gain = _GAIN.of(found.verdict == "b_better")
    if not gain.speaks:
        return does_not_apply(
            f"{found.metric.ahead('float', 'PTQ', found.gap, found.interval)} "
            f"({p_words(found.p)}): there is no gain to explain.", [gain], facts,
        )
    if not evidence.of_classes:
        return not_tried(f"cannot tell: random noise is measured for classes only, not for "
                         f"{found.metric.title}.", [gain], facts)
    index = some_examples(evidence, _PERTURBATION_EXAMPLES)
    x, y = evidence.data.x, evidence.data.labels
    if index is not None:
        x, y = take(x, index), y[index]
    null = perturbation_null(
        evidence.graph("float"), evidence.graph("ptq"), x, y, draws=_PERTURBATION_DRAWS,
        seed=evidence.case.seed, num_threads=evidence.num_threads,
    ).output
    facts |= {"random_gain_mean_pp": null.mean_pp, "random_gain_sd_pp": null.sd_pp,
              "perturbation_examples": len(y)}
    luck = _LUCK.of(null.p)
    measures = together(gain, luck)
    if not luck.speaks:
        return ruled_out(null.sentence, measures, facts)
    return indicated(
        f"{null.sentence} Whether it holds, only fresh data and other seeds can tell.", measures,
        facts, ("float",), strength=0.4,
    )


RULES = (
    Rule(
        id="noise",
        title="the gap may be chance",
        question="Is the gap larger than sampling alone gives?",
        requires=("data",),
        check=_check_noise,
        rank=EVALUATION,
        symptom="One model is a little ahead, and with other examples or another seed the other "
        "is.",
        cause="A few examples decide, and any two models that agree mostly differ on some by luck.",
        remedy="Evaluate on more examples, and repeat the training over several seeds.",
        code=(
            "from qinspect.stats import examples_needed\n"
            "# disagreement: share of examples that only one of the two models gets right\n"
            "print(examples_needed(0.01, 0.05))"
        ),
        met=(
            "QAT 0.9636 and PTQ 0.9615 on one exercise; somebody else's run of it gave 0.9617 and "
            "0.9611 (https://discuss.tensorflow.org/t/why-pqt-is-better-than-qat/23003)",
            "A tutorial on QAT showed PTQ as the better one in some runs; it was changed so that "
            "QAT comes first (https://github.com/openvinotoolkit/openvino_notebooks/pull/287)",
        ),
        source="McNemar 1947, doi:10.1007/BF02295996; Tango 1998, Statistics in Medicine 17, "
        "891-908",
        measures=(_ZERO, _EQUIVALENT),
        remedies=(
            Remedy("QAT with another batch order", ("qat", "keras_float", "train", "recipe"),
                   _other_order, trains=True),
        ),
        figure="disagreement",
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
            "import qinspect as qi\n"
            "# checkpoint files, chosen on validation examples and then compared on others\n"
            "print(qi.evaluate(files, data).frame)"
        ),
        met=(
            "DomainBed asks the test set after training only: with too many queries the results "
            "say little (https://github.com/facebookresearch/DomainBed/issues/24)",
            "A CIFAR-100 collection trains on the whole training set and takes the best model by "
            "the test set (https://github.com/weiaicunzai/pytorch-cifar100/issues/5)",
        ),
        source="Cawley & Talbot 2010, Journal of Machine Learning Research 11, 2079-2107",
        measures=(_BETTER, _OPTIMISM),
        remedies=(Remedy("the last checkpoint", ("data", "checkpoints"), _last),),
        note="Both must hold. In the fault benchmark the checkpoints are the QAT file with noise "
        "on its weights.",
    ),
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
            "found = perturbation_null(read_graph(float_file), read_graph(ptq_file), x, y)\n"
            "print(found.output.sentence)"
        ),
        met=(
            "From 0.70 in float to 0.79 in int8; the answer: the float model was not trained to "
            "its best (https://github.com/Xilinx/Vitis-AI/issues/94)",
            "PTQ 3 % above float; quantization as a regulariser is among the guesses "
            "(https://discuss.tensorflow.org/t/ptq-is-better-than-qat/22608)",
        ),
        source="AskariHemmat et al. 2022, QReg: On regularization effects of quantization, "
        "arXiv:2206.12372",
        measures=(_GAIN, _LUCK),
        note="Both must hold. No intervention is known. "
        "In the fault benchmark, labels of examples on which float and PTQ differ are changed to "
        "PTQ's answer.",
    ),
)
