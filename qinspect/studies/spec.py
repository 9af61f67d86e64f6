"""What a study is: every setting that decides its result, validated before anything runs."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qinspect.errors import DataError, SpecError, unknown_name

# What the presets change; everything else keeps its default.
PRESETS: dict[str, dict[str, Any]] = {
    # The forum puzzle: one epoch of float training, one epoch of QAT, Keras' own defaults.
    "one-epoch": {"float_epochs": 1, "qat_epochs": 1, "qat_lr": 1e-3, "bn_momentum": 0.99,
                  "warm_start": False},
    # The forum's regression: a mean absolute error of 5.7 by PTQ and 6.7 by QAT, whose ranges have
    # not yet reached what the network gives.
    "regression": {"dataset": "angles", "model": "plain_cnn", "loss": "mae", "metric": "mae",
                   "float_epochs": 24, "qat_epochs": 22, "qat_lr": 3e-4, "warm_start": False},
    # What is odd about an example is how badly the network gives it back.
    "anomaly": {"dataset": "odd-digits", "model": "autoencoder", "loss": "mse",
                "metric": "anomaly-auc", "float_epochs": 30, "qat_epochs": 3, "warm_start": False},
}
INPUT_RANGES = ("0-1", "0-255")
_NAMED = ("dataset", "model", "input_range")


@dataclass(frozen=True)
class StudySpec:
    """Settings of one study.

    Attributes
    ----------
    dataset : str
        A name of ``qinspect.data.DATASETS`` or the path of what
        :func:`qinspect.data.load_dataset` reads.
    model : str
        A name of ``qinspect.train.MODELS``, ``autoencoder``, or the path of a Keras ``.h5`` or
        ``.keras`` file or SavedModel folder, whose weights are the starting point.
    input_range : {"0-1", "0-255"}
        Units of the pixels the network sees.
    float_epochs, qat_epochs : int
        Epochs of float training (0 keeps the weights as they are) and of QAT.  The fine-tuned
        float control trains for ``qat_epochs`` too.
    float_lr, qat_lr : float
        Adam learning rates; the fine-tuned control uses ``qat_lr``.
    batch_size : int
        Examples a step.
    warm_start : bool
        Set QAT ranges from a calibration pass before the first step, instead of tfmot's +-6.
    freeze_batchnorm : bool
        Keep batch-norm statistics fixed during fine-tuning and QAT.
    skip_layers : tuple of str
        Layers without fake quantization during QAT, which the converter may quantize all the
        same; see :func:`qinspect.train.quantize_aware`.
    bn_momentum : float
        Momentum of batch-norm moving statistics in the zoo's models.
    calibration_size : int
        Examples in the representative data set of PTQ.
    train_size, test_size : int or None
        Examples used; None takes the default of the data set.
    margin_pp, confidence : float
        Equivalence margin in percentage points, and confidence of intervals.
    seed : int
        Seed of the split, the weights, the batch order and the bootstrap.
    split_seed : int or None
        Seed of the split alone, so that several seeds share their test examples; None takes
        ``seed``.
    recipes : tuple of str or None
        PTQ recipes to convert the float model with, beside ``float32`` and ``int8``, which every
        study needs; None takes all of ``qinspect.train.PTQ_RECIPES``.
    loss, metric : str or None
        What is trained for, of ``qinspect.train.LOSSES``, and what models are judged by, of
        ``qinspect.metrics.METRICS``; None takes those the model was compiled with, or the only
        reading of its output and the labels.
    output : str or None
        Name or number of the output that is trained and judged, where a model has several.
    """

    dataset: str = "digits"
    model: str = "bn_cnn"
    input_range: str = "0-1"
    float_epochs: int = 12
    qat_epochs: int = 3
    float_lr: float = 1e-3
    qat_lr: float = 3e-4
    batch_size: int = 32
    warm_start: bool = False
    freeze_batchnorm: bool = False
    skip_layers: tuple[str, ...] = ()
    bn_momentum: float = 0.9
    calibration_size: int = 200
    train_size: int | None = None
    test_size: int | None = None
    margin_pp: float = 1.0
    confidence: float = 0.95
    seed: int = 0
    split_seed: int | None = None
    recipes: tuple[str, ...] | None = None
    loss: str | None = None
    metric: str | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        _check_kinds(self)
        _check_names(self)
        _check_integers(self)
        _check_reals(self)

    def to_dict(self) -> dict[str, Any]:
        """Settings as JSON-able values."""
        values = dataclasses.asdict(self)
        values["skip_layers"] = list(self.skip_layers)
        values["recipes"] = None if self.recipes is None else list(self.recipes)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StudySpec:
        """The inverse of :meth:`to_dict`; a key that is no setting is refused."""
        known = {field.name for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise unknown_name("study setting", key, known)
        recipes = values.get("recipes")
        for key in ("skip_layers", "recipes"):
            given = values.get(key, ())
            if not isinstance(given, list | tuple) and not (given is None and key == "recipes"):
                raise SpecError(f"{key} is {values[key]!r}; it must be a list of names.")
        return cls(**{
            **values, "skip_layers": tuple(values.get("skip_layers", ())),
            "recipes": None if recipes is None else tuple(recipes),
        })


def make_spec(preset: str | None = None, **settings: Any) -> StudySpec:
    """A spec from a preset and settings; those that are None keep the preset's or default value."""
    if preset is not None and preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    chosen = {key: value for key, value in settings.items() if value is not None}
    if "model" in chosen and Path(chosen["model"]).is_dir():
        # A folder is told from a built-in network by the stroke in its name.
        chosen["model"] = f"{Path(chosen['model'])}/"
    return StudySpec.from_dict({**(PRESETS[preset] if preset else {}), **chosen})


