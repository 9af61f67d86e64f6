"""One command a verb: it reads options, calls the verb and shows the result."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from qinspect.cli.options import (
    AsJson,
    ByClass,
    Calibration,
    Confidence,
    Data,
    Files,
    InputOffset,
    InputOffsets,
    InputScale,
    InputScales,
    LabelOffset,
    LabelOffsets,
    Margin,
    MarginRelative,
    MetricName,
    NonInferior,
    Output,
    Preset,
    RawInputs,
    Recorded,
    Report,
    Seed,
    Sequence,
    TestSize,
    TrainSize,
    XKey,
    YKey,
    app,
    print_json,
    share_of,
    show,
    show_result,
    workshop,
)
from qinspect.errors import QinspectError, SpecError
from qinspect.verdicts import counted


@app.command()
def inspect(files: Files, as_json: AsJson = False) -> None:
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
def evaluate(
    files: Files,
    data: Data,
    x_key: XKey = None,
    y_key: YKey = None,
    input_scale: InputScales = None,
    input_offset: InputOffsets = None,
    label_offset: LabelOffsets = None,
    raw_input: RawInputs = None,
    recorded: Recorded = None,
    metric: MetricName = None,
    output: Output = None,
    sequence: Sequence = False,
    kernels: Annotated[str, typer.Option(help="default, builtin or reference.")] = "default",
    confidence: Confidence = 0.95,
    out: Annotated[
        Path | None, typer.Option(help="Write the predictions here, an .npz for 'significance'.")
    ] = None,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Run .tflite files on examples: what is each worth?"""
    from qinspect.data.sources import Source
    from qinspect.evaluation import evaluate as run
    from qinspect.tflite.inputs import preprocessing_of
    from qinspect.tflite.recorded import places

    how = preprocessing_of(len(files), input_scale, input_offset, label_offset, raw_input)
    found = run(files, Source(data, x_key, y_key), kernels=kernels,  # type: ignore[arg-type]
                preprocessing=how, recorded=places(recorded or ()), metric=metric, output=output,
                sequence=sequence, confidence=confidence)
    show_result(found, as_json=as_json, report=report)
    if out is not None:
        found.save(out)
        if not as_json:
            print(f"predictions: {out}")


