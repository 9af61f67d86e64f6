"""Six prepared puzzles, each with one hidden cause, for the last notebook.

A puzzle is a recipe: which fault of :mod:`qinspect_bench.faults` is put into a healthy study.  The
models are made from it on the learner's machine, so no weights are shipped.

Recipes are compressed and written in base 64: nobody reads an answer by accident, neither in the
notebook nor here nor by searching the folders.  That is all it protects against.  Whoever can make
the models can also decode the recipe, so there is no stronger lock on the answer.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qinspect import store
from qinspect.causes import all_rules
from qinspect.data.dataset import Dataset, one_array
from qinspect.diagnosis.cases import Case, Claim
from qinspect.errors import SpecError, unknown_name
from qinspect.exercises import Reply
from qinspect.predictions import Results
from qinspect.tflite import evaluate, read_graph
from qinspect_bench.base import Base, Cell, make_base
from qinspect_bench.faults import FAULTS

_CELL = Cell("plain_cnn", 0)
RECIPES: dict[int, str] = {
    1: (
        "eNotjUEOwjAMBL9i5cKlRZz7Cd5gUjeJSJ3KNlQV4u8kKSevR571x3l8KbkJ3EYyGrEWGXdKIZq6AZyaEAeL7aLm"
        "wqHRN0pCtgpvdYupR3ffiMEiQUYJpAZLynRR+NdVfJDA4zjDBLmUJ6B1xUdkpqxQlr4vSWrBaWiaqWltDoA8NymW"
        "HVbkSj1mUiD0sT8EtSIVLEVa03p13x8/Z09T"
    ),
    2: (
        "eNo1jkEKQjEMRK8SslZx/TfewIU3iDa2gf4E0nw/It7dtuBu8mbCzAcftDXGBTCcREXz8b6lzIEHwBbOmqMMe5Wa"
        "BnuRC2l0dO5XkSnxatFlBmmwuw2hTRJDFIbdvDE8pfIJbkxpwn8bFGlh/l5gLxSQJIEpw2qJK/QZPUwxP3oD+zRH"
        "SC0u+P0BAtdBUg=="
    ),
    3: (
        "eNodi0EOwjAMBL9i+QxIXLnyEhPcxhK1g+OACuLvuL3tzux+sdDojBdA0Tbi+BykIR8KMcUDYA9nnaNui8ym80Zf"
        "5JK7hOdsVfaIV1saOUNUBudmHnwHKmU4FeEOb4m6y4WpD09pmvjGk+VrtQHWWIF0hUkefMLfHwRVNzs="
    ),
    4: (
        "eNotyjEOwjAMheGrWJ5LxcyGOInVOrHVxkGxaQfE3UkQ23uf/jcu9HLGG+CqKXFji4txnLVtOAF6dMkhIyi6r8MO"
        "akoWna79if4m3n2DUygghCHpzg5CB4MaLLWUajM8anlS41Fog5M1S/gEVuNPjSyzz/j5AuBeMws="
    ),
    5: (
        "eNo1jD0OwjAMRq9iZS6ImZWTmMhtrKYxsp12QNwdp1K39/3ofVPGbpSeEFD5regs7SbdK5NamiCZK7XFy/gES1tG"
        "u6MyNo/yEanwiekl2weVwAuBYlvIAtHPfIgawcyVwFw0poO9nNOOtV9XybnrNOoGVWSFWRSOQmG1nsulzbKFTGW7"
        "p98fJAxEsQ=="
    ),
    6: (
        "eNoti0EOAjEMA78S9bwgzryBTwRqthVLIiWhFUL8nRa42ePxK1344UhHSh68YadnhzWYp2Uig6xRfrOprJM2tsoS"
        "Ax5GK/Ub00n1RhwUBWQsK3zEf+9qDrrWDeShBl+IJU+7aJ/Gk+7akKmX6dSgzuNuXAV5n94fH9c4kQ=="
    ),
}


@dataclass(frozen=True)
class Recipe:
    """What is hidden: a fault, and the hint shown after a wrong answer."""

    cause: str
    strength: str
    variant: int
    hint: str


@dataclass(frozen=True)
class Mystery:
    """Files of somebody who asks why one of them is better."""

    number: int
    folder: Path  # ``float.tflite``, ``ptq.tflite`` and so on; ``data.npz``, ``calibration.npz``
    case: Case  # all that is at hand, to be diagnosed and looked at

    @property
    def files(self) -> dict[str, Path]:
        """The files by role, the float one first."""
        return {role: self.folder / f"{role}.tflite" for role in self.case.roles}

    @property
    def data(self) -> Dataset:
        """Evaluation examples."""
        assert self.case.data is not None
        return self.case.data

    @cached_property
    def results(self) -> Results:
        """What the files give, run here."""
        graphs = [self.case.graph(role) for role in self.files]
        outputs = [evaluate(g.content, self.data.array).prediction for g in graphs if g is not None]
        return Results(dict(zip(self.files, outputs, strict=True)), self.data.labels, self.data.ids)

    def report(self) -> pd.DataFrame:
        """One row a file, all in per cent: accuracy ``reported`` by the owner, and ``measured``.

        ``same_answers``: the share of examples on which the owner's prediction is the one measured.
        """
        told = {role: self.case.claims[role].prediction for role in self.files}
        return pd.DataFrame({
            "reported": {role: 100 * np.mean(told[role] == self.data.labels) for role in told},
            "measured": {role: 100 * self.results.value(role) for role in told},
            "same_answers": {role: 100 * np.mean(told[role] == self.results.outputs[role])
                             for role in told},
        }).rename_axis("file")

    def check(self, answer: str) -> Reply:
        """Whether ``answer``, the id of a cause, is the hidden one; a hint where it is not."""
        given = answer.strip().lower()
        if not given:
            return Reply(f"Mystery {self.number}: no answer yet.")
        rules = all_rules()
        if given not in rules:
            raise unknown_name("cause", answer, rules)
        hidden = decoded(RECIPES[self.number])
        if given == hidden.cause:
            rule = rules[given]
            return Reply(f"Mystery {self.number}: right, {rule.title}. Remedy: {rule.remedy}")
        return Reply(f"Mystery {self.number}: not {given}. Hint: {hidden.hint}")


def suspects() -> pd.DataFrame:
    """Ids of the causes that an answer may name, and what each asks."""
    rules = all_rules().values()
    return pd.DataFrame([(rule.id, rule.question) for rule in rules],
                        columns=["answer", "what it asks"]).set_index("answer")


def open_mystery(number: int, folder: str | os.PathLike[str] = "mysteries") -> Mystery:
    """Make a puzzle, 1 to 6, in a folder, or find it made; the first one trains a small network."""
    if number not in RECIPES:
        raise SpecError(f"there is no mystery {number!r}; choose 1 to {len(RECIPES)}.")
    hidden = decoded(RECIPES[number])
    root = store.prepare_folder(folder, ("healthy", str(number)))
    base = _healthy(root.resolve() / "healthy")
    case = _inject(base, hidden, root / str(number))
    return Mystery(number, root / str(number), replace(case, name=f"mystery {number}"))


@functools.lru_cache(maxsize=1)
def _healthy(folder: Path) -> Base:
    """What all puzzles start from; read from its folder once."""
    return make_base(_CELL, folder)


def encoded(recipe: Recipe) -> str:
    """A recipe as text that says nothing at a glance; for new puzzles."""
    return base64.b64encode(zlib.compress(json.dumps(vars(recipe)).encode(), 9)).decode()


def decoded(text: str) -> Recipe:
    """The inverse of :func:`encoded`."""
    return Recipe(**json.loads(zlib.decompress(base64.b64decode(text))))


def _stored(case: Case, folder: Path) -> Case:
    """The case with its files in a folder, under names that tell nothing."""
    files: dict[str, Any] = {}
    for role in case.roles:
        graph = case.graph(role)
        assert graph is not None
        path = folder / f"{role}.tflite"
        store.write_bytes(path, graph.content)
        files[f"{role}_graph"] = read_graph(path)
    assert case.data is not None
    store.write_arrays(folder / "data.npz", {"x": case.data.array, "y": case.data.labels})
    if case.calibration_x is not None:
        x = one_array(case.calibration_x, "the calibration set")
        store.write_arrays(folder / "calibration.npz", {"x": x})
    for name, source in (("keras_float", case.keras_float), ("keras_qat", case.keras_qat)):
        if source is not None:
            files[name] = folder / f"{name}.h5"
            store.write_bytes(files[name], source.read_bytes())
    return replace(case, **files, arms={}, arm_models={}, parts=())


def _with_claims(case: Case) -> Case:
    """Every file comes with its owner's predictions, so that their presence tells nothing."""
    assert case.data is not None
    claims = dict(case.claims)
    for role in case.roles:
        graph = case.graph(role)
        if role not in claims and graph is not None:
            claims[role] = Claim(evaluate(graph.content, case.data.array).prediction)
    return replace(case, claims=claims)


def _inject(base: Base, hidden: Recipe, folder: Path) -> Case:
    """The case with its fault; files made on the way are deleted, their names would tell."""
    scratch = base.folder / "made"
    kept = set(scratch.iterdir())
    made = FAULTS[hidden.cause](base, base.case, hidden.strength, hidden.variant).case
    case = _with_claims(_stored(made, folder))
    for path in set(scratch.iterdir()) - kept:
        path.unlink()
    return case
