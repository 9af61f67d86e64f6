"""What ``qinspect doctor`` looks at: what explains an installation that does not work.

No check imports TensorFlow: versions come from the installed packages' metadata.
"""

from __future__ import annotations

import base64
import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from qinspect.show.view import View

Status = Literal["ok", "warn", "fail"]

_EXTRAS = {"train": "training and quantizing", "lab": "notebooks", "dask": "sweeps on a cluster",
           "detection": "the metric map", "parquet": "Parquet files", "viewer": "Model Explorer"}
# Those that are missed only by who asks for just that.
_SELDOM = ("dask", "detection", "parquet", "viewer")
# Packages that are the same Python module as one that qinspect needs.
_SAME_MODULE = {"tf-nightly": "tensorflow", "tensorflow-cpu": "tensorflow",
                "ai-edge-litert-nightly": "ai-edge-litert",
                "litert-quantizer-nightly": "litert-quantizer"}
# Predecessors: which package took their place, and what follows.
_OLD = {
    "ai-edge-quantizer": ("litert-quantizer", "this is the old name of the quantizer, which "
                          "qinspect does not use"),
    "tflite-runtime": ("ai-edge-litert", "this is an old interpreter, which qinspect does not use, "
                       "so programs that do may give other numbers"),
}
# Where Keras keeps each published data set under ~/.keras/datasets.
_KERAS_CACHE = {"fashion_mnist": "fashion-mnist/t10k-images-idx3-ubyte.gz", "mnist": "mnist.npz",
                "cifar10": "cifar-10-batches-py"}
# A ``.tflite`` file of one ReLU, float32 of shape (2,).
PROBE = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA0AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAA"
    "AMABQAEAAMAAgABAAMAAAAEAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAA"
    "AAEAAAABAAAAAAAAAAEAAAABAAAAAQAAAAAAAAACAAAAMAAAAAQAAADk////CAAAAAwAAAABAAAAeQAAAAEAAAACAA"
    "AADAAMAAgAAAAAAAQADAAAAAgAAAAMAAAAAQAAAHgAAAABAAAAAgAAAAEAAAAQAAAADAAMAAsAAAAAAAQADAAAABMA"
    "AAAAAAAT"
)


@dataclass(frozen=True)
class Check:
    """One thing looked at; "warn": a part of qinspect does not work, "fail": nothing does."""

    name: str
    status: Status
    found: str
    advice: str = ""


def diagnose_environment() -> list[Check]:
    """Look at everything qinspect depends on, in the order to be shown."""
    return [
        check_python(sys.version_info[:3]), *check_packages(), *check_rivals(), *check_pins(),
        *check_viewer(platform.system()), check_keras(os.environ.get("TF_USE_LEGACY_KERAS")),
        check_litert(),
        check_data(os.environ.get("QINSPECT_DATA"), Path.home() / ".keras" / "datasets"),
    ]


def check_python(version: tuple[int, ...]) -> Check:
    """Python 3.11 to 3.13."""
    found = f"{'.'.join(map(str, version))} ({platform.system()} {platform.machine()})"
    if (3, 11) <= version[:2] <= (3, 13):
        return Check("Python", "ok", found)
    return Check("Python", "fail", found, "make a virtual environment with Python 3.11, 3.12 or "
                 "3.13 and install qinspect there")


def requirements() -> list[str]:
    """What qinspect asks for, from its own metadata or the checkout's ``pyproject.toml``."""
    try:
        return metadata.requires("qinspect") or []
    except metadata.PackageNotFoundError:
        file = Path(__file__).resolve().parents[1] / "pyproject.toml"
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        return project["dependencies"] + [
            f'{one}; extra == "{extra}"'
            for extra, wanted in project["optional-dependencies"].items() for one in wanted
        ]


