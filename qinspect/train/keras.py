"""The one place that imports TensorFlow, tf_keras and tfmot; and questions about Keras layers.

``tensorflow_model_optimization`` (tfmot) works on Keras 2 only, which since TensorFlow 2.16 is the
package ``tf_keras``; ``TF_USE_LEGACY_KERAS=1`` makes ``tf.keras`` the same, unless it was used
before.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import warnings
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from qinspect.errors import DataError, SpecError, TrainError, require_extra
from qinspect.quiet import quiet
from qinspect.schema import Array

# Layers that become operators with weights; separable ones are rewritten by tfmot.
WEIGHTED = ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense")
# Layers that go through a sequence step by step.
RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM2D")
# TensorFlow's threads, within an operation and between operations: sums depend on how work is
# dealt out to them, and so would the files of a seed. A second one saves no time on the networks of
# the zoo (digits and Fashion-MNIST, one epoch); repeats side by side use the other cores.
THREADS = 1
# A server that does not answer for so long counts as no network.
_TIMEOUT_SECONDS = 10.0


@cache
def tensorflow() -> Any:
    """The module ``tensorflow``, quiet, with Keras 2, held to :data:`THREADS` threads."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package in ("tensorflow", "tf_keras", "tensorflow_model_optimization"):
            try:
                import_module(package)
            except ImportError as error:
                raise require_extra(package, "train", "training and converting models") from error
        logging = import_module("absl.logging")

    _check_keras2(sys.modules)
    tf = sys.modules["tensorflow"]
    logging.set_verbosity(logging.ERROR)
    tf.get_logger().setLevel("ERROR")
    # Refused where TensorFlow has computed before, in a notebook say; ``threads`` tells.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(THREADS)
        tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    return tf


def tf_keras() -> Any:
    """The module ``tf_keras`` (Keras 2)."""
    tensorflow()
    return sys.modules["tf_keras"]


def tfmot() -> Any:
    """The module ``tensorflow_model_optimization``."""
    tensorflow()
    return sys.modules["tensorflow_model_optimization"]


def reset(seed: int) -> None:
    """Start from a clean state: no counters of layer names, seeded generators, fixed op order.

    Parameters
    ----------
    seed : int
        For Python's, NumPy's and TensorFlow's global generators, 0 <= seed < 2**32.

    Notes
    -----
    Keras numbers unnamed layers over the life of a process and these numbers end up in ``.tflite``
    files, so two models of one process would differ in their bytes without this.
    """
    if not 0 <= seed < 2**32:
        raise SpecError(f"seed is {seed}; it must be at least 0 and below 2**32.")
    tf, keras = tensorflow(), tf_keras()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def threads() -> list[int]:
    """TensorFlow's threads within and between operations here; 0 is as many as there are cores."""
    config = tensorflow().config.threading
    return [config.get_intra_op_parallelism_threads(), config.get_inter_op_parallelism_threads()]


def machine() -> dict[str, Any]:
    """What of the machine the last bits of a training depend on."""
    found = np.show_config(mode="dicts")
    features = (found or {}).get("SIMD Extensions", {})
    return {"onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
            "cpu_features": [*features.get("baseline", []), *features.get("found", [])]}


def _check_keras2(modules: dict[str, Any]) -> None:
    """Make sure that tfmot builds on the Keras that this package uses."""
    # tfmot asks ``tf.keras`` which Keras it is, and takes ``tf_keras`` when it is Keras 3 (measured
    # with 0.8.1: same bytes of converted files whether Keras 3 was loaded before or not).
    wrapper = modules["tensorflow_model_optimization"].quantization.keras.QuantizeWrapper
    if not issubclass(wrapper, modules["tf_keras"].layers.Layer):
        raise TrainError(
            "tfmot was loaded with another Keras than tf_keras; start a new process and import "
            "qinspect.train first, or set TF_USE_LEGACY_KERAS=1 before TensorFlow is imported."
        )


def is_wrapped(layer: Any) -> bool:
    """Whether tfmot's quantization wrapper is around the layer."""
    return isinstance(layer, tfmot().quantization.keras.QuantizeWrapper)


def inner(layer: Any) -> Any:
    """The layer inside tfmot's wrapper, or the layer itself."""
    return layer.layer if is_wrapped(layer) else layer


def is_quantized(model: Any) -> bool:
    """Whether the model was prepared for quantization-aware training."""
    return any(is_wrapped(layer) for layer in model.layers)


def batchnorm_layers(model: Any) -> list[Any]:
    """Batch-norm layers or their wrappers, in the order they are computed."""
    kind = tf_keras().layers.BatchNormalization
    return [layer for layer in model.layers if isinstance(inner(layer), kind)]


def has_batchnorm(model: Any) -> bool:
    """Whether a Keras model has batch normalization, inside tfmot's wrappers too."""
    return bool(batchnorm_layers(model))


def sources(layer: Any) -> list[Any]:
    """Layers whose output goes into the layer."""
    found: list[Any] = []
    for node in layer.inbound_nodes:
        before = node.inbound_layers
        found += before if isinstance(before, (list, tuple)) else [before]
    return found


def download(name: str) -> tuple[Array, Array, Array, Array]:
    """``x_train, y_train, x_test, y_test`` of a data set of ``tf_keras.datasets``, uint8."""
    try:
        from tf_keras import datasets
    except ImportError as error:
        raise require_extra("tf_keras", "train", f"downloading {name}") from error
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        # Standard output may be JSON.
        with contextlib.redirect_stdout(sys.stderr):
            (x_train, y_train), (x_test, y_test) = getattr(datasets, name).load_data()
    # Keras raises a bare Exception when the network fails.
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise DataError(f"{name} could not be downloaded: {why}.") from error
    finally:
        socket.setdefaulttimeout(before)
    return x_train, y_train, x_test, y_test
