"""Commands that open JupyterLab, prepare a room of laptops, look at the installation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qinspect.cli.options import (
    AsJson,
    Calibration,
    MetricName,
    Output,
    app,
    show,
    workshop,
)


@app.command()
def explore(
    what: Annotated[list[Path] | None, typer.Argument(
        help="A folder: a study, a sweep, or loose files by name (float.tflite, ptq.tflite, "
             "qat.tflite, eval.npz, ...); or such files. What follows -- is passed on to "
             "JupyterLab.")] = None,
    float_file: Annotated[Path | None, typer.Option("--float", help="Float .tflite file.")] = None,
    ptq_file: Annotated[Path | None, typer.Option("--ptq", help="PTQ .tflite file.")] = None,
    qat_file: Annotated[Path | None, typer.Option("--qat", help="QAT .tflite file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Evaluation examples with labels.")] = None,
    calibration: Calibration = None,
    train: Annotated[Path | None, typer.Option(help="Training examples with labels.")] = None,
    keras_float: Annotated[Path | None, typer.Option(help="Float Keras model.")] = None,
    keras_qat: Annotated[Path | None, typer.Option(help="QAT Keras model.")] = None,
    history: Annotated[
        Path | None, typer.Option(help=".csv with phase (float, qat), epoch, steps, loss.")
    ] = None,
    metric: MetricName = None,
    output: Output = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the notebook; a temporary one if not given.")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser window.")
    ] = True,
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Start JupyterLab, or only say where the "
                                                      "notebook is.")
    ] = True,
) -> None:
    """Open the dashboard in JupyterLab.

    Of a study, a sweep, a diagnosis or loose files.
    """
    from qinspect.lab import start_lab, write_call
    from qinspect.show.opening import subject

    files = {
        "float": float_file, "ptq": ptq_file, "qat": qat_file, "data": data,
        "calibration": calibration, "train": train, "keras_float": keras_float,
        "keras_qat": keras_qat, "history": history,
    }
    # Read once here: what is wrong is said at once, and not in a notebook.
    given: dict[str, str] = {name: str(path.resolve()) for name, path in files.items()
                             if path is not None}
    given |= {name: word for name, word in (("metric", metric), ("output", output)) if word}
    passed = [str(word) for word in what or () if str(word).startswith("-")]
    paths = [str(path.resolve()) if path.exists() else str(path) for path in what or ()
             if str(path) not in passed]
    subject(*paths, **given)
    arguments = [*map(repr, paths), *(f"{name}={word!r}" for name, word in given.items())]
    page = write_call(out, f"explore({', '.join(arguments)})")
    print(f"notebook: {page}")
    if start:
        raise typer.Exit(start_lab(page.parent, browser=browser, page=page.name,
                                  arguments=passed))


@app.command()
def lab(
    folder: Annotated[
        Path, typer.Argument(help="Working folder; your own edits in it are never overwritten.")
    ] = Path("qinspect-notebooks"),
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Passed on to JupyterLab, as in: lab notes -- "
                                              "--allow-root.")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser window.")
    ] = True,
    exercises: Annotated[
        bool,
        typer.Option("--exercises", help="Leave the solutions out, to a sheet beside the folder."),
    ] = False,
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Start JupyterLab, or only copy.")
    ] = True,
) -> None:
    """Open the notebooks in JupyterLab, from a copy."""
    from qinspect.lab import copy_notebooks, start_lab

    passed = arguments or []
    if str(folder).startswith("-"):  # all after -- and no folder before it
        folder, passed = Path("qinspect-notebooks"), [str(folder), *passed]
    for line in copy_notebooks(folder, exercises=exercises):
        print(line)
    if start:
        raise typer.Exit(start_lab(folder, browser=browser, arguments=passed))


@workshop.command()
def kit(
    platform: Annotated[
        list[str], typer.Option(help="win_amd64, manylinux_2_28_x86_64, macosx_14_0_arm64 ...; may "
                                     "be given several times.")
    ],
    python: Annotated[
        list[str], typer.Option(help="Version of Python there, such as 3.12: one for all "
                                     "platforms, or one after each.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the kit.")] = Path("kit"),
    as_json: AsJson = False,
) -> None:
    """Make a folder for laptops without network.

    Wheels, notebooks, slides and start scripts.
    """
    from qinspect.workshop import Target, kit_view
    from qinspect.workshop import kit as run

    if len(python) not in (1, len(platform)):
        raise typer.BadParameter(f"there are {len(platform)} platforms and {len(python)} versions "
                                 "of Python; give one for all, or one for each.")
    versions = python * (len(platform) if len(python) == 1 else 1)
    targets = [Target(*pair) for pair in zip(platform, versions, strict=True)]
    wheels = run(targets, out, lambda line: print(line, file=sys.stderr))
    show(kit_view(wheels, out), wheels.to_dict("records"), as_json=as_json)


@workshop.command()
def links(
    repository: Annotated[
        str, typer.Option(help="Address of the public repository, https://github.com/OWNER/NAME; "
                               "empty: the links are taken away.")
    ],
    folder: Annotated[
        Path, typer.Argument(help="Folder of the notebooks, that of the repository.")
    ] = Path("notebooks"),
) -> None:
    """Write links to Colab and Binder in notebooks.

    And the cell that installs qinspect there.
    """
    from qinspect.lab import with_links
    from qinspect.store import write_bytes

    paths = sorted(folder.glob("*.ipynb"))
    if not paths:
        raise typer.BadParameter(f"{str(folder)!r} has no notebooks; give their folder.")
    for path in paths:
        before = path.read_bytes()
        after = with_links(before, path.name, repository)
        if after != before:
            write_bytes(path, after)
            print(f"written: {path}")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Is anything missing on this machine?

    Versions, Keras, LiteRT, data sets; and what to do about each problem.
    """
    from dataclasses import asdict

    from qinspect.doctor import diagnose_environment, doctor_view

    checks = diagnose_environment()
    show(doctor_view(checks), [asdict(check) for check in checks], as_json=as_json)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)
