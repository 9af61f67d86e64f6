"""Commands that look at files and predictions already there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qinspect.cli.app import JsonFlag, app, show
from qinspect.errors import QinspectError


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(help=".tflite files.")],
    as_json: JsonFlag = False,
) -> None:
    """Say what a .tflite file really is."""
    from qinspect.show.view import view_of
    from qinspect.tflite.identity import Inspections, inspect_file

    found, refused = [], []
    for file in files:
        try:
            found.append(inspect_file(file))
        except QinspectError as error:
            refused.append(str(error))
    if found:
        result = Inspections(tuple(found))
        numbers = result.to_json() if len(files) == 1 else found
        show(view_of(result), numbers, as_json=as_json)
    if refused:
        # What could be read is shown first; one bad file does not hide the others.
        raise QinspectError(" ".join(refused))


@app.command()
def compare(
    files: Annotated[list[Path], typer.Argument(help="Two or more .tflite files.")],
    data: Annotated[Path, typer.Option(help="Evaluation .npz with x and, if known, y.")],
    calibration: Annotated[Path | None, typer.Option(help="Calibration .npz with x.")] = None,
    input_scale: Annotated[
        list[str] | None,
        typer.Option(help="Files are given scale * x + offset: S for all of them, N=S for file N."),
    ] = None,
    input_offset: Annotated[list[str] | None, typer.Option(help="See --input-scale.")] = None,
    label_offset: Annotated[
        list[str] | None, typer.Option(help="Added to y: K for all files, N=K for file N.")
    ] = None,
    raw_input: Annotated[
        list[int] | None, typer.Option(help="Number of a file that takes integer x as it is.")
    ] = None,
    margin: Annotated[float, typer.Option(help="Equivalence margin, percentage points.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare .tflite files on the same examples: identity, lineage, accuracy, layers, kernels."""
    from qinspect.comparisons import compare
    from qinspect.show.view import view_of
    from qinspect.tflite.inputs import preprocessing_of

    how = preprocessing_of(len(files), input_scale, input_offset, label_offset, raw_input)
    found = compare(files, data, calibration, preprocessing=how, margin=margin, seed=seed)
    show(view_of(found), found.to_json(), as_json=as_json, report=report)


@app.command()
def sensitivity(
    file: Annotated[Path, typer.Argument(help="A float32 .tflite file.")],
    data: Annotated[Path, typer.Option(help="Evaluation .npz with x and, if known, y.")],
    calibration: Annotated[Path | None, typer.Option(help="Calibration .npz with x.")] = None,
    int8: Annotated[
        Path | None, typer.Option(help="A quantized .tflite whose stored ranges are used.")
    ] = None,
    input_scale: Annotated[float, typer.Option(help="The model is given scale * x + offset.")] = 1,
    input_offset: Annotated[float, typer.Option(help="See --input-scale.")] = 0,
    label_offset: Annotated[int, typer.Option(help="Added to y.")] = 0,
    precision: Annotated[str, typer.Option(help="Of quantized layers: int8 or int16x8.")] = "int8",
    keep_as: Annotated[str, typer.Option(help="Of kept layers: float32 or int16x8.")] = "float32",
    margin: Annotated[float, typer.Option(help="Loss that would matter, points.")] = 1.0,
    write: Annotated[Path | None, typer.Option(help="Write the mixed file here.")] = None,
    keep: Annotated[
        int | None, typer.Option(help="Layers to keep in the file written; default: proposed.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Quantize one layer at a time: which layers cost the accuracy, and which to keep."""
    from qinspect.measure.layer_cost import sensitivity as run
    from qinspect.show.view import view_of
    from qinspect.tflite.inputs import Preprocessing

    result = run(
        file, data, calibration=calibration, like=int8, precision=precision,  # type: ignore[arg-type]
        keep=keep_as, margin=margin,  # type: ignore[arg-type]
        preprocessing=Preprocessing(input_scale, input_offset, label_offset),
    )
    show(view_of(result), result.to_json(), as_json=as_json)
    if write is not None:
        kept = result.write_mixed(write, keep)
        if not as_json:
            print(f"written: {write} ({kept} layer(s) kept in {keep_as})")


@app.command()
def significance(
    file: Annotated[Path, typer.Argument(help="An .npz or .csv with y and two or more columns.")],
    confidence: Annotated[float, typer.Option(help="Confidence of intervals.")] = 0.95,
    margin: Annotated[float, typer.Option(help="Equivalence margin, percentage points.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Compare models from their predictions alone: is the difference real?"""
    from qinspect.predictions import results
    from qinspect.show.view import view_of

    found = results(file, confidence=confidence, margin=margin, seed=seed).compare()
    show(view_of(found), found.to_json(), as_json=as_json)


@app.command()
def diagnose(
    folder: Annotated[Path | None, typer.Argument(help="Folder of a finished study.")] = None,
    float_file: Annotated[Path | None, typer.Option("--float", help="Float .tflite file.")] = None,
    ptq_file: Annotated[Path | None, typer.Option("--ptq", help="PTQ .tflite file.")] = None,
    qat_file: Annotated[Path | None, typer.Option("--qat", help="QAT .tflite file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Evaluation .npz with x and y.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Calibration .npz with x.")] = None,
    keras_float: Annotated[Path | None, typer.Option(help="Float Keras model.")] = None,
    keras_qat: Annotated[Path | None, typer.Option(help="QAT Keras model.")] = None,
    train: Annotated[Path | None, typer.Option(help="Training .npz with x and y.")] = None,
    history: Annotated[
        Path | None, typer.Option(help=".csv with phase (float, qat), epoch, steps, loss.")
    ] = None,
    float_eval_predictions: Annotated[
        Path | None, typer.Option(help="Predictions of the float file got elsewhere, .npz.")
    ] = None,
    ptq_eval_predictions: Annotated[
        Path | None, typer.Option(help="Predictions of the PTQ file got elsewhere, .npz.")
    ] = None,
    qat_eval_predictions: Annotated[
        Path | None, typer.Option(help="Predictions of the QAT file got elsewhere, .npz.")
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help=".npz of all checkpoints' predictions, (k, n) a file.")
    ] = None,
    input_scale: Annotated[float, typer.Option(help="The model is given scale * x + offset.")] = 1,
    input_offset: Annotated[float, typer.Option(help="See --input-scale.")] = 0,
    label_offset: Annotated[int, typer.Option(help="Added to y.")] = 0,
    equal_budget: Annotated[
        bool,
        typer.Option("--equal-budget", help="Of a study: PTQ of the equally trained float model."),
    ] = False,
    interventions: Annotated[
        bool, typer.Option("--interventions/--no-interventions", help="Try the remedies.")
    ] = True,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report here.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Name the cause of a difference between float, PTQ and QAT, and prove it."""
    from qinspect.diagnosis.cases import case
    from qinspect.diagnosis.engine import diagnose as run
    from qinspect.show.view import view_of

    if folder is None and data is None:
        raise typer.BadParameter("give a study's folder, or files with --data.")
    given = case(
        folder, float=float_file, ptq=ptq_file, qat=qat_file, data=data, calibration=calibration,
        train=train, keras_float=keras_float, keras_qat=keras_qat, history=history,
        claims={"float": float_eval_predictions, "ptq": ptq_eval_predictions,
                "qat": qat_eval_predictions},
        checkpoints=checkpoints, equal_budget=equal_budget, input_scale=input_scale,
        input_offset=input_offset, label_offset=label_offset, seed=seed,
    )
    answer = run(given, interventions=interventions)
    show(view_of(answer), answer.to_json(), as_json=as_json, report=report)
