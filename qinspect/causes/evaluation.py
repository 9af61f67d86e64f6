"""input-quantization and evaluation-mismatch: claimed predictions are not those of the files.

Known ways to feed a file wrongly are repeated on purpose; then order, numbering and examples are
checked, and what is left unexplained is a mismatch as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qinspect.affine import LIMITS
from qinspect.data.dataset import take
from qinspect.diagnosis.cases import Claim
from qinspect.diagnosis.evidence import WIDE_RATIO, Evidence
from qinspect.diagnosis.rule import (
    EVALUATION,
    Finding,
    Measure,
    Remedy,
    Rule,
    Trial,
    indicated,
    not_shown,
    not_tried,
    ruled_out,
    together,
)
from qinspect.metrics.classes import NO_ANSWER
from qinspect.schema import Array
from qinspect.tflite import evaluate
from qinspect.tflite.graph import Graph, Tensor
from qinspect.tflite.runner import state_of

# Claimed predictions with the same number of each class, but agreeing less than this, have lost
# their order; chosen.
_REORDERED = 0.95
# A label offset or permutation is certain when it explains this share of predictions; chosen.
_RELABELLED = 0.95
# A known mistake reproduces at least this share of the claimed predictions; chosen.
_REPRODUCED = 0.97
_REPRODUCED_EXAMPLES = 1_000

AGREEMENT_SHARE = Measure(
    "{role}_agreement_share", "share of claimed predictions that are the file's own",
    threshold=0.99, side="below",
    basis="measured: 0.995 and more between machines, default and reference kernels",
)
_MISPAIRED = Measure(
    "{role}_mispaired", "predictions of other examples, labels or order", threshold=True,
    side="above",
)
EXPLAINED_SHARE = Measure(
    "{role}_reproduced_share", "share of claims that a known mistake gives", side="above",
    basis="from 97 %, and from more than half of what feeding the file correctly does not give "
    "(chosen)",
)
_MISFIT = Measure(
    "input_misfit_factor", "input ranges of all files against the inputs, a factor",
    threshold=WIDE_RATIO, side="above", basis="either way; one bit; chosen",
)


# --- known mistakes ---------------------------------------------------------------------------

_Feed = Callable[[Array, float, int, "np.dtype[np.generic]"], Array]


def _wrapped(values: Array, dtype: np.dtype[np.generic]) -> Array:
    """Values cast as C does for whole numbers: modulo the type's range, never clipped."""
    return np.trunc(values).astype(np.int64).astype(dtype)


# What is stored for real x, given the input's scale and zero point.
_MISTAKES: dict[str, tuple[str, _Feed]] = {
    "no rounding": (
        "were made by truncating instead of rounding x / scale",
        lambda x, s, z, d: np.clip(np.trunc(x / s + z), *LIMITS[d.name]).astype(d),
    ),
    "no clipping": (
        "were made without clipping: values beyond the integer range wrap around",
        lambda x, s, z, d: _wrapped(np.rint(x / s) + z, d),
    ),
    "no zero point": (
        "were made with x / scale, without the zero point",
        lambda x, s, z, d: _wrapped(np.rint(x / s), d),
    ),
    "cast": (
        "were made by casting x to the input's type, without scale and zero point",
        lambda x, s, z, d: _wrapped(x, d),
    ),
    "multiplied": (
        "were made with x * scale instead of x / scale",
        lambda x, s, z, d: np.clip(np.rint(x * s) + z, *LIMITS[d.name]).astype(d),
    ),
}
# Real inputs changed before they are fed correctly, to any kind of file: factor and offset.
UNITS: dict[str, tuple[str, float, float]] = {
    "scaled twice": ("inputs divided by 255", 1 / 255, 0.0),
    "not scaled": ("inputs multiplied by 255", 255.0, 0.0),
    "scaled to -1..1": ("inputs mapped to 2 x - 1", 2.0, -1.0),
    "scaled from -1..1": ("inputs mapped to (x + 1) / 2", 0.5, 0.5),
    "halved": ("inputs divided by 127.5, minus 1", 1 / 127.5, -1.0),
    "not halved": ("inputs plus 1, multiplied by 127.5", 127.5, 127.5),
}


