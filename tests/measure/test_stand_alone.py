"""One operator cut out: its file gives, bit for bit, what the whole file gives at that tensor."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from small_net import examples, small_net
from typer.testing import CliRunner

import qinspect as qi
from qinspect.cli import app
from qinspect.errors import DataError, ModelFileError, QinspectError, SpecError, StoreError
from qinspect.measure.activations import observe_ranges
from qinspect.measure.cut import constant_tensors, cut_alone, outside_inputs, why_not_alone
from qinspect.measure.debugger import culprit, debugger_sentence, read_debugger
from qinspect.measure.stand_alone import cut_worst_of, kernel_table, ranked
from qinspect.tflite import read_graph
from qinspect.tflite.graph import Graph
from qinspect.tflite.requantize import quantize_file
from qinspect.tflite.runner import READABLE, Session

HEADER = ["Index", "Op Code", "Tensor Name", "Max Diff", "MSE", "Cos Sim", "SNR (dB)",
          "PSNR (dB)", "NaN", "Min Ref", "Max Ref", "Min Accel", "Max Accel",
          "Status"]


def inputs_of(graph: Graph, n: int = 3) -> np.ndarray:
    shape = graph.main.tensors[graph.main.inputs[0]].shape
    return np.random.default_rng(2).uniform(0, 1, (n, *shape[1:])).astype(np.float32)


def each_alone(graph: Graph, x: np.ndarray, kernels: str) -> int:
    """Cut out every operator that can be, and hold it against the whole file; how many."""
    main, constants, seen = graph.main, constant_tensors(graph.main), 0
    alone = [op for op in main.operators if why_not_alone(main, op.index) is None
             and outside_inputs(main, [op.index], constants)
             and all(main.tensors[i].dtype in READABLE for i in op.outputs)]
    read = {i for op in alone for i in (*outside_inputs(main, [op.index], constants), *op.outputs)}
    with Session(graph, tensors=sorted(read), kernels=kernels,  # type: ignore[arg-type]
                 isolated=False) as session:
        whole = session.run(x)
    for op in alone:
        if not all(i in whole for i in (*outside_inputs(main, [op.index], constants), *op.outputs)):
            continue
        cut = cut_alone(graph, op.index)
        made = read_graph(cut.content)
        assert [one.code for one in made.main.operators][-1] == op.code
        with Session(made, how=None, kernels=kernels,  # type: ignore[arg-type]
                     isolated=False) as session:
            found = session.run({own: whole[source] for source, own in cut.inputs.items()})
        for source, own in cut.outputs.items():
            assert found[own].tobytes() == whole[source].tobytes(), (graph.file, op)
            same, first = made.main.tensors[own], main.tensors[source]
            assert (same.name, same.dtype, same.shape) == (first.name, first.dtype, first.shape)
            assert repr(same.affine) == repr(first.affine)
        seen += 1
    return seen


@pytest.mark.parametrize("kernels", ["builtin", "reference"])
@pytest.mark.parametrize("name", ["resnet8/int8", "resnet8/float32", "vww/vww_96_int8"])
def test_of_published_files(data_dir: Path, name: str, kernels: str) -> None:
    file = data_dir / "tflite" / f"{name}.tflite"
    if not file.exists():
        pytest.skip(f"no {file.name}")
    graph = read_graph(file)
    assert each_alone(graph, inputs_of(graph, 1), kernels) > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float32", "float16", "dynamic_range", "int8", "uint8_io",
                                  "int16x8", "int8_per_tensor", "qat"])
def test_of_every_format(converted_files: Path, name: str) -> None:
    graph = read_graph(converted_files / f"{name}.tflite")
    for kernels in ("builtin", "reference"):
        assert each_alone(graph, inputs_of(graph), kernels) >= 10


def test_the_optimised_kernels_of_integers_are_the_same_alone(data_dir: Path) -> None:
    graph = read_graph(data_dir / "tflite" / "resnet8" / "int8.tflite")
    assert each_alone(graph, inputs_of(graph), "default") > 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("alone")
    graph = read_graph(small_net())
    (path / "float.tflite").write_bytes(graph.content)
    bounds = observe_ranges(graph, examples(100)).over()
    (path / "int8.tflite").write_bytes(quantize_file(graph, bounds))
    np.savez(path / "data.npz", x=examples(20, seed=6))
    return path


def write_table(path: Path, rows: list[tuple[object, ...]]) -> Path:
    """As the debugger writes it: index, code, name, largest difference, SNR, NaN, ends, status."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        for index, code, name, largest, snr, nan, low, high, status in rows:
            writer.writerow([index, code, name, largest, 0, 1, snr, snr, nan, low, high, low, high,
                             status])
    return path