def input_digests(spec: StudySpec) -> dict[str, str]:
    """SHA-256 of the user's own files that the spec names, so that a changed file is noticed."""
    digests = {}
    for key, value in (("dataset", spec.dataset), ("model", spec.model)):
        if not is_path(value):
            continue
        try:
            digests[key] = _digest(Path(value))
        except OSError as error:
            kind = DataError if key == "dataset" else SpecError
            reason = error.strerror or type(error).__name__
            raise kind(f"cannot read the {key} file {value!r}: {reason}.") from error
    return digests


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder."""
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            whole.update(f"{file.relative_to(path).as_posix()} {_digest(file)}\n".encode())
    return whole.hexdigest()


def is_path(name: str) -> bool:
    """Whether a data set or model is named by a file rather than by a known name."""
    return Path(name).suffix in {".npz", ".csv", ".parquet", ".h5", ".keras"} or "/" in name


def _check_kinds(spec: StudySpec) -> None:
    for name in ("dataset", "model", "input_range", "loss", "metric", "output"):
        value = getattr(spec, name)
        if not isinstance(value, str) and (value is not None or name in _NAMED):
            raise SpecError(f"{name} is {value!r}; it must be a name.")
    for name in ("skip_layers", "recipes"):
        if any(not isinstance(one, str) for one in getattr(spec, name) or ()):
            raise SpecError(f"{name} is {getattr(spec, name)!r}; it must be a list of names.")
    for name in ("warm_start", "freeze_batchnorm"):
        if not isinstance(getattr(spec, name), bool):
            raise SpecError(f"{name} is {getattr(spec, name)!r}; it must be true or false.")


def _check_names(spec: StudySpec) -> None:
    from qinspect.data import DATASETS
    from qinspect.metrics import metric
    from qinspect.train.recipes import AUTOENCODER, LOSSES, MODELS, PTQ_RECIPES

    if spec.dataset not in DATASETS and not is_path(spec.dataset):
        raise unknown_name("data set", spec.dataset, DATASETS)
    if spec.model not in (*MODELS, AUTOENCODER) and not is_path(spec.model):
        raise unknown_name("model", spec.model, (*MODELS, AUTOENCODER))
    if spec.loss is not None and spec.loss not in LOSSES:
        raise unknown_name("loss", spec.loss, LOSSES)
    if spec.metric is not None:
        metric(spec.metric)
    if spec.input_range not in INPUT_RANGES:
        raise unknown_name("input range", spec.input_range, INPUT_RANGES)
    for recipe in spec.recipes or ():
        if recipe not in PTQ_RECIPES:
            raise unknown_name("recipe", recipe, PTQ_RECIPES)


def _check_integers(spec: StudySpec) -> None:
    lowest = {
        "float_epochs": 0, "qat_epochs": 1, "batch_size": 1, "calibration_size": 1,
        "train_size": 1, "test_size": 1, "seed": 0, "split_seed": 0,
    }
    for name, low in lowest.items():
        value = getattr(spec, name)
        if value is None and name in {"train_size", "test_size", "split_seed"}:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise SpecError(f"{name} is {value!r}; it must be a whole number of at least {low}.")
    if spec.float_epochs == 0 and not is_path(spec.model):
        raise SpecError(
            "float_epochs is 0, which leaves the built-in models untrained; "
            "use at least 1, or give a trained Keras file as the model."
        )


def _check_reals(spec: StudySpec) -> None:
    bounds = {
        "float_lr": (0.0, 10.0), "qat_lr": (0.0, 10.0), "margin_pp": (0.0, 100.0),
        "confidence": (0.5, 1.0), "bn_momentum": (0.0, 1.0),
    }
    for name, (low, high) in bounds.items():
        value = getattr(spec, name)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise SpecError(f"{name} is {value!r}; it must be a number.")
        if not low < value < high:
            raise SpecError(f"{name} is {value:g}; it must lie between {low:g} and {high:g}.")
