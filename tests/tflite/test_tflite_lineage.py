"""Is it the same network?  Copies altered in one known way, and files of known lineage."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import h5py
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as fb
from small_net import small_net

from qinspect.errors import ModelFileError
from qinspect.tflite import read_graph, read_keras
from qinspect.tflite.ancestry import LINEAGES, lineage

FILES = ("resnet8/float32", "resnet8/int8", "vww/vww_96_float", "vww/vww_96_int8")
PARENT = {"resnet8": "resnet8/keras.h5", "vww": "vww/vww_96.h5"}
WEIGHTED = (fb.BuiltinOperator.CONV_2D, fb.BuiltinOperator.DEPTHWISE_CONV_2D,
            fb.BuiltinOperator.FULLY_CONNECTED)


def altered(content: bytes, change_kernel=None, change_bias=None) -> bytes:
    """A copy whose stored kernels or biases go through a function of (values, channel axis)."""
    model = fb.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    kinds = {fb.TensorType.FLOAT32: np.float32, fb.TensorType.INT8: np.int8,
             fb.TensorType.INT32: np.int32}
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        if builtin not in WEIGHTED:
            continue
        axis = 3 if builtin == fb.BuiltinOperator.DEPTHWISE_CONV_2D else 0
        for position, change in ((1, change_kernel), (2, change_bias)):
            if change is None:
                continue
            tensor = graph.tensors[op.inputs[position]]
            buffer = model.buffers[tensor.buffer]
            values = np.asarray(buffer.data, np.uint8).view(kinds[tensor.type])
            changed = change(values.reshape(tensor.shape), axis)
            buffer.data = np.ascontiguousarray(changed.astype(values.dtype)).view(np.uint8).ravel()
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def verdict(a: object, b: object) -> str:
    graphs = [read_graph(one) if isinstance(one, bytes) else one for one in (a, b)]
    found = lineage(*graphs)
    assert found.verdict in LINEAGES
    # Whoever is asked first, the answer is the same.
    assert lineage(*graphs[::-1]).verdict == found.verdict
    return found.verdict


@pytest.mark.parametrize("name", ["resnet8", "vww"])
def test_published_families(data_dir: Path, name: str) -> None:
    folder = data_dir / "tflite"
    keras = read_keras(folder / PARENT[name])
    files = [read_graph(folder / f"{f}.tflite") for f in FILES if f.startswith(name)]
    assert verdict(keras, files[0]) == "same weights"
    assert verdict(keras, files[1]) == "same weights"
    assert verdict(*files) == "same weights"


def test_other_networks_are_unrelated(data_dir: Path) -> None:
    folder = data_dir / "tflite"
    found = lineage(folder / f"{FILES[0]}.tflite", folder / f"{FILES[3]}.tflite")
    assert found.verdict == "unrelated"
    assert "architectures differ" in " ".join(found.reasons)


@pytest.mark.parametrize("name", FILES)
def test_shuffled_reinitialised_and_rebiased_copies(data_dir: Path, name: str) -> None:
    content = (data_dir / "tflite" / f"{name}.tflite").read_bytes()
    rng = np.random.default_rng(0)

    def shuffled(values, axis):
        return rng.permutation(values.reshape(-1)).reshape(values.shape)

    def fresh(values, axis):
        if values.dtype == np.int8:
            return rng.integers(-127, 128, values.shape)
        return rng.normal(0, values.std(), values.shape)

    def rebiased(values, axis):
        return values + rng.normal(0, 0.3 * np.abs(values).mean() + 1e-3, values.shape)

    assert verdict(content, altered(content, shuffled)) == "unrelated"
    assert verdict(content, altered(content, fresh)) == "unrelated"
    biased = altered(content, None, rebiased)
    assert verdict(content, biased) == "same weights, different biases"
    # Also seen through the rounding of the other format.
    sibling = {"resnet8/float32": FILES[1], "vww/vww_96_float": FILES[3]}.get(name)
    if sibling:
        other = read_graph(data_dir / "tflite" / f"{sibling}.tflite")
        assert verdict(biased, other) == "same weights, different biases"


def test_rescaled_channels_are_batch_norm_and_moved_ones_are_tuning(data_dir: Path) -> None:
    content = (data_dir / "tflite" / "resnet8" / "float32.tflite").read_bytes()
    integer = read_graph(data_dir / "tflite" / "resnet8" / "int8.tflite")
    rng = np.random.default_rng(1)

    def rescaled(values, axis):
        shape = [1] * values.ndim
        shape[axis] = -1
        return values * rng.uniform(0.5, 2, values.shape[axis]).reshape(shape)

    def moved(values, axis):
        return values + rng.normal(0, 0.05 * values.std(), values.shape)

    drifted = altered(content, rescaled, lambda values, axis: values + 0.1)
    assert verdict(content, drifted) == "same weights, different batch-norm statistics"
    assert verdict(drifted, integer) == "same weights, different batch-norm statistics"
    assert verdict(content, altered(content, moved)) == "fine-tuned from"
    assert verdict(altered(content, moved), integer) == "fine-tuned from"


def test_a_new_head_is_named() -> None:
    rng = np.random.default_rng(2)
    content = small_net()
    seen = []

    def last_only(values, axis):
        seen.append(values.shape)
        return rng.normal(0, 1, values.shape) if len(seen) == 3 else values

    found = lineage(read_graph(content), read_graph(altered(content, last_only)))
    assert found.verdict == "fine-tuned from"
    assert [row.state for row in found.layers] == ["identical", "identical", "unrelated"]
    assert any("replaced" in reason for reason in found.reasons)


def test_nan_kernels_are_reported() -> None:
    content = small_net()
    broken = altered(content, lambda values, axis: values * np.nan)
    found = lineage(read_graph(content), read_graph(broken))
    assert {row.state for row in found.layers} == {"unreadable"}
    assert any("NaN" in reason for reason in found.reasons)


def test_two_seeds_are_strangers() -> None:
    assert verdict(small_net(seed=1), small_net(seed=2)) == "unrelated"


# --- Keras files -----------------------------------------------------------------------------


def test_keras_links_and_code_are_refused(data_dir: Path, tmp_path: Path) -> None:
    source = (data_dir / "tflite" / "resnet8" / "keras.h5").read_bytes()
    linked = tmp_path / "linked.h5"
    linked.write_bytes(source)
    with h5py.File(linked, "r+") as file:
        group = file["model_weights/conv2d"]
        path = group.attrs["weight_names"][0]
        path = path.decode() if isinstance(path, bytes) else path
        del group[path]
        group[path] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
    with pytest.raises(ModelFileError, match="link"):
        read_keras(linked)
    bare = tmp_path / "bare.h5"
    bare.write_bytes(source)
    with h5py.File(bare, "r+") as file:
        del file.attrs["model_config"]
    with pytest.raises(ModelFileError, match="no architecture"):
        read_keras(bare)
    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(source[: len(source) // 3])
    with pytest.raises(ModelFileError, match=r"truncated\.h5"):
        read_keras(truncated)
    text = tmp_path / "text.keras"
    text.write_text("hello")
    with pytest.raises(ModelFileError, match="neither"):
        read_keras(text)


def test_a_lambda_is_reported_and_a_bomb_refused(tmp_path: Path) -> None:
    import io
    import json
    import zipfile

    config = {"class_name": "Sequential", "config": {"layers": [
        {"class_name": "Lambda", "config": {"name": "evil", "function": "__import__('os')"}},
    ]}}
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.create_group("layers")

    def write(name: str, body: bytes) -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("metadata.json", json.dumps({"keras_version": "3"}))
            archive.writestr("model.weights.h5", body)
        return path

    table = read_keras(write("lambda.keras", weights.getvalue()))
    assert [layer.kind for layer in table.layers] == ["Lambda"]
    assert "evil" in table.warnings[0]
    with pytest.raises(ModelFileError, match="unpack"):
        read_keras(write("bomb.keras", bytes(50 << 20)))


# --- against real training -------------------------------------------------------------------

CONVERTED = {
    ("net.h5", "float32.tflite"): "same weights",
    ("net.keras", "int8.tflite"): "same weights",
    ("float32.tflite", "float16.tflite"): "same weights",
    ("float32.tflite", "dynamic_range.tflite"): "same weights",
    ("float32.tflite", "int16x8.tflite"): "same weights",
    ("int8.tflite", "int8_per_tensor.tflite"): "same weights",
    ("float32.tflite", "qat_untrained.tflite"): "same weights",
    ("qat.h5", "qat.tflite"): "same weights",
    ("qat.tflite", "qat_float.tflite"): "same weights",
    ("float32.tflite", "drifted_int8.tflite"): "same weights, different batch-norm statistics",
    ("int8.tflite", "drifted_int8.tflite"): "same weights, different batch-norm statistics",
    ("float32.tflite", "tuned_int8.tflite"): "fine-tuned from",
    ("int8.tflite", "tuned_int8.tflite"): "fine-tuned from",
    ("int8.tflite", "qat.tflite"): "fine-tuned from",
    ("net.h5", "qat.tflite"): "fine-tuned from",
    ("float32.tflite", "stranger_int8.tflite"): "unrelated",
}


@pytest.mark.slow
def test_lineage_of_real_conversions(converted_files: Path) -> None:
    found = {
        pair: lineage(*(converted_files / name for name in pair)).verdict for pair in CONVERTED
    }
    assert found == CONVERTED
