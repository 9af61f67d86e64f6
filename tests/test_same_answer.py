"""One question, one answer: every entry says the same of the same arrays, grouped or not."""

from __future__ import annotations

import json
from pathlib import Path

import flatbuffers
import numpy as np
import pandas as pd
import pytest
from ai_edge_litert import schema_py_generated as fb
from typer.testing import CliRunner

from qinspect.cli import app
from qinspect.comparisons import compare
from qinspect.data.dataset import Dataset
from qinspect.diagnosis.cases import Case, Claim
from qinspect.diagnosis.engine import measure_effect
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import Trial
from qinspect.predictions import Results, results
from qinspect.stats import Comparison, compare_paired, contrast_interval
from qinspect.studies.arms import compare_arms, decompose_gap
from qinspect.studies.spec import StudySpec
from qinspect.studies.stored import Study, Sweep, finished_record, sweep_frame
from qinspect.tflite import read_graph

CLASSES = 5
ROLES = {"float": "float", "ptq": "ptq_int8", "qat": "qat"}
ARMS = ("float_keras", "float", "float_ft", "ptq_int8", "ptq_int8_ft", "qat_keras", "qat")


def predictions(seed: int, *, groups: int = 24, length: int = 10, share=None):
    """Labels, groups, and predictions of every arm; whole groups tend to go wrong together."""
    rng = np.random.default_rng(seed)
    n = groups * length
    group = np.repeat(np.arange(groups), length)
    y = rng.integers(0, CLASSES, n)
    found = {}
    for at, arm in enumerate(ARMS):
        right = (rng.random(groups) < (0.95 - 0.04 * at))[group] & (rng.random(n) < 0.97)
        found[arm] = np.where(right, y, (y + 1) % CLASSES)
    return y, group, found


def picker(at: int) -> bytes:
    """A float ``.tflite`` file that gives one block of its input as class scores."""
    width = CLASSES * len(ROLES)
    model, graph = fb.ModelT(), fb.SubGraphT()
    model.version, model.description, model.subgraphs = 3, "picker", [graph]
    weights = np.zeros((CLASSES, width), np.float32)
    weights[:, CLASSES * at : CLASSES * (at + 1)] = np.eye(CLASSES)
    data = fb.BufferT()
    data.data = np.frombuffer(weights.tobytes(), np.uint8)
    model.buffers = [fb.BufferT(), data]
    graph.tensors = []
    for name, shape, buffer in (("x", [1, width], 0), ("w", [CLASSES, width], 1),
                                ("y", [1, CLASSES], 0)):
        tensor = fb.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, shape, buffer
        tensor.type = fb.TensorType.FLOAT32
        graph.tensors.append(tensor)
    code, op = fb.OperatorCodeT(), fb.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = fb.BuiltinOperator.FULLY_CONNECTED
    code.version, model.operatorCodes = 1, [code]
    op.opcodeIndex, op.inputs, op.outputs = 0, [0, 1, -1], [2]
    op.builtinOptionsType = fb.BuiltinOptions.FullyConnectedOptions
    op.builtinOptions = fb.FullyConnectedOptionsT()
    graph.operators, graph.inputs, graph.outputs = [op], [0], [2]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pickers")
    paths = {role: folder / f"{role}.tflite" for role in ROLES}
    for at, path in enumerate(paths.values()):
        path.write_bytes(picker(at))
    return paths


def study_of(y, group, found, seed: int = 0) -> Study:
    """A finished study without files: what ``summarise`` makes of its predictions."""
    arrays = {"id": np.array([f"e{i:04d}" for i in range(len(y))]), "y": y}
    arrays |= {} if group is None else {"group": group}
    arrays |= {f"prediction__{arm}": values for arm, values in found.items()}
    spec = StudySpec(dataset="digits", seed=seed, recipes=())
    runs = pd.DataFrame({"arm": list(found)})
    study = Study(Path(), spec, {}, runs, pd.DataFrame(), pd.DataFrame(), arrays)
    compared = compare_arms(study.results)
    summary = {
        "arms": [{"arm": arm, "n": len(y), "accuracy": study.results.value(arm)} for arm in found],
        "comparisons": [c.to_json() for c in compared],
        "decomposition": decompose_gap(study.results),
    }
    return Study(Path(), spec, summary, runs, pd.DataFrame(), pd.DataFrame(), arrays)


def evidence_of(y, group, found, files, *, claims: bool) -> Evidence:
    """The case of a diagnosis; with claims the files themselves do not count."""
    x = np.concatenate([np.eye(CLASSES)[found[arm]] for arm in ROLES.values()], axis=1)
    data = Dataset("set", x.astype(np.float32), y, np.arange(len(y)).astype(str), CLASSES, group)
    graphs = {f"{role}_graph": read_graph(path) for role, path in files.items()}
    given = {role: Claim(found[arm]) for role, arm in ROLES.items()} if claims else {}
    return Evidence(Case(**graphs, data=data, claims=given))


