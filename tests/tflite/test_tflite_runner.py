"""One runner for any file: right values, in this process and in one that may die."""

from __future__ import annotations

import itertools
import platform
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from small_net import SHAPE, small_net
from tiny_graphs import custom_operator, floor_mod, one_operator

from qinspect.affine import Affine, quantize
from qinspect.errors import DataError, ModelFileError, QinspectError, SpecError
from qinspect.tflite import isolated, read_graph, runner
from qinspect.tflite.inputs import Preprocessing
from qinspect.tflite.ports import match_outputs, ports_of, quantized
from qinspect.tflite.runner import Session, run_files
from qinspect.tflite.runner_child import Plan

both = pytest.mark.parametrize("isolated_too", [False, True], ids=["here", "child"])


@pytest.fixture(scope="session")
def cifar(data_dir: Path) -> np.ndarray:
    with np.load(data_dir / "tflite/resnet8/cifar_eval.npz", allow_pickle=False) as archive:
        return archive["x"].astype(np.float32)


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def run(model: Any, x: Any, **options: Any) -> runner.Run:
    return run_files({"it": model}, x, **options)["it"]


def only(found: runner.Run) -> np.ndarray:
    """The only output, real."""
    (name,) = found.outputs
    return found.real(name)


def plain(path: Path, *feeds: np.ndarray, step: int = 1, fresh: bool = False, reset: bool = False,
          kernels: Any = OpResolverType.AUTO) -> list[np.ndarray]:
    """The plainest possible loop over whole input tensors, without the code under test."""
    def opened() -> Interpreter:
        made = Interpreter(model_path=str(path), experimental_op_resolver_type=kernels)
        for detail, values in zip(made.get_input_details(), feeds, strict=True):
            made.resize_tensor_input(detail["index"], (step, *values.shape[1:]))
        made.allocate_tensors()
        return made

    made = opened()
    inputs, outputs = made.get_input_details(), made.get_output_details()
    rows: list[list[np.ndarray]] = [[] for _ in outputs]
    for at in range(0, len(feeds[0]) // step * step, step):
        if fresh:
            made = opened()
        if reset:
            made.reset_all_variables()
        for detail, values in zip(inputs, feeds, strict=True):
            made.set_tensor(detail["index"], values[at : at + step].astype(detail["dtype"]))
        made.invoke()
        for found, detail in zip(rows, outputs, strict=True):
            found.append(made.get_tensor(detail["index"]))
    return [np.concatenate(found) for found in rows]


# --- ordinary files ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def expected(data_dir: Path, cifar: np.ndarray) -> dict[str, np.ndarray]:
    folder = data_dir / "tflite/resnet8"
    return {"float32": plain(folder / "float32.tflite", cifar[:301])[0],
            "int8": plain(folder / "int8.tflite", cifar[:301] - 128)[0]}


@both
@pytest.mark.parametrize("name", ["float32", "int8"])
def test_bits_equal_those_of_the_plain_loop(data_dir, cifar, expected, name, isolated_too) -> None:
    path = data_dir / f"tflite/resnet8/{name}.tflite"
    for workers, batch in [(1, 1), (2, None)] + [(1, 7), (3, 8)] * (not isolated_too):
        found = run(path, cifar[:301], workers=workers, batch_size=batch, isolated=isolated_too)
        (output,) = found.outputs.values()
        np.testing.assert_array_equal(output, expected[name])
        assert output.dtype == expected[name].dtype
        assert found.batched == (batch != 1)
        assert found.notes == ()


@both
def test_a_view_is_a_run_and_outlasts_the_next_one(data_dir, cifar, isolated_too) -> None:
    graph = read_graph(data_dir / "tflite" / "resnet8" / "int8.tflite")
    expected = Session(graph, isolated=False, workers=1).run(cifar[:30])
    with Session(graph, isolated=isolated_too, workers=2) as session:
        views = [session.view(part) for part in (cifar[:12], cifar[12:24])]
        for at, found in enumerate(views):
            for index, values in found.items():
                np.testing.assert_array_equal(values, expected[index][12 * at : 12 * at + 12])
        third = session.view(cifar[24:30])
        np.testing.assert_array_equal(views[1][index], expected[index][12:24])
        np.testing.assert_array_equal(third[index], expected[index][24:])


def test_several_files_share_one_pass(data_dir, cifar, expected, monkeypatch) -> None:
    monkeypatch.setattr(runner, "_BLOCK", 1 << 20)  # some 80 images: blocks of unequal length
    paths = {n: data_dir / f"tflite/resnet8/{n}.tflite" for n in ("float32", "int8")}
    for child in (False, True):
        found = run_files(paths, cifar[:301], isolated=child, batch_size=4)
        for name, one in found.items():
            np.testing.assert_array_equal(next(iter(one.outputs.values())), expected[name])


def test_progress_counts_every_example_in_the_callers_thread(data_dir, cifar) -> None:
    seen: list[tuple[int, int, int]] = []
    paths = {str(i): data_dir / "tflite/resnet8/int8.tflite" for i in range(2)}
    run_files(paths, cifar[:100], workers=1,
              progress=lambda done, total: seen.append((done, total, threading.get_ident())))
    assert [done for done, _, _ in seen] == sorted({done for done, _, _ in seen})
    assert seen[-1][:2] == (200, 200)
    assert {ident for _, _, ident in seen} == {threading.get_ident()}


def test_examples_on_disk_are_never_held_in_memory(tmp_path) -> None:
    path = tmp_path / "x.npy"
    x = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(100_000, *SHAPE))
    x[::7] = 1.0
    x.flush()
    stored = np.load(path, mmap_mode="r")
    tracemalloc.start()
    found = run(small_net(), stored)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < stored.nbytes / 5
    np.testing.assert_array_equal(only(found)[:9], only(run(small_net(), stored[:9])))


