"""The doctor: each check finds its problem and says what to do, and TensorFlow is never loaded."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from parts import ROOT
from rich.console import Console

from qinspect import doctor
from qinspect.doctor import PROBE, Check, diagnose_environment, doctor_view
from qinspect.show.terminal import print_view
from qinspect.tflite import read_graph


def one(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_this_environment_works_and_versions_are_those_installed() -> None:
    checks = diagnose_environment()
    assert [check for check in checks if check.status == "fail"] == []
    for package in ("numpy", "scipy", "ai-edge-litert", "pandas"):
        assert one(checks, package).found == metadata.version(package)
    assert one(checks, "LiteRT runs").status == "ok"
    assert len({check.name for check in checks}) == len(checks)


def test_every_problem_has_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QINSPECT_DATA", str(tmp_path / "absent"))
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")
    for check in diagnose_environment():
        assert check.status in ("ok", "warn", "fail")
        assert check.found
        assert check.status == "ok" or check.advice


def test_tensorflow_is_not_imported() -> None:
    code = (
        "import sys, json; from qinspect.doctor import diagnose_environment\n"
        "n = len(diagnose_environment())\n"
        "print(json.dumps([n, sorted({'tensorflow', 'tf_keras', 'keras'} & set(sys.modules))]))"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    n, loaded = json.loads(done.stdout)
    assert n > 20
    assert loaded == []


def test_packages_follow_pyproject() -> None:
    """Every base package of pyproject.toml is checked, none of the development ones."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [check.name for check in doctor.check_packages()]
    for text in project["dependencies"]:
        assert text.split(">")[0].split("<")[0] in names
    assert "tensorflow" in names
    assert "pytest" not in names
    assert "qinspect" not in names


def test_missing_and_old_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        "no-such-package-here>=1",
        "numpy>=999",
        'no-such-extra-here; extra == "train"',
        'no-such-cluster-here; extra == "dask"',
        'no-such-tool-here; extra == "dev"',
        'numpy>=1; extra == "lab"',
        'no-such-windows-thing; sys_platform == "nowhere"',
    ]
    monkeypatch.setattr(doctor, "requirements", lambda: asked)
    checks = list(doctor.check_packages())
    assert [(check.name, check.status) for check in checks] == [
        ("no-such-package-here", "fail"),
        ("numpy", "fail"),
        ("no-such-extra-here", "warn"),
        ("no-such-cluster-here", "ok"),
        ("numpy", "ok"),
    ]
    assert ">=999" in checks[1].advice
    assert "qinspect[train]" in checks[2].advice


@pytest.mark.parametrize(
    ("version", "status"),
    [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((3, 13, 4), "ok"), ((3, 14, 0), "fail")],
)
def test_python_versions(version: tuple[int, ...], status: str) -> None:
    assert doctor.check_python(version).status == status


@pytest.mark.parametrize(
    ("versions", "legacy", "status", "words"),
    [
        ({"tensorflow": "2.21.0", "tf-keras": "2.21.0", "keras": "3.15"}, None, "ok", "Keras 3.15"),
        ({"tensorflow": "2.21.0", "tf-keras": "2.21.1"}, "1", "ok", "also as tf.keras"),
        ({"tensorflow": "2.21.0", "tf-keras": "2.21.0"}, "0", "warn", "unset"),
        ({"tensorflow": "2.21.0", "tf-keras": "2.19.0"}, None, "warn", "tf-keras==2.21.*"),
        ({"tensorflow": "2.20.1", "keras": "3.1"}, None, "warn", "tf-keras==2.20.*"),
        ({}, None, "warn", "qinspect[train]"),
    ],
)
def test_keras(
    versions: dict[str, str],
    legacy: str | None,
    status: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "installed", versions.get)
    check = doctor.check_keras(legacy)
    assert check.status == status
    assert words in f"{check.found} {check.advice}"


