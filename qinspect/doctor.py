"""What ``qinspect doctor`` looks at: versions, processor, Keras, LiteRT, data, disk, memory.

No check imports TensorFlow: versions come from the installed packages' metadata.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

Status = Literal["ok", "warn", "fail"]

_EXTRAS = {"train": "training and quantizing", "lab": "notebooks", "dask": "sweeps on a cluster"}
_PUBLISHED = ("fashion_mnist", "mnist", "cifar10")
# Where Keras keeps each set under ~/.keras/datasets.
_KERAS_CACHE = {"fashion_mnist": "fashion-mnist/t10k-images-idx3-ubyte.gz", "mnist": "mnist.npz",
                "cifar10": "cifar-10-batches-py"}
# Instructions that the int8 and float kernels of LiteRT (XNNPACK, ruy) and TensorFlow choose by.
_FEATURES = ("avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8",
             "asimd", "asimddp", "i8mm", "sve")
_GIGA = 1e9


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes
    ----------
    name : str
        What was looked at.
    status : {"ok", "warn", "fail"}
        "warn": a part of qinspect does not work or is slow; "fail": qinspect does not work.
    found : str
        What is there.
    advice : str
        What to do; empty when there is nothing to do.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def diagnose_environment(folder: str | Path = ".") -> list[Check]:
    """Look at everything qinspect depends on.

    Parameters
    ----------
    folder : str or Path
        Where studies are to be written: tested for space and permission.

    Returns
    -------
    list of Check
        In the order to be shown.
    """
    return [
        check_python(sys.version_info[:3]),
        *check_packages(),
        check_processor(platform.machine(), processor_flags()),
        check_keras(os.environ.get("TF_USE_LEGACY_KERAS")),
        check_litert(),
        check_jupyter(),
        *check_data(os.environ.get("QINSPECT_DATA"), Path.home() / ".keras" / "datasets"),
        check_writable(Path(folder)),
        check_disk(Path(folder)),
        check_memory(available_memory()),
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
        extras = project["optional-dependencies"].items()
        return project["dependencies"] + [
            f'{one}; extra == "{extra}"' for extra, wanted in extras for one in wanted
        ]


def check_packages() -> Iterator[Check]:
    """Installed version of every package against the versions qinspect asks for."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Check("packaging", "fail", "not installed", "run: pip install packaging")
        return
    for text in requirements():
        need = Requirement(text)
        base = need.marker is None or need.marker.evaluate({"extra": ""})
        extra = next((one for one in _EXTRAS
                      if need.marker and need.marker.evaluate({"extra": one})), "")
        if not base and not extra:
            continue
        found = installed(need.name)
        status: Status = "fail" if base else "warn"
        # Cluster sweeps are the one extra that nobody misses on a laptop.
        if extra == "dask" and not base and found is None:
            status = "ok"
        source = "qinspect" if base else f"qinspect[{extra}]"
        purpose = "" if base else f" (for {_EXTRAS[extra]})"
        if found is None:
            advice = "" if status == "ok" else f"run: pip install '{source}'{purpose}"
            yield Check(need.name, status, f"not installed{purpose}", advice)
        elif not need.specifier.contains(found, prereleases=True):
            yield Check(need.name, status, found,
                        f"qinspect asks for {need.specifier}; run: pip install "
                        f"'{need.name}{need.specifier}'")
        else:
            yield Check(need.name, "ok", found)


def installed(package: str) -> str | None:
    """Version of an installed package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor_flags() -> frozenset[str]:
    """Instruction sets as Linux names them; empty where /proc/cpuinfo does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    # x86 says "flags", ARM says "Features".
    return frozenset(word for line in lines if line.lower().startswith(("flags", "features"))
                     for word in line.partition(":")[2].split())


