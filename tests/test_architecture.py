"""The corridor: imports point left, TensorFlow stays in train, importing qinspect is cheap."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from parts import ROOT

PACKAGE = ROOT / "qinspect"
# A module may import what stands before it; the lab and the command line stand after all.
ROOMS = (
    "errors", "schema", "quiet", "affine", "store", "verdicts", "shown", "progress", "named",
    "metrics", "stats", "data", "families", "predictions", "tflite", "measure", "comparisons",
    "evaluation", "gating", "pytest_plugin", "train", "studies", "loading", "gathering",
    "diagnosis", "causes", "show", "doctor", "exercises", "lab", "viewer", "workshop", "cli",
    "__init__", "__main__",
)
# The rules are asked by the engine, and import what a rule is made of: one room in two folders.
TOGETHER = {"diagnosis", "causes"}
HEAVY = {"tensorflow", "tf_keras", "tensorflow_model_optimization", "keras"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Imported module names and whether the import stands at the top level of the module."""
    tree = ast.parse(path.read_text())
    inside = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in ast.walk(node)
    }
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        top = id(node) not in inside
        if isinstance(node, ast.Import):
            found += [(alias.name, top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "qinspect":
                found += [(f"qinspect.{alias.name}", top) for alias in node.names]
            else:
                found.append((node.module, top))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_left(path: Path) -> None:
    room = room_of(path)
    for name, top in imports_of(path):
        parts = name.split(".")
        if parts[0] in HEAVY:
            assert room == "train", f"{path.name} imports {name}, which only train may"
        assert parts[0] != "qinspect_bench", f"{path.name} imports the benchmark"
        if parts[0] != "qinspect" or len(parts) < 2 or {room, parts[1]} == TOGETHER:
            continue
        target = parts[1]
        if target == "train" and room != "train" and name != "qinspect.train.recipes":
            assert not top, f"{path.name} imports {name} at top level; do it inside a function"
        if room == "data" and target == "train":
            assert not top
            continue  # downloading through Keras, a way back
        if room == "shown" and target == "show":
            assert not top
            continue  # a result shows itself
        assert ROOMS.index(target) <= ROOMS.index(room), f"{path.name} of {room} imports {name}"


def test_every_room_has_its_place() -> None:
    assert {room_of(path) for path in MODULES} == set(ROOMS)


def test_no_utils() -> None:
    assert not [path for path in MODULES if path.stem in {"utils", "helpers", "misc", "common"}]


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_all_but_train_leaves_tensorflow_out() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if room_of(path) != "train" or path.stem in {"recipes", "__init__"}
    ]
    names = [name for name in names if not name.endswith("__main__")]  # running it is its purpose
    loaded = run_python(
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print([m for m in {sorted(HEAVY)!r} if m in sys.modules])"
    )
    assert loaded == "[]"


def test_import_loads_no_numpy() -> None:
    assert run_python("import sys, qinspect; print('numpy' in sys.modules)") == "False"


def test_import_costs_little() -> None:
    code = "import time; t = time.perf_counter(); import qinspect; print(time.perf_counter() - t)"
    # The best of five: the cost of the import, not of a busy machine.
    assert min(float(run_python(code)) for _ in range(5)) < 0.15


def test_public_names_exist() -> None:
    import qinspect

    for name in qinspect.__all__:
        assert getattr(qinspect, name) is not None


def test_no_module_bears_a_verbs_name() -> None:
    # Once imported, the module would take the function's place as an attribute of the package.
    import qinspect

    lessons = {"exercises", "stats", "tflite", "train"}
    verbs = {name for name in qinspect.__all__ if name not in lessons}
    listed = re.search(r"all there is to learn: ([^.]*)\.", (ROOT / "README.md").read_text())
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == verbs - {"QinspectError"}
    names = {part for path in MODULES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    shown = PACKAGE / "show" / "views"  # found by the class that they show, never imported by name
    names -= {path.stem for path in shown.glob("*.py")}
    assert not verbs & names


def test_comparing_files_leaves_the_slow_half_of_scipy_out() -> None:
    loaded = run_python(
        "import sys, qinspect.comparisons, qinspect.evaluation, qinspect.show.view; "
        "print(sorted({'scipy.stats', 'scipy.optimize'} & set(sys.modules)))"
    )
    assert loaded == "[]"


def test_lowest_versions_are_the_lower_bounds() -> None:
    from packaging.requirements import Requirement
    from packaging.version import Version

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    parts = ("train", "lab", "dask", "detection", "parquet")
    asked = [*project["dependencies"], *(one for part in parts for one in extras[part])]
    assert {Requirement(one).name for one in asked} <= set(pinned)
    for need in map(Requirement, (*asked, *extras["dev"])):
        lowest = [one.version for one in need.specifier if one.operator == ">="]
        if need.name in pinned:
            assert [Version(one) for one in lowest] == [Version(pinned[need.name])], need.name