def table_of(graph: Graph, differences: dict[int, float]) -> list[tuple[object, ...]]:
    return [(op.index, f"tfl.{op.code.lower()}", graph.main.tensors[op.outputs[0]].name,
             differences.get(op.index, 0), "inf", "N", -128, 127,
             "REGRESSION" if differences.get(op.index) else "OK") for op in graph.main.operators]


def test_one_step_is_no_fault_and_the_first_jump_is_the_culprit(folder: Path) -> None:
    graph = read_graph(folder / "int8.tflite")
    ops = [op.index for op in graph.main.operators if op.code in (
        "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    found, notes = read_debugger(write_table(folder / "one.csv", table_of(
        graph, dict.fromkeys(ops, 1))), graph)
    assert not notes
    assert culprit(found) is None
    assert set(found["found"]) == {"rounding", "equal"}
    # Rounding first, then a jump that all behind it hand on and make larger.
    jump = table_of(graph, {ops[0]: 2, **{i: 40 + i for i in range(ops[1], len(
        graph.main.operators))}})
    found, _ = read_debugger(write_table(folder / "jump.csv", jump), graph)
    worst = culprit(found)
    assert worst is not None
    assert worst["operator"] == ops[1]
    assert worst["grows"] == pytest.approx((40 + ops[1]) / 2)


def test_floats_that_are_the_same_everywhere_are_equal_and_no_nan(folder: Path) -> None:
    graph = read_graph(folder / "float.tflite")
    rows = [(*row[:6], 0, 0, row[8]) for row in table_of(graph, {})]
    rows[1] = (*rows[1][:3], 0.5, *rows[1][4:])
    found, _ = read_debugger(write_table(folder / "constant.csv", rows), graph)
    assert found.set_index("operator")["found"].to_dict() == {
        op.index: "differs" if op.index == 1 else "equal" for op in graph.main.operators}


def test_rows_that_are_no_differences(folder: Path) -> None:
    graph = read_graph(folder / "int8.tflite")
    rows = table_of(graph, {})
    rows[1] = (1, rows[1][1], "", 0, 0, "N", 0, 0, "REGRESSION")
    rows[2] = (2, rows[2][1], "", 0, 0, "N", 0, 0, "ACCEL_COMPILE_FAILED")
    rows[3] = (*rows[3][:5], "Y", *rows[3][6:8], "REGRESSION")
    rows.append((99, "tfl.relu", 'a, "quoted"\nname', 1, 1, "N", 0, 1, "OK"))
    found, notes = read_debugger(write_table(folder / "odd.csv", rows), graph)
    by_op = found.set_index("operator")["found"]
    assert by_op[[1, 2, 3]].tolist() == ["not_taken", "not_run", "nan"]
    assert len(notes) == 1
    assert "1 of" in notes[0]
    worst = culprit(found)
    assert worst is not None
    assert worst["operator"] == 3


def test_differences_of_floats_are_shares_of_their_range(folder: Path) -> None:
    graph = read_graph(folder / "float.tflite")
    rows = [(op, code, name, 0.5 if op == 0 else 0, snr, nan, -1, 1, status)
            for op, code, name, _, snr, nan, _, _, status in table_of(graph, {})]
    found, _ = read_debugger(write_table(folder / "float.csv", rows), graph)
    assert found.iloc[0]["steps"] == pytest.approx(255 * 0.25)
    assert found.iloc[0]["unit"] == "255ths of the range"


