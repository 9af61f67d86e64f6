"""The arms of a study: which model each one is, where it comes from and how it is converted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from qinspect.train.recipes import PTQ_RECIPES


@dataclass(frozen=True)
class Arm:
    """One evaluated model.

    Attributes
    ----------
    name : str
        Name in every table.
    model : str
        Name of the Keras model it is made from (``models/<model>.h5``).
    recipe : str or None
        PTQ recipe of the conversion, ``"qat"`` for the conversion of a QAT model, None for a
        Keras model evaluated as it is.
    title : str
        What it is, in words.
    """

    name: str
    model: str
    recipe: str | None
    title: str

    @property
    def file(self) -> str:
        """File below the study's folder."""
        return f"models/{self.model}.h5" if self.recipe is None else f"models/{self.name}.tflite"


# Trained or adjusted Keras models in the order they are made, each with the one it starts from.
PARENTS = {
    "float": "initial",
    "float_ft": "float",
    "qat": "float",
    "float_bn": "float",
    "float_ft_bn": "float_bn",
    "qat_bn": "float_bn",
}


def models_for(batchnorm: bool) -> tuple[str, ...]:
    """Names of the Keras models of a study, in the order they are made."""
    return tuple(name for name in PARENTS if batchnorm or not name.endswith("_bn"))


def arms_for(batchnorm: bool, recipes: Collection[str] | None = None) -> tuple[Arm, ...]:
    """The arms of a study, in the order of its table.

    Parameters
    ----------
    batchnorm : bool
        Whether the network has batch norm, which adds the arms with re-estimated statistics.
    recipes : collection of str, optional
        PTQ recipes of the float model beside ``int8``; all when not given.
    """
    arms = [
        Arm("float_keras", "float", None, "the float model in Keras"),
        Arm("float", "float", "float32", "the float model as TFLite"),
        Arm("float_ft", "float_ft", "float32", "the float model trained on, as long as QAT"),
    ]
    arms += [
        Arm(f"ptq_{name}", "float", name, recipe.title)
        for name, recipe in PTQ_RECIPES.items()
        if name != "float32" and (recipes is None or name == "int8" or name in recipes)
    ]
    arms += [
        Arm("ptq_int8_ft", "float_ft", "int8", "PTQ of the float model trained on"),
        Arm("qat_keras", "qat", None, "the QAT model in Keras"),
        Arm("qat", "qat", "qat", "the QAT model as TFLite"),
    ]
    if batchnorm:
        arms += [
            Arm("float_bn", "float_bn", "float32", "the float model, batch norm re-estimated"),
            Arm("ptq_int8_bn", "float_bn", "int8", "PTQ of float_bn"),
            Arm("ptq_int8_ft_bn", "float_ft_bn", "int8",
                "PTQ of float_bn trained on, batch norm re-estimated again"),
            Arm("qat_bn", "qat_bn", "qat", "QAT from float_bn, batch norm re-estimated again"),
        ]
    return tuple(arms)


# What a study asks, declared beforehand: QAT against PTQ.
QUESTION = ("ptq_int8", "qat")
# The steps on the way from one to the other.
_STEPS = (
    ("ptq_int8", "ptq_int8_ft"), ("ptq_int8_ft", "qat"), ("float_ft", "qat"),
    ("ptq_int8", "ptq_int8_bn"), ("qat", "qat_bn"), ("ptq_int8_bn", "qat_bn"),
    ("ptq_int8_bn", "ptq_int8_ft_bn"), ("ptq_int8_ft_bn", "qat_bn"),
)


def families_for(arms: Collection[str]) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Pairs (a, b) of arms that are compared, each family corrected by itself.

    Every arm with ``float``; the question; and the steps between its two arms.
    """
    return (
        tuple(("float", arm) for arm in arms if arm != "float"),
        (QUESTION,),
        tuple(pair for pair in _STEPS if set(pair) <= set(arms)),
    )
