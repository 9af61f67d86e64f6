"""The workshop kit: what laptops of other kinds than this one need in a room without network."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from qinspect.errors import MissingExtraError, SpecError, StoreError
from qinspect.lab import copy_notebooks, guide, notebook_sources
from qinspect.show.slides import page, slides
from qinspect.store import prepare_folder, write_bytes, write_text

if TYPE_CHECKING:
    from qinspect.show.view import View

_EXTRAS = "all"
# Third number of Python's version where none is given.
_RELEASE = 9
# Wheels that are named for each platform.
_LARGEST = 5
# What the project's wheel is built from.
_SOURCES = ("qinspect", "qinspect_bench", "notebooks", "data", "pyproject.toml", "README.md",
            "LICENSE")
_KNOWN = re.compile(r"(?P<win>win)_(?P<win_machine>amd64|arm64)"
                    r"|(?P<linux>manylinux)_2_(?P<minor>\d+)_(?P<linux_machine>x86_64|aarch64)"
                    r"|(?P<mac>macosx)_\d+_\d+_(?P<mac_machine>arm64|x86_64)")
# The names of manylinux wheels before they bore the version of the C library.
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# pip asks the markers of requirements (such as sys_platform == "win32") of the computer that it
# runs on, whatever --platform says; here they are asked of the computer that the wheels are for.
_PIP = """
import json, runpy, sys
from pip._vendor.packaging import markers
told = json.loads(sys.argv.pop(1))
markers.default_environment = lambda: dict(told)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Target:
    """A kind of computer: platform as wheels name it, such as ``win_amd64``, and its Python.

    Where ``python`` has no third number, as in ``3.12``, the release ``3.12.9`` is meant: some
    packages need the bug fixes of one.
    """

    platform: str
    python: str

    def __post_init__(self) -> None:
        if not _KNOWN.fullmatch(self.platform):
            raise SpecError(
                f"unknown platform {self.platform!r}; write win_amd64, win_arm64, "
                "manylinux_2_28_x86_64, manylinux_2_28_aarch64 or macosx_14_0_arm64.")
        if not re.fullmatch(r"3\.\d+(\.\d+)?", self.python):
            raise SpecError(f"Python {self.python!r} is no version; write it as in 3.12 or 3.12.3.")

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.platform}-py{self.minor}"

    @property
    def minor(self) -> str:
        """Version of Python without its third number."""
        return ".".join(self.python.split(".")[:2])

    @property
    def release(self) -> str:
        """Version of Python with its third number."""
        return self.python if self.python != self.minor else f"{self.minor}.{_RELEASE}"

    @property
    def platforms(self) -> list[str]:
        """Names of platforms whose wheels run there; pip knows the older ones only of macOS."""
        found = _match(self.platform)
        if not found["linux"]:
            return [self.platform]
        machine, newest = found["linux_machine"], int(found["minor"])
        names = [[f"manylinux_2_{minor}_{machine}",
                  *([f"{_OLD_NAMES[minor]}_{machine}"] if minor in _OLD_NAMES else [])]
                 for minor in range(newest, 4, -1)]
        return [name for pair in names for name in pair]

    @property
    def environment(self) -> dict[str, str]:
        """What the markers of requirements ask for."""
        found = _match(self.platform)
        if found["win"]:
            system = {"os_name": "nt", "sys_platform": "win32", "platform_system": "Windows",
                      "platform_machine": found["win_machine"].upper()}
        elif found["linux"]:
            system = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux",
                      "platform_machine": found["linux_machine"]}
        else:
            system = {"os_name": "posix", "sys_platform": "darwin", "platform_system": "Darwin",
                      "platform_machine": found["mac_machine"]}
        return {**system, "python_version": self.minor, "python_full_version": self.release,
                "implementation_name": "cpython", "implementation_version": self.release,
                "platform_python_implementation": "CPython", "platform_release": "",
                "platform_version": ""}


