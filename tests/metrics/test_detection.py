"""Mean average precision against faster-coco-eval run directly, and against cases by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parts import need_package, other_process
from tiny_graphs import detection_head

from qinspect.data.dataset import Dataset
from qinspect.errors import DataError
from qinspect.evaluation import evaluate
from qinspect.metrics import metric
from qinspect.metrics.detection import detections
from qinspect.predictions import Results
from qinspect.tflite.runner import run_files

need_package("faster_coco_eval")
MAP = metric("map")
CLASSES = 4


def some_boxes(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Truth with up to five boxes an image, and detections: moved, missed, doubled, invented."""
    rng = np.random.default_rng(seed)
    truth = np.full((n, 5, 5), -1.0)
    found = np.zeros((n, 12, 6))
    for image in range(n):
        for row in range(rng.integers(0, 6)):
            start = rng.uniform(0, 0.6, 2)
            truth[image, row] = [*start, *start + rng.uniform(0.05, 0.4, 2),
                                 rng.integers(0, CLASSES)]
        kept = [row for row in truth[image] if row[4] >= 0 and rng.random() < 0.8]
        for at, row in enumerate(kept + kept[:1]):
            moved = row[:4] + rng.normal(0, 0.02, 4)
            ends = np.sort([moved[:2], moved[2:]], axis=0)
            kind = row[4] if rng.random() < 0.9 else rng.integers(0, CLASSES + 1)
            # Few levels, as of a quantized output, so that there are ties.
            found[image, at] = [*ends.ravel(), kind, np.round(rng.uniform(0.2, 1), 1)]
        found[image, 10] = [0.1, 0.1, 0.3, 0.3, rng.integers(0, CLASSES), 0.3]
    return truth, found


def by_coco(truth: np.ndarray, found: np.ndarray) -> float:
    """The official summary of dictionaries as COCO's own files hold them."""
    from faster_coco_eval import COCO, COCOeval_faster

    n = len(truth)
    kinds = [{"id": int(one) + 1, "name": str(one)} for one in range(CLASSES + 1)]
    images = [{"id": one + 1, "width": 1000, "height": 1000} for one in range(n)]
    boxes = []
    for image in range(n):
        for top, left, bottom, right, kind in truth[image]:
            if kind >= 0:
                wide, high = 1000 * (right - left), 1000 * (bottom - top)
                boxes.append({"id": len(boxes) + 1, "image_id": image + 1, "iscrowd": 0,
                              "category_id": int(kind) + 1, "area": wide * high,
                              "bbox": [1000 * left, 1000 * top, wide, high]})
    said = []
    for image in range(n):
        for top, left, bottom, right, kind, score in found[image]:
            if score > 0:
                said.append({"image_id": image + 1, "category_id": int(kind) + 1, "score": score,
                             "bbox": [1000 * left, 1000 * top, 1000 * (right - left),
                                      1000 * (bottom - top)]})
    real = COCO({"images": images, "categories": kinds, "annotations": boxes})
    run = COCOeval_faster(real, real.loadRes(said), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    return float(run.stats[0])


@pytest.mark.parametrize("seed", range(4))
def test_value_is_that_of_faster_coco_eval(seed: int) -> None:
    truth, found = some_boxes(seed)
    assert 0.1 < MAP.score(truth, found) < 0.9
    assert MAP.score(truth, found) == pytest.approx(by_coco(truth, found), abs=1e-12)


def test_weights_count_examples_as_copies_of_them_would() -> None:
    truth, found = some_boxes(0)
    drawn = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), size=5)
    values = MAP.score(truth, found, weights=drawn)
    for value, row in zip(values, drawn, strict=True):
        index = np.repeat(np.arange(40), row)
        assert value == pytest.approx(by_coco(truth[index], found[index]), abs=1e-12)


def test_perfect_and_all_missed() -> None:
    truth, _ = some_boxes(1)
    perfect = np.concatenate([truth, truth[..., 4:] >= 0], axis=2)
    assert MAP.score(truth, perfect) == pytest.approx(1)
    assert MAP.score(truth, np.zeros((40, 3, 6))) == 0
    elsewhere = perfect.copy()
    elsewhere[..., :4] += 5
    assert MAP.score(truth, elsewhere) == 0


def test_one_box_of_known_overlap() -> None:
    """The found box covers the left 72 % of the true one: five of the ten overlaps accept it."""
    truth = np.array([[[0.0, 0, 1, 1, 2]]])
    found = np.array([[[0.0, 0, 1, 0.72, 2, 0.9]]])
    assert MAP.score(truth, found) == pytest.approx(0.5)
    # A wrong answer that is surer halves the precision at every recall.
    surer = np.concatenate([[[[0.0, 0, 0.1, 0.1, 2, 0.95]]], found], axis=1)
    assert MAP.score(truth, surer) == pytest.approx(0.25)
    # One of a class that the truth does not have counts nowhere.
    other = np.concatenate([[[[0.0, 0, 0.1, 0.1, 7, 0.95]]], found], axis=1)
    assert MAP.score(truth, other) == pytest.approx(0.5)