def check_packages() -> Iterator[Check]:
    """Installed version of every package against the versions qinspect asks for."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Check("packaging", "fail", "not installed", "run: pip install packaging")
        return
    for need in map(Requirement, requirements()):
        base = need.marker is None or need.marker.evaluate({"extra": ""})
        extra = next((one for one in _EXTRAS
                      if need.marker and need.marker.evaluate({"extra": one})), "")
        if not base and not extra:
            continue
        found = installed(need.name)
        status: Status = "fail" if base else "warn"
        purpose = "" if base else f" (for {_EXTRAS[extra]})"
        if found is None and extra in _SELDOM and not base:
            yield Check(need.name, "ok", f"not installed{purpose}")
        elif found is None:
            source = "qinspect" if base else f"qinspect[{extra}]"
            yield Check(need.name, status, f"not installed{purpose}",
                        f"run: pip install '{source}'{purpose}")
        elif not need.specifier.contains(found, prereleases=True):
            yield Check(need.name, status, found, f"qinspect asks for {need.specifier}; "
                        f"run: pip install '{need.name}{need.specifier}'")
        else:
            yield Check(need.name, "ok", found)


def check_rivals() -> Iterator[Check]:
    """Packages that take the place of one that qinspect needs, or that it took the place of."""
    for name, needed in _SAME_MODULE.items():
        version, ours = installed(name), installed(needed)
        if version is not None:
            again = f"{needed}=={ours}" if ours else needed
            yield Check(name, "warn", _beside(version, needed, ours), "both are the same Python "
                        "module, of which the one installed last is imported; run: pip uninstall "
                        f"{name}, then: pip install --force-reinstall --no-deps {again}")
    for name, (needed, why) in _OLD.items():
        version = installed(name)
        if version is not None:
            yield Check(name, "warn", _beside(version, needed, installed(needed)),
                        f"{why}; unless another program needs it, run: pip uninstall {name}")


def _beside(version: str, needed: str, ours: str | None) -> str:
    return f"{version} beside {needed} {ours}" if ours else f"{version}, but no {needed}"


def _named(package: metadata.Distribution) -> str:
    """The name of an installed package; none of a folder that pip left half deleted."""
    try:
        return package.metadata["Name"] or ""
    # So says the backport importlib_metadata, which finds packages as soon as anything imports it.
    except FileNotFoundError:
        return ""


def check_pins() -> Iterator[Check]:
    """Installed packages that ask for another version of what qinspect needs than there is."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    needs = {canonicalize_name(Requirement(one).name) for one in requirements()}
    seen = set()
    for package in metadata.distributions():
        name = canonicalize_name(_named(package))
        if not name or name in seen or name == "qinspect":
            continue
        seen.add(name)  # of two on the path the first is imported
        for text in package.requires or []:
            try:
                need = Requirement(text)
            except InvalidRequirement:
                continue
            version = installed(need.name)
            if (canonicalize_name(need.name) not in needs or version is None
                    or (need.marker and not need.marker.evaluate({"extra": ""}))
                    or need.specifier.contains(version, prereleases=True)):
                continue
            yield Check(
                f"{name} and {need.name}", "warn",
                f"{name} {package.version} asks for {need.name}{need.specifier}, found {version}",
                f"run: pip install '{need.name}{need.specifier}'" if name in needs else
                f"qinspect does not need {name}: install it in an environment of its own and run "
                f"here: pip uninstall {name}",
            )


def check_viewer(system: str) -> Iterator[Check]:
    """Model Explorer on Windows, where the part that reads files does not exist."""
    version = installed("ai-edge-model-explorer")
    if system == "Windows" and installed("ai-edge-model-explorer-adapter") is None:
        yield Check("Model Explorer", "ok" if version is None else "warn",
                    f"{version or 'not installed'}; there is no ai-edge-model-explorer-adapter, "
                    "which reads its files, for Windows",
                    "write overlays here with `qinspect overlay` and open them with Model Explorer "
                    "on Linux, in WSL or on macOS")


