"""Tables of predictions as people keep them: one right reading, or one sentence with a way out."""

import json

import numpy as np
import pandas as pd
import pytest
from parts import need_package
from typer.testing import CliRunner

from qinspect.cli import app
from qinspect.errors import DataError, MissingExtraError, SpecError
from qinspect.metrics import ACCURACY
from qinspect.predictions import results
from qinspect.stats import compare_paired, compare_seeds

N = 120
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 10, N)
A, B = (np.where(RNG.random(N) < share, Y, RNG.integers(0, 10, N)) for share in (0.9, 0.7))
IDS = np.array([f"img_{i:03}.png" for i in RNG.permutation(N)])
EXPECTED = compare_paired(A == Y, B == Y, a="a", b="b")


@pytest.fixture
def table(tmp_path):
    def write(name="p.csv", **columns):
        pd.DataFrame(columns).to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return write


def refused(*arguments):
    """What the command line says where it refuses: one sentence, no traceback."""
    ran = CliRunner().invoke(app, ["significance", *map(str, arguments)])
    assert isinstance(ran.exception, (DataError, SpecError)), ran.output
    assert "\n" not in str(ran.exception)
    return str(ran.exception)


def asked(*arguments):
    ran = CliRunner().invoke(app, ["significance", *map(str, arguments), "--json"])
    assert ran.exit_code == 0, ran.exception
    return json.loads(ran.output)


@pytest.mark.parametrize("name", ["y", "Label", "labels", "y_true", "target", "true", "class"])
def test_labels_have_many_names(table, name):
    found = results(table(**{name: Y}, a=A, b=B))
    assert found.models == ("a", "b")
    assert found.compare().pair("a", "b") == EXPECTED


def test_two_columns_of_labels_are_refused_until_one_is_a_model(table):
    path = table(y=Y, target=A, b=B)
    with pytest.raises(DataError, match="y and target may both be the true label"):
        results(path)
    assert results(path, models=("target", "b")).value("target") == (A == Y).mean()


@pytest.mark.parametrize("name", ["id", "ids", "example_id", "filename", "File", "path", "image",
                                  "image_id", "anything", "id_b"])
def test_ids_have_many_names_and_file_names_need_none(table, name):
    found = results(table(**{name: np.arange(N) if name == "id_b" else IDS}, y=Y, a=A, b=B))
    assert found.models == ("a", "b")
    assert len(found.ids) == N


@pytest.mark.parametrize("name", ["fold", "Split", "index", "idx"])
def test_what_describes_examples_is_no_model(table, name):
    found = results(table(y=Y, a=A, b=B, **{name: np.arange(N) % 5}))
    assert found.models == ("a", "b")
    assert found.notes == (f"{name} of p.csv: no model, left out.",)
    assert found.compare().pair("a", "b") == EXPECTED