def test_islands_are_found_by_the_name_of_their_tensor(folder: Path) -> None:
    graph = read_graph(folder / "int8.tflite")
    last = graph.main.operators[-1]
    rows = [(0, f"Partition_0({len(graph.main.operators)} Ops)",
             graph.main.tensors[last.outputs[0]].name, 7, 3, "N", -128, 127, "REGRESSION")]
    found, _ = read_debugger(write_table(folder / "island.csv", rows), graph)
    assert found.iloc[0][["operator", "steps"]].tolist() == [last.index, 7]


@pytest.mark.parametrize(("text", "said"), [
    ("a,b\n1,2\n", "no column"), (",".join(HEADER) + "\n", "no rows"),
    (",".join(HEADER) + "\n0,tfl.add,nowhere,1,1,1,1,1,N,0,1,0,1,OK\n", "of another file"),
    ("\x00\x01", "no column"),
    (",".join(HEADER) + "\n0,tfl.add,nowhere,oops,1,1,1,1,N,0,1,0,1,OK\n",
     "Max Diff is 'oops' in row 1"),
    (",".join(HEADER) + "\n0,tfl.add,nowhere,-5,1,1,1,1,N,0,1,0,1,OK\n", "is no difference"),
])
def test_tables_that_are_none(folder: Path, text: str, said: str) -> None:
    (folder / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_debugger(folder / "bad.csv", read_graph(folder / "float.tflite"))


def test_where_nothing_was_compared_nothing_is_said_to_agree(folder: Path) -> None:
    graph = read_graph(folder / "int8.tflite")
    rows = [(*row[:-1], "ACCEL_COMPILE_FAILED") for row in table_of(graph, {})]
    found, _ = read_debugger(write_table(folder / "failed.csv", rows), graph)
    assert debugger_sentence(found).startswith("LiteRT's accuracy debugger compared no operator (")


def test_a_second_cut_replaces_the_first_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    graph = read_graph(folder / "int8.tflite")
    x = np.load(folder / "data.npz")["x"][:4]
    out = tmp_path / "out"
    first = cut_worst_of(graph, x, out, [(0, "first")])
    (out / "mine.txt").touch()
    (out / "input_mine.bin").touch()
    second = cut_worst_of(graph, x, out, [(1, "second")])
    assert first.files[0] != second.files[0]
    assert {file.name for file in out.iterdir()} == {*second.files, "mine.txt", "input_mine.bin"}
    # Files of these names that are somebody's own stay as they are.
    other = tmp_path / "other"
    other.mkdir()
    (other / "examples.npz").write_bytes(b"mine")
    with pytest.raises(StoreError, match=r"holds 'examples.npz', which no older cut"):
        cut_worst_of(graph, x, other, [(0, "first")])
    assert (other / "examples.npz").read_bytes() == b"mine"


def test_the_worst_by_the_table_is_cut_out_and_runs(folder: Path, tmp_path: Path) -> None:
    graph = read_graph(folder / "int8.tflite")
    conv = next(op for op in graph.main.operators if op.code == "DEPTHWISE_CONV_2D")
    table = write_table(tmp_path / "s.csv", table_of(graph, {conv.index: 60}))
    done = CliRunner().invoke(app, [
        "layers", str(folder / "int8.tflite"), "--data", str(folder / "data.npz"), "--debugger",
        str(table), "--cut-worst", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["cut"]["operator"] == answer["device"][0]["operator"] == conv.index
    made = tmp_path / "out" / answer["cut"]["files"][0]
    assert set(answer["cut"]["files"]) == {file.name for file in (tmp_path / "out").iterdir()}
    arrays = np.load(tmp_path / "out" / "examples.npz")
    alone = read_graph(made)
    with Session(alone, how=None) as session:
        found = session.run({alone.main.inputs[0]: arrays["input_0"]})
    assert np.array_equal(found[alone.main.outputs[0]], arrays["output_0_default"])
    for key in arrays.files:
        raw = (tmp_path / "out" / f"{key}.bin").read_bytes()
        assert raw == arrays[key].tobytes()
    readme = (tmp_path / "out" / "README.txt").read_text()
    for said in ("int8.tflite", "DEPTHWISE_CONV_2D", "accuracy debugger", "output_0_reference"):
        assert said in readme


def test_without_a_table_the_error_to_float_decides(folder: Path, tmp_path: Path) -> None:
    """Of kernels that agree; the operator is the one with the lowest SQNR of its own."""
    found = qi.layers([folder / "float.tflite", folder / "int8.tflite"], folder / "data.npz",
                      cut_worst=tmp_path / "out")
    assert found.cut is not None
    assert found.kernels is not None
    own = found.errors["int8.tflite"].errors
    own = own[own["reference"] == "local"]
    worst = own.loc[own["sqnr_db"].astype(float).idxmin(), "layer"]
    tensors = found.of("activation", "int8.tflite").set_index("layer")["tensor"]
    if (found.kernels["steps"] <= 1).all():
        assert found.cut.tensor == tensors[worst]
        assert "it adds most error" in found.cut.chosen
        assert "at most a step" in found.cut.chosen
    else:
        assert found.cut.operator == found.kernels.iloc[0]["operator"]


def test_kernels_are_held_against_each_other_operator_by_operator(folder: Path) -> None:
    """The table's numbers are those of each operator cut out alone."""
    graph = read_graph(folder / "int8.tflite")
    x = examples(4, seed=3)
    found, _ = kernel_table(graph, x)
    constants = constant_tensors(graph.main)
    for row in found.to_dict("records"):
        op = graph.main.operators[row["operator"]]
        with Session(graph, tensors=outside_inputs(graph.main, [op.index], constants)) as session:
            given = session.run(x)
        cut, gave = cut_alone(graph, op.index), []
        for kernels in ("default", "reference"):
            with Session(cut.content, how=None, kernels=kernels) as session:
                found_there = session.run({own: given[at] for at, own in cut.inputs.items()})
            gave.append(found_there[next(iter(cut.outputs.values()))].astype(float))
        largest = np.abs(gave[0] - gave[1]).max()
        if row["unit"] == "steps":
            assert row["steps"] == largest


def test_what_cannot_stand_alone_names_the_next(odd_dir: Path, tmp_path: Path, folder: Path
                                                ) -> None:
    graph = read_graph(odd_dir / "while_op_with_forwarding_input.tflite")
    op = next(op for op in graph.main.operators if op.code == "WHILE")
    with pytest.raises(ModelFileError, match=r"WHILE\) cannot stand alone: WHILE runs other"):
        cut_alone(graph, op.index)
    small = read_graph(folder / "int8.tflite")
    bare = next(o for o in small.main.operators if o.code == "CONV_2D").index
    held = cut_worst_of(small, examples(2), tmp_path, [(bare, "it is the worst")])
    assert held.chosen == "it is the worst."
    with pytest.raises(ModelFileError, match="no operator that differs can stand alone"):
        cut_worst_of(graph, np.zeros((1, 1), np.float32), tmp_path, [(op.index, "worst")])


def test_refusals(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--data"):
        qi.layers(folder / "int8.tflite", cut_worst=tmp_path)
    with pytest.raises(QinspectError, match="float32 or float16"):
        qi.layers(folder / "int8.tflite", folder / "data.npz")
    graph = read_graph(folder / "int8.tflite")
    with pytest.raises(ModelFileError, match="give the float file first"):
        cut_worst_of(graph, examples(2), tmp_path, ranked(
            kernel_table(graph, examples(2))[0].assign(steps=0.0), None, {}))
