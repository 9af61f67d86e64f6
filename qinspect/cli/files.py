"""Commands about files and predictions; each reads options, calls its verb, shows the result."""

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
    RawInputs,
    Recorded,
    Report,
    Seed,
    Sequence,
    XKey,
    YKey,
    app,
    share_of,
    show,
    show_result,
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