# --- the cases -----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(("file", "right"), [("float", 364), ("dyn", 364), ("ptq", 367)])
def test_01_state_is_reset_before_each_example(cases, file, right, isolated_too) -> None:
    path = cases / f"01-lstm-state/lstm_{file}.tflite"
    data = arrays(cases / "01-lstm-state/seq_eval.npz")
    found = run(path, data["x"], isolated=isolated_too, workers=2)
    np.testing.assert_array_equal(only(found), plain(path, data["x"], reset=True)[0])
    assert int((only(found).argmax(axis=1) == data["y"]).sum()) == right
    assert "keeps state" in found.notes[0]
    kept = run(path, data["x"][:50], isolated=isolated_too, sequence=True)
    np.testing.assert_array_equal(only(kept), plain(path, data["x"][:50])[0])


@both
def test_02_tensors_of_dynamic_shape_do_not_stop_a_file(cases, isolated_too) -> None:
    folder = cases / "02-reshape-traceback"
    data = arrays(folder / "tut_eval.npz")
    for name in ("float", "ptq", "qat"):
        path = folder / f"tut_{name}.tflite"
        graph = read_graph(path)
        wanted = [t.index for t in graph.main.tensors if not t.constant]
        found = run(path, data["x"], tensors=wanted, isolated=isolated_too)
        np.testing.assert_array_equal(only(found), plain(path, data["x"])[0])
        assert set(found.tensors) == set(wanted)
        assert all(len(values) == len(data["x"]) for values in found.tensors.values())