def package(site: Path, name: str, version: str, *requires: str) -> None:
    """What pip leaves of an installed package besides its modules."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages before the installed ones."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


def test_no_conflicts_here() -> None:
    assert [*doctor.check_rivals(), *doctor.check_pins()] == []


def test_packages_that_stand_in_the_way(site: Path) -> None:
    rivals = (
        ("tf-nightly", "2.22.0.dev20261001", "tensorflow", "same Python module"),
        ("ai-edge-litert-nightly", "2.4.0.dev20261001", "ai-edge-litert", "--force-reinstall"),
        ("ai-edge-quantizer", "0.10.0", "litert-quantizer", "old name"),
        ("tflite-runtime", "2.14.0", "ai-edge-litert", "old interpreter"),
    )
    for name, version, *_ in rivals:
        package(site, name, version)
    checks = diagnose_environment()
    for name, version, needed, words in rivals:
        found = one(checks, name)
        assert (found.status, words in found.advice) == ("warn", True), name
        assert found.found == f"{version} beside {needed} {metadata.version(needed)}"
        assert f"pip uninstall {name}" in found.advice


@pytest.mark.parametrize("backport", [False, True])
def test_what_others_pin(site: Path, backport: bool) -> None:
    """An outsider goes; where two of qinspect's own disagree, the version asked for is named."""
    if backport:  # once imported, it finds the packages
        pytest.importorskip("importlib_metadata")
    litert = metadata.version("ai-edge-litert")
    package(site, "litert-cli", "0.2.1", "ai-edge-litert==2.1.0", "numpy>=1", "absent-thing>=9",
            "pandas<1; extra == 'old'", "not a requirement at all")
    package(site, "litert-quantizer", "0.11.9", "ai-edge-litert==2.0.9")
    (site / "half_deleted-1.0.dist-info").mkdir()
    checks = {check.name: check for check in doctor.check_pins()}
    assert set(checks) == {"litert-cli and ai-edge-litert", "litert-quantizer and ai-edge-litert"}
    outsider, own = (checks[name] for name in sorted(checks))
    assert outsider.found == f"litert-cli 0.2.1 asks for ai-edge-litert==2.1.0, found {litert}"
    assert outsider.advice.endswith("pip uninstall litert-cli")
    assert own.advice == "run: pip install 'ai-edge-litert==2.0.9'"


def test_model_explorer_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", {"ai-edge-model-explorer": "0.1.34"}.get)
    (found,) = doctor.check_viewer("Windows")
    assert (found.status, found.found[:7]) == ("warn", "0.1.34;")
    assert "qinspect overlay" in found.advice
    assert list(doctor.check_viewer("Linux")) == []
    monkeypatch.setattr(doctor, "installed", {}.get)
    assert [check.status for check in doctor.check_viewer("Windows")] == ["ok"]


def test_the_probe_is_one_relu() -> None:
    graph = read_graph(PROBE)
    assert [operator.code for operator in graph.main.operators] == ["RELU"]
    assert doctor.run_probe() == "0.0 2.0"


def test_a_litert_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name earlier on the path that kills the process, as a bad build would."""
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").write_text("import os; os.abort()")
    # PYTHONPATH stands before the installed packages.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = doctor.check_litert()
    assert check.status == "fail"
    assert "exit status -6" in check.found
    assert "reinstall" in check.advice


def test_data_sets(tmp_path: Path) -> None:
    folder, cache = tmp_path / "data", tmp_path / "cache"
    folder.mkdir()
    cache.mkdir()
    for name in ("mnist", "fashion_mnist"):
        (folder / f"{name}.npz").touch()
    some = doctor.check_data(str(folder), cache)
    assert some.status == "warn"
    assert some.found.endswith("not on this machine: cifar10")
    (cache / "cifar-10-batches-py").mkdir()
    assert doctor.check_data(str(folder), cache).status == "ok"
    nothing = doctor.check_data(None, tmp_path / "absent")
    assert nothing.found.endswith("fashion_mnist, mnist, cifar10")
    assert "QINSPECT_DATA" in nothing.advice
    assert doctor.check_data(str(tmp_path / "absent"), cache).status == "warn"


def test_printed_text_shows_every_check_and_each_advice() -> None:
    checks = [
        Check("Python", "ok", "3.12"),
        Check("data mnist", "warn", "/a/[red]b[/red]/\x1b[31m", "put it there"),
        Check("LiteRT runs", "fail", "exit status -4", "reinstall it"),
    ]
    stream = io.StringIO()
    print_view(doctor_view(checks), Console(file=stream, width=60))
    text = stream.getvalue()
    for check in checks:
        assert check.name in text
        assert check.status in text
        assert check.advice in text
    # Markup and control characters in a path are shown, not obeyed.
    assert "[red]b[/red]" in text
    assert "\x1b" not in text
    assert "2 to look at" in text
    stream = io.StringIO()
    print_view(doctor_view(checks[:1]), Console(file=stream))
    assert "everything is in order" in stream.getvalue()
