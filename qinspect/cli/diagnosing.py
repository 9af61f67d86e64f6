"""The command that names a cause."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qinspect.cli.options import (
    AsJson,
    Calibration,
    InputOffset,
    InputScale,
    LabelOffset,
    Margin,
    MetricName,
    Output,
    Recorded,
    Report,
    Seed,
    XKey,
    YKey,
    app,
    show_result,
)


@app.command()
def diagnose(
    folder: Annotated[Path | None, typer.Argument(
        help="A finished study, or loose files by name: float.tflite, ptq.tflite, qat.tflite, "
             "eval.npz, calib.npz, train.npz, float.h5, history.csv, ptq_recorded.npz, ...")
    ] = None,
    float_file: Annotated[Path | None, typer.Option("--float", help="Float .tflite file.")] = None,
    ptq_file: Annotated[Path | None, typer.Option("--ptq", help="PTQ .tflite file.")] = None,
    qat_file: Annotated[Path | None, typer.Option("--qat", help="QAT .tflite file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Evaluation examples with labels.")] = None,
    x_key: XKey = None,
    y_key: YKey = None,
    calibration: Calibration = None,
    keras_float: Annotated[Path | None, typer.Option(help="Float Keras model.")] = None,
    keras_qat: Annotated[Path | None, typer.Option(help="QAT Keras model.")] = None,
    train: Annotated[Path | None, typer.Option(help="Training examples with labels.")] = None,
    history: Annotated[
        Path | None, typer.Option(help="What Keras' CSVLogger wrote, of QAT or of float and then "
                                       "QAT; or .csv with phase (float, qat), epoch, steps, loss.")
    ] = None,
    history_float: Annotated[
        Path | None, typer.Option(help="What Keras' CSVLogger wrote of the float training.")
    ] = None,
    history_qat: Annotated[
        Path | None, typer.Option(help="What Keras' CSVLogger wrote of QAT.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Of these trainings; with --train it gives their steps.")
    ] = None,
    qat_epochs: Annotated[int | None, typer.Option(help="Of QAT, without a history.")] = None,
    qat_lr: Annotated[
        float | None, typer.Option(help="Learning rate of QAT; else as saved with --keras-qat.")
    ] = None,
    float_lr: Annotated[
        float | None, typer.Option(help="Of the float model; else as saved with --keras-float.")
    ] = None,
    float_eval_predictions: Annotated[
        Path | None, typer.Option(help="Predictions of the float file got elsewhere, .npz or .csv.")
    ] = None,
    ptq_eval_predictions: Annotated[
        Path | None, typer.Option(help="Predictions of the PTQ file got elsewhere, .npz or .csv.")
    ] = None,
    qat_eval_predictions: Annotated[
        Path | None, typer.Option(help="Predictions of the QAT file got elsewhere, .npz or .csv.")
    ] = None,
    recorded: Recorded = None,
    debugger: Annotated[list[str] | None, typer.Option(
        help="accuracy_summary.csv of LiteRT's accuracy debugger, FILE=PATH; may be given several "
             "times.")] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help=".npz of all checkpoints' predictions, (k, n) a file.")
    ] = None,
    input_scale: InputScale = None,
    input_offset: InputOffset = None,
    label_offset: LabelOffset = 0,
    metric: MetricName = None,
    output: Output = None,
    margin: Margin = None,
    equal_budget: Annotated[
        bool,
        typer.Option("--equal-budget", help="Of a study: PTQ of the equally trained float model."),
    ] = False,
    interventions: Annotated[
        bool, typer.Option("--interventions/--no-interventions", help="Try the remedies.")
    ] = True,
    fix: Annotated[Path | None, typer.Option(
        "--write-fix", help="Write the remedy here, as a script that runs on the files given.")
    ] = None,
    report: Report = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Name the cause of a gap, and prove it.

    Between float, PTQ and QAT: of a study, or of loose files.
    """
    from qinspect.data.sources import Source
    from qinspect.diagnosis.cases import case
    from qinspect.diagnosis.engine import diagnose as run
    from qinspect.tflite.recorded import places

    if folder is None and data is None:
        raise typer.BadParameter("give a folder, or files with --data.")
    source = None if data is None else Source(data, x_key, y_key)
    given = case(
        folder, float=float_file, ptq=ptq_file, qat=qat_file, data=source, calibration=calibration,
        train=train, keras_float=keras_float, keras_qat=keras_qat, history=history,
        history_float=history_float, history_qat=history_qat, batch_size=batch_size,
        qat_epochs=qat_epochs, qat_lr=qat_lr, float_lr=float_lr,
        claims={"float": float_eval_predictions, "ptq": ptq_eval_predictions,
                "qat": qat_eval_predictions},
        recorded=places(recorded or ()), debugger=places(debugger or (), "--debugger"),
        checkpoints=checkpoints, equal_budget=equal_budget, input_scale=input_scale,
        input_offset=input_offset, label_offset=label_offset, metric=metric, output=output,
        margin=margin, seed=seed,
    )
    found = run(given, interventions=interventions)
    show_result(found, as_json=as_json, report=report)
    if fix is not None:
        found.write_fix(fix)
        if not as_json:
            print(f"fix: {fix}; run it with: python {fix}")