@app.command()
def compare(
    files: Files,
    data: Data,
    x_key: XKey = None,
    y_key: YKey = None,
    calibration: Calibration = None,
    input_scale: InputScales = None,
    input_offset: InputOffsets = None,
    label_offset: LabelOffsets = None,
    raw_input: RawInputs = None,
    recorded: Recorded = None,
    metric: MetricName = None,
    output: Output = None,
    sequence: Sequence = False,
    reference: Annotated[
        Path | None, typer.Option(help="One of the files: compare all others with it alone.")
    ] = None,
    margin: Margin = None,
    margin_relative: MarginRelative = None,
    non_inferior: NonInferior = False,
    by_class: ByClass = False,
    seed: Seed = 0,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Are these files one network, and is one of them better?

    Run on the same examples: identity, lineage, metric, layers, kernels.
    """
    from qinspect.comparisons import compare as run
    from qinspect.data.sources import Source
    from qinspect.tflite.inputs import preprocessing_of
    from qinspect.tflite.recorded import places

    how = preprocessing_of(len(files), input_scale, input_offset, label_offset, raw_input)
    found = run(files, Source(data, x_key, y_key), calibration, preprocessing=how,
                recorded=places(recorded or ()), metric=metric, output=output, sequence=sequence,
                reference=reference, margin=margin,
                margin_relative=share_of(margin_relative), non_inferior=non_inferior, seed=seed,
                by_class=by_class)
    show_result(found, as_json=as_json, report=report)


@app.command()
def gate(
    files: Annotated[list[Path] | None, typer.Argument(
        help="The old and the new .tflite file; with --baseline the new one alone; with "
             "--predictions the names of their columns.")] = None,
    data: Annotated[Path | None, typer.Option(help="Evaluation examples with labels.")] = None,
    x_key: XKey = None,
    y_key: YKey = None,
    pair: Annotated[list[str] | None, typer.Option(
        help="A further pair, OLD,NEW, on the same examples; may be given several times.")] = None,
    predictions: Annotated[list[Path] | None, typer.Option(
        help="Predictions of any framework in the place of --data, as 'significance' reads them; "
             "several files are joined by id.")] = None,
    baseline: Annotated[Path | None, typer.Option(
        help="What --write-baseline wrote, in the place of the old file.")] = None,
    write_baseline: Annotated[Path | None, typer.Option(
        help="Keep the old file's predictions here (.npz), with checksums of data and file.")
    ] = None,
    recorded: Recorded = None,
    metric: MetricName = None,
    output: Output = None,
    margin: Margin = None,
    confidence: Confidence = 0.95,
    junit: Annotated[
        Path | None, typer.Option(help="Write the decision here as JUnit XML.")] = None,
    github: Annotated[bool, typer.Option(
        "--github", envvar="GITHUB_ACTIONS", help="Annotations for GitHub on standard error.")
    ] = False,
    summary: Annotated[Path | None, typer.Option(
        envvar="GITHUB_STEP_SUMMARY", help="Add the decision in Markdown to this file.")] = None,
    seed: Seed = 0,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """May the new file take the place of the old one?

    Exit code 0: not worse, 1: worse, 3: cannot tell, 2: error.
    """
    from qinspect.data.sources import Source
    from qinspect.gating import gate as run
    from qinspect.show.pipeline import add_summary, github_lines, junit_xml
    from qinspect.store import write_bytes
    from qinspect.tflite.recorded import places

    old, new = [*(files or []), None, None][:2]
    if len(files or ()) > 2:
        raise typer.BadParameter(f"there are {len(files or ())} files; give the old and the new "
                                 "one, and further pairs as --pair OLD,NEW.")
    pairs = [_pair(text) for text in pair or ()]
    source = None if data is None else Source(data, x_key, y_key)
    found = run(old, new, source, margin=margin, pairs=pairs, baseline=baseline,
                predictions=predictions or None, recorded=places(recorded or ()), metric=metric,
                output=output,
                confidence=confidence, seed=seed)
    if write_baseline is not None:
        if source is None or old is None or baseline is not None:
            raise SpecError("a baseline is written when both files are run; give OLD, NEW and "
                            "--data.")
        found.write_baseline(write_baseline, source, old)
    if junit is not None:
        write_bytes(junit, junit_xml(found))
    if summary is not None:
        add_summary(found, summary)
    if github:
        print("\n".join(github_lines(found)), file=sys.stderr)
    show_result(found, as_json=as_json, report=report)
    raise typer.Exit(found.code)


def _pair(text: str) -> tuple[str, str]:
    old, comma, new = text.partition(",")
    if not (comma and old and new) or "," in new:
        raise typer.BadParameter(f"{text!r} is no pair; write it as OLD,NEW.")
    return old, new


@app.command()
def layers(
    files: Annotated[list[Path], typer.Argument(help=".tflite files, the float one first.")],
    data: Annotated[
        Path | None, typer.Option(help="Examples; without, only weights are read.")
    ] = None,
    x_key: XKey = None,
    y_key: YKey = None,
    examples: Annotated[int, typer.Option(help="Leading examples to measure on.")] = 128,
    input_scale: InputScale = None,
    input_offset: InputOffset = None,
    debugger: Annotated[Path | None, typer.Option(
        help="accuracy_summary.csv of LiteRT's accuracy debugger, of the last file.")] = None,
    cut_worst: Annotated[Path | None, typer.Option(
        help="Write the worst operator of the last file into this folder, with its inputs and "
             "outputs; one file will do.")] = None,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Ranges, clipping and error of each layer.

    Of files made from the first one, which is float.
    """
    from qinspect.data.sources import Source
    from qinspect.measure.layer_tables import layers as run
    from qinspect.tflite.inputs import asked_for

    source = None if data is None else Source(data, x_key, y_key)
    found = run(files, source, examples=examples,
                preprocessing=asked_for(input_scale, input_offset), debugger=debugger,
                cut_worst=cut_worst)
    show_result(found, as_json=as_json, report=report)


@app.command()
def overlay(
    files: Annotated[list[Path], typer.Argument(help=".tflite files, the float one first.")],
    data: Data,
    out: Annotated[Path, typer.Option(
        help="overlays.json: files overlays-NAME-QUANTITY.json are written beside it.")],
    x_key: XKey = None,
    y_key: YKey = None,
    examples: Annotated[int, typer.Option(help="Leading examples to measure on.")] = 128,
    costs: Annotated[bool, typer.Option(
        "--costs", help="Also what quantizing each layer alone costs and keeping it brings back.")
    ] = False,
    input_scale: InputScale = None,
    input_offset: InputOffset = None,
    as_json: AsJson = False,
) -> None:
    """Lay what each layer does over the graph of Model Explorer."""
    from qinspect.data.sources import Source
    from qinspect.measure.node_data import overlay as run
    from qinspect.tflite.inputs import asked_for

    found = run(files, Source(data, x_key, y_key), examples=examples, costs=costs,
                preprocessing=asked_for(input_scale, input_offset))
    show_result(found, as_json=as_json)
    written = found.save(out)
    if not as_json:
        print("\n".join(f"overlay: {path}" for path in written))
        print(f"To look at them: model-explorer {files[1]} --node_data_paths="
              f"{','.join(map(str, written[:4]))}")


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


@app.command()
def sensitivity(
    file: Annotated[Path, typer.Argument(help="A float32 .tflite file.")],
    data: Data,
    x_key: XKey = None,
    y_key: YKey = None,
    calibration: Calibration = None,
    int8: Annotated[
        Path | None, typer.Option(help="A quantized .tflite whose stored ranges are used.")
    ] = None,
    input_scale: InputScale = None,
    input_offset: InputOffset = None,
    label_offset: LabelOffset = 0,
    precision: Annotated[str, typer.Option(help="Of quantized layers: int8 or int16x8.")] = "int8",
    keep_as: Annotated[str, typer.Option(help="Of kept layers: float32 or int16x8.")] = "float32",
    metric: MetricName = None,
    output: Output = None,
    margin: Margin = None,
    write: Annotated[Path | None, typer.Option(help="Write the mixed file here.")] = None,
    keep: Annotated[
        int | None, typer.Option(help="Layers to keep in the file written; default: proposed.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(
        help="Write the recipe of that file here, JSON as litert-quantizer loads it.")
    ] = None,
    advise: Annotated[bool, typer.Option(
        "--advise", help="How many calibration examples, and which: calibrate with subsets, too.")
    ] = False,
    manifest: Annotated[Path | None, typer.Option(
        help="Write what was calibrated with here, with checksums; implies --advise.")
    ] = None,
    seed: Seed = 0,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Which layers cost the accuracy, and which to keep?

    Each layer is quantized alone.
    """
    from qinspect.data.sources import Source
    from qinspect.measure.layer_cost import sensitivity as run
    from qinspect.tflite.inputs import asked_for

    found = run(
        file, Source(data, x_key, y_key), calibration=calibration, like=int8,
        precision=precision,  # type: ignore[arg-type]
        keep=keep_as, metric=metric, output=output, margin=margin,  # type: ignore[arg-type]
        advise=advise or manifest is not None, seed=seed,
        preprocessing=asked_for(input_scale, input_offset, label_offset),
    )
    show_result(found, as_json=as_json, report=report)
    if write is not None:
        kept = found.write_mixed(write, keep)
        if not as_json:
            print(f"written: {write} ({counted(kept, 'layer')} kept in {keep_as})")
    if recipe is not None:
        kept = found.write_recipe(recipe, keep)
        if not as_json:
            print(f"recipe: {recipe} ({counted(kept, 'layer')} kept in {keep_as})")
    if manifest is not None and found.advice is not None:
        found.advice.write_manifest(manifest)
        if not as_json:
            print(f"calibration manifest: {manifest}")


@app.command()
def significance(
    files: Annotated[list[Path], typer.Argument(
        help="An .npz, .csv or .parquet with labels and predictions of two or more models; "
             "several files are joined by id.")],
    models: Annotated[
        str | None, typer.Option(help="Columns to compare, separated by commas.")
    ] = None,
    correct: Annotated[list[str] | None, typer.Option(
        help="Model whose 0 and 1 say which examples are right; may be given several times.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Model that all others are compared with.")
    ] = None,
    metric: MetricName = None,
    confidence: Confidence = 0.95,
    margin: Margin = None,
    margin_relative: MarginRelative = None,
    non_inferior: NonInferior = False,
    by_class: ByClass = False,
    look: Annotated[
        int | None, typer.Option(help="Which of several looks at growing data this is, from 1.")
    ] = None,
    of: Annotated[
        int | None, typer.Option(help="How many looks are planned, equally far apart.")
    ] = None,
    seed: Seed = 0,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Is the difference between these predictions real?

    From predictions alone, of any framework.
    """
    from qinspect.predictions import results
    from qinspect.stats import look_confidence

    if (look is None) != (of is None):
        raise SpecError("--look and --of belong together; give both, such as --look 2 --of 4.")
    level = confidence
    if look is not None and of is not None:
        level = look_confidence(look, of, confidence)
    chosen = [] if models is None else [name.strip() for name in models.split(",")]
    found = results(files, models=chosen, correct=correct or (), confidence=level,
                    metric=metric, margin=margin, margin_relative=share_of(margin_relative),
                    non_inferior=non_inferior, seed=seed)
    if look is not None:
        note = (f"This is look {look} of {of}: a difference counts at p <= {1 - level:.2g} and "
                f"intervals are at {100 * level:.6g} %, so that all looks together err in "
                f"{100 * (1 - confidence):g} % (O'Brien-Fleming).")
        found = replace(found, notes=(*found.notes, note))
    if by_class and found.runs is not None:
        raise SpecError(f"there are {len(found.runs)} runs, and --by-class compares files; give "
                        "the rows of one run.")
    compared = (found.compare(reference=reference, by_class=by_class) if found.runs is None else
                found.compare_runs(reference))
    show_result(compared, as_json=as_json, report=report)


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