def numbers(c: Comparison | dict) -> dict:
    """What must be the same everywhere: the pair by itself."""
    row = c if isinstance(c, dict) else c.to_json()
    kept = ("n", "accuracy_a", "accuracy_b", "diff_pp", "ci_pp", "mcnemar_p", "groups", "group_p",
            "a_only", "b_only", "mde_pp", "intervals_pp")
    return {key: row[key] for key in kept}


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_every_entry_gives_the_same_numbers_for_the_same_pair(seed, grouped, files, tmp_path):
    y, group, found = predictions(seed)
    group = group if grouped else None
    pair = ("ptq_int8", "qat")
    wanted = compare_paired(found[pair[0]] == y, found[pair[1]] == y, a="a", b="b", groups=group)
    assert (wanted.groups is not None) == grouped

    # The API, labels and correctness.
    assert numbers(Results(found, y, groups=group).comparison(*pair)) == numbers(wanted)
    right = {arm: values == y for arm, values in found.items()}
    assert numbers(results(right, groups=group).compare().pair(*pair)) == numbers(wanted)

    # significance, from the command line.
    three = {arm: found[arm] for arm in ROLES.values()}
    optional = {"group": group} if grouped else {}
    np.savez(tmp_path / "p.npz", y=y, **optional, **three)
    ran = CliRunner().invoke(app, ["significance", str(tmp_path / "p.npz"), "--json"])
    rows = {(c["a"], c["b"]): c for c in json.loads(ran.stdout)["comparisons"]}
    assert numbers(rows[pair]) == numbers(wanted)

    # compare, from files that run.
    evidence = evidence_of(y, group, found, files, claims=False)
    np.savez(tmp_path / "data.npz", x=evidence.data.x, y=y, **optional)
    compared = compare(
        list(files.values()), tmp_path / "data.npz", detail_examples=4).to_json()
    row = next(c for c in compared["comparisons"] if c["a"] == "ptq.tflite")
    assert numbers(row) == numbers(wanted)
    # The same family: all pairs of the same three.
    assert row["p_adjusted"] == pytest.approx(rows[pair]["p_adjusted"])
    assert row["verdict"] == rows[pair]["verdict"]
    assert [file["score"] for file in compared["files"]] == [
        np.mean(found[arm] == y) for arm in ROLES.values()]

    # study and sweep.
    study = study_of(y, group, found)
    row = next(c for c in study.summary["comparisons"] if (c["a"], c["b"]) == pair)
    assert numbers(row) == numbers(wanted)
    record = finished_record("key", study, 1.0)["results"]
    assert record["qat_minus_ptq_pp"] == wanted.gap
    ends = record["qat_minus_ptq_low_pp"], record["qat_minus_ptq_high_pp"]
    assert ends == wanted.interval

    # diagnose, from files and from claims.
    for claims in (False, True):
        evidence = evidence_of(y, group, found, files, claims=claims)
        assert numbers(evidence.comparison("ptq", "qat")) == numbers(wanted)

    # The question QAT - PTQ is a family of its own wherever roles are known.
    named = {"a_better": pair[0], "b_better": pair[1]}
    verdicts = {row["verdict"], evidence.comparison("ptq", "qat").verdict, wanted.verdict}
    assert len(verdicts) == 1
    assert record["qat_minus_ptq_verdict"] == named.get(wanted.verdict, wanted.verdict)


@pytest.mark.parametrize("grouped", [False, True])
def test_one_family_gives_the_same_verdicts_from_every_entry(grouped, files):
    """The comparisons with float: adjusted over as many as there are, in a study as elsewhere."""
    y, group, found = predictions(7)
    group = group if grouped else None
    study = study_of(y, group, found)
    expected = Results(found, y, groups=group).compare(reference="float")
    rows = [c for c in study.summary["comparisons"] if c["a"] == "float"]
    assert {c["b"]: (c["p_adjusted"], c["verdict"]) for c in rows} == {
        c.b: (c.p_adjusted, c.verdict) for c in expected}
    evidence = evidence_of(y, group, found, files, claims=True)
    three = Results({role: found[arm] for role, arm in ROLES.items()}, y, groups=group)
    for c in three.compare(reference="float"):
        diagnosed = evidence.comparison("float", c.b)
        assert (diagnosed.p, diagnosed.verdict) == (c.p, c.verdict)


