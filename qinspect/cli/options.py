"""The application object, the options that commands share, and how every command prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from qinspect.show.view import View

app = typer.Typer(
    help="Why does the post-training-quantized model beat the quantization-aware-trained one?",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

workshop = typer.Typer(help="A room of laptops: what to prepare.", no_args_is_help=True)
app.add_typer(workshop, name="workshop")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Report = Annotated[Path | None, typer.Option(help="Write an HTML report here.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Confidence = Annotated[float, typer.Option(help="Confidence of intervals.")]
Margin = Annotated[float | None, typer.Option(
    help="Difference that would matter, in the unit of the metric; of accuracy 1 point.")]
MarginRelative = Annotated[str | None, typer.Option(
    help="The same relative to the reference or first model, as 10%: of accuracy, of its errors.")]
ByClass = Annotated[bool, typer.Option(
    "--by-class", help="Tell each pair class by class as well: which change beyond chance?")]
NonInferior = Annotated[bool, typer.Option(
    "--non-inferior", help="Ask only whether b is not worse than a by more than the margin.")]
MetricName = Annotated[str | None, typer.Option("--metric", help=(
    "What outputs are scored by: accuracy, top5, binary-accuracy, auc, f1, mae, mse, "
    "relative-error, r2, log-loss, ece, brier, miou, pixel-accuracy, map, anomaly-auc, cosine, "
    "reconstruction, or module:name of your own; guessed where there is one reading."))]
Output = Annotated[str | None, typer.Option(
    help="Of files with several outputs: name or position of the one that counts.")]
Sequence = Annotated[bool, typer.Option(
    "--sequence", help="Examples follow each other: a file's state is kept between them.")]

Files = Annotated[list[Path], typer.Argument(help=".tflite files.")]
Data = Annotated[
    Path,
    typer.Option(help="Evaluation examples, with labels if known: .npz, .npy, .csv, .parquet, a "
                      "folder of images with a folder a class, or module:function."),
]
XKey = Annotated[
    str | None, typer.Option(help="Array or columns of --data to take for x, with commas between.")
]
YKey = Annotated[
    str | None, typer.Option(help="Array or column of --data to take for y; of .npy, their file.")
]
Calibration = Annotated[
    Path | None, typer.Option(help="Calibration examples, in the same forms as --data.")
]

# What a model is given: of one model, or of several that are fed in different ways.
InputScale = Annotated[float | None, typer.Option(help="The model is given scale * x + offset.")]
InputOffset = Annotated[float | None, typer.Option(help="See --input-scale.")]
LabelOffset = Annotated[int, typer.Option(help="Added to y.")]
InputScales = Annotated[
    list[str] | None,
    typer.Option("--input-scale",
                 help="Files are given scale * x + offset: S for all of them, N=S for file N."),
]
InputOffsets = Annotated[list[str] | None,
                         typer.Option("--input-offset", help="See --input-scale.")]
LabelOffsets = Annotated[
    list[str] | None,
    typer.Option("--label-offset", help="Added to y: K for all files, N=K for file N."),
]
RawInputs = Annotated[
    list[int] | None,
    typer.Option("--raw-input", help="Number of a file that takes integer x as it is."),
]

Recorded = Annotated[list[str] | None, typer.Option(
    help="Outputs of a file recorded elsewhere, FILE=PATH (.npz, .npy, tensors as .bin or .raw); "
         "may be given several times.")]
Preset = Annotated[str | None, typer.Option(
    help="one-epoch: the forum puzzle; regression: the forum's mean absolute error; anomaly: an "
         "autoencoder.")]
TrainSize = Annotated[int | None, typer.Option(help="Training examples to use.")]
TestSize = Annotated[int | None, typer.Option(help="Test examples to use.")]


def share_of(percent: str | None) -> float | None:
    """The share that is written as a percentage."""
    if percent is None:
        return None
    number = percent.strip().removesuffix("%")
    try:
        return float(number) / 100
    except ValueError:
        raise typer.BadParameter(f"{percent!r} is no percentage; write it as in 10%.") from None


def show(view: View, numbers: Any, *, as_json: bool, report: Path | None = None) -> None:
    """Print a result for machines or for people, and write its report."""
    if as_json:
        print_json(numbers)
    else:
        from rich.console import Console

        from qinspect.show.terminal import print_view

        # A pipe or a file has no width of its own; 80 columns would fold every table.
        print_view(view, Console(highlight=False, width=None if sys.stdout.isatty() else 120))
    # After the answer, which is then there whatever befalls the page.
    if report is not None:
        from qinspect.show.report import write_view

        page = write_view(view, numbers, report)
        if not as_json:
            print(f"report: {page} (beside it {page.stem}.md and {page.stem}.json)")


def show_result(result: Any, *, as_json: bool, report: Path | None = None) -> None:
    """The same of a result of a verb."""
    from qinspect.show.view import view_of

    show(view_of(result), result.to_json(), as_json=as_json, report=report)


def print_json(value: Any) -> None:
    """Print a result for machines; NaN is refused, because JSON has none."""
    print(json.dumps(value, indent=2, allow_nan=False))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        import qinspect

        print(qinspect.__version__)
        raise typer.Exit
