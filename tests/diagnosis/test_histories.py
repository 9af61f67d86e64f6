"""Histories as Keras keeps them, and claims in tables."""

import numpy as np
import pandas as pd
import pytest
from diagnose_cases import N, calibration, data, float_graph, int8, ranges
from parts import need_package

from qinspect.data.dataset import Dataset
from qinspect.diagnosis.cases import case
from qinspect.diagnosis.engine import diagnose
from qinspect.diagnosis.histories import gather_history
from qinspect.errors import DataError, SpecError
from qinspect.tflite import evaluate

FLOAT = "epoch,accuracy,loss,lr,val_accuracy,val_loss\n0,0.7,1.0,0.001,0.72,0.9\n" \
        "1,0.8,0.6,0.001,0.81,0.7\n2,0.9,0.4,0.0005,0.85,0.6\n"
QAT = "epoch;sparse_categorical_accuracy;learning_rate;loss\n3;0.90;0.0001;0.41\n" \
      "4;0.91;0.0001;0.40\n"


@pytest.fixture
def logs(tmp_path):
    (tmp_path / "float.csv").write_text(FLOAT)
    (tmp_path / "qat.csv").write_text(QAT)
    return {"float": tmp_path / "float.csv", "qat": tmp_path / "qat.csv"}


def built(**parts):
    return case(float=float_graph(), ptq=int8(ranges(calibration())), data=data(), **parts)


def test_a_log_of_keras_is_a_history(logs):
    found = gather_history(None, logs, 100)[0]
    assert found["phase"].tolist() == ["float"] * 3 + ["qat"] * 2
    assert found["epoch"].tolist() == [1, 2, 3, 1, 2]
    assert found["steps"].tolist() == [100, 200, 300, 100, 200]
    assert found["accuracy"].tolist() == [0.7, 0.8, 0.9, 0.9, 0.91]
    assert found["learning_rate"].tolist() == [1e-3, 1e-3, 5e-4, 1e-4, 1e-4]
    assert found["val_loss"].isna().tolist() == [False] * 3 + [True] * 2


def test_what_fit_returns_is_the_same(logs):
    returned = pd.read_csv(logs["float"]).drop(columns="epoch").to_dict("list")
    found = gather_history(None, {"float": returned}, None)[0]
    expected = gather_history(None, {"float": logs["float"]}, None)[0]
    pd.testing.assert_frame_equal(found, expected)
    assert found["steps"].isna().all()


