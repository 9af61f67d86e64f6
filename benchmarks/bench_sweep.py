"""Four small studies with seeds of their own on one worker process, on two, and on Dask's; and a
diagnosis that trains remedies and shams in its own process, and on two others.

One round: every process starts TensorFlow anew and trains, held to one thread.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import Row, cores, met, need, python, span

TARGET = 1.6
# Of the remedies of these, two are trained; the first is read from the study.
CAUSES = ("batchnorm-lag", "stale-observers", "qat-learning-rate")
DIAGNOSIS = """
import json, resource, sys, time
import qinspect as qi

start = time.perf_counter()
found = qi.diagnose(sys.argv[1], causes=sys.argv[3:], budget=1e6, num_threads=int(sys.argv[2]),
                    progress=lambda *told: None, notify=lambda text: None)
taken = time.perf_counter() - start
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
effects = [cause.effect for cause in found.causes if cause.effect is not None]
print(json.dumps([taken, sum(one.ru_utime + one.ru_stime for one in used),
                  sum(effect.runs for effect in effects),
                  [[*effect.interval, str(effect.numbers)] for effect in effects]]))
"""


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


def diagnoses() -> Iterator[Row]:
    """The same diagnoses, one after the other in the process that asks and on two others."""
    from qinspect.studies.run import study

    with tempfile.TemporaryDirectory() as folder:
        for seed in (1, 4):
            one_epoch = Path(folder) / str(seed)
            study("digits", preset="one-epoch", seed=seed, recipes=(), repeats=1, out=one_epoch,
                  notify=quiet, progress=quiet)
            (one, cpu_one, runs, reference), (two, cpu_two, _, again) = (
                json.loads(python(DIAGNOSIS, str(one_epoch), str(workers), *CAUSES))
                for workers in (1, 2))
            assert again == reference
            yield Row(f"a diagnosis that trains {runs} remedies and as many shams (one-epoch, seed "
                      f"{seed}), two processes", f"{span(two)} (CPU {span(cpu_two)})",
                      "its own process", f"{span(one)} (CPU {span(cpu_one)})",
                      f"{one / two:.3g}, 1 round", check="the same effects, to the last digit")


def rows() -> Iterator[Row | str]:
    need("tensorflow")
    one, reference = swept(workers=1)
    two, again = swept(workers=2)
    assert again == reference
    goal = f"at least {TARGET}: {met(one / two >= TARGET)}" if cores() > 1 else ""
    yield Row("a sweep of four studies, two workers", span(two), "one worker", span(one),
              f"{one / two:.3g}, 1 round", goal, "the same numbers for every seed")
    yield from diagnoses()
    distributed = need("distributed")
    with (distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
          as cluster):
        from qinspect.studies.pool import dask_executor

        with dask_executor(cluster.scheduler_address) as executor:
            taken, found = swept(executor=executor)
    assert found == reference
    yield Row("a sweep of four studies, a Dask LocalCluster of two", span(taken), "one worker",
              span(one), f"{one / taken:.3g}, 1 round", goal, "the same numbers for every seed")