def test_outputs_of_a_detector_in_any_order() -> None:
    truth, found = some_boxes(2)
    found = found[:, np.r_[:6, 10]]
    count = np.full(40, 6.0)
    named = {"boxes": found[..., :4], "classes": found[..., 4], "scores": found[..., 5],
             "count": count}
    expected = found.copy()
    expected[:, 6, 5] = 0
    assert np.array_equal(detections(None, named), expected)
    turned = {name: named[name] for name in ("scores", "count", "boxes", "classes")}
    assert np.array_equal(detections(None, turned), expected)
    assert MAP.score(truth, named) == MAP.score(truth, expected)
    # Where scores are all whole their place decides.
    none = {**named, "scores": np.zeros_like(named["scores"])}
    assert not detections(None, none)[..., 5].any()
    with pytest.raises(DataError, match="module:function"):
        detections(None, {"raw": np.zeros((2, 8, 9))})


def test_a_file_with_the_operator_of_ssd(tmp_path: Path) -> None:
    """Anchors on a grid, each image with two boxes that stand exactly on two of them."""
    n, most = 30, 6
    middle = (np.arange(4) + 0.5) / 4
    anchors = np.array([[y, x, 0.2, 0.2] for y in middle for x in middle])
    rng = np.random.default_rng(0)
    truth, scores = np.zeros((n, 2, 5)), np.zeros((n, 16, CLASSES + 1), np.float32)
    for image in range(n):
        for row, at in enumerate(rng.permutation(16)[:2]):
            kind = rng.integers(0, CLASSES)
            truth[image, row] = [*(anchors[at, :2] - 0.1), *(anchors[at, :2] + 0.1), kind]
            scores[image, at, kind + 1] = rng.uniform(0.3, 1)
    x = {"offsets": np.zeros((n, 16, 4), np.float32), "each": scores}
    content = detection_head(anchors, CLASSES, most)
    run = run_files({"ssd": content}, x)["ssd"]
    found = {name: run.real(name) for name in run.outputs}
    assert found["boxes"].shape == (n, most, 4)
    assert found["count"].tolist() == [2] * n
    assert MAP.score(truth, found) == pytest.approx(1)
    data = Dataset("boxes", x, truth, np.arange(n).astype(str), 0)
    file = tmp_path / "ssd.tflite"
    file.write_bytes(content)
    assert evaluate([file], data, metric="map").value("ssd.tflite") == pytest.approx(1)
    with pytest.raises(DataError, match="--metric map, if y holds boxes"):
        evaluate([file], data)
    # Boxes moved by 0.26 of their side overlap by 0.74 / 1.26: two of the ten accept them.
    x["offsets"][..., 0] = 10 * 0.26
    moved = run_files({"ssd": content}, x)["ssd"]
    assert MAP.score(truth, {name: moved.real(name) for name in moved.outputs}
                     ) == pytest.approx(0.2)


def test_models_are_compared_with_an_interval() -> None:
    truth, found = some_boxes(3)
    worse = found.copy()
    worse[::2, :, 5] = 0
    one = Results({"a": found, "b": worse, "same": found}, truth, metric=MAP).comparison("a", "b")
    assert one.gap == pytest.approx(100 * (MAP.score(truth, worse) - MAP.score(truth, found)))
    assert one.interval[0] < one.gap < one.interval[1] < 0


@pytest.mark.parametrize(("y", "output", "message"), [
    (np.zeros((2, 5)), np.zeros((2, 3, 6)), "labels have shape"),
    (np.zeros((2, 3, 5)), np.zeros((2, 3)), "outputs have shape"),
    (np.zeros((2, 3, 5)), np.full((2, 3, 6), np.nan), "6 of 6 boxes of the outputs hold NaN"),
    (np.full((2, 3, 5), -1), np.zeros((2, 3, 6)), "no box at all"),
    (np.full((2, 3, 5), 0.5), np.zeros((2, 3, 6)), "not whole"),
    (np.tile([1.0, 1, 0, 0, 0], (2, 3, 1)), np.zeros((2, 3, 6)), "end before they begin"),
])
def test_what_is_no_detection_is_refused(y, output, message) -> None:
    with pytest.raises(DataError, match=message):
        MAP.score(y, output)


def test_without_the_package_one_sentence() -> None:
    code = (
        "import sys; sys.modules['faster_coco_eval'] = None\n"
        "import numpy as np; from qinspect.metrics import metric\n"
        "try: metric('map').score(np.zeros((1, 1, 5)), np.zeros((1, 1, 6)))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=other_process(), capture_output=True,
                          text=True, check=True)
    assert done.stdout == ("MissingExtraError the metric map needs the package 'faster-coco-eval', "
                           "which is not installed; install it with: pip install "
                           "'qinspect[detection]'\n")