def test_group_is_the_cluster_whatever_its_case(table):
    found = results(table(y=Y, a=A, b=B, Group=np.arange(N) // 12))
    assert found.models == ("a", "b")
    assert found.compare().pair("a", "b").groups == 10


def test_training_examples_beside_others_are_refused(table):
    split = np.where(np.arange(N) < 90, "train", "test")
    assert "split holds test, train; keep the rows" in refused(table(y=Y, a=A, b=B, split=split))


def test_blanks_do_not_count_but_case_does(table):
    names = np.array([f"class {k}" for k in Y])
    padded = np.array([f" class {k}  " for k in A])
    found = results(table(y=names, a=padded, b=names))
    assert found.value("a") == (A == Y).mean()
    upper = np.array([f"Class {k}" for k in A])
    assert "holds 'Class 0' where y has 'class 0'" in refused(table(y=names, a=upper, b=names))


def test_an_example_counts_once(table, tmp_path):
    path = table(id=[1, 1, 2] * 30, y=[1, 1, 2] * 30, a=[1, 1, 2] * 30, b=[0, 0, 2] * 30)
    assert "the id '1' occurs 60 times, 2 ids more than once" in refused(path)
    np.savez(tmp_path / "p.npz", id=np.zeros(N, int), y=Y, a=A, b=B)
    assert "occurs 120 times" in refused(tmp_path / "p.npz")


def test_correctness_without_the_prefix_is_refused_with_the_way_out(table):
    path = table(y=Y, a=(A == Y).astype(int), b=(B == Y).astype(int))
    said = refused(path)
    assert "a holds only 0 and 1 but y has 10 classes" in said
    assert "correct_a" in said
    assert "--correct a" in said
    answer = asked(path, "--correct", "a", "--correct", "b")
    assert [one["read_as"] for one in answer["models"]] == ["correctness"] * 2
    assert answer["comparisons"][0]["mcnemar_p"] == EXPECTED.mcnemar_p
    with pytest.raises(SpecError, match="unknown model 'c'"):
        results(path, correct=["c"])
    # Classes 0 and 1 indeed, of a network that has collapsed.
    collapsed = results(table(y=Y, pred_a=np.minimum(A, 1), b=B))
    assert collapsed.value("pred_a") == (np.minimum(A, 1) == Y).mean()


def test_correctness_needs_no_labels(table):
    found = results(table(id=IDS, correct_a=(A == Y).astype(int), b=B == Y))
    assert found.y is None
    assert found.compare().pair("a", "b") == EXPECTED
    assert "no column y" in refused(table(id=IDS, correct_a=(A == Y).astype(int), b=B))


def test_zero_and_one_of_two_classes_stay_predictions(table):
    y = Y % 2
    found = results(table(y=y, a=A % 2, b=B % 2))
    assert found.read_as == {"a": "predictions", "b": "predictions"}
    assert found.value("a") == (y == A % 2).mean()
    # Truth values of a two-class problem are its classes, too.
    found = results(table(y=y == 1, a=A % 2 == 1, b=B % 2 == 1))
    assert found.value("a") == (y == A % 2).mean()


@pytest.mark.parametrize(
    ("a", "words"),
    [
        ((Y + 1) % 10, "a is y + 1 on"),
        (Y + 1, "start, subtract 1"),
        (Y - 1, "start, add 1"),
        (Y + 100 * (1 + np.arange(N) % 7), "no value of a"),
        (np.where(Y == 3, 0.7, Y), "0.7, which is no class label; give predicted classes, choose"),
        (np.array([f"c{k}" for k in Y]), "a holds text but y holds numbers"),
    ],
)
def test_what_can_hardly_be_classes_is_refused(table, a, words):
    assert words in refused(table(y=Y, a=a, b=B))


def test_whole_numbers_that_miss_by_little_may_be_a_quantity(table):
    y = 10 * Y
    a, b = (np.round(y + RNG.normal(0, sd, N)).astype(int) for sd in (1, 2))
    path = table(y=y, a=a, b=b)
    said = refused(path)
    assert "a misses y by" in said
    assert "--metric mae" in said
    assert results(path, metric=ACCURACY).value("a") == (a == y).mean()


def test_classes_that_are_confused_at_random_or_with_neighbours_are_classes(table):
    """Confusions of a thousand classes in an order of kinds correlate, but far below a quantity."""
    y = RNG.integers(0, 1000, 2000)
    near = np.clip(y + RNG.integers(-150, 150, 2000), 0, 999)
    a = np.where(RNG.random(2000) < 0.7, y, np.where(RNG.random(2000) < 0.8, near,
                                                     RNG.integers(0, 1000, 2000)))
    assert results(table(y=y, a=a, b=y)).value("a") == (a == y).mean()


def test_odd_predictions_are_named(table):
    foreign = np.where(np.arange(N) < 3, 77, A)
    notes = " ".join(results(table(y=Y, a=foreign, b=np.full(N, 4))).notes)
    assert "a predicts classes that never occur in y (77): 3 of 120 predictions" in notes
    assert "b predicts 4 in all 120 predictions" in notes
    shuffled = Y.copy()
    for k in range(10):  # never right, no constant difference
        at = np.flatnonzero(np.equal(Y, k))
        shuffled[at] = (k + 1 + np.arange(len(at)) % 9) % 10
    answer = asked(table(y=Y, a=shuffled, b=B))
    assert any("a is right in 0 of 120" in note and "guessing" in note for note in answer["notes"])


def test_models_are_chosen_in_the_order_given(table):
    path = table(y=Y, comment=["text"] * N, a=A, b=B, c=A)
    assert "comment holds text" in refused(path)
    answer = asked(path, "--models", "b, a")
    assert [one["name"] for one in answer["models"]] == ["b", "a"]
    with pytest.raises(SpecError, match="unknown model 'd'"):
        results(path, models=["a", "d"])


def test_one_class_for_all_is_no_other_start(table):
    """Nine of ten examples are of class 0: y + 1 on most, yet not counted from another start."""
    y = np.where(np.arange(N) % 10, 0, 1 + np.arange(N) % 3)
    assert results(table(y=y, pred_a=np.ones(N, int), b=y)).value("pred_a") == (y == 1).mean()


def test_what_is_not_chosen_does_not_matter(tmp_path):
    np.savez(tmp_path / "p.npz", x=np.zeros((N, 8, 8)), y=Y, a=A, b=B, short=A[:5],
             split=np.zeros((N, 2)), loss=np.full(N, np.nan))
    with pytest.raises(DataError, match="x has shape"):
        results(tmp_path / "p.npz")
    found = results(tmp_path / "p.npz", models=("a", "b"))
    assert found.compare().pair("a", "b") == EXPECTED
    path = tmp_path / "gaps.csv"
    pd.DataFrame({"y": Y, "a": A, "b": B, "why": [None] * N}).to_csv(path, index=False)
    assert "why has 120 missing values" in refused(path)
    assert asked(path, "--models", "a,b")["n"] == N


def test_a_quantity_is_read_as_numbers_and_its_metric_is_guessed_aloud(table):
    y = Y + 0.25
    path = table(y=y, a=y + RNG.normal(0, 1, N), b=Y)
    assert any("metric: mean absolute error" in note for note in asked(path)["notes"])
    assert "--metric mae" in refused(path, "--metric", "accuracy")
    frame = pd.read_csv(path)
    found = results(path, metric="mae")
    assert asked(path, "--metric", "mae")["comparisons"][0]["unit"] == "units of y"
    for name in "ab":
        assert np.isclose(found.value(name), np.abs(frame[name] - frame["y"]).mean())
    assert "text" in refused(table(y=y, a=np.full(N, "x"), b=Y), "--metric", "mae")


def test_scores_of_yes_and_no_are_read_by_their_metric(table):
    y = Y % 2
    scores = {name: np.clip(y + RNG.normal(0, sd, N), 0, 1) for name, sd in (("a", 0.5), ("b", 1))}
    path = table(y=y, **scores)
    assert "auc or log-loss" in refused(path)
    found = results(path, metric="auc")
    for name, values in scores.items():
        up, down = values[y == 1], values[y == 0]
        pairs = (up[:, None] > down).mean() + (up[:, None] == down).mean() / 2
        assert np.isclose(found.value(name), pairs)


def test_correctness_has_accuracy_and_nothing_else(table):
    path = table(y=Y + 0.5, a=Y, b=Y, correct_c=Y % 2)
    assert "correct_c says which examples are right" in refused(path, "--metric", "mae")
    assert results(path, metric="mae", models=("a", "b")).n == N


def test_runs_of_a_quantity_have_the_unit_of_their_metric(table):
    y = np.tile(Y + 0.5, 3)
    path = table(seed=np.repeat([3, 4, 5], N), id=np.tile(IDS, 3), y=y, a=y + 0.25, b=y - 0.75)
    found = results(path, metric="mae")
    assert (found.value("a"), found.value("b"), found.runs) == (0.25, 0.75, (3, 4, 5))
    assert asked(path, "--metric", "mae")["comparisons"][0]["gap"] == 0.5
    ran = CliRunner().invoke(app, ["significance", str(path), "--metric", "mae"])
    assert "b - a, units of y" in ran.output


def test_files_are_joined_by_id_in_any_order(table):
    at = RNG.permutation(N)
    one = table("ptq.csv", image=IDS, y=Y, prediction=A)
    two = table("qat.csv", prediction=B[at], y_true=Y[at], filename=IDS[at])
    answer = asked(one, two)
    assert [model["name"] for model in answer["models"]] == ["ptq", "qat"]
    assert answer["comparisons"][0]["mcnemar_p"] == EXPECTED.mcnemar_p
    # Labels may stand in one of the files only, correctness and columns of the same name as well.
    labels = table("labels.csv", id=IDS, label=Y, group=np.arange(N) // 12)
    found = results([labels, table("a.csv", id=IDS[at], net=A[at]),
                     table("b.csv", id=IDS, net=B)])
    assert found.compare().pair("a", "b").groups == 10
    assert found.compare().pair("a", "b").gap == EXPECTED.gap


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name, values in (("ptq", A), ("qat", B)):
        (tmp_path / name).mkdir()
        frame = pd.DataFrame({"id": IDS, "y": Y, "pred": values, "correct_x": values == Y})
        frame.to_csv(tmp_path / name / "out (1).csv", index=False)
    paths = [tmp_path / name / "out (1).csv" for name in ("ptq", "qat")]
    found = results(paths)
    assert found.models == ("ptq pred", "ptq x", "qat pred", "qat x")
    assert found.source == ", ".join(map(str, paths))
    for name in found.models:
        assert found.value(name) == ((A if "ptq" in name else B) == Y).mean()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"y": Y, "b": B}, "no column of ids"),
        ({"id": IDS[1:], "y": Y[1:], "b": B[1:]}, "1 are only in the first, 0 only in the second"),
        ({"id": np.roll(IDS, 1), "y": Y, "b": B}, "disagree on y of"),
        ({"id": [*IDS[:-1], IDS[0]], "y": Y, "b": B}, "occurs 2 times"),
        ({"id": IDS, "seed": np.arange(N) % 2, "y": Y, "b": B}, "has no runs"),
    ],
)
def test_files_that_do_not_fit_are_refused(table, columns, words):
    assert words in refused(table("a.csv", id=IDS, y=Y, a=A), table("b.csv", **columns))