def _match(platform: str) -> re.Match[str]:
    found = _KNOWN.fullmatch(platform)
    assert found is not None
    return found


def kit(
    targets: Sequence[Target], out: Path, say: Callable[[str], None], *,
    requirements: Sequence[str] = (),
) -> pd.DataFrame:
    """Make the kit in ``out``, or go on with it; returns the wheels: target, wheel, megabytes.

    ``requirements`` take the place of the project itself with all its extras.  What is there and
    complete is kept, so that the same call goes on after an interruption or adds a platform.
    """
    if importlib.util.find_spec("pip") is None:
        raise MissingExtraError("fetching wheels needs pip, which is not installed; run: "
                                f"{sys.executable} -m ensurepip")
    wheels = prepare_folder(out, ("wheels",)) / "wheels"
    wanted = tuple(requirements)
    if not wanted:
        say("building the project's own wheel")
        own = build_wheel(wheels)
        wanted = (f"qinspect[{_EXTRAS}] @ {own.resolve().as_uri()}",)
    refused = []
    for target in targets:
        folder = wheels / target.name
        if folder.is_dir() and not lacking(folder, wanted, target):
            say(f"{target.name}: complete")
            continue
        say(f"{target.name}: fetching wheels")
        try:
            _fetch(folder, wanted, target)
        except StoreError as error:
            refused.append(str(error))
    _write_pages(out, targets)
    if refused:
        raise StoreError(" ".join(refused))
    return pd.DataFrame(
        [(target.name, wheel.name, wheel.stat().st_size / 1e6)
         for target in targets for wheel in sorted((wheels / target.name).glob("*.whl"))],
        columns=["target", "wheel", "megabytes"])


def kit_view(wheels: pd.DataFrame, out: Path) -> View:
    """How large the kit is for each platform, and which wheels make it so."""
    from qinspect.show.table import table
    from qinspect.show.view import View

    sums = wheels.groupby("target", sort=False)["megabytes"].agg(["size", "sum"]).reset_index()
    largest = (wheels.sort_values("megabytes", ascending=False, kind="stable")
               .groupby("target", sort=False).head(_LARGEST).sort_values("target", kind="stable"))
    return View(
        f"kit in {out}",
        ("Hand out the folder without teacher/; README.html in it says how to start.",),
        (table("platforms", sums.to_dict("records"),
               {"platform": lambda row: row["target"], "wheels": lambda row: str(row["size"]),
                "MB": lambda row: f"{row['sum']:.0f}"}),
         table("largest wheels", largest.to_dict("records"),
               {"platform": lambda row: row["target"], "wheel": lambda row: row["wheel"],
                "MB": lambda row: f"{row['megabytes']:.1f}"}, most=len(largest))),
    )


