"""The arms of a study: which model each one is, how it is converted, and what is compared."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from qinspect.families import Comparisons
from qinspect.predictions import Results
from qinspect.train.recipes import PTQ_RECIPES


@dataclass(frozen=True)
class Arm:
    """One evaluated model."""

    name: str
    model: str  # the Keras model it is made from, ``models/<model>.h5``
    # A PTQ recipe, ``qat`` for the conversion of a QAT model, None for a Keras model as it is.
    recipe: str | None
    title: str

    @property
    def file(self) -> str:
        """File below the study's folder."""
        return f"models/{self.model}.h5" if self.recipe is None else f"models/{self.name}.tflite"


# Trained or adjusted Keras models in the order they are made, each with the one it starts from.
PARENTS = {
    "float": "initial", "float_ft": "float", "qat": "float",
    "float_bn": "float", "float_ft_bn": "float_bn", "qat_bn": "float_bn",
}
# What a study asks, declared beforehand: QAT against PTQ.
QUESTION = ("ptq_int8", "qat")
# What it answers first: the question, and PTQ against float.
ASKED = (QUESTION, ("float", "ptq_int8"))
# The steps on the way from one to the other.
_STEPS = (
    ("ptq_int8", "ptq_int8_ft"), ("ptq_int8_ft", "qat"), ("float_ft", "qat"),
    ("ptq_int8", "ptq_int8_bn"), ("qat", "qat_bn"), ("ptq_int8_bn", "qat_bn"),
    ("ptq_int8_bn", "ptq_int8_ft_bn"), ("ptq_int8_ft_bn", "qat_bn"),
)
_PARTS = {
    "batchnorm-lag": "batch-norm statistics",
    "training-budget": "training budget",
    "quantization-aware": "quantization-aware training itself",
}


def models_for(batchnorm: bool) -> tuple[str, ...]:
    """Names of the Keras models of a study, in the order they are made."""
    return tuple(name for name in PARENTS if batchnorm or not name.endswith("_bn"))


def arms_for(batchnorm: bool, recipes: Collection[str] | None = None) -> tuple[Arm, ...]:
    """The arms of a study, in the order of its table; of all recipes, or of int8 and some more."""
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


def families_for(arms: Collection[str]) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Pairs of arms, each family corrected by itself: with float, the question, the steps."""
    return (
        tuple(("float", arm) for arm in arms if arm != "float"),
        (QUESTION,),
        tuple(pair for pair in _STEPS if set(pair) <= set(arms)),
    )


def compare_arms(results: Results) -> Comparisons:
    """The comparisons of a study, all families one after the other."""
    families = [results.compare(pairs) for pairs in families_for(results.models)]
    return sum(families[1:], families[0])


def contrasts(batchnorm: bool) -> dict[str, dict[str, int]]:
    """Signed arms of each part of the gap; together they are ``qat - ptq_int8``."""
    # With batch norm the statistics' part is the gap minus the gap between the models whose
    # statistics were re-estimated, and the other two parts are taken on those models: unsettled
    # statistics would otherwise pass as an effect of the extra training.
    end = "_bn" if batchnorm else ""
    parts: dict[str, dict[str, int]] = {}
    if batchnorm:
        parts["batchnorm-lag"] = {"qat": 1, "ptq_int8": -1, "qat_bn": -1, "ptq_int8_bn": 1}
    parts["training-budget"] = {f"ptq_int8_ft{end}": 1, f"ptq_int8{end}": -1}
    parts["quantization-aware"] = {f"qat{end}": 1, f"ptq_int8_ft{end}": -1}
    return parts


def decompose_gap(results: Results) -> list[dict[str, Any]]:
    """Parts of the gap QAT - PTQ, each a signed sum of arms, in the metric's unit; they add up."""
    parts = []
    for name, signed in contrasts("qat_bn" in results.models).items():
        estimate, low, high = results.contrast(signed)
        parts.append({"id": name, "title": _PARTS[name], "arms": signed, "diff_pp": estimate,
                      "ci_pp": [low, high]})
    return parts
