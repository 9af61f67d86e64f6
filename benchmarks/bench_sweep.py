"""Four small studies with seeds of their own on one worker process, on two, and on Dask's.

One round: every study starts TensorFlow anew and trains, held to one thread.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import Row, cores, met, need, span

TARGET = 1.6


def quiet(*arguments: object) -> None:
    """Say nothing."""


def swept(**where: Any) -> tuple[float, list[float]]:
    """Seconds of the sweep, and a number that says what came out of each seed."""
    from qinspect.studies.sweeping import grid, run_sweep

    specs = grid({"preset": "one-epoch", "dataset": "digits", "model": "mlp", "split_seed": 0,
                  "recipes": ()}, seed=range(4))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        frame = run_sweep(specs, Path(folder), notify=quiet, progress=quiet, **where).frame
        taken = time.perf_counter() - start
    assert (frame["status"] == "finished").all(), frame["error"].to_list()
    return taken, frame.select_dtypes("float").iloc[:, 0].tolist()


def rows() -> Iterator[Row | str]:
    need("tensorflow")
    one, reference = swept(workers=1)
    two, again = swept(workers=2)
    assert again == reference
    goal = f"at least {TARGET}: {met(one / two >= TARGET)}" if cores() > 1 else ""
    yield Row("a sweep of four studies, two workers", span(two), "one worker", span(one),
              f"{one / two:.3g}, 1 round", goal, "the same numbers for every seed")
    distributed = need("distributed")
    with (distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
          as cluster):
        from qinspect.studies.pool import dask_executor

        with dask_executor(cluster.scheduler_address) as executor:
            taken, found = swept(executor=executor)
    assert found == reference
    yield Row("a sweep of four studies, a Dask LocalCluster of two", span(taken), "one worker",
              span(one), f"{one / taken:.3g}, 1 round", goal, "the same numbers for every seed")