def check_processor(machine: str, flags: frozenset[str]) -> Check:
    """Instruction sets that TensorFlow needs or that choose LiteRT's kernels."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    known = [feature for feature in _FEATURES if feature in flags]
    found = f"{machine}, {cores} cores, {' '.join(known) or 'features not known'}"
    if machine.lower() in ("x86_64", "amd64") and flags and "avx" not in flags:
        return Check("processor", "warn", found, "TensorFlow's wheels need AVX and stop with an "
                     "illegal instruction here; train on another machine, and only inspect and "
                     "compare .tflite files here")
    return Check("processor", "ok", found)


def check_keras(legacy: str | None) -> Check:
    """Keras 2 (tf_keras) of TensorFlow's version, which quantization-aware training needs.

    Parameters
    ----------
    legacy : str or None
        Value of the environment variable ``TF_USE_LEGACY_KERAS``.
    """
    tensorflow, keras2, keras3 = (installed(one) for one in ("tensorflow", "tf-keras", "keras"))
    if tensorflow is None:
        return Check("Keras", "warn", "TensorFlow is not installed",
                     "to train and quantize, run: pip install 'qinspect[train]'; inspecting and "
                     "comparing .tflite files works without it")
    series = ".".join(tensorflow.split(".")[:2])
    if keras2 is None:
        return Check("Keras", "warn", f"tf-keras is not installed, keras is {keras3}",
                     "quantization-aware training needs Keras 2; run: pip install "
                     f"'tf-keras=={series}.*'")
    if keras2.split(".")[:2] != tensorflow.split(".")[:2]:
        return Check("Keras", "warn", f"tf-keras {keras2} beside tensorflow {tensorflow}",
                     "the two must be of one series; run: pip install "
                     f"'tf-keras=={series}.*'")
    found = f"tf-keras {keras2} (Keras 2)"
    if legacy is None:
        return Check("Keras", "ok", f"{found}; plain tf.keras is Keras {keras3}")
    if legacy.lower() in ("1", "true"):
        return Check("Keras", "ok", f"{found}, also as tf.keras (TF_USE_LEGACY_KERAS={legacy})")
    return Check("Keras", "warn", f"{found}, TF_USE_LEGACY_KERAS={legacy}",
                 "this makes tf.keras Keras 3, whose models cannot be trained "
                 "quantization-aware; unset TF_USE_LEGACY_KERAS or set it to 1")


def check_litert() -> Check:
    """Run a network of one operator in a child process, since a bad build can kill its process."""
    version = installed("ai-edge-litert")
    if version is None:
        return Check("LiteRT runs", "fail", "not installed", "run: pip install ai-edge-litert")
    package_parent = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH")]))
    advice = (f"reinstall it with: pip install --force-reinstall ai-edge-litert=={version}; if "
              "that does not help, there may be no wheel for this platform")
    try:
        child = subprocess.run(
            [sys.executable, "-c", "from qinspect.doctor import run_probe; print(run_probe())"],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True, text=True, timeout=60, check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("LiteRT runs", "fail", " ".join(str(error).split())[:200], advice)
    if child.returncode == 0 and child.stdout.split() == ["0.0", "2.0"]:
        return Check("LiteRT runs", "ok", f"{version}, a test network gives the right numbers")
    lines = (child.stderr or child.stdout).strip().splitlines()
    why = lines[-1][:200] if lines else "no message"
    return Check("LiteRT runs", "fail", f"exit status {child.returncode}: {why}", advice)


def run_probe() -> str:
    """Result of ReLU on (-1, 2) by LiteRT: "0.0 2.0" where it works."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=probe_model(), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.array([-1, 2], dtype=np.float32))
    interpreter.invoke()
    return " ".join(str(float(value)) for value in interpreter.get_tensor(1))


