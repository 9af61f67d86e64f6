"""Examples as people keep them, through ``compare``: the accuracies that LiteRT gives directly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from typer.testing import CliRunner

from qinspect.cli import app

CLASSIFIERS = ("cls_float", "cls_ptq", "cls_qat")


def compared(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["compare", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def accuracies(found: dict[str, Any]) -> list[float]:
    return [round(100 * file["accuracy"], 2) for file in found["files"]]


def files(cases: Path) -> list[Path]:
    return [cases / "10-uint8-units" / f"{name}.tflite" for name in CLASSIFIERS]


@pytest.fixture(scope="module")
def digits(cases: Path) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """The examples, and the accuracies of the classifiers by the interpreter alone."""
    arrays = np.load(cases / "15-data-habits" / "cls_images.npz")
    x, y = arrays["images"], arrays["labels"]
    right = []
    for file in files(cases):
        interpreter = Interpreter(str(file))
        interpreter.allocate_tensors()
        fed, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        hits = 0
        for one, label in zip(x, y, strict=True):
            interpreter.set_tensor(fed["index"], one[None])
            interpreter.invoke()
            hits += int(interpreter.get_tensor(given["index"])[0].argmax()) == label
        right.append(round(100 * hits / len(y), 2))
    return x, y, right


@pytest.mark.parametrize(("name", "words"), [
    ("cls_X_test", "'X_test' was taken for x and 'y_test' was taken for y"),
    ("cls_images", "'images' was taken for x"),
    ("cls_onehot", "one-hot"),
    ("cls_y2d", "one column, shape (497, 1)"),
    ("cls_nochannel", "examples of shape (8, 8) were given as (8, 8, 1)"),
    ("cls_names", "sorted order: 0 = digit_0, 1 = digit_1"),
])
def test_every_habit_gives_the_right_accuracy(
    name: str, words: str, cases: Path, digits: tuple[Any, Any, list[float]]
) -> None:
    found = compared(*files(cases), "--data", cases / "15-data-habits" / f"{name}.npz")
    assert accuracies(found) == digits[2]
    assert digits[2][:2] == [97.18, 96.78]
    assert any(words in note for note in found["notes"])


@pytest.mark.parametrize("name", ["mi_eval", "mi_eval2"])
def test_several_inputs_by_name_and_by_what_is_left_over(name: str, cases: Path) -> None:
    folder = cases / "13-several-inputs"
    found = compared(folder / "mi_float.tflite", folder / "mi_ptq.tflite",
                     "--data", folder / f"{name}.npz")
    assert accuracies(found) == [92.76, 92.96]


def test_other_kinds_of_files(
    cases: Path, digits: tuple[np.ndarray, np.ndarray, list[float]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y, right = digits
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", first=x, second=x + 1, third=y, fourth=y * 0)
    assert accuracies(compared(*files(cases), "--data", "mine.npz", "--x-key", "first",
                               "--y-key", "third")) == right
    np.save("images.npy", x[..., 0])
    np.save("labels.npy", y)
    assert accuracies(compared(*files(cases), "--data", "images.npy")) == right
    flat = x.reshape(len(x), -1)
    header = ",".join(["label", *(f"pixel{at}" for at in range(64))])
    np.savetxt("rows.csv", np.column_stack([y, flat]), "%.17g", ",", header=header, comments="")
    assert accuracies(compared(*files(cases), "--data", "rows.csv")) == right
    (tmp_path / "given_digits.py").write_text(
        "import numpy as np\n"
        "def batches():\n"
        "    x, y = np.load('images.npy'), np.load('labels.npy')\n"
        "    for at in range(0, len(x), 100): yield x[at:at + 100], y[at:at + 100]\n")
    assert accuracies(compared(*files(cases), "--data", "given_digits:batches")) == right


def digit_folder(folder: Path, cases: Path) -> Path:
    arrays = np.load(cases / "10-uint8-units" / "cls_u8.npz")
    for at, (pixels, label) in enumerate(zip(arrays["x"], arrays["y"], strict=True)):
        place = folder / f"digit_{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0]).save(place / f"{at:03d}.png")
    return folder


def test_a_folder_of_images_in_the_units_that_a_quantized_file_shows(
    cases: Path, tmp_path: Path
) -> None:
    folder = digit_folder(tmp_path / "digits", cases)
    found = compared(*files(cases), "--data", folder)
    assert accuracies(found) == [97.18, 96.78, 97.38]
    assert any("pixels were brought to 0 to 1" in note for note in found["notes"])
    alone = CliRunner().invoke(app, ["evaluate", str(files(cases)[0]), "--data", str(folder)])
    assert alone.exit_code != 0
    assert "give --input-scale 1 for 0 to 255" in str(alone.exception)
    asked = CliRunner().invoke(app, ["evaluate", str(files(cases)[0]), "--data", str(folder),
                                     "--input-scale", str(1 / 255)])
    assert "97.18 %" in asked.stdout
    # Nine folders do not tell which of ten classes is missing.
    for file in (folder / "digit_3").iterdir():
        file.unlink()
    kept = compared(*files(cases), "--data", folder)
    assert min(accuracies(kept)) > 96
    (folder / "digit_3").rmdir()
    refused = CliRunner().invoke(app, ["compare", *map(str, files(cases)), "--data", str(folder)])
    assert refused.exit_code != 0
    assert "names 9 classes, but" in str(refused.exception)
