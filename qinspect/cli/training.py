"""Commands that train, and those that prepare for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qinspect.cli.app import JsonFlag, app, show


@app.command()
def study(
    dataset: Annotated[
        str | None, typer.Option(help="digits, glyphs, fashion_mnist, mnist, cifar10 or an .npz.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="mlp, plain_cnn, bn_cnn, depthwise_cnn, resnet_tiny or a Keras file."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="one-epoch: the forum puzzle.")] = None,
    float_epochs: Annotated[int | None, typer.Option(help="Epochs of float training.")] = None,
    qat_epochs: Annotated[int | None, typer.Option(help="Epochs of QAT.")] = None,
    float_lr: Annotated[float | None, typer.Option(help="Learning rate of float training.")] = None,
    qat_lr: Annotated[float | None, typer.Option(help="Learning rate of QAT.")] = None,
    warm_start: Annotated[
        bool | None,
        typer.Option("--warm-start/--no-warm-start", help="Set QAT ranges by calibration first."),
    ] = None,
    input_range: Annotated[str | None, typer.Option(help="0-1 or 0-255.")] = None,
    train_size: Annotated[int | None, typer.Option(help="Training examples to use.")] = None,
    test_size: Annotated[int | None, typer.Option(help="Test examples to use.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("study"),
    as_json: JsonFlag = False,
) -> None:
    """Train, quantize both ways, evaluate as TFLite and say which differences are real."""
    from qinspect.show.view import view_of
    from qinspect.studies.run import study as run

    result = run(
        dataset, preset=preset, out=out, model=model, float_epochs=float_epochs,
        qat_epochs=qat_epochs, float_lr=float_lr, qat_lr=qat_lr, warm_start=warm_start,
        input_range=input_range, train_size=train_size, test_size=test_size, seed=seed,
    )
    show(view_of(result), result.to_json(), as_json=as_json, report=result.folder / "report.html")


@app.command()
def sweep(
    dataset: Annotated[
        list[str] | None, typer.Option(help="Data set; may be given several times.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Model; may be given several times.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Training seeds: 0-19 or 0,3,10-12.")] = "0-19",
    preset: Annotated[str | None, typer.Option(help="one-epoch: the forum puzzle.")] = None,
    float_epochs: Annotated[
        list[int] | None, typer.Option(help="Epochs of float training; several times.")
    ] = None,
    qat_epochs: Annotated[
        list[int] | None, typer.Option(help="Epochs of QAT; may be given several times.")
    ] = None,
    qat_lr: Annotated[
        list[float] | None, typer.Option(help="Learning rate of QAT; several times.")
    ] = None,
    input_range: Annotated[
        list[str] | None, typer.Option(help="0-1 or 0-255; may be given twice.")
    ] = None,
    warm_start: Annotated[
        list[str] | None, typer.Option(help="Set QAT ranges first: yes, no; may be given twice.")
    ] = None,
    all_recipes: Annotated[
        bool, typer.Option("--all-recipes", help="Convert with every PTQ recipe, not int8 alone.")
    ] = False,
    new_splits: Annotated[
        bool, typer.Option("--new-splits", help="Draw other test examples for each seed, too.")
    ] = False,
    train_size: Annotated[int | None, typer.Option(help="Training examples to use.")] = None,
    test_size: Annotated[int | None, typer.Option(help="Test examples to use.")] = None,
    workers: Annotated[int, typer.Option(help="Local processes, one thread each.")] = 2,
    dask: Annotated[
        str | None, typer.Option(help="Scheduler of a Dask cluster, such as tcp://host:8786.")
    ] = None,
    keep: Annotated[
        str, typer.Option(help="summary, or all to keep the model files of every run.")
    ] = "summary",
    out: Annotated[Path, typer.Option(help="Folder of the sweep.")] = Path("sweep"),
    as_json: JsonFlag = False,
) -> None:
    """Repeat a study over seeds and settings: how often would PTQ beat QAT?"""
    from qinspect.show.view import view_of
    from qinspect.studies.sweeping import grid
    from qinspect.studies.sweeping import sweep as run

    axes = {
        "dataset": dataset, "model": model, "float_epochs": float_epochs,
        "qat_epochs": qat_epochs, "qat_lr": qat_lr, "input_range": input_range,
        "warm_start": [_yes_or_no(word) for word in warm_start or ()],
    }
    shared = {
        "preset": preset, "train_size": train_size, "test_size": test_size,
        "recipes": None if all_recipes else (),
    }
    specs = grid(shared, **{name: values for name, values in axes.items() if values})
    found = run(specs, seeds=seeds, out=out, workers=workers, dask=dask, new_splits=new_splits,
                keep=keep)
    show(view_of(found), found.to_json(), as_json=as_json)
    if not as_json:
        print(f"table: {out / 'sweep.csv'}")
    if (found.frame["status"] == "failed").any():
        raise typer.Exit(1)


def _yes_or_no(word: str) -> bool:
    if word not in ("yes", "no"):
        raise typer.BadParameter(f"{word!r} is neither yes nor no.")
    return word == "yes"


@app.command()
def lab(
    folder: Annotated[
        Path, typer.Argument(help="Working folder; your own edits in it are never overwritten.")
    ] = Path("qinspect-notebooks"),
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser window.")
    ] = True,
    exercises: Annotated[
        bool, typer.Option("--exercises", help="Leave out the solutions of the exercises.")
    ] = False,
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Start JupyterLab, or only copy.")
    ] = True,
) -> None:
    """Copy the notebooks to a working folder and open them in JupyterLab."""
    from qinspect.lab import copy_notebooks, start_lab

    for line in copy_notebooks(folder, exercises=exercises):
        print(line)
    if start:
        raise typer.Exit(start_lab(folder, browser=browser))


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Check versions, Keras, LiteRT and data sets, and say what to do about each problem."""
    from dataclasses import asdict

    from qinspect.doctor import diagnose_environment, doctor_view

    checks = diagnose_environment()
    show(doctor_view(checks), [asdict(check) for check in checks], as_json=as_json)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)
