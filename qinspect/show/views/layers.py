"""Layers of several files: ranges, errors, what each costs; the histograms of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qinspect.metrics import ACCURACY, Metric
from qinspect.show import figures, text
from qinspect.show.style import model_colours
from qinspect.show.table import Table, table
from qinspect.show.view import View, widget
from qinspect.verdicts import counted, examples

if TYPE_CHECKING:
    import pandas as pd

    from qinspect.measure.calibration_sets import CalibrationAdvice
    from qinspect.measure.clipping import Binned
    from qinspect.measure.first_cut import FirstCut
    from qinspect.measure.layer_cost import Sensitivity
    from qinspect.measure.layer_tables import Layers
    from qinspect.measure.node_data import Overlay
    from qinspect.measure.size_curve import SizeCurve
    from qinspect.show.figure import Figure

_WORST_LAYERS = 8
_BITS = 8
_DRAWN = 288  # bins of a series that is only drawn: two a bar


def layers_view(measured: Layers) -> View:
    """The view of measured layers."""
    names = text.short_names(measured.models)
    layers = shortened(measured, names)
    errors = [error_table(f"Errors of {model}, the largest of their own first",
                          found.errors.to_dict("records"), layers.examples)
              for model, found in layers.errors.items()]
    return View(
        f"{counted(len(layers.layers), 'layer')} of {', '.join(layers.models)}" if layers.layers
        else f"Operators of {', '.join(layers.models)}",
        (layers.sentence,),
        tuple(filter(None, (*_operators(layers), *errors, range_table(layers)))),
        {**{f"error of {model}": _of(_profile, layers, model) for model in layers.errors},
         **{f"ranges of {model}": _of(_ranges, layers, model) for model in layers.models[1:]
            if layers.activations},
         **({"weights": lambda: figures.weight_ranges(layers.of("weight")),
             "channels": lambda: figures.channel_ranges(layers.most_unequal())}
            if layers.weights else {})},
        notes=tuple(text.renamed(note, names) for note in layers.notes), names=names,
        explore=widget("LayerExplorer", layers), layers=lambda: layers,
    )


def _operators(layers: Layers) -> tuple[Table | None, ...]:
    """Operators on an accelerator, and by optimised against reference kernels."""
    from qinspect.measure.debugger import FOUND
    from qinspect.tflite.beside import in_steps

    columns: dict[str, Any] = {
        "operator": "operator", "code": "op",
        "output": lambda row: text.elided(row["tensor"], 40),
        "largest difference": lambda row: None if text.missing(row["steps"]) else
        in_steps(row["steps"], row["unit"])}
    found: list[Table | None] = []
    if layers.device is not None:
        found.append(table(
            "Accelerator against CPU, where the difference grows most first",
            layers.device.to_dict("records"), {
                **columns, "grows": ("grows", "{:.1f}".format), "SNR": ("snr_db", text.decibels),
                "found": lambda row: FOUND[row["found"]], "status there": "status"},
            most=_WORST_LAYERS, caption="Read from LiteRT's accuracy debugger, which compares "
            "stored values: one step of an integer is rounding, whatever its status says. Grows: "
            "over the largest difference among the operator's own inputs."))
    if layers.kernels is not None:
        found.append(table("Optimised against reference kernels, given the same",
                           layers.kernels.to_dict("records"), columns, most=_WORST_LAYERS))
    return tuple(found)


def overlay_view(overlay: Overlay) -> View:
    """The view of what is laid over a graph: a table a file, one row a layer."""
    from qinspect.measure.node_data import QUANTITIES  # its statistics take long to import

    found = []
    for file, rows in overlay.frame.groupby("file", sort=False):
        wide = rows.pivot_table(index="layer", columns="quantity", values="value", sort=False)
        columns = {QUANTITIES[quantity][0]: (quantity, "{:z.2f}".format)
                   for quantity in rows["quantity"].unique()}
        found.append(table(f"Layers of {file}", wide.reset_index().to_dict("records"), {
            "layer": lambda row: text.elided(row["layer"], 44), **columns}, most=_WORST_LAYERS,
            caption="Errors are root mean squares as shares of the float file's values; clipped "
                    "are its values outside the range that the file stores."))
    return View("Node data for Model Explorer", (overlay.sentence,), tuple(found),
                notes=overlay.notes)


def shortened(layers: Layers, names: Mapping[str, str]) -> Layers:
    """The same under the short names of the models."""
    return replace(
        layers, models=tuple(names[model] for model in layers.models),
        tensors=layers.tensors.assign(file=layers.tensors["file"].map(names)),
        weights={(names[m], layer): found for (m, layer), found in layers.weights.items()},
        activations={(names[m], layer): found for (m, layer), found in layers.activations.items()},
        errors={names[model]: found for model, found in layers.errors.items()})


def error_table(title: str, errors: Iterable[Mapping[Any, Any]], examples: int) -> Table:
    """One row a layer, the largest error of its own first; rows of ``ERRORS`` of one file."""
    rows: dict[str, dict[str, Any]] = {}
    for row in errors:
        layer = rows.setdefault(row["layer"], {**row, "own": {}, "all": {}})
        layer["own" if row["reference"] == "local" else "all"] = row

    def own(key: str, where: str = "own") -> Any:
        return lambda row: row[where].get(key)

    def bounds(kind: str) -> Any:
        return lambda row: (row.get(f"{kind}_low"), row.get(f"{kind}_high"))

    def worst(row: Mapping[str, Any]) -> float:
        value = row["own"].get("sqnr_db")
        return float("inf") if text.missing(value) else float(value)

    return table(title, sorted(rows.values(), key=worst), {
        "layer": lambda row: text.elided(row["layer"], 44), "operator": "op",
        "own SQNR": (own("sqnr_db"), text.decibels),
        "accumulated": (own("sqnr_db", "all"), text.decibels),
        "RMSE / scale": (own("rmse_over_scale"), "{:.2f}".format),
        "clipped": (own("clipped_share"), text.percent),
        "bits used": (own("effective_bits"), "{:.1f}".format),
        "stored range": (bounds("stored"), text.span),
        "calibration range": (bounds("calibration"), text.span),
    }, most=_WORST_LAYERS, spare=("calibration range", "operator", "RMSE / scale", "stored range"),
        caption=f"On the first {examples:,} examples. Own: what the layer adds by itself, given "
                "the inputs it has in the quantized file; accumulated: everything before it "
                "included. RMSE / scale of ideal rounding is 0.29.")


def range_table(layers: Layers) -> Table:
    """Stored ranges, and what they do to the float model's values."""
    return table("Stored ranges and what they do to the float model's values, 8 bits",
                 layers.clipping().to_dict("records"), {
        "layer": "layer", "values": "kind", "file": "file",
        "occurring": (lambda row: (row["min"], row["max"]), text.span),
        "stored": (lambda row: (row["stored_min"], row["stored_max"]), text.span),
        "clipped": ("clipped_share", text.percent), "SQNR": ("sqnr_db", text.decibels)},
        spare=("SQNR", "occurring"))