@pytest.mark.parametrize("grouped", [False, True])
def test_contrasts_are_the_same_in_a_study_and_in_an_intervention(grouped, files):
    y, group, found = predictions(11)
    group = group if grouped else None
    right = {arm: values == y for arm, values in found.items()}
    study = study_of(y, group, found)
    for part in study.summary["decomposition"]:
        expected = contrast_interval(right, part["arms"], groups=group)
        assert (part["diff_pp"], *part["ci_pp"]) == expected
    # A remedy that makes the control of QAT: the part of the training budget, with its sign.
    evidence = evidence_of(y, group, found, files, claims=True)
    effect = measure_effect(evidence, evidence.comparison("ptq", "qat"),
                            Trial("training on", {"ptq": found["ptq_int8_ft"]}))
    budget = study.summary["decomposition"][0]
    assert budget["id"] == "training-budget"
    assert (effect.amount, *effect.interval) == pytest.approx((budget["diff_pp"], *budget["ci_pp"]))
    # On a part of the examples the groups are taken along.
    index = np.arange(0, len(y), 3)
    trial = Trial("training on", {"ptq": found["ptq_int8_ft"][index]}, index=index)
    some = measure_effect(evidence, evidence.comparison("ptq", "qat"), trial)
    expected = contrast_interval(
        {arm: values[index] for arm, values in right.items()}, budget["arms"],
        groups=None if group is None else group[index])
    assert (some.amount, *some.interval) == pytest.approx(expected)


@pytest.mark.slow
def test_null_groups_find_a_winner_at_the_stated_rate_from_every_entry(files, tmp_path):
    """40 groups of 20 fully correlated examples; without groups 57 % of these pairs have one."""
    better = dict.fromkeys(("api", "file", "study", "sweep", "diagnose", "part", "effect"), 0)
    ungrouped, sets = 0, 300
    for seed in range(sets):
        rng = np.random.default_rng((5, seed))
        group = np.repeat(np.arange(40), 20)
        y = np.zeros(800, int)
        found = {arm: (rng.random(40) < 0.15).astype(int)[group] for arm in ARMS}
        np.savez(tmp_path / "p.npz", y=y, group=group, a=found["ptq_int8"], b=found["qat"])
        # Other arms of a study change nothing in these.
        arms = ("float", "ptq_int8", "ptq_int8_ft", "qat")
        study = study_of(y, group, {arm: found[arm] for arm in arms})
        record = finished_record("key", study, 1.0)["results"]
        row = next(c for c in study.summary["comparisons"]
                   if (c["a"], c["b"]) == ("ptq_int8", "qat"))
        evidence = evidence_of(y, group, found, files, claims=True)
        focus = evidence.comparison("ptq", "qat")
        effect = measure_effect(evidence, focus, Trial("x", {"qat": found["qat_keras"]}))
        part = study.summary["decomposition"][0]["ci_pp"]
        won = ("a_better", "b_better")
        better["api"] += study.results.comparison("ptq_int8", "qat").verdict in won
        better["file"] += next(iter(results(tmp_path / "p.npz").compare())).verdict in won
        better["study"] += row["verdict"] in won
        better["sweep"] += record["qat_minus_ptq_verdict"] in ("ptq_int8", "qat")
        better["diagnose"] += focus.significant
        better["part"] += part[0] > 0 or part[1] < 0
        better["effect"] += effect.interval[0] > 0 or effect.interval[1] < 0
        ungrouped += compare_paired(found["ptq_int8"] == 0, found["qat"] == 0).significant
    assert ungrouped / sets > 0.4
    # Of the part and the effect it is the interval alone, without the test's second gate.
    for entry in ("api", "file", "study", "sweep", "diagnose", "part", "effect"):
        assert better[entry] / sets <= 0.06, better


def test_a_sweep_over_seeds_takes_groups_along(tmp_path, monkeypatch):
    y, group, _ = predictions(0)
    studies = {}
    for seed in range(3):
        _, _, found = predictions(seed)
        studies[f"run{seed}"] = study_of(y, group, found, seed)
    monkeypatch.setattr("qinspect.studies.stored.load_study",
                        lambda path: studies[Path(path).name])
    frame = sweep_frame(finished_record(key, one, 1.0) for key, one in studies.items())
    found = next(iter(Sweep(frame, tmp_path).seeds.values()))
    assert (found.groups, found.seeds, found.n) == (24, 3, 240)
    stacked = {arm: np.stack([one.arrays[f"prediction__{arm}"] for one in studies.values()])
               for arm in ("ptq_int8", "qat")}
    runs = Results(stacked, y, groups=group, runs=(0, 1, 2)).over_runs("ptq_int8", "qat")
    assert (found.gap, found.interval) == (runs.gap, runs.interval)
