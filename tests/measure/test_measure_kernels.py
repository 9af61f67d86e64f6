"""Reference kernels on part of the examples: which, how many, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
from small_net import examples, small_net

from qinspect.data.dataset import pieces
from qinspect.data.examples import examples_of
from qinspect.errors import ModelFileError
from qinspect.measure.kernels import multiplications, reference_run, seconds_for
from qinspect.tflite import evaluate, read_graph
from qinspect.tflite.task import task_of

N = 300


@pytest.fixture(scope="module")
def ready():
    graph, x = read_graph(small_net()), examples(N)
    return graph, x, task_of({"m": graph}, {"m": x}, examples_of("x", "x", x)), evaluate(graph, x)


def test_kernels_that_agree_are_not_run_on_all(ready) -> None:
    graph, x, task, usual = ready
    order = np.random.default_rng(0).permutation(N)
    ran = reference_run(task, "m", graph, x, usual, order, 1.0)
    assert 32 <= len(ran.index) < N
    assert ran.index.tolist() == sorted(order[: len(ran.index)])
    assert f"{len(ran.index)} of {N} examples, drawn at random" in ran.said
    assert np.array_equal(ran.result.raw, evaluate(graph, x[ran.index], kernels="reference").raw)
    assert np.array_equal(ran.usual.raw, usual.raw[ran.index])


def test_kernels_that_differ_are_run_on_all_that_may_be(ready) -> None:
    graph, x, task, _usual = ready
    other = evaluate(graph, x[::-1])  # of other examples
    ran = reference_run(task, "m", graph, x, other, np.arange(100), 10.0)
    assert ran.index.tolist() == list(range(100))
    assert "same outputs" not in ran.said
    assert f"100 of {N} examples" in ran.said


def test_no_time_for_a_single_example_is_refused_with_a_way_out(ready) -> None:
    graph, x, task, usual = ready
    with pytest.raises(ModelFileError, match="--kernels reference"):
        reference_run(task, "m", graph, x[:10], usual, np.arange(10), 1e-12)


def test_multiplications_of_published_networks(data_dir) -> None:
    """As their papers and MLPerf Tiny count them: 12.5 and 7.5 million."""
    for file, wanted in (("resnet8/int8.tflite", 12.5e6), ("vww/vww_96_int8.tflite", 7.5e6)):
        found = multiplications(read_graph(data_dir / "tflite" / file))
        assert found == pytest.approx(wanted, rel=0.1)


def test_the_budget_is_shared_by_the_files(ready) -> None:
    usual = ready[3]
    assert seconds_for([usual]) == max(1.0, usual.seconds / 4)
    assert seconds_for([usual] * 4) == max(1.0, usual.seconds) / 4


@pytest.mark.parametrize("shape", [(3, 2), (5, 1 << 19), (2, 3, 1 << 20)])
def test_pieces_are_the_whole(shape) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    assert np.array_equal(np.concatenate(list(pieces(x))), x)