def _profile(layers: Layers, model: str) -> Figure:
    return figures.sqnr_profile(layers.errors[model].errors).about(model)


def _ranges(layers: Layers, model: str) -> Figure:
    return figures.activation_ranges(layers.stored_against_observed(model)).about(model)


def _of(draw: Any, layers: Layers, model: str) -> Any:
    return lambda: draw(layers, model)


def sensitivity_view(found: Sensitivity) -> View:
    """The view of a sensitivity analysis."""
    ends = found.layers[found.layers["variant"].isin(["float", "full"])]
    metric = found.metric
    return View(
        f"Sensitivity of {counted(len(found.order), 'layer')}, {examples(found.n)}",
        (found.sentence, *((found.cut.sentence,) if found.cut else ()),
         *((found.sizes.sentence,) if found.sizes else ()),
         *((found.advice.sentence,) if found.advice else ())),
        tuple(filter(None, (_ends(ends, found), cut_table(found.cut, f"all {found.precision}")
                            if found.cut else None, layer_table(found), curve_table(found),
                            *((_sizes(found.sizes),) if found.sizes else ()),
                            *(calibration_tables(found.advice) if found.advice else ())))),
        {} if metric is None else
        {"layers": lambda: figures.sensitivity_bars(found.layers, metric),
         "curve": lambda: figures.sensitivity_curve(found.curve, found.margin, metric),
         **_size_figure(found.sizes)},
        notes=(*found.notes, *_level(found)),
    )