def integer_input(graph: Graph) -> Tensor | None:
    """The file's input tensor where it takes quantized integers."""
    tensor = graph.main.tensors[graph.main.inputs[0]]
    q = tensor.quantization
    quantized = tensor.dtype in ("int8", "uint8", "int16") and q is not None and q.scale.size == 1
    return tensor if quantized else None


def mistakes(graph: Graph, x: Array) -> Iterator[tuple[str, str, Array]]:
    """Name, words and inputs of each mistake: fed correctly, they put the same into the file."""
    tensor = integer_input(graph)
    real = np.asarray(x, dtype=np.float64)
    if tensor is not None and tensor.quantization is not None:
        scale = float(tensor.quantization.scale[0])
        zero = int(tensor.quantization.zero_point[0])
        for name, (words, feed) in _MISTAKES.items():
            stored = feed(real, scale, zero, np.dtype(tensor.dtype))
            yield name, words, (stored.astype(np.float64) - zero) * scale
    for name, (words, factor, offset) in UNITS.items():
        yield name, f"are those of {words}", real * factor + offset
    if real.std() > 0:
        words = "are those of inputs brought to mean 0 and standard deviation 1"
        yield "standardised", words, (real - real.mean()) / real.std()


def _ways(evidence: Evidence, role: str, index: Array) -> Iterator[tuple[str, str, str, Array]]:
    """Kind, name, words and predictions of each way to get others than the file's own."""
    graph, x = evidence.graph(role), evidence.data.x
    own = evidence.output_number(role)
    for output, tensor in enumerate(graph.main.outputs):
        if output != own and graph.main.tensors[tensor].shape[-1:] not in ((), (1,)):
            found = evaluate(graph, take(x, index), num_threads=evidence.num_threads,
                             output=output)
            name = graph.main.tensors[tensor].name
            yield ("output", name, f"are those of its output {output} ({name!r}), not of output "
                   f"{own}", found.prediction)
    if state_of(graph):
        found = evaluate(graph, x, output=evidence.task.outputs[role], sequence=True)
        yield ("state", "carried over", "were made without a reset: the state that one example "
               "left was the start of the next", found.prediction[index])
    if not isinstance(x, Mapping):
        for name, words, fed in mistakes(graph, x[index]):
            yield "feeding", name, words, evidence.run(graph, fed).prediction


@dataclass(frozen=True)
class Tried:
    """What the mistakes make of claimed predictions.

    Share that running the file correctly gives; share that the best mistake gives, and would have
    to give, on some examples; its name, words and kind (``feeding``, ``output`` or ``state``),
    empty where it explains nothing.
    """

    agreement: float
    reproduced: float = 0.0
    needed: float = 1.0
    mistake: str = ""
    words: str = ""
    kind: str = ""


def try_mistakes(evidence: Evidence, role: str) -> Tried:
    """What the known mistakes make of the predictions claimed for a role."""
    return evidence.once(("mistakes", role), lambda: _best_mistake(evidence, role))