def installed(package: str) -> str | None:
    """Version of an installed package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check_keras(legacy: str | None) -> Check:
    """Keras 2 (tf_keras) of TensorFlow's version; ``legacy`` is TF_USE_LEGACY_KERAS."""
    tensorflow, keras2, keras3 = (installed(one) for one in ("tensorflow", "tf-keras", "keras"))
    if tensorflow is None:
        return Check("Keras", "warn", "TensorFlow is not installed",
                     "to train and quantize, run: pip install 'qinspect[train]'; inspecting and "
                     "comparing .tflite files works without it")
    series = tensorflow.split(".")[:2]
    if keras2 is None or keras2.split(".")[:2] != series:
        return Check("Keras", "warn", f"tf-keras {keras2 or 'not installed'} beside tensorflow "
                     f"{tensorflow} and keras {keras3 or 'not installed'}", "quantization-aware "
                     "training needs Keras 2 of the same series as TensorFlow; run: "
                     f"pip install 'tf-keras=={'.'.join(series)}.*'")
    if legacy is not None and legacy.lower() not in ("1", "true"):
        return Check("Keras", "warn", f"tf-keras {keras2}, TF_USE_LEGACY_KERAS={legacy}",
                     "this makes tf.keras Keras 3, whose models cannot be trained "
                     "quantization-aware; unset TF_USE_LEGACY_KERAS or set it to 1")
    plain = f"; plain tf.keras is Keras {keras3}" if legacy is None else ", also as tf.keras"
    return Check("Keras", "ok", f"tf-keras {keras2} (Keras 2){plain}")


def check_litert() -> Check:
    """Run a network of one operator in a child process, since a bad build can kill its process."""
    version = installed("ai-edge-litert")
    if version is None:
        return Check("LiteRT runs", "fail", "not installed", "run: pip install ai-edge-litert")
    parent = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [parent, os.environ.get("PYTHONPATH")]))
    try:
        child = subprocess.run(
            [sys.executable, "-c", "from qinspect.doctor import run_probe; print(run_probe())"],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True, text=True, timeout=60, check=False,
        )
        right = child.returncode == 0 and child.stdout.split() == ["0.0", "2.0"]
        said = (child.stderr or child.stdout).strip().splitlines() or ["no message"]
        why = f"exit status {child.returncode}: {said[-1]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        right, why = False, " ".join(str(error).split())
    if right:
        return Check("LiteRT runs", "ok", f"{version}, a test network gives the right numbers")
    return Check("LiteRT runs", "fail", why[:200],
                 f"reinstall it with: pip install --force-reinstall ai-edge-litert=={version}; if "
                 "that does not help, there may be no wheel for this platform")


def run_probe() -> str:
    """Result of ReLU on (-1, 2) by LiteRT: "0.0 2.0" where it works."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=PROBE, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.array([-1, 2], dtype=np.float32))
    interpreter.invoke()
    return " ".join(str(float(value)) for value in interpreter.get_tensor(1))


def check_data(named: str | None, keras_cache: Path) -> Check:
    """Where published data sets come from; ``named`` is QINSPECT_DATA."""
    folder = Path(named) if named else None
    if folder is not None and not folder.is_dir():
        return Check("data sets", "warn", f"QINSPECT_DATA is {folder}, which is not a folder",
                     "name the folder that holds the .npz files, or unset it")
    absent = [name for name, kept in _KERAS_CACHE.items()
              if not (folder is not None and (folder / f"{name}.npz").is_file())
              and not (keras_cache / kept).exists()]
    where = f"QINSPECT_DATA is {folder or 'not set'}"
    if not absent:
        return Check("data sets", "ok", f"{where}; all are on this machine")
    return Check("data sets", "warn", f"{where}; not on this machine: {', '.join(absent)}",
                 "Keras downloads them on first use if there is network; without, put NAME.npz in "
                 "a folder and name it in QINSPECT_DATA; digits and glyphs need no file")


def doctor_view(checks: Sequence[Check]) -> View:
    """All checks, then what to do about each problem."""
    from qinspect.show.table import table
    from qinspect.show.view import View

    problems = sum(check.status != "ok" for check in checks)
    heads = {"check": lambda c: c.name, "status": lambda c: c.status, "found": lambda c: c.found}
    return View(
        "doctor", (f"{problems} to look at" if problems else "everything is in order",),
        (table("", checks, heads, most=len(checks)),),
        notes=tuple(f"{check.status}: {check.name}: {check.found}; {check.advice}"
                    for check in checks if check.advice),
    )
