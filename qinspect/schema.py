"""The vocabulary that the rooms share: frozen dataclasses and the columns of every table.

Arrays stay inside a room; what crosses from one room to the next is one of these objects or a
tidy pandas frame whose columns are named here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]

Scheme = Literal[
    "float32", "float16", "dynamic_range", "weight_only", "int8", "uint8", "int16x8", "mixed"
]
SCHEMES: tuple[str, ...] = (
    "float32",
    "float16",
    "dynamic_range",
    "weight_only",
    "int8",
    "uint8",
    "int16x8",
    "mixed",
)

Verdict = Literal["a_better", "b_better", "equivalent", "cannot_tell"]
VERDICTS: tuple[str, ...] = ("a_better", "b_better", "equivalent", "cannot_tell")

LINEAGES: tuple[str, ...] = (
    "same weights",
    "same weights, different batch-norm statistics",
    "same weights, different biases",
    "fine-tuned from",
    "unrelated",
)

# One row a trained or converted model.
RUNS = ("arm", "file", "scheme", "bytes", "n", "accuracy", "accuracy_low", "accuracy_high")
# One row an example x run.
PREDICTIONS = ("arm", "id", "y", "prediction", "correct")
# One row an epoch of one training.
HISTORY = ("phase", "epoch", "steps", "loss", "accuracy", "val_loss", "val_accuracy",
           "learning_rate", "seconds")  # fmt: skip
# One row a fake-quantization range at a logged step.
OBSERVERS = ("step", "layer", "tensor", "kind", "min", "max")
# One row a tensor (per tensor statistics) or a channel of it (channel >= 0).
TENSORS = ("file", "layer", "tensor", "kind", "channel", "count", "nan", "inf", "min", "max",
           "mean", "std", "scale", "zero_point", "stored_min", "stored_max",
           "p0_1", "p50", "p99_9", "index")  # fmt: skip
# One row a layer x reference kind (local or accumulated).
ERRORS = ("layer", "op", "reference", "count", "nan", "sqnr_db", "mse", "rmse_over_scale",
          "cosine", "bias", "max_abs", "clipped_share", "rounded_share",
          "effective_bits", "clipped_energy")  # fmt: skip
# One row a cause.
FINDINGS = ("id", "verdict", "confirmed_by_intervention", "effect_pp", "ci_low_pp", "ci_high_pp",
            "evidence", "remedy")  # fmt: skip


# --- data ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dataset:
    """Labelled examples.

    Attributes
    ----------
    name : str
        Name of the data set, part of every example id.
    x : ndarray, shape (n, ...), float32 or integer
        What the float model takes, in the units of the model's input.
    y : ndarray of int64, shape (n,)
        Class labels, 0 <= y < num_classes.
    ids : ndarray of str, shape (n,)
        Stable, unique example ids.
    num_classes : int
        Number of classes.
    group : ndarray or None, shape (n,)
        Cluster of each example (frames of one video), if any.
    class_names : tuple of str
        Names of the classes; empty when they have none.
    part : ndarray of str or None, shape (n,)
        "train" or "test" where the publishers of the data set fixed the test images, else None.
    """

    name: str
    x: Array
    y: Array
    ids: Array
    num_classes: int
    group: Array | None = None
    class_names: tuple[str, ...] = ()
    part: Array | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: Array) -> Dataset:
        """The examples at ``index`` (integer or boolean array), in that order."""
        group = None if self.group is None else self.group[index]
        part = None if self.part is None else self.part[index]
        return Dataset(self.name, self.x[index], self.y[index], self.ids[index],
                       self.num_classes, group, self.class_names, part)  # fmt: skip


@dataclass(frozen=True)
class Splits:
    """Four disjoint parts of one data set."""

    train: Dataset
    validation: Dataset
    calibration: Dataset
    test: Dataset
    seed: int


# --- tflite ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantization:
    """Affine quantization of one tensor: real = scale * (stored - zero_point).

    Attributes
    ----------
    scale : ndarray of float64, shape (1,) or (channels,)
    zero_point : ndarray of int64, same shape as ``scale``
    axis : int or None
        Quantized dimension when there is one scale per channel, else None.
    blockwise : bool
        True when scales are held per block in another tensor (``scale`` is then empty).
    block_scales : int
        Index of the tensor that holds the scales of the blocks, -1 when not blockwise.
    block_size : int
        Elements of the last dimension that share one scale, 0 when not blockwise.
    """

    scale: Array
    zero_point: Array
    axis: int | None = None
    blockwise: bool = False
    block_scales: int = -1
    block_size: int = 0

    @property
    def per_channel(self) -> bool:
        """Whether there is more than one scale."""
        return self.scale.size > 1


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph; ``data`` is decoded on demand by ``tflite.constant``."""

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    constant: bool
    buffer: int
    quantization: Quantization | None
    sparse: bool = False
    variable: bool = False