def _ends(rows: pd.DataFrame, found: Sensitivity) -> Table:
    metric = found.metric or ACCURACY
    return table("Whole files", rows, {
        "file": lambda row: "float" if row["variant"] == "float" else f"all {found.precision}",
        "size": ("bytes", text.size), "output SQNR": ("sqnr_db", text.decibels),
        metric.title: ("score", text.value_of(metric))}, caption=text.lower(metric))


def layer_table(found: Sensitivity) -> Table:
    """One row a layer: only it quantized, and everything but it."""
    only = found.layers[found.layers["variant"] == "only"].to_dict("records")
    others = found.layers[found.layers["variant"] == "all_but"].to_dict("records")
    rows = [{"layer": a["layer"], "op": a["op"], "only": a, "but": b}
            for a, b in zip(only, others, strict=True)]
    columns: dict[str, Any] = {"layer": "layer", "operator": "op"}
    metric = found.metric or ACCURACY
    columns |= _cost(f"only it {found.precision}", "only", metric)
    others_kept = _cost(f"all but it ({found.keep})", "but", metric)
    return table(f"One layer at a time, {examples(found.n)}", rows, columns | others_kept,
                 spare=("operator", *reversed(others_kept)))


def _cost(head: str, key: str, metric: Metric) -> dict[str, Any]:
    def of(*names: str) -> Any:
        def get(row: dict[str, Any]) -> Any:
            values = tuple(row[key][name] for name in names)
            return values if len(values) > 1 else values[0]
        return get

    return {f"{head}: SQNR": (of("sqnr_db"), text.decibels),
            text.signed(f"{head}: to float", metric): (of("to_float"), text.gap_of(metric)),
            f"{head}: interval": (of("to_float_low", "to_float_high"), text.interval_of(metric)),
            f"{head}: agrees with float": (lambda row: row[key]["agreement"]
                if text.missing(row[key]["score"]) else None, text.percent)}


def curve_table(found: Sensitivity) -> Table:
    """One row a point: how many of the most sensitive layers are kept, and what it costs."""
    def bounds(to: str) -> Any:
        return lambda row: (row[f"{to}_low"], row[f"{to}_high"])

    full, metric = f"to all {found.precision}", found.metric or ACCURACY
    to_full, gap, interval = (
        text.signed(full, metric), text.gap_of(metric), text.interval_of(metric))
    return table(f"Keeping the most sensitive layers in {found.keep}", found.curve, {
        "kept": "kept", "the last one kept": "layer", "size": ("bytes", text.size),
        "SQNR": ("sqnr_db", text.decibels), metric.title: ("score", text.value_of(metric)),
        "agrees with float": (lambda row: None if found.labelled else row["agreement"],
                              text.percent),
        text.signed("to float", metric): ("to_float", gap),
        "interval": (bounds("to_float"), interval),
        to_full: ("to_full", gap), f"{full}, interval": (bounds("to_full"), interval),
    }, spare=(f"{full}, interval", to_full, "SQNR"), caption=text.lower(metric))


def _level(found: Sensitivity) -> tuple[str, ...]:
    level = f"{100 * found.confidence:g} %"
    return (f"intervals are {level} each, not corrected for the number of layers.",
            ) if found.labelled else ()


def _size_figure(sizes: SizeCurve | None) -> dict[str, Any]:
    if sizes is None:
        return {}
    return {"size": lambda: figures.size_curve(sizes.points, sizes.float_bytes, sizes.margin,
                                               sizes.metric)}


def _sizes(sizes: SizeCurve) -> Table:
    metric = sizes.metric
    return table("Size against the metric: no smaller file is as good",
                 sizes.points[sizes.points["front"]], {
        "kept": "kept", "size": ("bytes", text.size),
        f"{metric.title}, choosing half": ("chosen_by", text.value_of(metric)),
        "other half": ("value", text.value_of(metric)),
        text.signed("to float", metric): ("to_float", text.gap_of(metric)),
        "interval": (lambda row: (row["low"], row["high"]), text.interval_of(metric)),
        "within margin": ("within", lambda within: "yes" if within else "not shown"),
    }, caption=f"Chosen on {sizes.n[0]:,} examples, confirmed on the other {sizes.n[1]:,}; the "
               f"intervals hold together. {text.lower(metric)}")