def _best_mistake(evidence: Evidence, role: str) -> Tried:
    claimed = evidence.case.claims[role].prediction
    own = evidence.evaluation(role).prediction
    agreement = float(np.mean(claimed == own))
    if not AGREEMENT_SHARE.of(agreement, role).speaks:
        return Tried(agreement)
    n = len(claimed)
    index = np.arange(n)
    if n > _REPRODUCED_EXAMPLES:
        index = np.sort(evidence.rng(4).choice(n, _REPRODUCED_EXAMPLES, replace=False))
    best, name, said, sort = 0.0, "", "", ""
    for kind, mistake, words, prediction in _ways(evidence, role, index):
        explained = float(np.mean(prediction == claimed[index]))
        if explained > best:
            best, name, said, sort = explained, mistake, words, kind
    # A mistake that changes few predictions must explain most of those few, not merely the rest.
    same = int(np.count_nonzero(claimed[index] == own[index]))
    needed = max(_REPRODUCED, ((len(index) + same) // 2 + 1) / len(index))
    if best >= needed:
        return Tried(agreement, best, needed, name, said, sort)
    return Tried(agreement, best, needed)


def explained_by(tried: Tried, role: str, kind: str) -> Measure:
    """The share of claims that the best mistake gives, where it is of a kind; else nothing."""
    share = tried.reproduced if tried.kind in (kind, "") else 0.0
    return EXPLAINED_SHARE.of(share, role, threshold=tried.needed)


# --- input-quantization -----------------------------------------------------------------------


def _check_feeding(evidence: Evidence) -> Finding:
    facts: dict[str, object] = {}
    measures, words, hurt = [], [], []
    unexplained = False
    for role in evidence.case.roles:
        if not evidence.claim_pairs(role):
            continue
        found = try_mistakes(evidence, role)
        agreement = AGREEMENT_SHARE.of(found.agreement, role)
        if not agreement.speaks:
            measures.append(agreement)
            continue
        explained = explained_by(found, role, "feeding")
        measures += together(agreement, explained)
        unexplained |= not explained.speaks
        if explained.speaks:
            facts[f"{role}_mistake"] = found.mistake
            words.append(
                f"the predictions {_got(evidence, role)} {found.words} "
                f"({100 * found.reproduced:.1f} % reproduced, {100 * found.agreement:.1f} % by "
                "feeding it correctly)"
            )
            hurt.append(role)
    fits, misfit, said = _input_ranges(evidence)
    facts |= fits
    measures += misfit
    if words:
        return indicated("; ".join(words) + ".", measures, facts, tuple(hurt), strength=1.0)
    if said:
        return indicated(f"{said}.", measures, facts, strength=0.6)
    if unexplained:
        return ruled_out("none of the known mistakes reproduces the claimed predictions.",
                         measures, facts)
    if not evidence.case.claims and not fits:
        return not_tried("cannot tell: needs the predictions that were obtained elsewhere, or "
                         "files with a stored input range.", measures, facts)
    return ruled_out(
        "claimed predictions are those of feeding the files correctly."
        if evidence.case.claims else "the evaluation inputs fit the files' input ranges.",
        measures, facts,
    )


def _input_ranges(evidence: Evidence) -> tuple[dict[str, object], list[Measure], str]:
    """Whether the evaluation inputs fit the range that the quantized files' inputs store."""
    x = evidence.data.array
    low, high = float(x.min()), float(x.max())
    width = max(high, 0.0) - min(low, 0.0)
    facts: dict[str, object] = {"x_low": low, "x_high": high}
    ratios = {}
    for role in evidence.case.roles:
        bounds = stored_input(evidence, role)
        if bounds is not None and width > 0:
            ratios[role] = (bounds[1] - bounds[0]) / width
            facts[f"{role}_input_ratio"] = ratios[role]
    if not ratios:
        return {}, [], ""
    # When only PTQ is off it is its calibration; when all are alike, it is what they are fed now.
    if len(ratios) < 2 or max(ratios.values()) / min(ratios.values()) >= WIDE_RATIO:
        return facts, [], ""
    misfit = _MISFIT.of(min(max(ratio, 1 / ratio) for ratio in ratios.values()))
    said = (
        f"the evaluation inputs run from {low:g} to {high:g}, but all quantized files store an "
        f"input range {next(iter(ratios.values())):.3g} times as wide"
    )
    return facts, [misfit], said if misfit.speaks else ""


def stored_input(evidence: Evidence, role: str) -> tuple[float, float] | None:
    """Real range of the first quantized tensor behind a file's input."""
    main = evidence.graph(role).main
    first = main.inputs[0]
    found = main.tensors[first].stored_range
    if found is not None:
        return found
    for op in main.operators:
        if op.code == "QUANTIZE" and op.inputs and op.inputs[0] == first:
            return main.tensors[op.outputs[0]].stored_range
    return None


def run_correctly(evidence: Evidence, finding: Finding, done: str) -> Trial | None:
    """The files' own predictions in the place of the claims that are wrong."""
    swaps = {role: evidence.evaluation(role).prediction for role in finding.hurts}
    return Trial(done, swaps, claim=True) if swaps else None


def _correctly(evidence: Evidence, finding: Finding) -> Trial | None:
    return run_correctly(evidence, finding,
                         "feeding round(x / scale) + zero point, clipped, to the file")


# --- evaluation-mismatch ----------------------------------------------------------------------


def _check_pairing(evidence: Evidence) -> Finding:
    measures, words, hurt = [], [], []
    if not evidence.of_classes:
        return not_tried("cannot tell: claimed predictions are classes, and files are scored by "
                         f"{evidence.metric.title}.")
    for role, claim in evidence.case.claims.items():
        if role not in evidence.case.roles:
            continue
        own = evidence.evaluation(role).prediction
        recorded = role in evidence.case.recorded
        problem = (unlike(evidence, role) if recorded else
                   _problem(claim, own, evidence.data.ids, evidence.data.labels))
        if problem:
            measures.append(_MISPAIRED.of(True, role))
        if len(claim.prediction) == len(own):
            found = try_mistakes(evidence, role)
            agreement = AGREEMENT_SHARE.of(found.agreement, role)
            # Of recorded outputs what is left may be the kernels, whose cause it is then.
            decides = not problem and not found.mistake and not recorded
            measures.append(agreement if decides else agreement.plain())
            if measures[-1].speaks:
                problem = (
                    f"are those of the file for {100 * found.agreement:.1f} % of examples only, "
                    "and no known mistake of feeding it explains the rest: another file, other "
                    "examples or another preprocessing"
                )
        if problem:
            words.append(f"the predictions {_got(evidence, role)} {problem}")
            hurt.append(role)
    open_ = [f"the outputs {_got(evidence, role)} {said}" for role in evidence.case.recorded
             if (said := evidence.beside(role).unrelated)]
    if not words and open_:
        return not_shown(f"{'; '.join(open_)}.", measures)
    if not words:
        return ruled_out("claimed and repeated predictions are of the same examples in the same "
                         "order.", measures)
    return indicated("; ".join(words) + ".", measures, {}, tuple(hurt), strength=1.0)


def _got(evidence: Evidence, role: str) -> str:
    return f"{'recorded' if role in evidence.case.recorded else 'claimed'} for {role.upper()}"


def unlike(evidence: Evidence, role: str) -> str | None:
    """What shows that recorded outputs are not the file's on these examples, feeding it apart."""
    if evidence.of_classes:
        if try_mistakes(evidence, role).mistake:
            return None
        problem = _problem(evidence.case.claims[role], evidence.evaluation(role).prediction,
                           evidence.data.ids, evidence.data.labels)
        if problem:
            return problem
    return evidence.beside(role).unlike or None


def _problem(claim: Claim, own: Array, ids: Array, y: Array) -> str | None:
    """What is wrong with which examples a claim is of, or None."""
    m, n = len(claim.prediction), len(own)
    if claim.ids is not None and not np.array_equal(claim.ids, ids):
        common = len(set(claim.ids.tolist()) & set(ids.tolist()))
        if common < max(m, n):
            return f"are of {m:,} examples, of which {common:,} are among the {n:,} evaluated here"
        if claim.y is None:
            return "are in another order than the labels they were scored against"
    if m != n:
        return f"are {m:,} in number, the evaluation has {n:,} examples"
    same = float(np.mean(claim.prediction == own))
    if claim.y is not None and claim.ids is None and not np.array_equal(claim.y, y):
        differ = float(np.mean(claim.y != y))
        return f"were scored against labels that differ in {100 * differ:.1f} % of examples"
    if not AGREEMENT_SHARE.of(same).speaks:
        return None
    if np.mean(claim.prediction[::-1] == own) >= _RELABELLED:
        return "are in reversed order"
    shift = _relabelling(claim.prediction, own)
    if shift:
        return shift
    if _shuffled(claim.prediction, own):
        return "have the right number of each class but at other examples: the order was lost"
    return None


def _relabelling(claimed: Array, own: Array) -> str | None:
    """A one-to-one renumbering of classes that turns one into the other."""
    n, answered = len(own), own != NO_ANSWER
    claimed, own = claimed[answered], own[answered]
    if not len(own) or claimed.min() < 0:
        return None
    top = int(max(claimed.max(), own.max())) + 1
    if top > 10_000:
        return None
    offset = int(np.median(claimed - own))
    if offset and np.count_nonzero(claimed == own + offset) / n >= _RELABELLED:
        return f"number the classes {offset:+d} against the labels"
    table = np.zeros((top, top), dtype=np.int64)
    np.add.at(table, (own, claimed), 1)
    best = table.argmax(axis=1)
    seen = table.sum(axis=1) > 0
    one_to_one = len(set(best[seen].tolist())) == int(seen.sum())
    explained = table.max(axis=1).sum() / n
    if one_to_one and explained >= _RELABELLED and np.any(best[seen] != np.flatnonzero(seen)):
        return "number the classes differently from the labels"
    return None


def _shuffled(claimed: Array, own: Array) -> bool:
    """The same number of each class, which another model would not give, at other examples."""
    top = int(max(claimed.max(), own.max())) + 1
    if claimed.min() < NO_ANSWER or not 0 < top <= 10_000:
        return False
    a, b = (np.bincount(given[given != NO_ANSWER], minlength=top) for given in (claimed, own))
    few = 2 * (1 - float(AGREEMENT_SHARE.threshold or 0)) * len(own) / 5
    return bool(np.abs(a - b).sum() <= few and np.mean(claimed == own) < _REORDERED)


def _same_examples(evidence: Evidence, finding: Finding) -> Trial | None:
    return run_correctly(evidence, finding,
                         "taking what the file gives here in the place of what was recorded"
                         if set(finding.hurts) <= set(evidence.case.recorded) else
                         "scoring all files on the same examples in the same order")


RULES = (
    Rule(
        id="input-quantization",
        title="the evaluation fed the file wrongly",
        question="Were the inputs quantized and preprocessed as the file expects?",
        requires=("data",),
        check=_check_feeding,
        rank=EVALUATION,
        symptom="A quantized file loses many points or falls to chance, in one script only.",
        cause=(
            "An integer input takes round(x / scale) + zero point, clipped; casting, truncating, "
            "wrapping around or scaling twice feeds other numbers."
        ),
        remedy="Quantize inputs with the file's own scale and zero point, after one preprocessing.",
        code=(
            "from qinspect.tflite import evaluate\n"
            "# x in the units of the float model's input, whatever the file takes\n"
            "prediction = {file: evaluate(file, x).prediction for file in files}"
        ),
        makes="evaluation",
        met=(
            "Inputs of 16 bits that were only cast to int8: a large part of them became 127 or 0 "
            "(https://github.com/tensorflow/tensorflow/issues/62640)",
            "Several developers could not tell how int8 inputs are made; bytes less 128 was not "
            "documented (https://github.com/tensorflow/tensorflow/issues/35072)",
        ),
        source="TensorFlow Lite 8-bit quantization specification",
        measures=(AGREEMENT_SHARE, EXPLAINED_SHARE, _MISFIT),
        remedies=(Remedy("a correct evaluation", ("data", "claims"), _correctly),),
        note="The first two together, or the third. Claimed predictions are compared with running "
        "the file; known mistakes of feeding it are repeated on purpose.",
    ),
    Rule(
        id="evaluation-mismatch",
        title="predictions are not those of the file on these examples",
        question="Do claimed predictions belong to these examples, in this order?",
        requires=("data", "claims"),
        check=_check_pairing,
        rank=EVALUATION,
        symptom="One model falls to chance or differs by many points, without a reason in its "
        "file.",
        cause=(
            "Predictions and labels were paired wrongly: a shuffled data set read twice, another "
            "split, classes numbered from 1."
        ),
        remedy="Evaluate every file on one array of examples, and keep ids beside predictions.",
        code=(
            "from qinspect.tflite import evaluate\n"
            "correct = {file: evaluate(file, x).prediction == y for file in files}\n"
            "print({file: float(right.mean()) for file, right in correct.items()})"
        ),
        makes="evaluation",
        met=(
            "Predictions of a shuffled test set against labels in the old order: 10 %, and 57 % "
            "without shuffling (https://github.com/ck37/coral-ordinal/issues/6)",
            "Class labels whose order changes made a codelab's evaluation script report far too "
            "low an accuracy (https://github.com/googlecodelabs/tensorflow-for-poets-2/issues/6)",
        ),
        source="Dietterich 1998, doi:10.1162/089976698300017197 (paired tests on one test set)",
        measures=(_MISPAIRED, AGREEMENT_SHARE),
        remedies=(Remedy("the same examples for all", ("data", "claims"), _same_examples),),
        note="Checked after the known mistakes of feeding a file (`input-quantization`): order, "
        "numbering and examples; what is left unexplained is a mismatch as well.",
    ),
)
