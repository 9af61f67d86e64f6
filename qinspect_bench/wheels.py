"""Which platforms have wheels of the compiled dependencies, as the table of ``docs/platforms.md``.

Made by ``python -m qinspect_bench.wheels``: pip asks the package index, nothing is downloaded.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from qinspect.doctor import requirements
from qinspect.workshop import Target

PACKAGES = (
    "ai-edge-litert", "litert-quantizer", "tensorflow", "tf-keras",
    "tensorflow-model-optimization", "dm-tree", "h5py", "numpy", "scipy", "pandas", "scikit-learn",
    "faster-coco-eval", "pyarrow", "ai-edge-model-explorer", "ai-edge-model-explorer-adapter",
)
PLATFORMS = {
    "Linux x86-64": "manylinux_2_28_x86_64", "Linux aarch64": "manylinux_2_28_aarch64",
    "macOS arm64": "macosx_14_0_arm64", "macOS x86-64": "macosx_14_0_x86_64",
    "Windows x86-64": "win_amd64",
}
PYTHONS = ("3.11", "3.12", "3.13")


def available(package: str, target: Target) -> list[str]:
    """Versions that have a wheel for the target, the newest first, as ``pip index`` says."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", package, "--only-binary=:all:",
         "--disable-pip-version-check", "--implementation=cp", f"--python-version={target.release}",
         *(f"--platform={name}" for name in target.platforms)],
        capture_output=True, text=True, check=False,
    )
    if done.returncode and "No matching distribution" not in done.stderr:
        raise OSError(f"pip index versions {package}: {done.stderr.strip()}")
    found = re.search(r"^Available versions: (.*)$", done.stdout, re.MULTILINE)
    return found[1].split(", ") if found else []


def newest(versions: list[str], asked: SpecifierSet) -> str:
    """The newest of them that is asked for; else a dash, and in brackets the newest of all."""
    fitting = list(asked.filter(versions))
    return fitting[0] if fitting else f"– ({versions[0]})" if versions else "–"


def cell(by_python: Mapping[str, str]) -> str:
    """One version where all versions of Python have the same."""
    if len(set(by_python.values())) == 1:
        return next(iter(by_python.values()))
    return ", ".join(f"{python}: {version}" for python, version in by_python.items())


def table(ask: Callable[[str, Target], list[str]] = available) -> str:
    """One row a package, one column a platform."""
    needs = {need.name: need.specifier for need in map(Requirement, requirements())}
    every = [(package, Target(name, python)) for package in PACKAGES
             for name in PLATFORMS.values() for python in PYTHONS]
    with ThreadPoolExecutor(4) as pool:  # they wait for the index
        found = dict(zip(every, pool.map(lambda one: ask(*one), every), strict=True))
    lines = ["| package | asked for | " + " | ".join(PLATFORMS) + " |",
             "|---" * (2 + len(PLATFORMS)) + "|"]
    for package in PACKAGES:
        asked = needs.get(package, SpecifierSet())
        cells = [cell({python: newest(found[package, Target(name, python)], asked)
                       for python in PYTHONS}) for name in PLATFORMS.values()]
        lines.append(f"| {package} | {asked} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Asked on {date.today().isoformat()}.", ""])


if __name__ == "__main__":
    sys.stdout.write(table())