@both
def test_03_tensors_without_dimensions(cases, isolated_too) -> None:
    folder = cases / "03-yolo-head-traceback"
    images = arrays(folder / "yolo_x.npz")["x"]
    x, path = images[:20], folder / "yolo_float.tflite"
    kept = Interpreter(model_path=str(path), experimental_preserve_all_tensors=True)
    kept.allocate_tensors()
    graph = read_graph(path)
    with Session(graph, tensors=range(len(graph.main.tensors)), isolated=isolated_too) as session:
        found = session.run(x)
        constants = [t.name for t in graph.main.tensors if t.constant]
        assert len([note for note in session.notes if "constant" in note]) == len(constants)
    scalars = [i for i, values in found.items() if values.ndim == 1]
    assert scalars, "this file has tensors without dimensions"
    for at, example in enumerate(x):
        kept.set_tensor(graph.main.inputs[0], example[None])
        kept.invoke()
        for index, values in found.items():
            alone = np.asarray(kept.get_tensor(index))
            alone = alone[0] if alone.shape[:1] == (1,) else alone
            np.testing.assert_array_equal(values[at], alone)
    # By name, and without what forces single examples.
    last = graph.main.tensors[graph.main.operators[0].outputs[0]]
    named = run(path, x, tensors=[last.name], isolated=isolated_too)
    assert named.batched
    np.testing.assert_allclose(named.tensors[last.name], found[last.index], atol=1e-6)
    # Scores that share a scale with boxes become 0.
    largest = {name: only(run(folder / f"yolo_{name}.tflite", images))[..., 4:].max()
               for name in ("float", "ptq")}
    assert largest["ptq"] == 0
    assert round(float(largest["float"]), 3) == 0.341


def test_04_outputs_are_matched_across_files(cases) -> None:
    folder = cases / "04-output-order"
    data = arrays(folder / "par_eval.npz")
    found = run_files({n: folder / f"mo_{n}.tflite" for n in ("float", "ptq", "qat")}, data["x"])
    right = {}
    for name, one in found.items():
        pairs, odd = match_outputs(found["float"].ports, one.ports, found["float"].outputs,
                                   one.outputs)
        right[name] = np.mean(one.outputs[pairs["aparity"]].argmax(axis=1) == data["y"])
        assert bool(odd) == (name == "qat")
    assert {n: round(float(r), 4) for n, r in right.items()} == {
        "float": 0.9598, "ptq": 0.9598, "qat": 0.9618}
    chosen = run(folder / "mo_float.tflite", data["x"], outputs=["aparity"])
    assert list(chosen.outputs) == ["aparity"]
    with pytest.raises(SpecError, match="aparity"):
        run(folder / "mo_float.tflite", data["x"], outputs=["parity"])


def test_04_outputs_of_one_shape_are_paired_by_name_or_else_by_value() -> None:
    real = fb.TensorType.FLOAT32
    ends = {name: ports_of(read_graph(one_operator(
        fb.BuiltinOperator.ADD, [("x", (1, 4), real)], [(n, (1, 4), real) for n in outputs]
    ))) for name, outputs in (("a", ("u", "v")), ("swapped", ("quant_v", "quant_u")),
                              ("foreign", ("p", "q")))}
    ports = {name: {p.name: p for p in end.outputs} for name, end in ends.items()}
    rng = np.random.default_rng(0)
    ours = {"u": rng.normal(size=(50, 4)), "v": rng.normal(size=(50, 4))}
    pairs, odd = match_outputs(ports["a"], ports["swapped"])
    assert pairs == {"u": "quant_u", "v": "quant_v"}
    assert len(odd) == 1
    assert match_outputs(ports["a"], ports["foreign"])[0] == {"u": "p", "v": "q"}
    for order in itertools.permutations(("u", "v")):
        theirs = {n: ours[o] + 0.1 * rng.normal(size=(50, 4))
                  for n, o in zip(("p", "q"), order, strict=True)}
        pairs, _ = match_outputs(ports["a"], ports["foreign"], ours, theirs)
        assert {ours_name: theirs_name for theirs_name, ours_name
                in zip(("p", "q"), order, strict=True)} == pairs


