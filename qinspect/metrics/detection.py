"""Mean average precision of object detections, as COCO counts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qinspect.errors import DataError, require_extra
from qinspect.schema import Array

# Box (ymin, xmin, ymax, xmax) and class of the truth; of what is found the score as well.
_TRUTH, _FOUND = 5, 6
_MOST = 100  # detections of an image and class that count
_EVERY_AREA = [0.0, 1e10]


def detections(x: Array | None, outputs: Mapping[str, Array] | Array) -> Array:
    """Outputs of TFLite_Detection_PostProcess as (n, k, 6): ymin, xmin, ymax, xmax, class, score.

    Boxes (n, k, 4), classes and scores (n, k) and the number that counts (n,) are told apart by
    shape; classes, in whole numbers, stand before scores where values do not tell.  Rows that do
    not count get the score 0.  One array (n, k, 6) is taken as it is.
    """
    if not isinstance(outputs, Mapping):
        return np.asarray(outputs)
    arrays = [np.asarray(values) for values in outputs.values()]
    boxes = [a for a in arrays if a.ndim == 3 and a.shape[2] == 4]
    pairs = [a for a in arrays if len(boxes) == 1 and a.shape == boxes[0].shape[:2]]
    counts = [a for a in arrays if a.ndim and a.size == len(a) and not any(a is p for p in pairs)]
    if (len(arrays), len(boxes), len(pairs), len(counts)) != (4, 1, 2, 1):
        listed = ", ".join(f"{name!r} {np.shape(values)}" for name, values in outputs.items())
        raise DataError(f"the outputs are {listed}; detections need boxes (n, k, 4), classes and "
                        "scores (n, k) and a number (n,), as TFLite_Detection_PostProcess gives "
                        "them. Write a metric of your own, module:function, that decodes others.")
    classes, scores = pairs
    if not _whole(classes) and _whole(scores):
        classes, scores = scores, classes
    counted = np.arange(boxes[0].shape[1]) < counts[0].reshape(-1, 1)
    return np.concatenate([boxes[0], classes[..., None],
                           np.where(counted, scores, 0)[..., None]], axis=2)


def mean_precision(y: Array, output: Any, weights: Array | None = None) -> Any:
    """COCO's mAP@[.5:.95]: average precision over ten overlaps, mean over the classes of the truth.

    ``y`` (n, m, 5) holds ymin, xmin, ymax, xmax, class, with class -1 in rows that stand empty;
    ``output`` is what ``detections`` takes, with score 0 in such rows.

    References
    ----------
    Lin et al. (2014), Microsoft COCO, ECCV; cocodataset.org, detection evaluation.
    """
    try:
        from faster_coco_eval import faster_eval_api_cpp as engine
    except ModuleNotFoundError:
        raise require_extra("faster-coco-eval", "detection", "the metric map") from None
    evaluated, settings = _matched(*_checked(y, detections(None, output)))
    counts = np.ones((1, len(y)), dtype=int) if weights is None else np.asarray(weights, dtype=int)
    settings.catIds = [0]  # one class at a time, on the images that it is on or said to be on
    found = np.full(len(counts), np.nan)
    for row, count in enumerate(counts):
        each = []
        for images, results in evaluated:
            drawn = [one for at, one in zip(images, results, strict=True)
                     for _ in range(count[at])]
            if not drawn:
                continue
            settings.imgIds = list(range(len(drawn)))
            precision = engine.COCOevalAccumulate(settings, drawn)["precision"]
            each.append(np.asarray(precision))
        known = [float(one.mean()) for one in each if one.min() > -1]
        if known:
            found[row] = np.mean(known)
    return float(found[0]) if weights is None else found


def _matched(truth: Array, found: Array) -> tuple[list[tuple[list[int], list[Any]]], Any]:
    """Of each class of the truth its images and what was matched on them, and the settings."""
    from faster_coco_eval import COCO, COCOeval_faster

    n = len(truth)
    real, said = _rows(truth, truth[..., 4] >= 0), _rows(found, found[..., 5] > 0)
    classes = sorted({int(row[4]) for _, row in real})
    listed = {"images": [{"id": image} for image in range(n)],
              "categories": [{"id": one} for one in classes]}
    sides = [COCO({**listed, "annotations": [
        {"id": at, "image_id": image, "category_id": int(row[4]), **_box(row), "iscrowd": 0,
         "score": float(row[-1])} for at, (image, row) in enumerate(rows, 1)
    ]}) for rows in (real, said)]
    run = COCOeval_faster(*sides, "bbox", separate_eval=True)
    run.params.maxDets, run.params.areaRng = [_MOST], [_EVERY_AREA]
    run.params.areaRngLbl = ["all"]
    run.evaluate()
    images_of: dict[int, set[int]] = {one: set() for one in classes}
    for image, row in (*real, *said):
        images_of.setdefault(int(row[4]), set()).add(image)
    # By class, then by image.
    results = run._evalImgs_cpp
    return [(images := sorted(images_of[one]), [results[at * n + image] for image in images])
            for at, one in enumerate(classes)], run._paramsEval


def _checked(y: Array, found: Array) -> tuple[Array, Array]:
    """Truth and detections as float64, refused where they are no boxes."""
    truth, found = np.asarray(y, dtype=np.float64), np.asarray(found, dtype=np.float64)
    for what, values, width, meant in (
            ("labels", truth, _TRUTH, "ymin, xmin, ymax, xmax, class"),
            ("outputs", found, _FOUND, "ymin, xmin, ymax, xmax, class, score")):
        if values.ndim != 3 or values.shape[2] != width or len(values) != len(truth):
            raise DataError(f"{what} have shape {values.shape}; detections need ({len(truth)}, "
                            f"boxes, {width}): {meant}.")
        used = values[values[..., 4] >= 0] if width == _TRUTH else values[~(values[..., 5] <= 0)]
        if bad := int(np.count_nonzero(~np.isfinite(used).all(axis=1))):
            raise DataError(f"{bad} of {len(used)} boxes of the {what} hold NaN or infinite "
                            "values; mend or leave out these examples.")
        if not _whole(used[:, 4]):
            raise DataError(f"classes of the {what} are not whole numbers ({meant}).")
        if bad := int(np.count_nonzero((used[:, 2:4] < used[:, :2]).any(axis=1))):
            raise DataError(f"{bad} of {len(used)} boxes of the {what} end before they begin; they "
                            f"must hold {meant}.")
    if not (truth[..., 4] >= 0).any():
        raise DataError("the labels hold no box at all (every class is -1), so there is nothing to "
                        "find.")
    return truth, found


def _whole(values: Array) -> bool:
    return bool((values == np.round(values)).all())


def _rows(values: Array, used: Array) -> list[tuple[int, Array]]:
    return [(int(image), values[image, row]) for image, row in np.argwhere(used)]


def _box(row: Array) -> dict[str, Any]:
    """Left, top, width and height, as COCO writes a box, and its area."""
    top, left, bottom, right = map(float, row[:4])
    wide, high = right - left, bottom - top
    return {"bbox": [left, top, wide, high], "area": wide * high}