def build_wheel(folder: Path) -> Path:
    """The project's own wheel, built from a copy, so that the checkout stays as it is."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "pyproject.toml").is_file():
        raise StoreError(f"{str(root)!r} is no checkout of qinspect, from which its wheel is "
                         "built; run this command in a clone of the repository.")
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "qinspect"
        copy.mkdir()
        for name in _SOURCES:
            if (root / name).is_dir():
                shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns(
                    "__pycache__", ".ipynb_checkpoints"))
            else:
                shutil.copy(root / name, copy / name)
        done = _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir",
                     temporary, str(copy)])
        if done.returncode:
            raise StoreError(f"the project's own wheel cannot be built: {_last(done.stderr)}")
        (made,) = Path(temporary).glob("*.whl")
        for old in folder.glob("qinspect-*.whl"):
            old.unlink()
        write_bytes(folder / made.name, made.read_bytes())
    return folder / made.name


def _fetch(folder: Path, wanted: Sequence[str], target: Target) -> None:
    """Fill the folder of a target; it has its name only when it is complete."""
    part = folder.with_name(f".{folder.name}.unfinished")
    part.mkdir(exist_ok=True)
    for wheel in part.glob("*.whl"):
        if not _sound(wheel):
            wheel.unlink()
    constraints = Path(__file__).resolve().parents[1] / "constraints.txt"
    command = [sys.executable, "-c", _PIP, json.dumps(target.environment), "download",
               "--disable-pip-version-check", "--only-binary=:all:", "--dest", str(part),
               "--implementation", "cp", "--python-version", target.release,
               *(f"--platform={name}" for name in target.platforms)]
    if constraints.is_file():
        command += ["--constraint", str(constraints)]
    done = _run([*command, *wanted])
    if done.returncode:
        # Of a version that constraints.txt asks for, pip says that it conflicts with itself.
        found = re.search(r"(?:No matching distribution found for|requested \(constraint\)) (\S+)",
                          done.stdout + done.stderr)
        if found is None:
            raise StoreError(f"no wheels for {target.platform} with Python {target.release}: "
                             f"{_last(done.stderr)}")
        raise StoreError(
            f"{found[1]} has no wheel for {target.platform} with Python {target.release}, or it "
            "could not be fetched; name another platform or Python version (its third number "
            "counts, too); README.md says which have all wheels.")
    for wheel in part.glob("qinspect-*.whl"):
        wheel.unlink()  # stands once beside the folders
    if missing := lacking(part, wanted, target):
        raise StoreError(f"{target.name} lacks wheels of {', '.join(missing)}; run the command "
                         "again, and with a newer pip if it says the same.")
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def lacking(folder: Path, wanted: Iterable[str], target: Target) -> list[str]:
    """Requirements, also of requirements, that no wheel of the folder meets on the target."""
    wheels: dict[str, tuple[Version, Path]] = {}
    for path in (*folder.glob("*.whl"), *folder.parent.glob("qinspect-*.whl")):
        name, version, *_ = parse_wheel_filename(path.name)
        wheels[name] = (version, path)
    missing: dict[str, None] = {}
    seen: set[tuple[str, str]] = set()
    open_ = [(Requirement(one), "") for one in wanted]
    while open_:
        one, extra = open_.pop()
        if one.marker and not one.marker.evaluate({**target.environment, "extra": extra}):
            continue
        found = wheels.get(canonicalize_name(one.name))
        if found is None or not one.specifier.contains(found[0], prereleases=True):
            missing[str(one)] = None
            continue
        about = _metadata(found[1])
        if not SpecifierSet(about.get("Requires-Python", "")).contains(target.release):
            missing[f"{one} for Python {target.release}"] = None
        for each in ("", *one.extras):
            if (one.name, each) not in seen:
                seen.add((one.name, each))
                open_ += [(Requirement(line), each) for line in about.get_all("Requires-Dist", [])]
    return sorted(missing)


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist()
                   if name.count("/") == 1 and name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode(errors="replace"))


def _sound(wheel: Path) -> bool:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def _last(text: str) -> str:
    """The last error that pip tells, as a sentence."""
    lines = [line.removeprefix("ERROR: ") for line in text.splitlines()
             if line.startswith("ERROR: ")] or text.splitlines() or ["pip says nothing"]
    return lines[-1].strip().rstrip(".") + "."


# --- Beside the wheels ----------------------------------------------------------------------------


def _write_pages(out: Path, targets: Sequence[Target]) -> None:
    """Notebooks, start scripts, and in a folder of their own what is for the teacher."""
    teacher = prepare_folder(out / "teacher", ("slides",))
    copy_notebooks(out / "exercises", exercises=True)
    (out / "exercises-solutions.md").replace(teacher / "solutions.md")
    copy_notebooks(teacher / "solutions")
    for name, content in notebook_sources().items():
        stem = Path(name).stem
        write_text(teacher / "slides" / f"{stem}.html", slides(json.loads(content)))
    write_text(teacher / "guide.html",
               page("The notebooks and the workshop", guide()["README.md"].decode()))
    versions = sorted({target.minor for target in targets}, key=lambda v: int(v.split(".")[1]))
    write_text(out / "README.html", page("Workshop kit", _README.format(
        pythons=" or ".join(versions), names=", ".join(target.name for target in targets))))
    said = {"VERSIONS": " ".join(versions), "EXTRAS": _EXTRAS,
            "PAGE": "--LabApp.default_url=/lab/tree/00_start_here.ipynb",
            "MINORS": " ".join(version.split(".")[1] for version in versions)}
    for name, script in (("start.bat", _BAT.replace("\n", "\r\n")), ("start.sh", _SH)):
        for word, value in said.items():
            script = script.replace(word, value)
        write_text(out / name, script)
    (out / "start.sh").chmod(0o755)


_README = """# Workshop kit

