"""The form of a rule, of what it finds, and of what an intervention tries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from qinspect.schema import Array

if TYPE_CHECKING:
    from qinspect.diagnosis.evidence import Evidence

Outcome = Literal["supported", "present", "refuted", "cannot_tell"]

# How much the remedy of a cause changes; the lowest confirmed one is the primary cause.
EVALUATION, FORMAT, CALIBRATION, LAYERS, BATCHNORM, OBSERVERS, RATE, BUDGET, TRAIN_ON = range(9)


@dataclass(frozen=True)
class Finding:
    """What the evidence alone says about one cause.

    Attributes
    ----------
    verdict : {"supported", "refuted", "cannot_tell"}
    sentence : str
        The evidence in words.
    numbers : dict
        Values with the unit in the name (``_pp``, ``_db``, ``_bits``, ``_share``).
    harms : tuple of str
        Roles whose accuracy the cause lowers; empty where it may act either way.
    strength : float
        0 to 1, to order causes that no intervention has tested.
    """

    verdict: Outcome
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)
    harms: tuple[str, ...] = ()
    strength: float = 0.0


@dataclass(frozen=True)
class Trial:
    """The remedy of one cause, applied: other predictions for some of the files.

    Attributes
    ----------
    done : str
        What was done, to follow "when".
    swaps : dict of role to ndarray of int64, shape (n,)
        Predictions after the remedy.
    index : ndarray of int or None
        Examples that the predictions are of; None means all.
    numbers : dict
        Further values measured on the way.
    controls : dict of role to ndarray of int64
        Predictions that take the place of the file's own as what the remedy is compared with:
        the same made anew without the remedy.
    """

    done: str
    swaps: dict[str, Array]
    index: Array | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    controls: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Remedy:
    """One way to apply the remedy of a cause alone.

    Attributes
    ----------
    title : str
    requires : tuple of str
        Inputs, as for a rule.
    apply : callable
        From the evidence and the rule's finding to a trial, or None where it does not apply.
    trains : bool
        Whether it imports TensorFlow.
    """

    title: str
    requires: tuple[str, ...]
    apply: Callable[[Evidence, Finding], Trial | None]
    trains: bool = False


@dataclass(frozen=True)
class Rule:
    """One possible cause.

    Attributes
    ----------
    id, title, question : str
        The question is the one that the evidence answers.
    requires : tuple of str
        Keys of :data:`qinspect.diagnose.case.NEEDS`; ``"a|b"`` asks for one of several.
    check : callable
        Pure: the same evidence gives the same finding.
    rank : int
        How much the remedy changes, see the constants above.
    symptom, cause, remedy : str
        For people.
    code : str
        The remedy as Python that runs where the named files exist.
    source : str
        What it rests on: paper or documentation.
    remedies : tuple of Remedy
        Tried in order; the first that applies is used.
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
    remedies: tuple[Remedy, ...] = ()


def supported(
    sentence: str, numbers: dict[str, Any], harms: tuple[str, ...] = (), strength: float = 0.5
) -> Finding:
    """A finding for the cause."""
    return Finding("supported", sentence, numbers, harms, strength)


def refuted(sentence: str, numbers: dict[str, Any] | None = None) -> Finding:
    """A finding against the cause."""
    return Finding("refuted", sentence, numbers or {})


def cannot_tell(
    sentence: str, numbers: dict[str, Any] | None = None, harms: tuple[str, ...] = ()
) -> Finding:
    """The evidence does not decide."""
    return Finding("cannot_tell", sentence, numbers or {}, harms)