@dataclass(frozen=True)
class Operator:
    """One operator; tensor indices are -1 where an optional input is absent."""

    index: int
    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str = "NONE"
    custom: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subgraph:
    """Tensors and operators in execution order."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """A ``.tflite`` file as read from its flatbuffer.

    ``content`` holds the file's bytes; constants are views into it, never copies.
    """

    file: str
    content: bytes = field(repr=False)
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[str, ...]
    metadata: tuple[str, ...]
    description: str
    version: int

    @property
    def main(self) -> Subgraph:
        """The first subgraph, which the interpreter runs by default."""
        return self.subgraphs[0]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.content)


@dataclass(frozen=True)
class TensorInfo:
    """An input or output as a person wants to know it; scale None where it is not quantized."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True)
class Origin:
    """Whether a file was quantized after training or by quantization-aware training.

    Attributes
    ----------
    value : {"ptq", "qat", "unknown"}
    confidence : {"certain", "high", "medium", "low"}
        ``certain`` only where the converter recorded it in the file.
    reasons : tuple of str
        Evidence, in words, for and against.
    converter : str or None
        Version of the TensorFlow converter, if the file says it.
    """

    value: Literal["ptq", "qat", "unknown"]
    confidence: Literal["certain", "high", "medium", "low"]
    reasons: tuple[str, ...]
    converter: str | None = None