def calibration_tables(advice: CalibrationAdvice) -> tuple[Table, ...]:
    """Size against metric, and the examples that set the ends of ranges."""
    metric = advice.metric
    return (
        table(f"Calibrated with disjoint sets of the {advice.n:,} examples", advice.sizes, {
            "examples": "size", "sets": "sets",
            "width of ranges": ("width", text.share),
            metric.title: ("value", text.value_of(metric)),
            text.signed("to all", metric): ("to_all", text.gap_of(metric)),
            "interval": (lambda row: (row["low"], row["high"]), text.interval_of(metric)),
        }, caption=f"On {advice.evaluated:,} examples; intervals are for other sets and other "
                   f"examples. {text.lower(metric)}"),
        table("Examples that set the ends of ranges", advice.extremes, {
            "example": "id", "ends": "ends", "widens by": ("stretch", "{:.2f}".format),
            "most": "tensor"}, most=_WORST_LAYERS),
    )


def cut_table(cut: FirstCut, name: str) -> Table:
    """One row a part of the first cut, then the file."""
    metric = cut.loss.metric
    some = "" if cut.loss.n == cut.total else f" of {cut.total:,}"
    return table(f"First cut of {name}: weights against activations", cut.frame, {
        "what is quantized": "title",
        metric.title: ("value", text.value_of(metric)),
        text.signed("to float", metric): ("to_float", text.gap_of(metric)),
        "interval": (lambda row: (row["low"], row["high"]), text.interval_of(metric)),
        "of its difference": ("share", lambda share: f"{100 * share:.0f} %"),
    }, caption=f"On {cut.loss.n:,}{some} examples. Shares need not add up to 100 %. "
               f"{text.lower(metric)}")


def series(binned: Binned, name: str, colour: str) -> dict[str, Any]:
    """Values as ``static/histogram.js`` takes them."""
    return {"name": name, "colour": colour, "low": binned.low, "width": binned.width,
            "counts": binned.counts.tolist()}


def layer_histograms(layers: Layers) -> list[dict[str, Any]]:
    """What ``static/report.js`` draws: one entry a layer and kind of values.

    Beside ``layer`` and ``kind`` the state that ``static/histogram.js`` mounts: ``series`` (the
    float model first), ``marks`` (stored ranges), ``clip`` (the range of the first file that stores
    one, else the extremes).  Every number is finite, fit for JSON.
    """
    colours = model_colours(layers.models)
    found = []
    for kind in ("weight", "activation"):
        for layer in layers.layers:
            known = {model: binned for model in layers.models
                     if (binned := layers.binned(model, layer, kind)) is not None}
            if known:
                found.append(_entry(layers, layer, kind, known, colours))
    return found


def _entry(layers: Layers, layer: str, kind: str, known: dict[str, Binned],
           colours: dict[str, str]) -> dict[str, Any]:
    rows = layers.of(kind)
    rows = rows[(rows["channel"] == -1) & (rows["layer"] == layer) & rows["stored_min"].notna()]
    marks: list[dict[str, Any]] = [
        {"name": str(row["file"]), "colour": colours[str(row["file"])],
         "low": float(row["stored_min"]), "high": float(row["stored_max"])}
        for row in rows.to_dict("records")
    ]
    name, first = next(iter(known.items()))
    ends = (marks[0]["low"], marks[0]["high"]) if marks else (first.low, first.high)
    return {
        "layer": layer, "kind": kind,
        # What the limits do is worked out on the first; the others are only drawn.
        "series": [series(binned if model == name else binned.coarser(_DRAWN), model,
                          colours[model]) for model, binned in known.items()],
        "marks": marks, "clip": [min(ends[0], 0.0), max(ends[1], 0.0)], "bits": _BITS,
        "symmetric": kind == "weight", "log": True,
        "title": f"{kind} values of {layer} in {name}", "unit": f"{kind}, units of the layer",
    }
