"""The remedy of a cause as a script that runs on the files that were given.

The code is the rule's; the names in it are those of ``NAMES``, and only those that it mentions are
set before it.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qinspect import store
from qinspect.data.dataset import Dataset
from qinspect.data.functions import is_function
from qinspect.data.sources import Source
from qinspect.diagnosis.cases import NEEDS, OPTIONS, Case
from qinspect.diagnosis.engine import against_float
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import Rule
from qinspect.errors import SpecError
from qinspect.metrics import Metric
from qinspect.predictions import Results

if TYPE_CHECKING:
    from qinspect.diagnosis.answer import Cause, Diagnosis

_FIRST = "# Written by qinspect"
# Settings of a training that nobody told; chosen, and marked where they are written.
_EPOCHS, _QAT_LR, _FLOAT_LR = 3, 1e-4, 1e-3
_CALIBRATION_EXAMPLES = 500
_ASSUMPTIONS = """\
# ASSUMED: Adam at one rate, batches drawn anew each epoch, no augmentation. Where your training
# was another one, put it in the place of the call that trains."""
_ALTERNATIVE = """\
# Instead, in one line, QAT with the known pitfalls removed:
# content = qi.robust_qat(float_h5, given.train, epochs=qat_epochs, learning_rate=qat_lr).content"""
_EVALUATED = """\
found = evaluated(given, data)
print(found.frame.to_string(index=False))
print(qi.compare(found).sentence)"""
_MADE = """\
write_bytes(OUT, content)
print(f"written: {OUT} ({len(content):,} bytes)")

# Before and after.
found = evaluated(given, data, content)
print(found.frame.to_string(index=False))
print(qi.compare(found, reference="fixed").sentence)"""
_TITLES = {"float": "float", "ptq": "PTQ", "qat": "QAT"}
# Arguments of `case` that a script needs; the numbers of the training stand in it one by one.
_FILES = ("study", "float", "ptq", "qat", "data", "calibration", "train", "keras_float",
          "keras_qat")
_VALUES = ("equal_budget", "input_scale", "input_offset", "label_offset", "metric", "output",
           "margin", "seed")
_USUAL = {"equal_budget": False, "input_scale": 1.0, "input_offset": 0.0, "label_offset": 0,
          "seed": 0}


@dataclass(frozen=True)
class _Name:
    """A name that code may mention: what it needs, other names it is made from, how it is set."""

    needs: tuple[str, ...]
    write: Callable[[Diagnosis, Cause], str]
    after: tuple[str, ...] = ()