@dataclass(frozen=True)
class Identification:
    """What a ``.tflite`` file really is.

    Attributes
    ----------
    file, size : str, int
        Name and bytes of the file.
    scheme, reasons : str, tuple of str
        One of :data:`SCHEMES` and why.
    inputs, outputs : tuple of TensorInfo
        Of the first subgraph.
    ops, float_ops : dict of str to int
        Operators by name in all subgraphs; those that compute in float.
    weights : dict of str to Any
        ``total``, ``quantized``, ``per_channel``, ``per_tensor``, ``blockwise``: numbers of weight
        tensors; ``bits``: width of those that hold most values (None without weights);
        ``by_bits``: number of tensors by width.
    activations : dict of str to int
        ``total``, ``quantized`` (stored ranges): numbers of activation tensors; ``dynamic``:
        operators that quantize their activations while running.
    origin : Origin
    warnings : tuple of str
        What deserves attention, one sentence each.
    """

    file: str
    size: int
    scheme: Scheme
    reasons: tuple[str, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: dict[str, int]
    float_ops: dict[str, int]
    weights: dict[str, Any]
    activations: dict[str, int]
    origin: Origin
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class KerasLayer:
    """One layer of a Keras model file, nested models flattened.

    Attributes
    ----------
    name : str
        Path of the layer, ``model/layer`` for a nested one, without tfmot's ``quant_`` prefix.
    kind : str
        Keras class, of the wrapped layer where tfmot wraps it.
    wrapped : bool
        Whether it is wrapped for quantization-aware training.
    config : dict of str to Any
        Plain values of the configuration that matter for the arithmetic.
    inbound : tuple of str
        Names of the layers whose outputs it takes.
    uses : int
        How often the model calls it.
    weights : dict of str to ndarray
        ``kernel``, ``bias``, ``gamma``, ...; ranges of QAT wrappers as ``kernel_min``, ...
    """

    name: str
    kind: str
    wrapped: bool
    config: dict[str, Any]
    inbound: tuple[str, ...]
    uses: int
    weights: dict[str, Array] = field(repr=False)


@dataclass(frozen=True)
class KerasModelTable:
    """Layers of a ``.h5`` or ``.keras`` file in the order of its configuration."""

    file: str
    keras_version: str
    layers: tuple[KerasLayer, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class LayerMatch:
    """One weighted layer of two models, or of only one of them.

    Attributes
    ----------
    layer : str
        Name for people: that of the Keras layer where known.
    kind : str
        ``conv``, ``depthwise``, ``dense``, ``transpose_conv`` or ``other``.
    a, b : str or None
        Names in the two files; None on the side that has no counterpart.
    operators_a, operators_b : tuple of int
        Operators that use the layer (empty for a Keras model).
    cosine : float
        Median over output channels of the cosine between the kernels; NaN without a counterpart.
    reason : str
        How it was matched, or why it was not.
    """

    layer: str
    kind: str
    a: str | None
    b: str | None
    operators_a: tuple[int, ...]
    operators_b: tuple[int, ...]
    cosine: float
    reason: str


@dataclass(frozen=True)
class OperatorMatch:
    """An operator of file a and the one of file b that does the same work.

    Attributes
    ----------
    layer : str
        Unique name for people.
    code : str
        Operator in file a.
    a, b : int
        Operator indices in the first subgraphs.
    output_a, output_b : int
        Tensors that hold the same quantity in both files, activation included.
    absorbed_a, absorbed_b : tuple of int
        Further operators whose work the other file does inside this one (a separate activation,
        padding or batch normalization).
    cosine : float
        As in :class:`LayerMatch`; NaN for operators without weights.
    """

    layer: str
    code: str
    a: int
    b: int
    output_a: int
    output_b: int
    absorbed_a: tuple[int, ...] = ()
    absorbed_b: tuple[int, ...] = ()
    cosine: float = float("nan")


@dataclass(frozen=True)
class Unmatched:
    """An operator without a counterpart, and why."""

    operator: int
    code: str
    layer: str
    reason: str


@dataclass(frozen=True)
class GraphMatch:
    """Operators of two ``.tflite`` files matched in the order of file a.

    Attributes
    ----------
    pairs : tuple of OperatorMatch
    only_a, only_b : tuple of Unmatched
        Everything else, conversions included.
    inputs : tuple of (int, int)
        Matched input tensors of the two graphs.
    """

    pairs: tuple[OperatorMatch, ...]
    only_a: tuple[Unmatched, ...]
    only_b: tuple[Unmatched, ...]
    inputs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LineageLayer:
    """Comparison of one matched layer's weights in two models; real values, b against a.

    Attributes
    ----------
    layer, kind : str
        As in :class:`LayerMatch`.
    a, b : str or None
        Names in the two files; None on the side that has no counterpart.
    state : str
        ``identical`` (but for rounding), ``rescaled`` (identical but for a factor for each
        output channel), ``moved``, ``unrelated``, ``unmatched`` or ``unreadable`` (NaN, infinite).
    cosine, cosine_low : float
        Median and 5 % quantile over output channels of the cosine between the kernels.
    sqnr_db, rescaled_sqnr_db : float
        Of the kernel, plainly, and after the best factor for each channel.
    rounding_sqnr_db : float
        What rounding alone would give with the steps of both files.
    factor_spread : float
        Greatest deviation from 1 of a channel's factor (5 % to 95 % quantile).
    bias_sqnr_db : float
        Of the biases; infinite where equal, NaN where both files have none.
    bias_differs : bool
        Whether biases differ by more than rounding.
    """

    layer: str
    kind: str
    a: str | None
    b: str | None
    state: str
    cosine: float
    cosine_low: float
    sqnr_db: float
    rescaled_sqnr_db: float
    rounding_sqnr_db: float
    factor_spread: float
    bias_sqnr_db: float
    bias_differs: bool


@dataclass(frozen=True)
class Lineage:
    """Whether two models are one network.

    ``verdict`` is one of :data:`LINEAGES`; ``reasons`` say in words why.
    """

    a: str
    b: str
    verdict: str
    layers: tuple[LineageLayer, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """Raw results of running one model over examples.

    Attributes
    ----------
    outputs : ndarray of float32, shape (n, classes)
        Dequantized output.
    raw : ndarray, shape (n, classes)
        Output as the file gives it (int8, uint8, int16 or float32).
    prediction : ndarray of int64, shape (n,)
        Arg max of ``raw`` (ties: lowest index, as the hardware would).
    tied : ndarray of bool, shape (n,)
        True where the greatest raw output is reached by more than one class.
    batched : bool
        False when the file could not be resized and ran one example at a time.
    notes : tuple of str
        What the user should know about how it ran.
    """

    outputs: Array
    raw: Array
    prediction: Array
    tied: Array
    batched: bool
    notes: tuple[str, ...] = ()


# --- stats -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of two models on the same examples; differences are b - a.

    Attributes
    ----------
    a, b : str
        Names of the two models.
    n : int
        Examples.
    accuracy_a, accuracy_b : float
        Shares in 0..1.
    diff_pp : float
        100 (accuracy_b - accuracy_a), percentage points.
    ci_pp : tuple of float
        Default interval of ``diff_pp`` at ``confidence``, made by ``ci_method``.
    mcnemar_p : float
        Exact two-sided McNemar p-value; 1 when nothing disagrees.
    a_only, b_only : int
        Examples that only a, only b gets right.
    mde_pp : float
        Smallest difference detectable at 80 % power given the observed disagreement.
    verdict : str
        One of :data:`VERDICTS`.
    sentence : str
        The verdict in words, with its reason.
    p_adjusted : float or None
        p-value of the verdict's test after Holm's correction for several comparisons.
    groups : int or None
        Number of clusters of examples, when they were given.
    group_p : float or None
        Sign-flip p-value over whole groups; takes the place of ``mcnemar_p`` in the verdict.
    """

    a: str
    b: str
    n: int
    accuracy_a: float
    accuracy_b: float
    accuracy_a_ci: tuple[float, float]
    accuracy_b_ci: tuple[float, float]
    diff_pp: float
    ci_pp: tuple[float, float]
    ci_method: str
    confidence: float
    mcnemar_p: float
    mcnemar_midp: float
    a_only: int
    b_only: int
    mde_pp: float
    margin_pp: float
    equivalence_p: float
    verdict: Verdict
    sentence: str
    intervals_pp: dict[str, tuple[float, float]] = field(default_factory=dict)
    p_adjusted: float | None = None
    groups: int | None = None
    group_p: float | None = None
