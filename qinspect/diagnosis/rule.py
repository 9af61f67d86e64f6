"""The form of a cause: its text, what it measures, what it finds, what an intervention tries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from qinspect.schema import Array
from qinspect.verdicts import CauseVerdict

if TYPE_CHECKING:
    import pandas as pd

    from qinspect.diagnosis.cases import Case
    from qinspect.diagnosis.evidence import Evidence
    from qinspect.diagnosis.retrain import Training

# How much the remedy of a cause changes; the lowest confirmed one is the primary cause.
EVALUATION, FORMAT, CALIBRATION, LAYERS, BATCHNORM, OBSERVERS, RATE, BUDGET, TRAIN_ON = range(9)
# Code of a remedy that several causes have; the names in it are those of diagnosis/script.py.
PTQ_CODE = """\
from qinspect.train import convert
content = convert(float_h5, "int8", calibration_x)"""
PTQ_OF_FILES = """\
from qinspect.measure.activations import observe_ranges
from qinspect.tflite import read_graph
from qinspect.tflite.requantize import quantize_file
graph = read_graph(float_file)
ranges = observe_ranges(graph, calibration_x).over()
content = quantize_file(graph, ranges, "int8")"""
MODELS = {"float": "float", "ptq": "PTQ", "qat": "QAT"}


@dataclass(frozen=True)
class Measure:
    """A number and the threshold it is held against; those of a rule itself have no value yet.

    ``side`` of the threshold speaks for the cause: "above" from it on, "below" under it.  ``basis``
    says where the threshold comes from: ``measured`` (seen on the project's studies and on the
    MLPerf Tiny files) or ``chosen`` (a convention that no measurement stands behind yet).
    """

    id: str
    title: str
    value: float | bool | None = None
    threshold: float | bool | None = None
    side: Literal["above", "below"] | None = None
    unit: str = ""
    basis: str = ""

    @property
    def speaks(self) -> bool | None:
        """Whether it speaks for the cause; None without a threshold or a number."""
        if self.threshold is None or self.value is None or math.isnan(self.value):
            return None
        return bool(
            self.value >= self.threshold if self.side == "above" else self.value < self.threshold
        )

    def of(
        self, value: float | bool | None, role: str = "", threshold: float | None = None
    ) -> Measure:
        """With its value, of the file of a role, and with a threshold that had to be computed."""
        return replace(
            self,
            id=self.id.replace("{role}", role),
            title=f"{MODELS[role]}: {self.title}" if role else self.title,
            value=value,
            threshold=self.threshold if threshold is None else threshold,
        )

    def plain(self) -> Measure:
        """The number alone, where it decides nothing."""
        return replace(self, threshold=None, side=None)


def qat_code(rate: str = "qat_lr", *, warm: bool = False, layers: str = "skip_layers") -> str:
    """QAT of the float Keras model as code, with one thing changed."""
    skipped = f", skip_layers={layers}" if layers else ""
    first = "warm_start_x=calibration_x, " if warm else ""
    return f"""\
from qinspect.train import load_keras, quantize_aware, fit_qat, convert_qat
qat = quantize_aware(load_keras(float_h5){skipped})
fit_qat(qat, train, None, epochs=qat_epochs, learning_rate={rate},
        {first}batch_size=batch_size, loss=loss, seed=0)