def test_07_an_autoencoder_and_a_segmentation_keep_their_shapes(cases) -> None:
    from sklearn.metrics import roc_auc_score

    folder = cases / "07-autoencoder"
    data = arrays(folder / "ae_eval.npz")
    auc = []
    for name in ("float", "ptq", "qat"):
        error = only(run(folder / f"ae_{name}.tflite", data["x"])) - data["x"]
        auc.append(round(float(roc_auc_score(data["y"], (error**2).mean(axis=1))), 4))
    assert auc == [0.9361, 0.9355, 0.9386]
    image = arrays(folder / "seg_img.npz")["x"]
    assert only(run(folder / "seg_ptq.tflite", image)).shape == (len(image), 8, 8, 3)


@both
def test_08_resources_are_never_read_and_state_is_fresh_or_kept(cases, isolated_too) -> None:
    folder = cases / "08-stream-segfault"
    path = folder / "stream_float.tflite"
    graph = read_graph(path)
    fresh, kept = arrays(folder / "stream_fresh.npz"), arrays(folder / "stream_seq.npz")
    for _ in range(3):
        found = run(path, fresh["x"], tensors=range(len(graph.main.tensors)),
                    isolated=isolated_too)
        np.testing.assert_array_equal(only(found).argmax(axis=1), fresh["y"])
        assert any("resource" in note for note in found.notes)
    order = np.random.default_rng(0).permutation(len(fresh["x"]))
    np.testing.assert_array_equal(
        only(run(path, fresh["x"][order], isolated=isolated_too)), only(found)[order])
    found = run(path, kept["x"], sequence=True, isolated=isolated_too)
    np.testing.assert_array_equal(only(found).argmax(axis=1), kept["y"])
    assert any("order given" in note for note in found.notes)


def test_08_a_reset_that_does_not_help_is_found_out(cases, monkeypatch) -> None:
    monkeypatch.setattr(runner, "state_of", lambda graph: "reset")
    data = arrays(cases / "08-stream-segfault/stream_fresh.npz")
    found = run(cases / "08-stream-segfault/stream_float.tflite", data["x"])
    np.testing.assert_array_equal(only(found).argmax(axis=1), data["y"])


