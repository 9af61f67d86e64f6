"""Files of predictions: what is read, what is refused, and the report."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from qinspect.errors import DataError
from qinspect.show.significance import print_significance
from qinspect.stats import compare_paired, comparison_row, read_predictions, significance_report

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
    found = read_predictions(path)
    assert found.n == 6
    assert list(found.correct) == ["a", "b", "c"]
    assert found.read_as == {"a": "predictions", "b": "correctness", "c": "correctness"}
    assert np.array_equal(found.correct["a"], A == Y)
    assert np.array_equal(found.correct["b"], A == Y)
    assert np.array_equal(found.correct["c"], B == Y)


def test_zeros_and_ones_without_the_prefix_are_labels(save):
    """Two classes: a column of 0 and 1 is predictions, not correctness."""
    y, a = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    found = read_predictions(save(y=y, a=a, b=y.astype(float)))
    assert found.correct["a"].tolist() == [True, True, False, True]
    assert found.correct["b"].all()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_with_any_separator_and_byte_order_mark(text, separator):
    lines = ["id,y,a,b,correct_c"]
    lines += [f"e{i},{Y[i]},{A[i]},{A[i] == Y[i]},{int(B[i] == Y[i])}" for i in range(6)]
    path = text("\n".join(lines).replace(",", separator), encoding="utf-8-sig")
    found = read_predictions(path)
    assert found.read_as == {"a": "predictions", "b": "correctness", "c": "correctness"}
    assert np.array_equal(found.correct["a"], found.correct["b"])
    assert np.array_equal(found.correct["c"], B == Y)


def test_csv_with_class_names_and_a_nameless_index(text):
    found = read_predictions(text(",y,a,b\n0,cat,cat,dog\n1,dog,cat,dog\n"))
    assert found.correct["a"].tolist() == [True, False]
    assert found.correct["b"].tolist() == [False, True]


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
        read_predictions(text(content))
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
        ({"y": Y, "a": A, "b": B.astype(object)}, "object array"),
        ({"y": Y, "a": A, "b": np.where(B == 1, np.nan, B)}, "3 NaN or infinite"),
        ({"y": Y, "a": A, "correct_b": np.where(B == 1, np.nan, 1.0)}, "NaN for 3 of 6"),
        ({"y": Y, "a": A, "b": B.astype(complex)}, "complex"),
        ({"y": Y, "a": A, "b": B, "group": np.zeros(6, int)}, "one group"),
    ],
)
def test_bad_npz_is_refused_in_one_sentence(save, arrays, words):
    with pytest.raises(DataError, match=words) as caught:
        significance_report(save(**arrays))
    assert "\n" not in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_predictions(tmp_path / "absent.npz")
    with pytest.raises(DataError, match="there is no file"):
        read_predictions(tmp_path)
    other = tmp_path / "p.txt"
    other.write_text("y,a,b")
    with pytest.raises(DataError, match=r"give an \.npz or a \.csv"):
        read_predictions(other)
    np.savez(tmp_path / "whole.npz", y=Y, a=A, b=B)
    content = (tmp_path / "whole.npz").read_bytes()
    for cut in (0, 3, 100, len(content) - 40):
        broken = tmp_path / "broken.npz"
        broken.write_bytes(content[:cut])
        with pytest.raises(DataError, match="cannot be read"):
            read_predictions(broken)
    array = tmp_path / "array.npy"
    np.save(array, Y)
    with pytest.raises(DataError, match="single array"):
        read_predictions(array.rename(tmp_path / "array.npz"))
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(binary)


def test_report_of_two_models_is_the_paired_comparison(save):
    report = json.loads(json.dumps(significance_report(save(y=Y, a=A, b=B)), allow_nan=False))
    assert "cochran_q" not in report
    assert report["n"] == 6
    expected = comparison_row(compare_paired(A == Y, B == Y, a="a", b="b"))
    assert report["comparisons"] == [json.loads(json.dumps(expected))]


def test_report_of_three_models_is_corrected(save):
    rng = np.random.default_rng(0)
    shares = {"a": 0.7, "b": 0.8, "c": 0.8}
    columns = {f"correct_{name}": rng.random(500) < share for name, share in shares.items()}
    report = significance_report(save(y=np.zeros(500, int), **columns))
    assert report["cochran_q"]["models"] == 3
    assert [(c["a"], c["b"]) for c in report["comparisons"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(c["p_adjusted"] >= c["mcnemar_p"] for c in report["comparisons"])
    json.dumps(report, allow_nan=False)


def test_report_uses_groups(save):
    groups = np.repeat(np.arange(3), 2)
    report = significance_report(save(y=Y, a=A, b=B, group=groups))
    assert report["comparisons"][0]["groups"] == 3


def test_printed_report_shows_names_as_text(save):
    """A column name is untrusted: no markup, no control characters."""
    arrays = {"y": Y, "[red]a[/red]": A, "b\x1b[31m": B, "c": Y}
    stream = io.StringIO()
    print_significance(significance_report(save(**arrays)), Console(file=stream, width=200))
    printed = stream.getvalue()
    assert "[red]a[/red]" in printed
    assert "\x1b" not in printed
    assert "Cochran's Q" in printed
    assert "only [red]a[/red] right on" in printed