content = convert_qat(qat)"""


def together(*measures: Measure) -> tuple[Measure, ...]:
    """Measures that speak only all at once: where one does not, the others decide nothing."""
    if all(measure.speaks for measure in measures):
        return measures
    return tuple(measure.plain() if measure.speaks else measure for measure in measures)


def speaking(measures: Iterable[Measure]) -> bool:
    """Whether any measure speaks for the cause."""
    return any(measure.speaks for measure in measures)


@dataclass(frozen=True)
class Finding:
    """What the evidence alone says about one cause.

    It is ``indicated`` if and only if a measure speaks for it.  ``facts`` are further numbers,
    with the unit in the name (``_pp``, ``_db``, ``_bits``, ``_share``); ``hurts`` the roles whose
    accuracy the cause lowers, empty where it may act either way; ``of`` the roles, one of which the
    gap must be of, empty where it may be any; ``strength`` (0 to 1) orders
    causes that no intervention has tested, 0 where nothing was seen of them, 1 where the files
    themselves leave no doubt.  ``most`` is by how
    much the cause can at most have harmed a file, by role and in the metric's unit, where that is
    known; no cause explains more than that.
    """

    verdict: CauseVerdict
    sentence: str
    measures: tuple[Measure, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    hurts: tuple[str, ...] = ()
    strength: float = 0.0
    most: Mapping[str, float] = field(default_factory=dict)
    of: tuple[str, ...] = ()

    @property
    def numbers(self) -> dict[str, Any]:
        """Facts and values of measures by name."""
        return self.facts | {measure.id: measure.value for measure in self.measures}


@dataclass(frozen=True)
class Trial:
    """The remedy of one cause, applied: other predictions for some of the files.

    ``done`` follows "when".  ``swaps`` are the predictions by role, of the examples ``index`` or of
    all; ``controls`` take the place of the file's own as what they are compared with: the same made
    again without the remedy.  Where nothing takes it, what is replaced is the file's own answers:
    only a remedy of how the file was asked (``claim``) replaces what was claimed of it.
    ``seen``: what applying the remedy showed of the cause itself, where that speaks for it.

    A remedy that trains is luck in part: ``again`` describes, instead of ``swaps``, how the files
    of the roles are made, ``sham`` the same training without the remedy; a role that has none there
    is its own file.  Each run has another order of batches.  ``once``: it was trained only once, by
    somebody else, so that luck is not told apart.

    ``kept``: nothing is swapped, the comparison is made again on these examples alone; ``copies``:
    the others told nothing new, so that a gap that may be chance without them was made by them.
    ``shown``: whether the trial itself has shown the cause, whatever becomes of the gap.
    ``doubt``: why closing the gap is no proof all the same, and what would make it one.
    """

    done: str
    swaps: dict[str, Any] = field(default_factory=dict)
    index: Array | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    controls: dict[str, Any] = field(default_factory=dict)
    again: Mapping[str, Training] = field(default_factory=dict)
    sham: Mapping[str, Training] = field(default_factory=dict)
    once: bool = False
    kept: Array | None = None
    copies: bool = False
    shown: bool | None = None
    doubt: str = ""
    claim: bool = False
    seen: tuple[Measure, ...] = ()

    @property
    def roles(self) -> set[str]:
        """Of which files other answers are given, or made."""
        return {*self.swaps, *self.again}


@dataclass(frozen=True)
class Remedy:
    """One way to apply the remedy of a cause alone; ``apply`` gives None where it does not apply.

    ``requires`` as for a rule; ``trains`` where it imports TensorFlow.  ``mends``: ids of other
    causes that it takes away as well, which a narrower remedy of their own must not have closed.
    """

    title: str
    requires: tuple[str, ...]
    apply: Callable[[Evidence, Finding], Trial | None]
    trains: bool = False
    mends: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One possible cause.

    ``requires`` are keys of ``cases.NEEDS``, ``"a|b"`` one of several. ``check`` is pure: the same
    evidence gives the same finding. ``rank`` says how much the remedy changes. ``code`` is the
    remedy as Python, its names those of ``diagnosis/script.py``; ``makes``: the file whose
    ``content`` it gives anew, or ``evaluation`` where it evaluates rightly, empty where it mends
    nothing; ``code_of_files``: the same without Keras models; ``code_of_qat``: for the QAT file,
    where the cause may be in either. Of ``remedies`` the first that applies is used. ``acts_on``:
    roles, one of which the gap must be of, such as QAT for what its training did; empty where it
    may be any. ``measures`` may decide. ``every_file``: it spoils the evaluation of all files, so
    that it is asked about with or without a gap, and comes first. ``figure`` is a kind of
    ``qinspect/show/views/diagnosis.py``, drawn from ``frame`` of the case where it needs own data.
    ``met``: public threads of people who met it, each "fact (address)", in our own words.
    """

    id: str
    title: str
    question: str
    requires: tuple[str, ...]
    check: Callable[[Evidence], Finding]
    rank: int
    symptom: str
    cause: str
    remedy: str
    code: str
    source: str
    measures: tuple[Measure, ...]
    remedies: tuple[Remedy, ...] = ()
    acts_on: tuple[str, ...] = ()
    note: str = ""
    met: tuple[str, ...] = ()
    every_file: bool = False
    makes: Literal["ptq", "qat", "evaluation", ""] = ""
    code_of_files: str = ""
    code_of_qat: str = ""
    figure: str = ""
    frame: Callable[[Case], pd.DataFrame | None] | None = None


def indicated(
    sentence: str, measures: Iterable[Measure], facts: dict[str, Any] | None = None,
    hurts: tuple[str, ...] = (), strength: float = 0.5, most: Mapping[str, float] | None = None,
    of: tuple[str, ...] = (),
) -> Finding:
    """The evidence speaks for the cause."""
    return Finding("indicated", sentence, tuple(measures), facts or {}, hurts, strength,
                   most or {}, of)


def ruled_out(
    sentence: str, measures: Iterable[Measure] = (), facts: dict[str, Any] | None = None
) -> Finding:
    """The evidence speaks against the cause."""
    return Finding("ruled_out", sentence, tuple(measures), facts or {})


def not_shown(
    sentence: str, measures: Iterable[Measure] = (), facts: dict[str, Any] | None = None,
    strength: float = 0.0,
) -> Finding:
    """The evidence does not decide, or the cause is there and need not move this gap."""
    return Finding("not_shown", sentence, tuple(measures), facts or {}, strength=strength)


def not_tried(
    sentence: str, measures: Iterable[Measure] = (), facts: dict[str, Any] | None = None,
    hurts: tuple[str, ...] = (),
) -> Finding:
    """What would decide is missing; only an intervention may tell."""
    return Finding("not_tried", sentence, tuple(measures), facts or {}, hurts)


def does_not_apply(
    sentence: str, measures: Iterable[Measure] = (), facts: dict[str, Any] | None = None
) -> Finding:
    """There is nothing that the cause could act on."""
    return Finding("does_not_apply", sentence, tuple(measures), facts or {})
