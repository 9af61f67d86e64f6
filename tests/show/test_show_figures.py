"""Figures: what is drawn equals the data, for one layer and for 200, whatever the names."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from qinspect.errors import DataError
from qinspect.measure.ranges import range_use
from qinspect.predictions import results
from qinspect.show import figures
from qinspect.show.figure import Figure
from qinspect.show.figures.ranges import grid_marks
from qinspect.show.style import COLOURS, figure_of, label, model_colours, new_axes
from qinspect.stats import Comparison, compare_paired, power_curve

HOSTILE = ("$x$", "<img src=x onerror=window.XSS=1>", "a\nb\x1b[31m", "{}%s\\frac", "層" * 90)
SIZES = (1, 200)


def names(n: int) -> list[str]:
    return [HOSTILE[i] if i < len(HOSTILE) else f"block_{i}/conv" for i in range(n)]


def tensors(n: int, models: tuple[str, ...] = ("float", "ptq", "qat")) -> pd.DataFrame:
    rows = [
        {
            "file": model, "layer": name, "kind": "weight", "channel": -1,
            "min": -1.0 - i, "max": 0.5 + i, "p0_1": -0.5 - i, "p99_9": 0.25 + i,
            "scale": np.nan if model == "float" else (2 + 2 * i) / 254,
            "stored_min": np.nan if model == "float" else -1.0 - i,
            "stored_max": np.nan if model == "float" else 1.0 + i,
        }
        for model in models
        for i, name in enumerate(names(n))
    ]
    return pd.DataFrame(rows)


def errors(n: int) -> pd.DataFrame:
    rows = [
        {"layer": name, "reference": reference, "sqnr_db": value + i % 7}
        for i, name in enumerate(names(n))
        for reference, value in (("local", 40.0), ("accumulated", 30.0))
    ]
    return pd.DataFrame(rows)


def histogram(n: int) -> pd.DataFrame:
    low = np.arange(n) / 16 - 0.5
    rounded = {"part": "rounded", "low": low, "high": low + 1 / 16, "count": np.arange(1, n + 1)}
    clipped = {"part": "clipped", "low": low[-1:], "high": low[-1:] + 1 / 16, "count": [5]}
    return pd.concat([pd.DataFrame(rounded), pd.DataFrame(clipped)]).assign(unit="step")


def sensitivities(n: int) -> pd.DataFrame:
    cost = -np.arange(n) / 10.0
    return pd.DataFrame(
        {
            "variant": "only",
            "layer": names(n),
            "to_float": cost,
            "to_float_low": cost - 0.3,
            "to_float_high": cost + 0.3,
        }
    )


def runs(n: int) -> pd.DataFrame:
    accuracy = np.linspace(0.5, 0.9, n)
    return pd.DataFrame({"arm": names(n), "bytes": np.arange(1, n + 1) * 1000,
                         "accuracy": accuracy, "accuracy_low": accuracy - 0.05,
                         "accuracy_high": accuracy + 0.05})


def pairs(n: int) -> pd.DataFrame:
    return pd.DataFrame({"a": names(n), "b": names(n)[::-1], "a_only": range(n),
                         "b_only": range(n, 2 * n)})


def causes(n: int) -> pd.DataFrame:
    verdicts = ("explains", "ruled_out", "not_tried", "indicated", "unheard of")
    tried = {"effect": 1.5, "low": 0.5, "high": 2.5}
    return pd.DataFrame([
        {"name": f"c{i}", "title": name, "verdict": verdicts[i % 5],
         **(tried if i == 0 else dict.fromkeys(tried, np.nan))}
        for i, name in enumerate(names(n))
    ])


def seeds(n: int) -> pd.DataFrame:
    value = np.sin(np.arange(n) + 0.5)
    return pd.DataFrame({"seed": names(n), "gap": value, "low": value - 1, "high": value + 1})


FIGURES: dict[str, Callable[[int], Figure]] = {
    "weight_ranges": lambda n: figures.weight_ranges(tensors(n)),
    "activation_ranges": lambda n: figures.activation_ranges(tensors(n, ("qat",))),
    "error_histogram": lambda n: figures.error_histogram(histogram(n)),
    "sqnr_profile": lambda n: figures.sqnr_profile(errors(n)),
    "sensitivity_bars": lambda n: figures.sensitivity_bars(sensitivities(n)),
    "discordance": lambda n: figures.discordance(pairs(n)),
    "differences": lambda n: figures.differences(seeds(n).set_axis(
        ["name", "gap", "low", "high"], axis=1).assign(a="ptq", b="qat"), 1.0),
    "diagnosis_board": lambda n: figures.diagnosis_board(causes(n)),
    "effect_plot": lambda n: figures.effect_plot(causes(n).assign(confirmed=True).dropna(), 2.0),
    "seeds_plot": lambda n: figures.seeds_plot(seeds(n), (-0.5, 0.5)),
    "accuracy_size": lambda n: figures.accuracy_size(runs(n)),
    "accuracy_forest": lambda n: figures.accuracy_forest(runs(n)),
}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_draws_one_and_many(name: str, n: int) -> None:
    made = FIGURES[name](n)
    ax = made.axes()
    figure = figure_of(ax)
    assert figure.get_figheight() <= 12
    figure.savefig(io.BytesIO(), format="png", dpi=50)  # mathtext errors show here
    ticks = [t for t in (*ax.get_yticklabels(), *ax.get_xticklabels()) if t.get_text()]
    for axis in ("x", "y"):
        boxes = [
            t.get_window_extent()
            for t in (ax.get_xticklabels() if axis == "x" else ax.get_yticklabels())
        ]
        starts = sorted((b.x0, b.x1) if axis == "x" else (b.y0, b.y1) for b in boxes)
        overlaps = sum(b[0] < a[1] - 1 for a, b in itertools.pairwise(starts))
        assert overlaps == 0, f"{axis} labels overlap"
    assert ticks
    assert ax.get_xlabel() or ax.get_ylabel()
    assert made.sentence.endswith(".")
    assert "nan" not in made.sentence
    assert made.title


def segments(ax: Axes) -> list[list[np.ndarray]]:
    return [c.get_segments() for c in ax.collections if isinstance(c, LineCollection)]


@pytest.mark.parametrize("n", SIZES)
def test_weight_lines_are_the_ranges(n: int) -> None:
    frame = tensors(n)
    drawn = segments(figures.weight_ranges(frame).axes())
    ends = sorted((s[0][0], s[1][0]) for lines in drawn for s in lines)
    stored = frame[frame["stored_min"].notna()]
    expected = sorted(
        [*zip(frame["min"], frame["max"], strict=True),
         *zip(stored["stored_min"], stored["stored_max"], strict=True)]
    )
    np.testing.assert_allclose(ends, expected)


def test_weight_rows_of_one_layer_lie_together() -> None:
    drawn = segments(figures.weight_ranges(tensors(3)).axes())
    heights = sorted(round(float(s[0][1])) for lines in drawn for s in lines)
    assert heights == sorted([0, 1, 2] * 5)  # three lines and two bands a layer


@pytest.mark.parametrize(
    ("low", "high", "scale"), [(-3, 3, 1), (-1.27, 1.27, 0.01), (0, 6, 6 / 255)]
)
def test_grid_marks_are_levels(low: float, high: float, scale: float) -> None:
    marks = grid_marks(low, high, scale)
    codes = marks / scale
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-9)
    assert 0 in marks
    assert len(marks) <= 17
    assert low - 1e-9 <= marks[0]
    assert marks[-1] <= high + 1e-9
    if (high - low) / scale + 1 <= 17:
        assert len(marks) == round((high - low) / scale) + 1


def test_channel_lines() -> None:
    frame = pd.concat([tensors(1).assign(channel=c, min=-c - 1.0) for c in range(5)])
    made = figures.channel_ranges(frame)
    ax = made.axes()
    tops = [s for lines in segments(ax) for s in lines]
    assert len(tops) == 5 * 5  # three models and two stored bands, five channels
    assert sorted({round(float(s[0][0])) for s in tops}) == [0, 1, 2, 3, 4]
    assert "5 channels" in made.sentence


def bars(ax: Axes) -> list[tuple[float, float]]:
    return [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]


@pytest.mark.parametrize(
    ("observed", "stored", "expected"),
    [
        ((0, 4), (-6, 6), [(0, 4), (-6, 0), (4, 6)]),  # used, wasted below, wasted above
        ((-10, 10), (-6, 6), [(-6, 6), (-10, -6), (6, 10)]),  # used, clipped below, above
        ((-6, 6), (-6, 6), [(-6, 6)]),
        ((7, 9), (-6, 6), [(-6, 6), (7, 9)]),  # nothing used: all wasted, all clipped
        ((1, 9), (0, 6), [(1, 6), (0, 1), (6, 9)]),
    ],
)
def test_activation_areas(observed, stored, expected) -> None:
    frame = pd.DataFrame(
        {
            "layer": ["a"],
            "min": observed[0],
            "max": observed[1],
            "p0_1": 0,
            "p99_9": 1,
            "stored_min": stored[0],
            "stored_max": stored[1],
        }
    )
    assert bars(figures.activation_ranges(frame).axes()) == expected


@pytest.mark.parametrize("stored", [(-1.0, 5.0), (-5.0, 1.0)])
def test_clipping_on_one_side_is_in_the_legend(stored) -> None:
    frame = pd.DataFrame({"layer": ["a"], "min": -3.0, "max": 3.0, "p0_1": -2.0, "p99_9": 2.0,
                          "stored_min": stored[0], "stored_max": stored[1]})
    names = figures.activation_ranges(frame).axes().get_legend_handles_labels()[1]
    assert sorted(names) == ["clipped", "observed, 99.8 %", "observed, all",
                             "stored and used", "stored, never used"]


def test_range_use() -> None:
    frame = pd.DataFrame({"layer": ["a", "b"], "min": [0.0, -12.0], "max": [3.0, 12.0],
                          "stored_min": [-6.0, -6.0], "stored_max": [6.0, 6.0]})
    use = range_use(frame)
    assert use["unused_share"].tolist() == [0.75, 0.0]
    assert use["bits_unused"].tolist() == [2.0, 0.0]
    assert use["clipped_share"].tolist() == [0.0, 0.5]


def column_ends(collection: Collection) -> np.ndarray:
    """Lower and upper end of every column of one artist."""
    heights = [path.vertices[:, 1] for path in collection.get_paths()]
    return np.array([(h.min(), h.max()) for h in heights])


def test_error_bars_stack_to_the_counts() -> None:
    frame = histogram(8)
    made = figures.error_histogram(frame)
    ax = made.axes()
    rounded, clipped = (column_ends(c) for c in ax.collections)
    np.testing.assert_array_equal(rounded[:, 1], np.arange(1, 9))
    # The clipped column stands on the rounded one of its bin.
    np.testing.assert_array_equal(clipped, [[8, 13]])
    assert "5 (12 %) are clipped" in made.sentence


def test_sqnr_points_are_the_values_and_gaps_stay_gaps() -> None:
    frame = errors(4)
    frame.loc[frame["layer"] == names(4)[2], "sqnr_db"] = [np.inf, np.nan]
    made = figures.sqnr_profile(frame)
    ax = made.axes()
    local, accumulated = (line.get_ydata() for line in ax.lines)
    np.testing.assert_array_equal(local, [40, 41, np.nan, 43])
    np.testing.assert_array_equal(accumulated, [30, 31, np.nan, 33])
    assert "1 layer without error or number" in made.sentence


def test_sensitivity_worst_first_and_nan_is_said() -> None:
    frame = sensitivities(6)
    widths = [p.get_width() for p in figures.sensitivity_bars(frame).axes().patches]
    assert widths == sorted(frame["to_float"])
    with pytest.raises(DataError, match="6 layers"):
        figures.sensitivity_bars(frame.assign(to_float=np.nan)).axes()


def comparison(n: int = 400, a_only: int = 6, b_only: int = 12) -> Comparison:
    a = np.arange(n) < n - b_only
    b = np.arange(n) >= a_only
    return compare_paired(a, b, a=HOSTILE[0], b=HOSTILE[1])


def test_bootstrap_bars_are_shares_and_interval_is_marked() -> None:
    c = comparison()
    values = 100 * np.random.default_rng(0).binomial(18, 0.5, 5000) / 400
    ax = figures.bootstrap_plot(pd.DataFrame({"gap": values}), c).axes()
    ends = column_ends(ax.collections[0])
    _, counts = np.unique(values, return_counts=True)
    np.testing.assert_allclose(ends[:, 1], counts / 5000)
    lines = [tuple(line.get_xdata()) for line in ax.lines]
    assert (0, 0) in lines
    assert tuple(c.interval) in lines
    figure_of(ax).savefig(io.BytesIO(), format="png", dpi=50)
    none = pd.DataFrame({"gap": []})
    assert "leaves out" in figures.bootstrap_plot(none, comparison(400, 0, 30)).sentence
    assert "holds zero" in figures.bootstrap_plot(none, comparison(400, 5, 5)).sentence


def test_one_comparison_shows_its_resamples() -> None:
    y = np.arange(300) % 10
    models = {"float": y, "ptq": np.where(y == 3, 0, y), "qat": y}
    one = results(models, y).compare([("ptq", "qat")])
    drawn = one.figure("resamples").axes()
    assert "qat - ptq" in drawn.get_xlabel()
    assert "resamples" not in results(models, y).compare().figures


def test_bootstrap_without_disagreement() -> None:
    c = comparison(50, 0, 0)
    ax = figures.bootstrap_plot(pd.DataFrame({"gap": np.zeros(100)}), c).axes()
    figure_of(ax).savefig(io.BytesIO(), format="png", dpi=50)
    assert np.isfinite(ax.get_xlim()).all()


def test_discordance_bars() -> None:
    ax = figures.discordance(pairs(3)).axes()
    assert [p.get_width() for p in ax.patches] == [0, 3, -1, 4, -2, 5]


def test_power_lines() -> None:
    frame = power_curve(0.05, n=[100, 1000, 4000], diff_pp=[1.0, 2.0])
    made = figures.power_plot(frame, at=449)
    ax = made.axes()
    for line, (_, rows) in zip(ax.lines, frame.groupby("diff_pp"), strict=False):
        np.testing.assert_array_equal(line.get_ydata(), rows["power"])
    assert "1 point is not with 4,000 examples; one of 2 points is with 4,000" in made.sentence
    assert figures.power_plot(frame.iloc[:0]).sentence.startswith("No difference")


def test_board_markers_stand_at_the_effects() -> None:
    """Drawn is what was tried, told is everything: no row is empty."""
    made = figures.diagnosis_board(causes(4))
    ax = made.axes()
    assert float(ax.lines[0].get_xdata()[0]) == 1.5
    assert [t.get_text().rsplit(": ", 1)[1] for t in ax.get_yticklabels()] == [
        "proved by its remedy"]
    for said in ("Proved by its remedy: ", "Ruled out: 1", "Not tried: 1",
                 "smaller by 1.50 points"):
        assert said in made.sentence


def test_seeds_and_sizes_are_where_they_belong() -> None:
    frame = seeds(5)
    ax = figures.seeds_plot(frame, (-0.5, 0.5)).axes()
    drawn = np.concatenate([line.get_xdata() for line in ax.lines[:3]])
    np.testing.assert_allclose(sorted(drawn), sorted(frame["gap"]))
    ax = figures.accuracy_size(runs(4)).axes()
    assert [tuple(line.get_xydata()[0]) for line in ax.lines] == [
        (row["bytes"] / 1000, 100 * row["accuracy"]) for row in runs(4).to_dict("records")
    ]


def test_a_side_without_examples_leaves_room_for_its_number() -> None:
    for only in (0, 3):
        rows = pd.DataFrame([{"a": "ptq", "b": "qat", "a_only": 0, "b_only": only}])
        ax = figures.discordance(rows).axes()
        low, high = ax.get_xlim()
        assert low < 0 < only + 0.1 < high
        assert all(tick == int(tick) for tick in ax.get_xticks())


def test_accuracies_are_drawn_from_the_frame_of_results_too() -> None:
    y = np.arange(50) % 5
    found = results({"ptq": y, "qat": np.where(y == 1, 0, y)}, y)
    ax = figures.accuracy_size(found.frame.assign(bytes=[1000, 2000])).axes()
    assert [tuple(line.get_xydata()[0]) for line in ax.lines] == [(1.0, 100.0), (2.0, 80.0)]
    named = found.frame.rename(columns={"model": "arm", "value": "accuracy", "low": "accuracy_low",
                                        "high": "accuracy_high"})
    assert figures.accuracy_forest(found.frame).png() == figures.accuracy_forest(named).png()


def test_label_is_plain_and_bounded() -> None:
    for name in HOSTILE:
        text = label(name)
        assert len(text.replace(r"\$", "$")) <= 34
        assert text.replace(r"\$", "").count("$") == 0
        assert text.isprintable()


def test_figures_are_drawn_on_given_axes() -> None:
    ax = new_axes()
    assert figures.weight_ranges(tensors(2)).on(ax) is ax
    assert len(ax.collections) > 0


def test_a_figure_shows_itself_with_its_sentence_as_alternative_text() -> None:
    made = figures.seeds_plot(seeds(3), (-0.5, 0.5)).about(HOSTILE[1])
    shown = made._repr_html_()
    assert "<img src=x" not in shown
    assert shown.count("<img") == 1
    assert 'src="data:image/png;base64,' in shown
    assert made.sentence.startswith(HOSTILE[1])
    assert made.png() == made.png()


def test_figures_have_no_background_and_read_on_light_and_dark() -> None:
    def luminance(colour: np.ndarray) -> float:
        linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for name, make in FIGURES.items():
        pixels = np.asarray(Image.open(io.BytesIO(make(4).png(60)))) / 255
        assert (pixels[[0, -1], :, 3] == 0).all(), name
        texts = [t for t in figure_of(make(4).axes()).findobj(Text) if t.get_text().strip()]
        for page in (1.0, luminance(np.array([17, 17, 17]) / 255)):
            for text in texts:
                own = luminance(np.array(to_rgb(text.get_color())))
                light, dark = max(own, page) + 0.05, min(own, page) + 0.05
                assert light / dark > 4, (name, text.get_text())


def test_models_never_share_a_colour() -> None:
    found = model_colours(["resnet_float32", "resnet_int8", "ptq_int8", "ptq_int4", "qat", "qat_b"])
    assert len(set(found.values())) == 6
    assert model_colours(["float", "ptq", "qat"])["qat"] == "#D55E00"


# Viénot, Brettel and Mollon 1999: linear RGB as it is seen without red or green cones.
SEEN = {
    "all cones": np.eye(3),
    "protanopia": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "deuteranopia": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0],
                              [-0.02234, 0.02234, 1]]),
}


def lab(colour: str, seen: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as it is seen."""
    rgb = np.array([int(colour[i: i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722],
                       [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(seen @ linear, 1e-6, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", SEEN)
def test_float_ptq_and_qat_are_told_apart_by_everybody(seen: str) -> None:
    colours = [lab(COLOURS[role], SEEN[seen]) for role in ("float", "ptq", "qat")]
    for one, other in itertools.combinations(colours, 2):
        assert np.linalg.norm(one - other) > 25
    for page in ("#FFFFFF", "#111111"):  # light, and JupyterLab's dark theme
        ground = lab(page, SEEN[seen])
        assert min(np.linalg.norm(ground - found) for found in colours) > 25


@pytest.mark.parametrize("names", [
    ["int8", "float32"], ["model_int8.tflite", "model_float32.tflite"], ["qat", "ptq", "float"],
    ["float", "float16", "int8", "dynamic", "int16x8", "qat", "other"],
])
def test_roles_have_their_colours_whatever_comes_first(names: list[str]) -> None:
    found = model_colours(names)
    assert len(set(found.values())) == len(names)
    for name, role in (("float", "float"), ("int8", "ptq"), ("qat", "qat"), ("float32", "float")):
        if name in found:
            assert found[name] == COLOURS[role]


@given(st.lists(st.sampled_from(["float", "ptq_a", "ptq_b", "qat_a", "qat_b", "ptq_ft", "a", "b",
                                 "c", "int8"]), min_size=1, max_size=7, unique=True))
def test_no_two_of_seven_models_are_alike(names: list[str]) -> None:
    assert len(set(model_colours(names).values())) == len(names)


def test_no_two_models_of_a_figure_share_a_colour() -> None:
    """Every legend, the forest's points and both sides of the paired bars."""
    from matplotlib.colors import to_hex

    models = ("float32", "int8", "qat")
    rows = pd.DataFrame({"model": models, "value": [0.9, 0.8, 0.7], "low": 0.6, "high": 0.95,
                         "bytes": [4000, 1000, 1000]})
    for made in (figures.weight_ranges(tensors(3, models)), figures.accuracy_size(rows)):
        handles, _ = made.axes().get_legend_handles_labels()
        assert len({str(handle.get_color()) for handle in handles}) == 3
    points = [line.get_color() for line in figures.accuracy_forest(rows).axes().lines
              if line.get_marker() == "o"]
    assert len(set(points)) == 3
    pair = pd.DataFrame([{"a": "float32", "b": "int8", "a_only": 3, "b_only": 5}])
    assert len({to_hex(bar.get_facecolor()) for bar in figures.discordance(pair).axes().patches}
               ) == 2