def test_rows_pasted_together_without_a_join_are_refused(table):
    path = table(id_a=IDS, y=Y, a=A, id_b=IDS[::-1], b=B)
    assert "id_a and id_b hold the same ids in another order" in refused(path)


@pytest.mark.parametrize("kind", ["prediction", "correct"])
def test_a_long_table_is_the_wide_one(table, kind):
    at = RNG.permutation(2 * N)
    values = np.concatenate([A, B]) if kind == "prediction" else np.concatenate([A == Y, B == Y])
    long = {"example": np.tile(IDS, 2)[at], "model": np.repeat(["a", "b"], N)[at],
            kind: values.astype(int)[at], "y": np.tile(Y, 2)[at]}
    found = results(table(**long))
    c = found.compare().pair(*found.models)
    assert abs(c.gap) == abs(EXPECTED.gap)
    assert c.mcnemar_p == EXPECTED.mcnemar_p
    assert set(found.models) == {"a", "b"}
    long["model"][0] = "b" if long["model"][0] == "a" else "a"
    assert "times" in refused(table(**long))


def runs_of(seeds=5):
    """Columns of 5 seeds, each in an order of its own, and what is right of them."""
    rng = np.random.default_rng(1)
    right = rng.random((2, seeds, N)) < np.array([0.9, 0.8])[:, None, None]
    orders = [rng.permutation(N) for _ in range(seeds)]
    columns = {"seed": np.repeat(np.arange(seeds), N), "id": np.concatenate(orders),
               "y": np.concatenate([Y[at] for at in orders])}
    for name, one in zip("ab", right, strict=True):
        columns[name] = np.concatenate(
            [np.where(one[s][at], Y[at], 9 - Y[at]) for s, at in enumerate(orders)])
    return columns, right, orders


