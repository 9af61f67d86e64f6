"""Names of models, losses and PTQ recipes, importable without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qinspect.errors import unknown_name

MODELS: tuple[str, ...] = ("mlp", "plain_cnn", "bn_cnn", "depthwise_cnn", "resnet_tiny")
# It gives its own input; no classifier, so it stands by itself.
AUTOENCODER = "autoencoder"
LOSSES: tuple[str, ...] = ("crossentropy", "binary-crossentropy", "mae", "mse", "huber")


@dataclass(frozen=True)
class Recipe:
    """One way to convert a float Keras model, as data.

    Attributes
    ----------
    name, title : str
        Key and description.
    weights : {"float32", "float16", "int8"}
        How weights are stored.
    activations : {"float32", "int8", "int16"}
        How activations are computed; integers need calibration.
    io : {"float32", "int8", "uint8"}
        Type of the file's input and output.
    per_channel : bool
        One weight scale per output channel, or one per tensor.
    calibration_order : str
        How they are drawn: see ``qinspect.data.calibration_subset``.
    calibration_source : str
        Part of the splits they are drawn from.
    """

    name: str
    title: str
    weights: Literal["float32", "float16", "int8"] = "float32"
    activations: Literal["float32", "int8", "int16"] = "float32"
    io: Literal["float32", "int8", "uint8"] = "float32"
    per_channel: bool = True
    calibration_order: str = "random"
    calibration_source: str = "calibration"

    @property
    def needs_calibration(self) -> bool:
        """Whether the conversion runs a representative data set."""
        return self.activations != "float32"


PTQ_RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("float32", "converted, not quantized"),
        Recipe("float16", "weights as float16", weights="float16"),
        Recipe("dynamic_range", "weights int8, activations quantized while running",
               weights="int8"),
        Recipe("int8", "weights and activations int8, float input and output",
               weights="int8", activations="int8"),
        Recipe("int8_io", "int8 with int8 input and output",
               weights="int8", activations="int8", io="int8"),
        Recipe("uint8_io", "int8 with uint8 input and output",
               weights="int8", activations="int8", io="uint8"),
        Recipe("int16x8", "weights int8, activations int16",
               weights="int8", activations="int16"),
        Recipe("int8_per_tensor", "int8 with one weight scale per tensor",
               weights="int8", activations="int8", per_channel=False),
    )
}


def find_recipe(recipe: str | Recipe) -> Recipe:
    """The recipe itself, or the one of that name."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in PTQ_RECIPES:
        raise unknown_name("recipe", recipe, PTQ_RECIPES)
    return PTQ_RECIPES[recipe]