def probe_model() -> bytes:
    """A ``.tflite`` file of one ReLU, tensor 0 to tensor 1, float32 of shape (2,)."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str) -> object:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, [2], schema.TensorType.FLOAT32, 0
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RELU
    code.version = 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [tensor("x"), tensor("y")], [operator]
    graph.inputs, graph.outputs = [0], [1]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def check_jupyter() -> Check:
    """JupyterLab in this very environment, not one further down the search path."""
    version = installed("jupyterlab")
    if version is None:
        return Check("Jupyter", "warn", "JupyterLab is not installed",
                     "for the notebooks, run: pip install 'qinspect[lab]'")
    if installed("ipykernel") is None:
        return Check("Jupyter", "warn", f"JupyterLab {version} without a Python kernel",
                     "run: pip install ipykernel")
    ours = Path(sys.executable).parent
    found = shutil.which("jupyter-lab")
    if found and Path(found).parent.resolve() != ours.resolve():
        return Check("Jupyter", "ok", f"JupyterLab {version}; the command jupyter-lab on the path "
                     f"is another one ({found})",
                     "start it with: python -m jupyterlab")
    return Check("Jupyter", "ok", f"JupyterLab {version}")


def check_data(named: str | None, keras_cache: Path) -> Iterator[Check]:
    """Where each published data set would come from; digits and glyphs are always there.

    Parameters
    ----------
    named : str or None
        Value of the environment variable ``QINSPECT_DATA``.
    keras_cache : Path
        Where Keras keeps what it downloaded.
    """
    folder = Path(named) if named else None
    if folder is None:
        yield Check("QINSPECT_DATA", "ok", "not set; digits and glyphs need no file")
    elif not folder.is_dir():
        yield Check("QINSPECT_DATA", "warn", f"{folder} is not a folder",
                    "name the folder that holds the .npz files, or unset it")
    else:
        yield Check("QINSPECT_DATA", "ok", str(folder))
    for name in _PUBLISHED:
        file = folder / f"{name}.npz" if folder else None
        if file and file.is_file():
            yield _check_npz(name, file)
        elif (cached := keras_cache / _KERAS_CACHE[name]).exists():
            yield Check(f"data {name}", "ok", f"in the cache of Keras, {cached}")
        else:
            yield Check(f"data {name}", "warn", "not on this machine",
                        f"Keras downloads it on first use if there is network; without, put "
                        f"{name}.npz in a folder and name it in QINSPECT_DATA")


def _check_npz(name: str, file: Path) -> Check:
    wanted = {f"{one}_{part}.npy" for one in "xy" for part in ("train", "test")}
    try:
        with zipfile.ZipFile(file) as archive:
            absent = sorted(wanted - set(archive.namelist()))
    except (OSError, zipfile.BadZipFile) as error:
        return Check(f"data {name}", "warn", f"{file} cannot be read ({error})",
                     "copy the file again")
    if absent:
        return Check(f"data {name}", "warn", f"{file} lacks {', '.join(absent)}",
                     "write it with numpy.savez and the keys x_train, y_train, x_test, "
                     "y_test")
    return Check(f"data {name}", "ok", str(file))


def check_writable(folder: Path) -> Check:
    """Whether a file can be made in ``folder``, by making one."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check("writing", "warn", f"{folder.resolve()}: {error.strerror}",
                     "run qinspect in a folder of your own or give one with --out")
    return Check("writing", "ok", str(folder.resolve()))


def check_disk(folder: Path) -> Check:
    """At least 1 GB free; a study takes a few megabytes, a sweep over seeds some hundred."""
    try:
        free = shutil.disk_usage(folder).free / _GIGA
    except OSError as error:
        return Check("disk", "warn", f"{folder}: {error.strerror}", "give an existing folder")
    if free < 1:
        return Check("disk", "warn", f"{free:.1f} GB free", "free some space or give another "
                     "folder with --out; studies stop when the disk is full")
    return Check("disk", "ok", f"{free:.1f} GB free")


def available_memory() -> float | None:
    """Bytes of memory that a new process can have; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    sizes = {line.partition(":")[0]: line.split()[1] for line in lines if ":" in line}
    return 1024.0 * int(sizes["MemAvailable"]) if "MemAvailable" in sizes else None


def check_memory(available: float | None) -> Check:
    """At least 2 GB for a study with TensorFlow."""
    if available is None:
        return Check("memory", "ok", "not known on this system")
    found = f"{available / _GIGA:.1f} GB available"
    if available < 2 * _GIGA:
        return Check("memory", "warn", found, "a study needs about 2 GB; close other programs or "
                     "use a smaller data set such as digits")
    return Check("memory", "ok", found)