def test_five_seeds_are_never_more_examples(table):
    columns, right, orders = runs_of()
    answer = asked(table(**columns))
    assert answer["n"] == N
    assert answer["runs"] == list("01234")
    first = right[:, :, orders[0]]
    expected = compare_seeds(*first, a="a", b="b")
    assert np.isclose(answer["comparisons"][0]["diff_pp"], expected.gap)
    assert np.allclose(answer["comparisons"][0]["ci_pp"], expected.interval)
    ran = CliRunner().invoke(app, ["significance", str(table(**columns))])
    assert ran.exit_code == 0
    assert "Over 5 seeds and 120 examples" in " ".join(ran.output.split())


def test_a_long_table_of_seeds_is_runs_too(table):
    columns, _, _ = runs_of()
    wide = results(table(**columns))
    long = pd.DataFrame(columns).melt(["seed", "id", "y"], var_name="model",
                                      value_name="prediction")
    found = results(table(**long.sample(frac=1, random_state=0).to_dict("list")))
    for name in "ab":
        order = [found.runs.index(run) for run in wide.runs]
        at = np.argsort(found.ids)
        expected = wide.scores(name)[:, np.argsort(wide.ids)]
        assert np.array_equal(found.scores(name)[order][:, at], expected)


def test_seeds_of_other_examples_are_refused(table):
    columns, _, _ = runs_of()
    columns["id"] = columns["id"] + 1000 * (columns["seed"] == 3)
    assert "run 3 has other examples than run 0" in refused(table(**columns))
    del columns["id"]
    assert "no column of ids" in refused(table(**columns))