@pytest.mark.slow
def test_what_keras_writes_is_read(tmp_path):
    need_package("tensorflow")
    need_package("tf_keras")
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))])
    model.compile("adam", "mse", metrics=["accuracy"])
    x, y = np.zeros((8, 3), np.float32), np.zeros((8, 2), np.float32)
    fitted = model.fit(x, y, epochs=3, validation_split=0.5, verbose=0,
                       callbacks=[tf_keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    found = gather_history(None, {"float": tmp_path / "log.csv"}, 1)[0]
    assert found["epoch"].tolist() == [1, 2, 3]
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        assert np.allclose(found[name], fitted.history[name])


def test_settings_and_budget_come_from_the_logs(logs):
    found = built(history_float=logs["float"], history_qat=logs["qat"])
    facts = found.facts
    assert (facts.float_epochs, facts.qat_epochs) == (3, 2)
    assert (facts.float_lr, facts.qat_lr) == (5e-4, 1e-4)
    assert found.steps("float") is None
    numbers = diagnose(found, interventions=False).cause("training-budget").finding.numbers
    assert numbers["qat_epochs"] == 2
    assert numbers["float_epochs"] == 3
    known = built(history_float=logs["float"], history_qat=logs["qat"], train=data(),
                  batch_size=300)
    assert (known.steps("float"), known.steps("qat")) == (3 * 4, 2 * 4)
    assert known.facts.batch_size == 300
    shown = diagnose(known, interventions=False)
    assert shown.cause("training-budget").finding.numbers["qat_steps"] == 8


def test_a_few_numbers_stand_for_a_history():
    facts = built(qat_epochs=3, qat_lr=1e-4, batch_size=64).facts
    assert (facts.qat_epochs, facts.qat_lr, facts.batch_size) == (3, 1e-4, 64)
    assert (facts.float_epochs, facts.float_lr, facts.exact) == (None, None, False)
    assert built(qat_epochs=3).facts is None
    assert built(qat_lr=1e-4).facts is None
    with pytest.raises(SpecError, match="learning rate is -1"):
        built(qat_epochs=3, qat_lr=-1.0)
    with pytest.raises(SpecError, match="QAT epochs is 0"):
        built(qat_epochs=0, qat_lr=1e-4)


def test_numbers_given_count_more_than_a_log(logs):
    facts = built(history_float=logs["float"], history_qat=logs["qat"], qat_lr=0.5).facts
    assert (facts.qat_epochs, facts.qat_lr) == (2, 0.5)


def test_nothing_is_made_of_what_is_not_known(logs, tmp_path):
    """No rate: no retraining; no steps: nothing is said of what is left of the start values."""
    (tmp_path / "bare.csv").write_text("epoch,loss\n0,1\n1,0.5\n")
    found = built(qat=int8(ranges(calibration())), history_float=tmp_path / "bare.csv",
                  history_qat=logs["qat"])
    assert found.facts.float_lr is None
    assert built(history_float=logs["float"], history_qat=tmp_path / "bare.csv").facts is None
    answer = diagnose(found, interventions=False)
    assert "start_value_left_share" not in answer.cause("stale-observers").finding.numbers
    assert "float_loss" in answer.cause("qat-learning-rate").finding.numbers
    from qinspect.show.figures import learning_curves

    drawn = learning_curves(found.history)
    assert "after 2 epochs" in drawn.sentence


@pytest.mark.parametrize(
    ("phase", "content", "words"),
    [
        ("float", "epoch,loss\n0,1\n1,0.5\n0,1\n", "epoch goes from 1 to 0 at row 3"),
        ("float", "epoch,loss\n5,1\n", "begins with epoch 5"),
        ("qat", "epoch,accuracy\n0,1\n", "no column loss"),
        ("qat", "epoch,loss\n", "no epochs"),
        ("qat", "epoch,loss\n0,high\n", "'high', which is no number"),
        ("qat", "phase,epoch,steps,loss\nqat,1,1,1\n", "--history"),
    ],
)
def test_other_logs_are_refused(tmp_path, phase, content, words):
    (tmp_path / "log.csv").write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        gather_history(None, {phase: tmp_path / "log.csv"}, None)
    assert "\n" not in str(caught.value)


def test_a_log_that_names_no_phase_is_of_qat_or_of_both(logs, tmp_path):
    found, (note,) = gather_history(logs["qat"], {}, 10)
    assert found["phase"].tolist() == ["qat"] * 2
    assert found["steps"].tolist() == [10, 20]
    assert "no column phase: its rows (2) were taken for QAT's epochs" in note
    assert "--history-float" in note
    both = pd.concat([pd.read_csv(logs["float"]), pd.read_csv(logs["float"])[:2]])
    both.to_csv(tmp_path / "both.csv", index=False)  # CSVLogger(append=True)
    found, (note,) = gather_history(tmp_path / "both.csv", {}, None)
    assert found["phase"].tolist() == ["float"] * 3 + ["qat"] * 2
    assert found["epoch"].tolist() == [1, 2, 3, 1, 2]
    assert "first 3 epochs were taken for the float training's" in note
    assert built(history=tmp_path / "both.csv").notes == (note,)
    assert built(history=tmp_path / "both.csv").facts.qat_epochs == 2
    pd.concat([both, both]).to_csv(tmp_path / "many.csv", index=False)
    with pytest.raises(DataError, match=r"begin anew 3 times; .* \(--history-float, "):
        gather_history(tmp_path / "many.csv", {}, None)


def test_other_tables_are_no_history(logs, tmp_path):
    (tmp_path / "other.csv").write_text("epoch,accuracy\n0,1\n")
    with pytest.raises(DataError, match="no column phase, steps, loss; give a file of Keras'"):
        gather_history(tmp_path / "other.csv", {}, None)
    with pytest.raises(SpecError, match="not both"):
        gather_history(logs["float"], logs, None)
    with pytest.raises(SpecError, match="batch size is 0"):
        built(batch_size=0)


def own():
    return evaluate(int8(ranges(calibration())).content, data().x).prediction


def verdict(found, cause="evaluation-mismatch"):
    return diagnose(found, interventions=False).cause(cause).verdict


@pytest.mark.parametrize("columns", [
    {"prediction": own}, {"Pred": own, "index": lambda: np.arange(N)},
    {"id": lambda: data().ids, "y_pred": own}, {"ptq": lambda: own().astype(float)},
])
def test_a_claim_in_a_table(tmp_path, columns):
    pd.DataFrame({name: made() for name, made in columns.items()}).to_csv(
        tmp_path / "claim.csv", index=False)
    found = built(claims={"ptq": tmp_path / "claim.csv"})
    assert np.array_equal(found.claims["ptq"].prediction, own())
    assert verdict(found) == "ruled_out"


def test_a_claim_with_its_labels_may_stand_in_another_order(tmp_path):
    at = np.random.default_rng(0).permutation(N)
    table = pd.DataFrame({"id": data().ids, "prediction": own(), "label": data().y}).iloc[at]
    table.to_csv(tmp_path / "claim.csv", index=False)
    assert verdict(built(claims={"ptq": tmp_path / "claim.csv"})) == "ruled_out"
    # Without labels it was scored by position, against those of other examples.
    table.drop(columns="label").to_csv(tmp_path / "claim.csv", index=False)
    assert verdict(built(claims={"ptq": tmp_path / "claim.csv"})) == "indicated"
    # Labels of other examples are seen whatever the order.
    table.assign(label=np.roll(table["label"], 1)).to_csv(tmp_path / "claim.csv", index=False)
    assert verdict(built(claims={"ptq": tmp_path / "claim.csv"})) == "indicated"


def test_ids_that_the_data_do_not_have_are_not_compared(tmp_path):
    nameless = Dataset("eval", data().x, data().y,
                       np.array([f"eval-{i:06d}" for i in range(N)]), 4)

    def of(ids, prediction):
        pd.DataFrame({"id": ids, "prediction": prediction}).to_csv(tmp_path / "c.csv", index=False)
        return verdict(case(float=float_graph(), ptq=int8(ranges(calibration())), data=nameless,
                            claims={"ptq": tmp_path / "c.csv"}))

    assert of([f"img{i}.png" for i in range(N)], own()) == "ruled_out"
    assert of(np.arange(N), own()) == "ruled_out"
    assert of(np.arange(N)[::-1], own()[::-1]) == "indicated"
    assert of([f"img{i}.png" for i in range(N)], own()[::-1]) == "indicated"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("id,a,b\n1,1,1\n", "must hold predictions of one model, in a column prediction, but has"),
        ("id,y\n1,1\n", "but has none"),
        ("prediction\n0.5\n", "must be integers"),
        ("seed,prediction\n0,1\n1,1\n", "several runs"),
    ],
)
def test_other_tables_are_no_claims(tmp_path, content, words):
    (tmp_path / "claim.csv").write_text(content)
    with pytest.raises(DataError, match=words):
        built(claims={"ptq": tmp_path / "claim.csv"})
