"""A folder of loose files: which of them is the float model, which are the examples, by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qinspect import store
from qinspect.data.folders import holds_images
from qinspect.data.names import Y_NAMES, listed, usual
from qinspect.data.tables import read_csv
from qinspect.errors import DataError, SpecError
from qinspect.tflite import read_keras
from qinspect.tflite.recorded import RAW

# Words of a name, those that say most first; words of two kinds in one row say nothing.
_ROLES: tuple[dict[str, frozenset[str]], ...] = (
    {"qat": frozenset({"qat", "aware"}), "ptq": frozenset({"ptq", "posttraining", "post"})},
    {"float": frozenset({"float", "float32", "fp32", "f32"}),
     "ptq": frozenset({"int8", "uint8", "i8", "16x8", "int16x8", "w8a8", "dynamic", "dyn",
                       "float16", "fp16", "f16", "quant", "quantized", "quantised"})},
)
_DATA: tuple[dict[str, frozenset[str]], ...] = ({
    "claims": frozenset({"pred", "preds", "prediction", "predictions"}),
    "checkpoints": frozenset({"checkpoints"}),
}, {
    "data": frozenset({"eval", "evaluation", "test", "testing", "holdout", "heldout"}),
    "validation": frozenset({"val", "valid", "validation", "dev"}),
    "calibration": frozenset({"cal", "calib", "calibration", "representative", "rep"}),
    "train": frozenset({"train", "training"}),
})
_EXAMPLES = (".npz", ".npy", ".csv", ".parquet")
# What was recorded of a file elsewhere.
_RECORDED, _RECORDINGS = frozenset({"recorded", "recording"}), (".npz", ".npy", *RAW)
# Arguments that are given by role.
BY_ROLE = ("claims", "recorded")
_KERAS = (".h5", ".keras", ".hdf5")
_LOGS = (".csv", ".log", ".tsv")
# What an input is called, and the option that names it.
_WORDS = {
    "float": ("the float .tflite file", "--float"), "ptq": ("the PTQ .tflite file", "--ptq"),
    "qat": ("the QAT .tflite file", "--qat"),
    "keras_float": ("the float Keras model", "--keras-float"),
    "keras_qat": ("the QAT Keras model", "--keras-qat"),
    "data": ("the evaluation examples", "--data"),
    "validation": ("the evaluation examples", "--data"),
    "calibration": ("the calibration examples", "--calibration"),
    "train": ("the training examples", "--train"),
    "history": ("the training history", "--history"),
    "history_float": ("the history of the float training", "--history-float"),
    "history_qat": ("the history of QAT", "--history-qat"),
    "checkpoints": ("predictions of checkpoints", "--checkpoints"),
    "claims float": ("predictions of the float file", "--float-eval-predictions"),
    "claims ptq": ("predictions of the PTQ file", "--ptq-eval-predictions"),
    "claims qat": ("predictions of the QAT file", "--qat-eval-predictions"),
    "recorded float": ("recorded outputs of the float file", "--recorded float=PATH"),
    "recorded ptq": ("recorded outputs of the PTQ file", "--recorded ptq=PATH"),
    "recorded qat": ("recorded outputs of the QAT file", "--recorded qat=PATH"),
}


@dataclass(frozen=True)
class LooseFiles:
    """What of a folder was taken for what.

    ``files``: paths by the names of :func:`qinspect.case`'s arguments, predictions as ``claims
    ROLE``, recorded outputs as ``recorded ROLE``; ``unused``: names of further files that might
    have been meant; ``notes`` say both.
    """

    folder: Path
    files: Mapping[str, Path]
    unused: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken for what, in a sentence, and what was left."""
        taken = "; ".join(f"{path.name!r} is {_WORDS[name][0]}"
                          for name, path in self.files.items())
        said = f"{self.folder}: by their names, {taken}."
        return (said,) if not self.unused else (
            said, f"{self.folder}: not used: {listed(self.unused)}.")

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All as arguments of :func:`qinspect.case`; what is ``given`` counts more."""
        made: dict[str, Any] = {}
        for name, path in self.files.items():
            what, _, role = name.partition(" ")
            made |= {what: made.get(what, {}) | {role: path} if role else path}
        return {**made, **given} | {
            what: made.get(what, {}) | dict(given.get(what) or {})
            for what in BY_ROLE if what in made or given.get(what)}


def loose_files(
    folder: str | os.PathLike[str], given: Mapping[str, Any] = MappingProxyType({}),
    paths: Iterable[Path] | None = None,
) -> LooseFiles:
    """Read the names in a folder, or of some paths, of what is not ``given`` otherwise.

    A :class:`~qinspect.errors.SpecError` says what to do where two files may be the same thing, and
    where there are less than two of the float, PTQ and QAT files.
    """
    root = Path(folder)
    found: dict[str, list[Path]] = {}
    unused: list[str] = []
    plain: list[Path] = []
    weak: list[Path] = []
    # What is told of a role, in whichever way, stands for all that names say of what it gave.
    told = {role for what in BY_ROLE for role in given.get(what) or ()}
    given = {**given, **{f"{what} {role}": None for what in BY_ROLE for role in told}}
    for path in paths or sorted(p for p in root.iterdir() if not p.name.startswith(".")):
        name = _kind(path)
        if name == "?":
            plain.append(path)
        elif name == "unused":
            unused.append(path.name)
        elif name == "weak ptq":
            weak.append(path)
        elif name is not None:
            found.setdefault(name, []).append(path)
    # int8 alone says PTQ only where no other file says so.
    if "ptq" in found:
        unused += [path.name for path in weak]
    elif weak:
        found["ptq"] = weak
    if "data" in found:
        unused += [path.name for path in found.pop("validation", [])]
    else:
        chosen = found.pop("validation", None) or plain
        unused += [path.name for path in plain if path not in chosen]
        plain = []
        if chosen:
            found["data"] = chosen
    unused += [path.name for path in plain]
    # Beside the log of one training, a log that names none is the other's.
    for one, other in (("history_qat", "history_float"), ("history_float", "history_qat")):
        if "history" in found and one in found and other not in found:
            found[other] = found.pop("history")
    files: dict[str, Path] = {}
    for name in _WORDS:
        paths = found.get(name, [])
        if name in given:
            unused += [path.name for path in paths]
        elif len(paths) > 1:
            what, option = _WORDS[name]
            raise SpecError(f"{root}: {listed([path.name for path in paths])} may each be {what}; "
                            f"name the one to take with {option}.")
        elif paths:
            files[name] = paths[0]
    roles = [role for role in ("float", "ptq", "qat") if role in files or role in given]
    if len(roles) < 2:
        raise SpecError(_unrelated(root, roles))
    if "data" not in files and "data" not in given:
        raise SpecError(f"{root} holds no evaluation examples by name (eval.npz, test.npz, a "
                        "folder test of images); name them with --data.")
    return LooseFiles(root, files, tuple(sorted(unused)))


def is_loose(folder: str | os.PathLike[str]) -> bool:
    """Whether it is a folder, and not one of a study."""
    return store.is_folder(Path(folder)) and not (Path(folder) / "spec.json").exists()


def _unrelated(root: Path, roles: Sequence[str]) -> str:
    there = [path.name for path in sorted(root.glob("*.tflite"))]
    has = (f"of its files {listed(there)} the names say of {len(roles)} what it is" if there else
           "it has no .tflite files")
    return (f"{root} is no study folder (it has no spec.json), and {has}; give at least two of the "
            "float, PTQ and QAT files with --float, --ptq and --qat, or call them float.tflite, "
            "ptq.tflite and qat.tflite.")


def _kind(path: Path) -> str | None:
    """Name of the argument that a file is; ``?`` examples, None what has nothing to do with it."""
    words, suffix = _words(path), path.suffix.lower()
    if suffix == ".tflite":
        strong, second = _said(words, _ROLES[0]), _said(words, _ROLES[1])
        return strong or ("weak ptq" if second == "ptq" else second) or "unused"
    if suffix in _KERAS:
        return None if "weights" in words else _keras(path, words)
    role = _said(words, _ROLES[0]) or _said(words, _ROLES[1])
    if role and words & _RECORDED and (suffix in _RECORDINGS or path.is_dir()):
        return f"recorded {role}"
    if path.is_dir():
        said = _said(words, _DATA[1])
        return said if said and holds_images(path) else None
    if suffix in _LOGS and _is_history(path):
        return {"qat": "history_qat", "float": "history_float"}.get(role or "", "history")
    if suffix not in _EXAMPLES:
        return None
    if suffix == ".npy" and usual(path.stem)[0] in Y_NAMES:
        return None  # the labels of the file beside it
    told = _said(words, _DATA[0])
    if told == "claims":
        return f"claims {role}" if role else "unused"
    if told is not None:
        return told
    if any(words & row for row in _DATA[1].values()):
        return _said(words, _DATA[1]) or "unused"
    return "?" if suffix != ".csv" else "unused"


def _words(path: Path) -> frozenset[str]:
    """Words of a name: ``modelQAT-int8_v2`` is model, qat, int8, v2."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", path.stem)
    return frozenset(re.split(r"[^a-z0-9]+", apart.casefold()))


def _said(words: frozenset[str], kinds: Mapping[str, frozenset[str]]) -> str | None:
    """The one kind that a name has words of."""
    said = [kind for kind, row in kinds.items() if words & row]
    return said[0] if len(said) == 1 else None


def _keras(path: Path, words: frozenset[str]) -> str:
    """Of a Keras model its layers tell, where the name does not."""
    said = _said(words, _ROLES[0]) or _said(words, _ROLES[1])
    if said in ("float", "qat"):
        return f"keras_{said}"
    if said == "ptq":
        return "unused"
    wrapped = any(layer.wrapped for layer in read_keras(path).layers)
    return "keras_qat" if wrapped else "keras_float"


def _is_history(path: Path) -> bool:
    try:
        return {"epoch", "loss"} <= set(read_csv(path))
    except DataError:
        return False