Everything that the notebooks need, for laptops without network. It holds wheels for: {names}.

1. Install Python {pythons} if it is not there (python.org; it is not part of the kit).
2. Copy this folder from the USB stick to the laptop's disk. Of `wheels`, the folder of the laptop's
   own platform is enough, with the file `qinspect-*.whl` beside it.
3. Windows: open `start.bat`. macOS and Linux: `sh start.sh` in a terminal.

The first start makes a virtual environment in `.venv` and installs into it, without network, in
some minutes. Later starts open the notebooks of the folder `exercises` at once. What is written
after `start.bat` or `sh start.sh` is passed on to JupyterLab, such as `--allow-root`.

The folder `teacher` (notes, slides, notebooks with solutions) is not for the learners: take it out
before you hand the folder on.
"""

_BAT = r"""@echo off
rem Makes a virtual environment beside this file, installs without network, opens the notebooks.
setlocal
cd /d "%~dp0"
set PIP_CONFIG_FILE=nul
if exist .venv\installed goto start
set PYTHON=
for %%v in (VERSIONS) do if not defined PYTHON py -%%v -c "" >nul 2>nul && set PYTHON=py -%%v
set ASK=import sys; sys.exit(str(sys.version_info[1]) not in 'MINORS'.split())
if not defined PYTHON python -c "%ASK%" >nul 2>nul && set PYTHON=python
if not defined PYTHON (
  echo No Python of a version that these wheels are for was found: VERSIONS.
  echo Install it from python.org, then open this file again.
  pause
  exit /b 2
)
%PYTHON% -m venv .venv || goto failed
set FOUND=--find-links wheels
for /d %%d in (wheels\*) do call set FOUND=%%FOUND%% --find-links "%%d"
set PIP=.venv\Scripts\python -m pip install --disable-pip-version-check --no-index
%PIP% %FOUND% "qinspect[EXTRAS]" || goto failed
echo done> .venv\installed
:start
.venv\Scripts\python -m jupyterlab --ServerApp.root_dir=exercises PAGE %*
exit /b %errorlevel%
:failed
echo The installation failed; the lines above say why. Open this file again to go on.
pause
exit /b 2
"""

_SH = """#!/bin/sh
# Makes a virtual environment beside this file, installs without network, opens the notebooks.
set -eu
cd "$(dirname "$0")"
export PIP_CONFIG_FILE=/dev/null
if [ ! -e .venv/installed ]; then
    python=
    for version in VERSIONS; do
        if [ -z "$python" ] && command -v "python$version" > /dev/null; then
            python="python$version"
        fi
    done
    if [ -z "$python" ]; then
        echo "No Python of a version that these wheels are for was found: VERSIONS." >&2
        echo "Install it from python.org or your system, then start again." >&2
        exit 2
    fi
    "$python" -m venv .venv
    options=
    for folder in wheels/*/; do
        options="$options --find-links $folder"
    done
    # Names of these folders hold no blanks.
    .venv/bin/python -m pip install --disable-pip-version-check --no-index --find-links wheels \\
        $options 'qinspect[EXTRAS]'
    echo done > .venv/installed
fi
exec .venv/bin/python -m jupyterlab --ServerApp.root_dir=exercises PAGE "$@"
"""