@both
@pytest.mark.parametrize("name", ["float", "ptq"])
def test_09_a_fixed_batch_is_filled_up(cases, name, isolated_too) -> None:
    path = cases / f"09-fixed-batch/b4_{name}.tflite"
    x = arrays(cases / "15-data-habits/cls_nochannel.npz")["x"]
    assert len(x) % 4
    found = run(path, x, isolated=isolated_too)
    whole = np.concatenate([x, x[-1:], x[-1:], x[-1:]])[: -(-len(x) // 4) * 4, ..., None]
    np.testing.assert_array_equal(only(found), plain(path, whole, step=4)[0][: len(x)])
    assert any("fixes the batch at 4" in note for note in found.notes)
    one = only(run(path, x[:1], isolated=isolated_too))
    np.testing.assert_array_equal(one, only(found)[:1])
    with pytest.raises(DataError, match=r"\(9, 9\).*\(8, 8, 1\)"):
        run(path, np.zeros((5, 9, 9)))


def test_10_scale_and_offset_are_applied_piece_by_piece(cases) -> None:
    folder = cases / "10-uint8-units"
    data = arrays(folder / "cls_u8.npz")
    right = []
    for name in ("float", "ptq", "qat"):
        how = {"it": Preprocessing(scale=1 / 255)}
        output = only(run(folder / f"cls_{name}.tflite", data["x"], how=how))
        right.append(round(100 * float(np.mean(output.argmax(axis=1) == data["y"])), 2))
    assert right == [97.18, 96.78, 97.38]


@both
def test_13_arrays_find_their_inputs(cases, isolated_too) -> None:
    folder = cases / "13-several-inputs"
    data = arrays(folder / "mi_eval2.npz")
    img, meta, y = data["img"], data["meta"], data["y"]
    for name, right in (("float", 92.76), ("ptq", 92.96)):
        path = folder / f"mi_{name}.tflite"
        outputs = [
            only(run(path, x, isolated=isolated_too)) for x in (
                {"img": img, "meta": meta}, {"serving_default_meta:0": meta, "IMG": img},
                {"a": img, "b": meta}, {"x": img, "meta": meta})
        ]
        for other in outputs[1:]:
            np.testing.assert_array_equal(outputs[0], other)
        assert round(100 * float(np.mean(outputs[0].argmax(axis=1) == y)), 2) == right


def test_13_what_does_not_fit_is_named(cases) -> None:
    path = cases / "13-several-inputs/mi_float.tflite"
    data = arrays(cases / "13-several-inputs/mi_eval2.npz")
    img, meta = data["img"], data["meta"]
    with pytest.raises(DataError, match=r"'meta' \(\?, 4\), 'img' \(\?, 8, 8\)"):
        run(path, img)
    with pytest.raises(DataError, match=r"'meta'.*by name or shape"):
        run(path, {"img": img})
    with pytest.raises(DataError, match="'meta' 3, 'img' 497"):
        run(path, {"img": img, "meta": meta[:3]})
    with pytest.raises(SpecError, match="2 inputs"):
        run(path, {"img": img, "meta": meta}, how={"it": Preprocessing(scale=2.0)})
    spare = run(path, {"img": img, "meta": meta, "weight": meta[:, 0]})
    assert any("'weight'" in note for note in spare.notes)


@both
def test_a_graph_that_mixes_the_examples_of_a_batch_runs_them_alone(isolated_too) -> None:
    real = fb.TensorType.FLOAT32
    sums = one_operator(
        fb.BuiltinOperator.CUMSUM, [("x", (1, 4), real)], [("y", (1, 4), real)],
        options=(fb.BuiltinOptions.CumsumOptions, fb.CumsumOptionsT()),
        constant=np.array([0], np.int32),
    )
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    found = run(sums, x, isolated=isolated_too)
    np.testing.assert_array_equal(only(found), x)
    assert not found.batched
    assert any("one example at a time" in note for note in found.notes)


@both
def test_14_an_open_length_comes_from_the_data(cases, isolated_too) -> None:
    x = arrays(cases / "01-lstm-state/seq_eval.npz")["x"]
    for name in ("float", "ptq"):
        path = cases / f"14-unknown-length/dy_{name}.tflite"
        for length in (8, 5):
            found = run(path, x[:40, :length], isolated=isolated_too)
            np.testing.assert_allclose(only(found), plain(path, x[:40, :length])[0], atol=1e-6)
            assert found.notes == ()


# --- kernels, crashes and refusals ---------------------------------------------------------------


@both
def test_where_xnnpack_alone_fails_the_builtin_kernels_run(
    odd_dir, isolated_too, monkeypatch
) -> None:
    path = odd_dir / "dynamic_shapes.tflite"
    rng = np.random.default_rng(0)
    feeds = {"x": rng.normal(size=(3, 8, 42, 1024)), "y": rng.normal(size=(3, 90, 1024)),
             "z": np.zeros((3, 1))}
    feeds = {name: values.astype(np.float32) for name, values in feeds.items()}
    found = run(path, feeds, isolated=isolated_too)
    assert any("builtin kernels" in note and "XNNPack" in note for note in found.notes)
    made = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=
                       OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    made.allocate_tensors()
    for detail, values in zip(made.get_input_details(), feeds.values(), strict=True):
        made.set_tensor(detail["index"], values[2].reshape(detail["shape"]))
    made.invoke()
    (output,) = found.outputs.values()
    np.testing.assert_array_equal(output[2], made.get_tensor(made.get_output_details()[0]["index"]))
    # Where one kind of kernels is wanted, nothing else is tried.
    monkeypatch.setattr(runner, "KERNELS", ("default",))
    with pytest.raises(ModelFileError, match="XNNPack"):
        run(path, feeds, isolated=isolated_too)


def remainders(count: int = 400) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"a": rng.integers(-99, 99, (count, 1)).astype(np.int32),
            "b": rng.integers(1, 9, (count, 1)).astype(np.int32)}


@both
def test_a_refusal_names_the_example(isolated_too) -> None:
    feeds = remainders()
    feeds["b"][300] = 0
    for workers in (1, 2):
        with pytest.raises(ModelFileError, match=r"refused.*running it at example 300") as caught:
            run(floor_mod(), feeds, isolated=isolated_too, workers=workers)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="no trap elsewhere")