def fix_script(found: Diagnosis) -> str:
    """The script for the primary cause; a :class:`SpecError` says why there is none."""
    case, cause = found.case, _mendable(found)
    rule, makes = cause.rule, _made_of(found, cause)
    code = _code(case, rule, makes)
    needed = _needed(code)
    trains = "qat_epochs" in needed
    given = _given(case)
    parts = [
        _head(rule),
        _imports(rule, needed, given),
        given,
        "\n".join(filter(None, (NAMES[name].write(found, cause) for name in NAMES
                               if name in needed | {"data"}))),
        _ASSUMPTIONS if trains else "",
        f"# The remedy.\n{code}",
        _EVALUATED if makes == "evaluation" else _MADE,
        _ALTERNATIVE if trains and makes == "qat" else "",
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    compile(text, "fix.py", "exec")
    return text


def write_fix(found: Diagnosis, path: str | os.PathLike[str]) -> Path:
    """Write the script; a file that this did not write is not overwritten."""
    target = Path(path)
    text = fix_script(found)
    if store.is_file(target) and not target.read_bytes().startswith(_FIRST.encode()):
        raise SpecError(f"{store.shown(target)} is there and is no script of qinspect; name "
                        "another file.")
    store.write_text(target, text)
    return target


def evaluated(given: Case, data: Dataset, fixed: bytes | None = None) -> Results:
    """The files of a case on examples, and one made anew, run and scored as a diagnosis does it."""
    evidence = Evidence(replace(given, data=data))
    if evidence.task.metric is None:
        evidence = Evidence(against_float(evidence))
    results = evidence.results(own=True)
    if fixed is None:
        return results
    return results.with_outputs(fixed=evidence.scorable(evidence.answers(fixed)))


def _mendable(found: Diagnosis) -> Cause:
    """The primary cause, if a script can do something about it."""
    causes = {cause.rule.id: cause for cause in found.causes}
    cause = causes.get(found.primary)
    if cause is None:
        raise SpecError(f"there is no fix to write: the diagnosis names no cause "
                        f"({found.primary}).")
    if not cause.rule.makes:
        raise _no_fix(f"no script can apply the remedy of {cause.rule.id}", cause.rule)
    return cause


def _made_of(found: Diagnosis, cause: Cause) -> str:
    """Which file the script makes anew: the one that is hurt, the worse where it may be any."""
    rule, hurt = cause.rule, cause.finding.hurts
    if rule.code_of_qat and ("qat" in hurt if hurt and rule.makes not in hurt else
                             found.focus.worse == "qat"):
        return "qat"
    if rule.makes in _TITLES and hurt and rule.makes not in hurt:
        raise _no_fix(f"the script of {rule.id} makes the {_TITLES[rule.makes]} file anew, and "
                      f"here the cause is in {' and '.join(_TITLES[role] for role in hurt)}", rule)
    return rule.makes


def _no_fix(why: str, rule: Rule) -> SpecError:
    return SpecError(f"there is no fix to write: {why}; its remedy: {rule.remedy[0].lower()}"
                     f"{rule.remedy[1:]}")


def _code(case: Case, rule: Rule, makes: str) -> str:
    """The code of a rule whose inputs are there; a SpecError names the options of what is not."""
    lacks = []
    other = makes == "qat" and rule.code_of_qat
    for code in filter(None, (other,) if other else (rule.code, rule.code_of_files)):
        lacking = {need for name in _needed(code) for need in NAMES[name].needs
                   if not case.has(need)}
        missing = [need for need in NEEDS if need in lacking]
        if not missing:
            return code
        lacks.append(" and ".join(f"{NEEDS[need]} ({OPTIONS[need]})" for need in missing))
    raise SpecError(f"the fix of {rule.id} needs {', or '.join(lacks)}.")


def _needed(code: str) -> set[str]:
    """Names of the table that code mentions, and those that these are made from."""
    found = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    needed, more = set[str](), found & NAMES.keys()
    while more:
        needed |= more
        more = {one for name in more for one in NAMES[name].after} - needed
    return needed


def _head(rule: Rule) -> str:
    title = f"{rule.title[0].upper()}{rule.title[1:]}"
    writes = ("# It writes fixed.tflite beside itself; no file that was given is changed."
              if rule.makes != "evaluation" else
              "# No file has to be made anew: it evaluates the given ones as it should be done.")
    return "\n".join([f"{_FIRST}: the remedy of {rule.id}.", f"# {title}.", f"# {rule.remedy}",
                      writes, "# Run it with the Python that has qinspect: python fix.py"])


def _imports(rule: Rule, needed: set[str], given: str) -> str:
    lines = ["import qinspect as qi"]
    taken = (["Source"] if "Source(" in given else []) + (
        ["calibration_subset"] if {"calibration_x", "fresh_x"} & needed else [])
    if taken:
        lines.append(f"from qinspect.data import {', '.join(taken)}")
    if "train" in needed:
        lines += ["from qinspect.diagnosis.retrain import taught"]
    lines += ["from qinspect.diagnosis.script import evaluated"]
    if "train" in needed:
        lines += ["from qinspect.train import load_keras"]
    if rule.makes == "evaluation":
        return "\n".join(lines)
    lines += ["from qinspect.store import write_bytes"]
    return "\n".join(["from pathlib import Path", "", *lines]) + """

OUT = Path(__file__).resolve().with_name("fixed.tflite")
if OUT.exists():
    raise SystemExit(f"{OUT} is there; move it away, or name another file here.")"""


def _given(case: Case) -> str:
    """The call that reads what was given, as it was given."""
    told: dict[str, str] = {}
    for name in _FILES:
        if case.told.get(name) is not None:
            told[name] = _place(name, case.told[name])
    for name in _VALUES:
        value = case.told.get(name)
        if isinstance(value, Metric):
            value = value.id
        if value is not None and value != _USUAL.get(name):
            told[name] = repr(value)
    if not told:
        raise SpecError("the fix is a script on files; make the case from files with qi.case, not "
                        "by hand.")
    lines = [f"    {name}={value}," for name, value in told.items()]
    return "\n".join(["# What was given.", "given = qi.case(", *lines, ")"])


def _place(name: str, value: Any) -> str:
    """Where something is kept, as Python; names of files are untrusted and quoted."""
    if isinstance(value, Source):
        keys = [f"{key}={_absolute(one) if store.is_file(Path(one)) else repr(one)}"
                for key, one in (("x_key", value.x_key), ("y_key", value.y_key)) if one]
        return f"Source({', '.join([_place(name, value.path), *keys])})"
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        return repr(text) if is_function(text) and not store.is_file(Path(text)) else (
            _absolute(text))
    folder = getattr(value, "folder", None)  # of a study
    if name == "study" and folder is not None:
        return _absolute(folder)
    raise SpecError(f"the fix is a script on files, and {name} was given as an object; give its "
                    "path.")


def _absolute(path: str | os.PathLike[str]) -> str:
    return repr(str(Path(path).resolve()))


def _path(found: Diagnosis, role: str) -> str:
    """Path of the file of a role, as Python."""
    graph = found.case.graph(role)
    assert graph is not None
    if not store.is_file(Path(graph.file)):
        raise SpecError(f"the fix is a script on files, and the {_TITLES[role]} file was given as "
                        "an object; give its path.")
    return _absolute(graph.file)


def _file(role: str) -> Callable[[Diagnosis, Cause], str]:
    def write(found: Diagnosis, cause: Cause) -> str:
        return f"{role}_file = {_path(found, role)}"

    return write


def _calibration(name: str, *, anew: bool) -> Callable[[Diagnosis, Cause], str]:
    def write(found: Diagnosis, cause: Cause) -> str:
        case = found.case
        if case.has("calibration") and not anew:
            return f"{name} = given.calibration_x"
        many = f"min({_CALIBRATION_EXAMPLES}, len(given.{{0}}))"
        source = "train" if case.has("train") else "data"
        why = ("# ASSUMED: training examples drawn at random are like those of the use."
               if source == "train" else
               "# ASSUMED: as no training data were given (--train), inputs of the evaluation\n"
               "# calibrate, without labels; with examples of their own it would be a fairer test.")
        return (f"{why}\n{name} = calibration_subset(given.{source}, {many.format(source)}, "
                "seed=0).x")

    return write


def _setting(name: str, fact: str, guess: float) -> Callable[[Diagnosis, Cause], str]:
    """A number of the training: as known, else a guess that says so."""
    def write(found: Diagnosis, cause: Cause) -> str:
        case = found.case
        known = None if case.facts is None else getattr(case.facts, fact)
        if known is None:
            told = case.told.get(name)
            known, why = (told, "as given") if told is not None else (guess, "ASSUMED: not known")
        elif name in case.told:
            why = "as given"
        elif "study" in case.told:
            why = "of the study"
        elif name == "batch_size":
            why = "ASSUMED: not given (--batch-size)"
        else:
            why = "by the history, or as saved in the Keras file"
        return f"{name} = {known!r}  # {why}"

    return write


def _better_rate(found: Diagnosis, cause: Cause) -> str:
    if cause.finding.numbers.get("weights_unmoved"):
        return "better_lr = 10 * qat_lr  # the weights had not moved"
    return "better_lr = 0.1 * min(float_lr, qat_lr)  # a tenth of the float model's, at most"


def _taught(found: Diagnosis, cause: Cause) -> str:
    return f"train, loss = taught(given, load_keras(float_h5), {_metric(found)!r})"


def _skipped(found: Diagnosis, cause: Cause) -> str:
    facts = found.case.facts
    return f"skip_layers = {() if facts is None else facts.skip_layers!r}"


# In the order in which they are set.
NAMES: Mapping[str, _Name] = {
    "data": _Name(("data",), lambda found, cause: "data = given.data"),
    "x": _Name(("data",), lambda found, cause: "x = given.data.x"),
    "y": _Name(("data",), lambda found, cause: "y = given.data.y"),
    "float_file": _Name(("float",), _file("float")),
    "ptq_file": _Name(("ptq",), _file("ptq")),
    "qat_file": _Name(("qat",), _file("qat")),
    "files": _Name((), lambda found, cause: "files = ["
                   + ", ".join(_path(found, role) for role in found.case.roles) + "]"),
    "output": _Name((), lambda found, cause: f"output = {found.case.output!r}"),
    "float_h5": _Name(("keras_float",),
                      lambda found, cause: f"float_h5 = {_absolute(found.case.keras_float or '')}"),
    "qat_h5": _Name(("keras_qat",),
                    lambda found, cause: f"qat_h5 = {_absolute(found.case.keras_qat or '')}"),
    "train_x": _Name(("train",), lambda found, cause: "train_x = given.train.x"),
    "train": _Name(("train", "keras_float"), _taught, ("float_h5",)),
    "loss": _Name(("train", "keras_float"), lambda found, cause: "", ("train",)),
    "calibration_x": _Name((), _calibration("calibration_x", anew=False)),
    "fresh_x": _Name((), _calibration("fresh_x", anew=True)),
    "qat_epochs": _Name((), _setting("qat_epochs", "qat_epochs", _EPOCHS)),
    "qat_lr": _Name((), _setting("qat_lr", "qat_lr", _QAT_LR)),
    "float_lr": _Name((), _setting("float_lr", "float_lr", _FLOAT_LR)),
    "better_lr": _Name((), _better_rate, ("qat_lr", "float_lr")),
    "batch_size": _Name((), _setting("batch_size", "batch_size", 32)),
    "skip_layers": _Name((), _skipped),
}


def _metric(found: Diagnosis) -> str:
    told = found.case.told.get("metric")
    return told if isinstance(told, str) else found.focus.metric.id