def test_one_seed_is_one_run(table):
    found = results(table(seed=np.full(N, 7), y=Y, a=A, b=B))
    assert found.runs is None
    assert found.notes == ("All examples are of seed 7.",)


def test_parquet_is_read_like_csv(tmp_path):
    need_package("pyarrow")
    frame = pd.DataFrame({"id": IDS, "y": Y, "a": A, "b": B, "seed": 0})
    frame.to_parquet(tmp_path / "p.parquet")
    assert results(tmp_path / "p.parquet").compare().pair("a", "b") == EXPECTED
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"cannot be read as \.parquet"):
        results(tmp_path / "bad.parquet")


def test_parquet_without_its_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "p.parquet").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"qinspect\[parquet\]"):
        results(tmp_path / "p.parquet")


@pytest.mark.parametrize(
    ("file", "right"),
    [
        ("11-significance-csv/bin01", (49.0, 50.25)),
        ("11-significance-csv/filename", (94.5, 94.5)),
        ("11-significance-csv/int01", "ptq holds only 0 and 1 but y has 10 classes"),
        ("11-significance-csv/regr_int", "may be quantities"),
        ("11-significance-csv/text", "'Class 0' where y has 'class 0'"),
        ("statistics/Group", (89.66667, 89.66667)),
        ("statistics/fold", (89.66667, 89.66667)),
        ("statistics/wrongid", (89.66667, 89.66667)),
        ("statistics/g0", (100.0, 100.0)),
        ("statistics/g1", (100.0, 99.95)),
        ("statistics/allwrong", "a is y + 1 on 274 of 300 examples"),
        ("statistics/corr_noprefix", "a holds only 0 and 1"),
        ("statistics/dupid", "the id '1' occurs 60 times"),
        ("statistics/strspace", "'Cat' where y has 'cat'"),
        ("statistics/seeds", (0.0, -0.311804)),
    ],
)
def test_every_case_is_right_or_refused(cases, file, right):
    path = cases / f"{file}.csv"
    if isinstance(right, str):
        assert right in refused(path)
        return
    answer = asked(path)
    values = [100 * one["accuracy"] for one in answer["models"]]
    if "runs" in answer:
        assert (answer["n"], len(answer["runs"])) == (449, 5)
        assert np.isclose(answer["comparisons"][0]["diff_pp"], right[1])
    else:
        assert len(values) == 2
        assert np.allclose(values, right)


def test_several_numbers_an_example_are_read_by_their_metric(tmp_path):
    y = RNG.normal(size=(N, 3))
    arrays = {"y": y, "a": y + RNG.normal(size=y.shape), "b": y + RNG.normal(0, 2, y.shape)}
    path = tmp_path / "p.npz"
    np.savez(path, **arrays)
    found = asked(path, "--metric", "mae")
    assert [one["score"] for one in found["models"]] == [
        np.abs(arrays[name] - y).mean(axis=1).mean() for name in "ab"]
    assert "--metric" in refused(path)
    np.savez(path, y=y[:, :2], a=arrays["a"], b=arrays["b"])
    assert "as many numbers" in refused(path, "--metric", "mae")


def test_files_of_several_numbers_are_joined_by_id(tmp_path):
    y, ids = RNG.normal(size=(N, 3)), np.arange(N)
    order = RNG.permutation(N)
    paths = [tmp_path / f"{name}.npz" for name in "ab"]
    np.savez(paths[0], id=ids, y=y, prediction=y + 1)
    np.savez(paths[1], id=ids[order], y=y[order], prediction=y[order] + 2)
    found = asked(*paths, "--metric", "mae")
    assert np.allclose([one["score"] for one in found["models"]], [1, 2])
    np.savez(paths[1], id=ids[order], y=y[order] + 1, prediction=y[order] + 2)
    assert "disagree on y" in refused(*paths, "--metric", "mae")
    np.savez(paths[1], id=ids[order], y=y[order, 0], prediction=y[order] + 2)
    assert "shape of y" in refused(*paths, "--metric", "mae")


def test_errors_that_need_no_labels_are_read_without_y(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, a=np.full(N, 0.5), b=np.full(N, 0.25))
    assert asked(path, "--metric", "reconstruction")["models"][1]["score"] == 0.25
    assert "no labels y" in refused(path, "--metric", "mae")