@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (2, None)])
def test_a_file_that_kills_its_process_at_example_300(workers, batch) -> None:
    feeds = remainders()
    np.testing.assert_array_equal(
        only(run(floor_mod(), feeds, isolated=True)), np.mod(feeds["a"], feeds["b"]))
    feeds["a"][300], feeds["b"][300] = -(2**31), -1
    with pytest.raises(ModelFileError, match=r"kills the process.*SIGFPE.*example") as caught:
        run(floor_mod(), feeds, isolated=True, workers=workers, batch_size=batch)
    assert "\n" not in str(caught.value)
    if batch == 1:
        assert "example 300" in str(caught.value)
    good = {name: values[:300] for name, values in feeds.items()}
    np.testing.assert_array_equal(
        only(run(floor_mod(), good, isolated=True)), np.mod(good["a"], good["b"]))


def test_another_kind_of_kernels_goes_on_where_one_killed_the_child(
    data_dir, cifar, expected, monkeypatch
) -> None:
    class Fragile(runner._Child):
        def finish(self, outs: Any, tick: Any = None) -> Any:
            if self.plan.kernels[0] == "default" and self._begun[1]["first"]:
                self._process.kill()
                raise isolated.Died("kills the process that runs it (SIGSEGV while running it).")
            return super().finish(outs, tick)

    monkeypatch.setattr(runner, "_Child", Fragile)
    monkeypatch.setattr(runner, "_BLOCK", 1 << 20)
    path = data_dir / "tflite/resnet8/float32.tflite"
    found = run(path, cifar[:301], isolated=True, batch_size=4)
    np.testing.assert_allclose(only(found), expected["float32"], atol=1e-5)
    assert any("builtin kernels" in note and "SIGSEGV" in note for note in found.notes)


def test_what_runs_is_not_overwritten_when_more_is_loaded() -> None:
    content, steps = small_net(), [0, 8, 24, 1024, 5000]
    x = np.random.default_rng(0).standard_normal((steps[-1], *SHAPE), dtype=np.float32)
    right = only(run(content, x))
    found, ports = np.empty_like(right), ports_of(read_graph(content))
    (entry,), (end,) = ports.inputs, ports.outputs
    remote = isolated.Remote(content, Plan((entry.tensor.index,), (end.tensor.index,), batch=4))

    def take(start: int, stop: int) -> list[np.ndarray]:
        return [x[start:stop]]

    remote.settle(take, 0, 2)
    pieces = list(itertools.pairwise(steps))
    remote.load(take, *pieces[0])
    for at, (start, stop) in enumerate(pieces):
        remote.start()
        if at + 1 < len(pieces):
            remote.load(take, *pieces[at + 1])  # larger than any before
        remote.finish([found[start:stop]])
    remote.close()
    assert found.tobytes() == right.tobytes()


def test_a_child_that_died_over_another_file_is_not_held_against_this_one(cases) -> None:
    path = cases / "14-unknown-length/dy_float.tflite"
    x = arrays(cases / "01-lstm-state/seq_eval.npz")["x"][:9]
    right = only(run(path, x, isolated=True))
    for process in isolated._spare:
        process.process.kill()
    np.testing.assert_array_equal(only(run(path, x, isolated=True)), right)


def test_a_child_that_never_answers_is_stopped(monkeypatch) -> None:
    isolated.end_spare()
    monkeypatch.setattr(isolated, "TIMEOUT", 0.001)
    with pytest.raises(ModelFileError, match="did not finish within"):
        run(small_net(), np.zeros((3, *SHAPE)), isolated=True)


