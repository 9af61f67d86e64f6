"""Importing the room is free; TensorFlow comes up quietly and with Keras 2, or says why not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from parts import need_package, other_process

from qinspect.errors import SpecError
from qinspect.train.recipes import MODELS, PTQ_RECIPES, Recipe, find_recipe


def python(code: str) -> subprocess.CompletedProcess[str]:
    # Other tests of this process load Keras 2, which leaves its mark in the environment.
    clean = other_process()
    clean.pop("TF_USE_LEGACY_KERAS", None)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False,
        cwd=Path(__file__).parent, env=clean,
    )


def test_names_need_no_tensorflow() -> None:
    done = python(
        "import sys, qinspect.train; from qinspect.train.recipes import MODELS\n"
        "assert qinspect.train.MODELS == MODELS\n"
        "print([m for m in ('tensorflow', 'tf_keras', 'keras') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_every_public_name_exists() -> None:
    need_package("tensorflow_model_optimization")
    import qinspect.train

    for name in qinspect.train.__all__:
        assert getattr(qinspect.train, name) is not None
    assert callable(qinspect.train.fit)
    assert callable(qinspect.train.convert)


def test_zoo_and_recipes_are_those_of_the_documentation() -> None:
    assert MODELS == ("mlp", "plain_cnn", "bn_cnn", "depthwise_cnn", "resnet_tiny")
    assert list(PTQ_RECIPES) == [
        "float32", "float16", "dynamic_range", "int8", "int8_io", "uint8_io", "int16x8",
        "int8_per_tensor",
    ]


def test_recipes_that_compute_in_integers_need_calibration() -> None:
    needy = {name for name, recipe in PTQ_RECIPES.items() if recipe.needs_calibration}
    assert needy == {"int8", "int8_io", "uint8_io", "int16x8", "int8_per_tensor"}


def test_a_recipe_is_found_by_name_or_is_itself() -> None:
    own = Recipe("mine", "few examples", "int8", "int8")
    assert find_recipe(own) is own
    assert find_recipe("int8") is PTQ_RECIPES["int8"]
    with pytest.raises(SpecError, match="did you mean int8"):
        find_recipe("int-8")


@pytest.mark.slow
def test_nothing_is_printed() -> None:
    need_package("tensorflow_model_optimization")
    done = python(
        "import sys\n"
        "from qinspect.train import build_model, convert\n"
        "content = convert(build_model('mlp', (4,), 2), 'float32')\n"
        "sys.stdout.write(str(len(content) > 0))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True"
    assert done.stderr == ""
