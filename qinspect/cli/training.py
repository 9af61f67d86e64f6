"""Commands that train and convert, and what is seen across many trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qinspect.cli.options import (
    AsJson,
    Calibration,
    Preset,
    Report,
    Seed,
    TestSize,
    TrainSize,
    app,
    print_json,
    show_result,
)


@app.command()
def study(
    dataset: Annotated[
        str | None, typer.Option(help="digits, glyphs, fashion_mnist, mnist, cifar10, angles, "
                                      "odd-digits, a file or a folder.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="mlp, plain_cnn, bn_cnn, depthwise_cnn, resnet_tiny, autoencoder, or a "
                          "Keras file: .h5, .keras or a SavedModel folder."),
    ] = None,
    preset: Preset = None,
    loss: Annotated[
        str | None,
        typer.Option(help="crossentropy, binary-crossentropy, mae, mse or huber; otherwise as the "
                          "model was compiled."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What models are judged by: accuracy, auc, mae, r2 ...")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Name or number of the output to train, of several.")
    ] = None,
    skip_layers: Annotated[
        list[str] | None,
        typer.Option("--skip-layers", help="Layer left out of quantization-aware training, such "
                                           "as a recurrent one; may be given several times."),
    ] = None,
    float_epochs: Annotated[int | None, typer.Option(help="Epochs of float training.")] = None,
    qat_epochs: Annotated[int | None, typer.Option(help="Epochs of QAT.")] = None,
    float_lr: Annotated[float | None, typer.Option(help="Learning rate of float training.")] = None,
    qat_lr: Annotated[float | None, typer.Option(help="Learning rate of QAT.")] = None,
    warm_start: Annotated[
        bool | None,
        typer.Option("--warm-start/--no-warm-start", help="Set QAT ranges by calibration first."),
    ] = None,
    input_range: Annotated[str | None, typer.Option(help="0-1 or 0-255.")] = None,
    train_size: TrainSize = None,
    test_size: TestSize = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    repeats: Annotated[int | None, typer.Option(
        help="Trainings with a seed each; from 2 on the answer is about ways of training, too. "
             "Default: 5, of your own data 1.")
    ] = None,
    workers: Annotated[int | None, typer.Option(
        help="Local processes for repeats; default: one a core.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("study"),
    as_json: AsJson = False,
) -> None:
    """Train, quantize both ways, and compare as TFLite.

    It says which differences are real, and which part of training makes them.
    """
    from qinspect.studies.run import study as run

    found = run(
        dataset, preset=preset, out=out, repeats=repeats, workers=workers, model=model,
        float_epochs=float_epochs, qat_epochs=qat_epochs, float_lr=float_lr, qat_lr=qat_lr,
        warm_start=warm_start,
        input_range=input_range, train_size=train_size, test_size=test_size, seed=seed,
        loss=loss, metric=metric, output=output,
        skip_layers=tuple(skip_layers) if skip_layers else None,
    )
    show_result(found, as_json=as_json, report=found.folder / "report.html")


@app.command()
def sweep(
    dataset: Annotated[
        list[str] | None, typer.Option(help="Data set; may be given several times.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Model; may be given several times.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Training seeds: 0-19 or 0,3,10-12.")] = "0-19",
    preset: Preset = None,
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
    train_size: TrainSize = None,
    test_size: TestSize = None,
    workers: Annotated[int, typer.Option(help="Local processes, one thread each.")] = 2,
    dask: Annotated[
        str | None, typer.Option(help="Scheduler of a Dask cluster, such as tcp://host:8786.")
    ] = None,
    keep: Annotated[
        str, typer.Option(help="summary, or all to keep the model files of every run.")
    ] = "summary",
    out: Annotated[Path, typer.Option(help="Folder of the sweep.")] = Path("sweep"),
    as_json: AsJson = False,
) -> None:
    """What comes out with other seeds and settings?

    A study is repeated: how often would PTQ beat QAT?
    """
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
    show_result(found, as_json=as_json)
    if not as_json:
        print(f"table: {out / 'sweep.csv'}")
    if (found.frame["status"] == "failed").any():
        raise typer.Exit(1)


@app.command()
def runs(
    folders: Annotated[list[Path], typer.Argument(
        help="Folders of studies, sweeps and reports, or folders that hold such.")],
    out: Annotated[Path | None, typer.Option(
        help="Write the table here, as .csv or .parquet.")] = None,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Which seed, gap and cause, across many folders.

    Studies, sweeps and reports of diagnoses are found by their files.
    """
    from qinspect.gathering import runs as run

    found = run(folders)
    show_result(found, as_json=as_json, report=report)
    if out is not None:
        written = found.save(out)
        if not as_json:
            print(f"table: {written}")


def _yes_or_no(word: str) -> bool:
    if word not in ("yes", "no"):
        raise typer.BadParameter(f"{word!r} is neither yes nor no.")
    return word == "yes"


@app.command()
def convert(
    model: Annotated[Path, typer.Argument(help="A Keras file, float or QAT.")],
    recipe: Annotated[
        str, typer.Option(help="int8, float16, dynamic_range, int16x8 and so on.")
    ] = "int8",
    calibration: Calibration = None,
    out: Annotated[Path | None, typer.Option(help="Default: MODEL-RECIPE.tflite.")] = None,
    as_json: AsJson = False,
) -> None:
    """Convert a Keras model to a .tflite file.

    By a PTQ recipe; a QAT model brings its own ranges.
    """
    from qinspect.store import write_bytes
    from qinspect.train import convert as run

    content = run(model, recipe, calibration)
    out = out or model.with_name(f"{model.stem}-{recipe}.tflite")
    write_bytes(out, content)
    if as_json:
        print_json({"file": str(out), "recipe": recipe, "bytes": len(content)})
    else:
        print(f"written: {out} ({len(content):,} bytes)")


@app.command()
def robust_qat(
    model: Annotated[Path, typer.Argument(help="A trained float Keras file.")],
    train: Annotated[Path, typer.Option(help="Training examples with labels.")],
    validation: Annotated[
        Path | None, typer.Option(help="Validation examples: training that harms is undone.")
    ] = None,
    calibration: Calibration = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training examples.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 1e-3,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 32,
    freeze_batchnorm: Annotated[
        bool, typer.Option("--freeze-batchnorm", help="Re-estimate batch norm once and keep it.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Default: MODEL-robust-qat.tflite.")] = None,
    keras: Annotated[Path | None, typer.Option(help="Write the QAT model here, .h5.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train QAT with the known pitfalls removed."""
    from qinspect.store import write_bytes
    from qinspect.train import robust_qat as run
    from qinspect.train import save_keras

    found = run(
        model, train, validation, epochs=epochs, learning_rate=learning_rate,
        batch_size=batch_size, seed=seed, calibration=calibration,
        freeze_batchnorm=freeze_batchnorm,
    )
    out = out or model.with_name(f"{model.stem}-robust-qat.tflite")
    write_bytes(out, found.content)
    if keras is not None:
        save_keras(found.model, keras)
    show_result(found, as_json=as_json)
    if not as_json:
        print(f"written: {out}")