def test_compiled_and_foreign_files_are_named_for_what_they_are() -> None:
    x = np.zeros((3, 4))
    for code, words in (("edgetpu-custom-op", "Edge TPU compiler"), ("ethos-u", "Vela"),
                        ("FlexErf", "TFLITE_BUILTINS"), ("Sinh", "custom operator Sinh")):
        for child in (False, True):
            with pytest.raises(ModelFileError, match=words) as caught:
                run(custom_operator(code), x, isolated=child)
            assert code in str(caught.value)
            assert "\n" not in str(caught.value)


ODD = {
    "blockwise_quantized": ((64,), "which nothing writes"),
    "custom_sinh": (None, "custom operator Sinh"),
    "dynamic_shapes": ((3,), "3 inputs"),
    "empty_model": ((3,), "no input"),
    "multi_signatures": ((), ""),
    "no_subgraphs": ((3,), "no subgraph"),
    "qwen_fc_blockwise_quantized": (None, ""),
    "seanet_conv0_int16x8": (None, ""),
    "sparse_tensor": (None, "custom operator FakeOp"),
    "string_input_model": ((3,), "strings, not numbers"),
    "test_model_broken": ((3,), "not a TensorFlow Lite model"),
    "test_model_redux_precision": (None, ""),
    "while_op_with_forwarding_input": ((), "strings, not numbers"),
}


@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_files_run_or_are_refused_in_one_sentence(odd_dir, name) -> None:
    path, (shape, words) = odd_dir / f"{name}.tflite", ODD[name]
    if shape is None:
        graph = read_graph(path)
        shape = graph.main.tensors[graph.main.inputs[0]].shape[1:]
    x: Any = np.ones((3, *shape), np.float32)
    if name == "blockwise_quantized":
        graph = read_graph(path)
        x = {t.name: np.ones((3, *t.shape)) for t in (graph.main.tensors[i]
                                                      for i in graph.main.inputs)}
    if words:
        with pytest.raises(QinspectError, match=words) as caught:
            run(path, x, isolated=True)
        assert "\n" not in str(caught.value)
    else:
        assert len(only(run(path, x, isolated=True))) == 3


def test_signatures_are_chosen_by_name(odd_dir) -> None:
    path = odd_dir / "multi_signatures.tflite"
    x = np.arange(5, dtype=np.float32)
    for child in (False, True):
        np.testing.assert_array_equal(only(run(path, x, signature="add", isolated=child)), x + 2)
        np.testing.assert_array_equal(only(run(path, x, signature="sub", isolated=child)), x - 3)
    found = run(path, x)
    np.testing.assert_array_equal(only(found), x + 2)
    assert "add, sub" in found.notes[0]
    with pytest.raises(SpecError, match="add, sub"):
        run(path, x, signature="mul")


# --- values --------------------------------------------------------------------------------------


def identity(dtype: int) -> bytes:
    """A file that gives back four values of a type, as a sum with nothing."""
    return one_operator(fb.BuiltinOperator.RESHAPE, [("a", (1, 4), dtype)], [("b", (1, 4), dtype)],
                        options=(fb.BuiltinOptions.ReshapeOptions, _same_shape()))


def _same_shape() -> Any:
    options = fb.ReshapeOptionsT()
    options.newShape = [-1, 4]
    return options


