"""Files of predictions: what is read, what is refused, and the report."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from qinspect.errors import DataError, SpecError
from qinspect.metrics import metric
from qinspect.predictions import Results, results
from qinspect.show.terminal import print_view
from qinspect.show.view import view_of
from qinspect.stats import compare_paired, compare_seeds, contrast_interval

Y = np.array([0, 1, 2, 1, 0, 2])
A = np.array([0, 1, 2, 2, 0, 1])
B = np.array([0, 1, 1, 1, 0, 2])


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        path = tmp_path / "p.npz"
        np.savez(path, **arrays)
        return path

    return write


@pytest.fixture
def text(tmp_path):
    def write(content, encoding="utf-8"):
        path = tmp_path / "p.csv"
        path.write_text(content, encoding=encoding)
        return path

    return write


def test_labels_and_correctness_are_told_apart(save):
    path = save(y=Y, a=A, b=A == Y, correct_c=(B == Y).astype(int), id=np.arange(6))
    found = results(path)
    assert found.n == 6
    assert list(found.models) == ["a", "b", "c"]
    assert found.read_as == {"a": "predictions", "b": "correctness", "c": "correctness"}
    assert np.array_equal(found.scores("a"), A == Y)
    assert np.array_equal(found.scores("b"), A == Y)
    assert np.array_equal(found.scores("c"), B == Y)


def test_zeros_and_ones_without_the_prefix_are_labels(save):
    """Two classes: a column of 0 and 1 is predictions, not correctness."""
    y, a = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    found = results(save(y=y, a=a, b=y.astype(float)))
    assert found.scores("a").tolist() == [True, True, False, True]
    assert found.scores("b").all()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_with_any_separator_and_byte_order_mark(text, separator):
    lines = ["id,y,a,b,correct_c"]
    lines += [f"e{i},{Y[i]},{A[i]},{A[i] == Y[i]},{int(B[i] == Y[i])}" for i in range(6)]
    path = text("\n".join(lines).replace(",", separator), encoding="utf-8-sig")
    found = results(path)
    assert found.read_as == {"a": "predictions", "b": "correctness", "c": "correctness"}
    assert np.array_equal(found.scores("a"), found.scores("b"))
    assert np.array_equal(found.scores("c"), B == Y)


def test_csv_with_class_names_and_a_nameless_index(text):
    found = results(text(",y,a,b\n0,cat,cat,dog\n1,dog,cat,dog\n"))
    assert found.scores("a").tolist() == [True, False]
    assert found.scores("b").tolist() == [False, True]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read"),
        ("y,a,b\n", "y is empty"),
        ("a,b\n1,1\n", "no column y"),
        ("y,a\n1,1\n", "only a"),
        ("y\n1\n", "holds none"),
        ("y,a,b\n1,1,1\n1,,1\n", "a has 1 missing values, the first in line 3"),
        ("y,a,b\n1,1,1,1\n1,1,1,1\n", "cannot be read"),
        ("y,a,a\n1,1,1\n", "more than one column 'a'"),
        ("y,a,b\n1,0.7,1\n", "0.7, which is no class label"),
        ("y,a,b\n1,cat,1\n", "a holds text but y holds numbers"),
        ("y,correct_a,b\n1,2,1\n", "holds 2"),
        ("y,a,correct_a\n1,1,1\n", "two columns for the model 'a'"),
        ("y,a,b\n1,1,inf\n", "1 NaN or infinite"),
    ],
)
def test_bad_csv_is_refused_in_one_sentence(text, content, words):
    with pytest.raises(DataError, match=words) as caught:
        results(text(content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": A, "b": B}, "no column y"),
        ({"y": Y, "a": A}, "only a"),
        ({"y": Y, "a": A, "b": B[:4]}, "b has shape \\(4,\\) but y has 6"),
        ({"y": Y, "a": A, "b": np.eye(6)}, "b has shape \\(6, 6\\)"),
        ({"y": np.eye(6), "a": A, "b": B}, "arg max"),
        ({"y": Y[:0], "a": A[:0], "b": B[:0]}, "empty"),
        ({"y": Y, "a": A, "b": B.astype(object)}, "Python objects"),
        ({"y": Y, "a": A, "b": np.where(B == 1, np.nan, B)}, "3 NaN or infinite"),
        ({"y": Y, "a": A, "correct_b": np.where(B == 1, np.nan, 1.0)}, "NaN for 3 of 6"),
        ({"y": Y, "a": A, "b": B.astype(complex)}, "complex"),
        ({"y": Y, "a": A, "b": B, "group": np.zeros(6, int)}, "one group"),
    ],
)
def test_bad_npz_is_refused_in_one_sentence(save, arrays, words):
    with pytest.raises(DataError, match=words) as caught:
        results(save(**arrays)).compare()
    assert "\n" not in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        results(tmp_path / "absent.npz")
    with pytest.raises(DataError, match="there is no file"):
        results(tmp_path)
    other = tmp_path / "p.txt"
    other.write_text("y,a,b")
    with pytest.raises(DataError, match=r"give an \.npz, a \.csv or a \.par"):
        results(other)
    np.savez(tmp_path / "whole.npz", y=Y, a=A, b=B)
    content = (tmp_path / "whole.npz").read_bytes()
    for cut in (0, 3, 100, len(content) - 40):
        broken = tmp_path / "broken.npz"
        broken.write_bytes(content[:cut])
        with pytest.raises(DataError, match="not a readable"):
            results(broken)
    array = tmp_path / "array.npy"
    np.save(array, Y)
    with pytest.raises(DataError, match="single array"):
        results(array.rename(tmp_path / "array.npz"))
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="cannot be read"):
        results(binary)


def test_report_of_two_models_is_the_paired_comparison(save):
    found = results(save(y=Y, a=A, b=B)).compare().to_json()
    report = json.loads(json.dumps(found, allow_nan=False))
    assert "cochran_q" not in report
    assert report["n"] == 6
    expected = compare_paired(A == Y, B == Y, a="a", b="b").to_json()
    assert report["comparisons"] == [json.loads(json.dumps(expected))]


def test_report_of_three_models_is_corrected(save):
    rng = np.random.default_rng(0)
    shares = {"a": 0.7, "b": 0.8, "c": 0.8}
    columns = {f"correct_{name}": rng.random(500) < share for name, share in shares.items()}
    report = results(save(y=np.zeros(500, int), **columns)).compare().to_json()
    assert report["cochran_q"]["models"] == 3
    assert [(c["a"], c["b"]) for c in report["comparisons"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(c["p_adjusted"] >= c["mcnemar_p"] for c in report["comparisons"])
    json.dumps(report, allow_nan=False)


def test_report_uses_groups(save):
    groups = np.repeat(np.arange(3), 2)
    report = results(save(y=Y, a=A, b=B, group=groups)).compare().to_json()
    assert report["comparisons"][0]["groups"] == 3


def test_printed_report_shows_names_as_text(save):
    """A column name is untrusted: no markup, no control characters."""
    arrays = {"y": Y, "[red]a[/red]": A, "b\x1b[31m": B, "c": Y}
    stream = io.StringIO()
    print_view(view_of(results(save(**arrays)).compare()), Console(file=stream, width=200))
    printed = stream.getvalue()
    assert "[red]a[/red]" in printed
    assert "\x1b" not in printed
    assert "Cochran's Q" in printed
    assert "Cannot tell [red]a[/red] and b?[31m apart" in printed


def models(n=400, groups=None, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    outputs = {name: np.where(rng.random(n) < share, y, (y + 1) % 4)
               for name, share in (("float", 0.93), ("ptq", 0.91), ("qat", 0.84))}
    return Results(outputs, y, groups=groups)


def test_class_scores_labels_and_correctness_are_the_same_results():
    y = np.array([2, 0, 1, 1])
    labels = np.array([2, 0, 0, 1])
    scores = np.eye(3)[labels] + 0.1
    found = results({"labels": labels, "scores": scores, "right": labels == y}, y)
    assert found.read_as["right"] == "correctness"
    for name in found.models:
        assert found.scores(name).tolist() == [True, True, False, True]
        assert found.value(name) == 0.75


def test_ties_go_to_the_lowest_class():
    assert Results({"a": np.array([[1, 1, 0], [0, 1, 1]])}, np.array([0, 1])).value("a") == 1


def test_the_family_decides_the_adjusted_p_and_nothing_else():
    found = models()
    alone = found.comparison("float", "qat")
    assert alone.p_adjusted is None
    assert found.compare([("float", "qat")]).comparisons == (alone,)
    every, against = found.compare(), found.compare(reference="float")
    assert [(c.a, c.b) for c in every] == [("float", "ptq"), ("float", "qat"), ("ptq", "qat")]
    assert [(c.a, c.b) for c in against] == [("float", "ptq"), ("float", "qat")]
    assert every.cochran_q["models"] == 3
    assert against.cochran_q is None
    for family in (every, against):
        one = family.pair("float", "qat")
        assert (one.gap, one.interval, one.mcnemar_p) == (alone.gap, alone.interval, alone.p)
        assert [c.p for c in family] == [min(1.0, len(family) * c.mcnemar_p) for c in family]
        assert one.family == len(family)
    assert all(c.p_adjusted is None for c in found.compare(correction=None))


def test_two_families_are_joined_each_with_its_own_correction():
    found = models()
    joined = found.compare([("ptq", "qat")]) + found.compare(reference="float")
    assert [c.family for c in joined] == [1, 2, 2]
    assert list(joined.frame["b"]) == ["qat", "ptq", "qat"]
    assert joined.frame["p"].tolist() == [c.p for c in joined]
    with pytest.raises(SpecError, match="'qat' was not compared with 'ptq'"):
        joined.pair("qat", "ptq")


def test_groups_and_margin_reach_every_comparison():
    groups = np.repeat(np.arange(40), 10)
    found = replace(models(groups=groups), margin=2.5, confidence=0.9)
    for c in found.compare():
        assert (c.groups, c.margin, c.confidence) == (40, 2.5, 0.9)
    signs = {"qat": 1, "ptq": -1}
    correct = {name: found.scores(name) for name in signs}
    assert found.contrast(signs) == contrast_interval(correct, signs, confidence=0.9, groups=groups)
    part = found.take(np.arange(100))
    assert part.comparison("ptq", "qat").groups == 10
    assert part.with_outputs(new=part.scores("qat")).comparison("qat", "new").gap == 0


def test_an_index_takes_the_same_examples_of_everything():
    found = replace(models(), ids=np.array([f"e{i}" for i in range(400)]))
    index = np.array([5, 3, 399])
    part = found.take(index)
    assert part.ids.tolist() == ["e5", "e3", "e399"]
    assert part.scores("ptq").tolist() == found.scores("ptq")[index].tolist()


def test_outputs_are_read_when_they_are_asked_for(tmp_path):
    """A mapping that opens a file for each model, memory-mapped."""
    y = np.arange(50) % 5
    for name in ("a", "b", "c"):
        np.save(tmp_path / f"{name}.npy", np.eye(5)[y])
    opened = []

    class Folder(Mapping):
        def __getitem__(self, name):
            opened.append(name)
            return np.load(tmp_path / f"{name}.npy", mmap_mode="r")

        def __iter__(self):
            return iter(("a", "b", "c"))

        def __len__(self):
            return 3

    found = Results(Folder(), y)
    opened.clear()
    assert found.comparison("a", "b").verdict == "no_gap_seen"
    found.scores("a")
    assert set(opened) == {"a", "b"}


def test_runs_are_not_examples():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 60)
    outputs = {name: np.where(rng.random((4, 60)) < 0.8, y, 9) for name in ("ptq", "qat")}
    groups = np.arange(60) // 3
    found = Results(outputs, y, groups=groups, runs=(0, 1, 2, 3))
    assert (found.n, found.about) == (60, "training")
    assert found.scores("ptq").shape == (4, 60)
    right = [outputs[name] == y for name in ("ptq", "qat")]
    expected = compare_seeds(*right, a="ptq", b="qat", groups=groups)
    assert found.over_runs("ptq", "qat") == expected
    for row in found.frame.to_dict("records"):
        assert row["low"] < row["value"] == right[row["model"] == "qat"].mean() < row["high"]
    with pytest.raises(SpecError, match="results of 4 runs"):
        found.comparison("ptq", "qat")
    with pytest.raises(SpecError, match="several seeds"):
        models().over_runs("ptq", "qat")


def test_a_run_is_compared_as_if_it_were_alone():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 60)
    outputs = {name: np.where(rng.random((3, 60)) < 0.8, y, 9) for name in ("ptq", "qat")}
    groups = np.arange(60) // 3
    found = Results(outputs, y, groups=groups, runs=("x", "y", "z"), margin=2.0)
    frame = found.by_run("ptq", "qat")
    assert list(frame["seed"]) == ["x", "y", "z"]
    for at, row in enumerate(frame.to_dict("records")):
        alone = Results({name: outputs[name][at] for name in outputs}, y, groups=groups, margin=2.0)
        expected = alone.comparison("ptq", "qat")
        assert found.of_run(row["seed"]).comparison("ptq", "qat") == expected
        assert (row["gap"], row["low"], row["high"]) == (expected.gap, *expected.interval)
    assert np.isclose(frame["gap"].mean(), found.over_runs("ptq", "qat").gap)
    with pytest.raises(SpecError, match="no run 'w'"):
        found.of_run("w")


def test_an_experiment_takes_out_of_the_gap_what_is_no_longer_there():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 400)
    share = {"ptq": 0.9, "qat": 0.7, "cured": 0.9, "ruined": 0.7, "ptq better": 0.99}
    found = Results({name: np.where(rng.random(400) < p, y, 9) for name, p in share.items()}, y)
    experiments = {
        "cure": {"qat": "cured"}, "ruin": {"ptq": "ruined"}, "lift": {"ptq": "ptq better"},
        "both": {"ptq": "cured", "qat": "cured"}, "swap": {"ptq": "qat", "qat": "ptq"},
    }
    rows = found.effects("ptq", "qat", experiments).set_index("name")
    gap = found.comparison("ptq", "qat").gap
    for name, instead in experiments.items():
        a, b = instead.get("ptq", "ptq"), instead.get("qat", "qat")
        left = 0.0 if a == b else found.comparison(a, b).gap
        assert np.isclose(found.effect("ptq", "qat", instead)[0], gap - left)
        assert np.isclose(rows.loc[name, "effect"], abs(gap) - left * np.sign(gap))
    assert dict(rows["verdict"]) == {
        "cure": "closes", "ruin": "spoils", "lift": "widens", "both": "closes", "swap": "closes"}
    assert np.isclose(rows.loc["both", "closed_share"], 1)
    assert np.isclose(rows.loc["swap", "closed_share"], 2)
    # The other way round the gap has the other sign, and the same experiments close as much of it.
    mirrored = found.effects("qat", "ptq", experiments).set_index("name")
    assert np.allclose(mirrored["effect"], rows["effect"])
    assert np.allclose(mirrored["low"], rows["low"])
    with pytest.raises(SpecError, match="nothing else"):
        found.effect("ptq", "qat", {})


def test_a_study_is_taken_with_its_own_settings():
    class Study:
        results = replace(models(), confidence=0.9, margin=3.0)

    assert vars(results(Study())) == vars(Study.results)  # arrays are the same objects
    assert results(Study(), margin=0.5).margin == 0.5
    assert results(Study(), margin=0.5).confidence == 0.9


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Results({}), "at least one model"),
        (lambda: results({"a": [1, 2]}), "a has predictions but there are no labels"),
        (lambda: results({"a": [1, 2]}, [1, 2], groups=[1]), "groups have shape"),
        (lambda: results({"a": [1, 2, 3]}, [1, 2]).scores("a"), "outputs have shape \\(3,\\)"),
        (lambda: results({"a": [True], "b": [True, False]}).scores("b"), "results of shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(call, words):
    with pytest.raises(DataError, match=words):
        call()


def test_unknown_names_are_refused():
    with pytest.raises(SpecError, match="unknown model 'qta'; did you mean qat"):
        models().scores("qta")
    with pytest.raises(SpecError, match="unknown model 'keras'"):
        models().compare(reference="keras")
    with pytest.raises(SpecError, match="correction is 'holm'"):
        models().compare(correction="holm")
    with pytest.raises(SpecError, match="unknown metric 'f2'; did you mean"):
        metric("f2")


def test_frames_sentences_and_json_hold_every_model():
    found = models()
    assert found.frame["model"].tolist() == ["float", "ptq", "qat"]
    assert "Accuracy on 400 examples: float 9" in found.sentence
    listed = json.loads(json.dumps(found.compare().to_json(), allow_nan=False))
    assert [row["score"] for row in listed["models"]] == [found.value(m) for m in found.models]
    assert all({"metric", "gap", "unit", "direction"} <= set(c) for c in listed["comparisons"])


def test_no_answer_is_said_first_and_agrees_with_nothing(tmp_path):
    y = np.arange(200) % 4
    scores = np.eye(4)[y]
    scores[:50, 2] = np.nan
    found = Results({"a": scores, "b": np.where(np.arange(200) < 100, -1, y)}, y)
    assert [int(found.unanswered(name).sum()) for name in "ab"] == [50, 100]
    assert [found.value(name) for name in "ab"] == [0.75, 0.5]
    said = ("a has no answer (NaN) for 50 of 200 examples, which count against it. "
            "b has no answer (NaN) for 100 of 200 examples, which count against it. ")
    one, = found.compare()
    assert one.sentence.startswith(f"{said}a is better than b by 25.00 points")
    assert found.comparison("a", "b").sentence.startswith(said)
    assert found.sentence.startswith(f"{said}Accuracy on 200 examples")
    # 50 of a alone, 50 of both: the same only where both answer.
    assert found.agreement()["churn"].tolist() == [0.5]
    found.save(tmp_path / "answers.npz")
    again = results(tmp_path / "answers.npz").compare()
    assert again.sentence.startswith(said)


def test_no_answer_in_runs_and_labels_of_minus_one():
    y = np.arange(200) % 4
    runs = {name: [np.where(np.arange(200) < bad + run, -1, y) for run in range(3)]
            for name, bad in (("ptq", 0), ("qat", 50))}
    found = results(runs, y, runs=(0, 1, 2)).compare_runs()
    assert found.sentence.startswith("ptq has no answer (NaN) for 3 of 600 examples, which count")
    signs = np.where(y % 2, 1, -1)
    assert not Results({"a": signs, "b": -signs}, signs).unanswered("a").any()


def test_one_example_cannot_be_compared():
    with pytest.raises(DataError, match="there is 1 example, of which nothing can be compared"):
        Results({"a": Y[:1], "b": Y[:1]}, Y[:1]).compare()