def test_whole_numbers_go_in_as_they_are_or_not_at_all() -> None:
    x = np.array([[0, 1, 2, 3], [4, 5, 6, 127]])
    for dtype, kind in ((fb.TensorType.INT8, np.int8), (fb.TensorType.UINT8, np.uint8),
                        (fb.TensorType.INT32, np.int32), (fb.TensorType.INT64, np.int64)):
        for given in (x, x.astype(np.float32), x.astype(np.uint8)):
            found = run(identity(dtype), given)
            (values,) = found.outputs.values()
            np.testing.assert_array_equal(values, x)
            assert values.dtype == kind
    with pytest.raises(DataError, match="whole numbers"):
        run(identity(fb.TensorType.INT32), x + 0.5)
    with pytest.raises(DataError, match="-1 to 126 do not fit the uint8 input"):
        run(identity(fb.TensorType.UINT8), x - 1)
    with pytest.raises(DataError, match="0 to 254"):
        run(identity(fb.TensorType.INT8), x * 2)
    with pytest.raises(DataError, match="1 of 2 examples hold NaN"):
        run(identity(fb.TensorType.FLOAT32), np.where(x == 127, np.nan, x))
    with pytest.raises(DataError, match="too large for float32"):
        run(identity(fb.TensorType.FLOAT32), x * 1e300)
    with pytest.raises(DataError, match="empty"):
        run(identity(fb.TensorType.FLOAT32), x[:0])
    with pytest.raises(DataError, match="not numbers"):
        run(identity(fb.TensorType.FLOAT32), np.array([["a"] * 4]))


@pytest.mark.parametrize(("low", "high"), [(-128, 127), (0, 255), (-32768, 32767)])
def test_quick_quantization_equals_the_one_in_float64_bit_for_bit(low, high) -> None:
    rng = np.random.default_rng(high)
    for _ in range(60):
        scale = np.float64(np.float32(np.exp(rng.uniform(-9, 3))))
        affine = Affine(np.array([scale]), np.array([rng.integers(low, high + 1)]), low, high)
        ties = (rng.integers(2 * low, 2 * high, 3000) + 0.5) * scale
        x = np.concatenate([ties, np.nextafter(ties.astype(np.float32), np.float32(np.inf)),
                            rng.normal(0, 200 * scale, 3000), rng.normal(0, 1e5 * scale, 500),
                            [0.0, -0.0, 3e38, -3e38, 1e-45, np.finfo(np.float32).tiny]])
        for values in (x.astype(np.float32), x.astype(np.float32)[::-2].reshape(-1, 1),
                       rng.integers(0, 256, (40, 50)).astype(np.uint8).T, x):
            expected = quantize(values.astype(np.float64), affine)
            found = quantized(values, affine)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype


def test_stored_integers_can_be_fed_raw(data_dir, cifar, expected) -> None:
    path = data_dir / "tflite/resnet8/int8.tflite"
    stored = (cifar[:20] - 128).astype(np.int8)
    raw = run(path, stored, how={"it": Preprocessing(raw=True)})
    np.testing.assert_array_equal(next(iter(raw.outputs.values())), expected["int8"][:20])
    for x, how, error in ((cifar[:2], Preprocessing(raw=True), SpecError),
                          (stored, Preprocessing(raw=True, scale=2.0), SpecError),
                          (cifar[:2].astype(np.uint8), Preprocessing(raw=True), DataError)):
        with pytest.raises(error):
            run(path, x, how={"it": how})


def test_options_that_make_no_sense_are_refused() -> None:
    x = np.zeros((3, *SHAPE))
    for options in ({"kernels": "fast"}, {"workers": 0}, {"batch_size": 0}, {"tensors": [999]},
                    {"tensors": ["no such tensor"]}, {"outputs": ["no such output"]}):
        with pytest.raises(SpecError):
            run(small_net(), x, **options)


@pytest.mark.slow
def test_no_damaged_file_hurts_the_caller(data_dir) -> None:
    from test_sandbox import edited, mutants, seeds

    messages = []
    for number, content in enumerate(seeds(data_dir)):
        for mutant in (*mutants(content, 8, number), *edited(content, 12, number)):
            try:
                graph = read_graph(mutant)
                inputs = [graph.main.tensors[i] for i in graph.main.inputs]
                if sum(np.prod(t.shape, dtype=float) for t in inputs) > 1e7:
                    continue  # no caller has such examples
                run(graph, {t.name: np.zeros((3, *t.shape[1:]), np.float32) for t in inputs},
                    isolated=True, workers=1)
            except QinspectError as error:
                messages.append(str(error))
    assert len(messages) > 20
    assert not [message for message in messages if "\n" in message]
