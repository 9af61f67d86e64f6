"""Outputs of resnet8 for 2,000 images, beside the loop of the tutorials and bare `invoke`.

The bare loop has warm interpreters, inputs that are already converted, and the best batch and
number of interpreters of those tried: nothing that runs LiteRT is faster on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from bench import Array, Row, cores, fastest_bare, on_one_core, paired, resnet8, span, tutorial

# Times as fast as the tutorial's loop on two cores, and the largest multiple of the bare time.
TARGETS = {"float32": 1.25, "int8": 1.6}
LIMIT = 1.15


def rows() -> Iterator[Row | str]:
    folder, x, _ = resnet8(2000)
    for kind in TARGETS:
        for count in sorted({1, cores()}):
            if count == 1 and cores() > 1:
                yield from on_one_core(lambda kind=kind: list(of(folder, kind, x, 1)))
            else:
                yield from of(folder, kind, x, count)


def of(folder: Path, kind: str, x: Array, count: int) -> Iterator[Row]:
    from qinspect.tflite.runner import Session, run_files

    content = (folder / f"{kind}.tflite").read_bytes()
    limit, what = fastest_bare(content, x, count)

    def outputs(isolated: bool) -> Array:
        run = run_files({"m": content}, x, isolated=isolated, workers=count)["m"]
        return next(iter(run.outputs.values()))

    with Session(content, workers=count) as warm:
        warm.run(x[:64])
        ways: dict[str, Callable[[], Array]] = {
            "ours": lambda: outputs(False),
            "in a child": lambda: outputs(True),
            "warm": lambda: next(iter(warm.run(x).values())),
            "the tutorials' loop": lambda: tutorial(content, x),
            f"bare invoke, {what}": limit,
        }
        timed = paired(ways, 7)
        loop, bare = list(ways)[-2:]
        for name, found in timed.found.items():
            assert np.array_equal(found, timed.found[loop][: len(found)]), name
    same = "outputs equal, bit for bit"
    work = f"{kind}, {count} core{'s' if count > 1 else ''}"
    yield timed.row(f"evaluate {work}", "ours", loop, check=same,
                    target=TARGETS[kind] if count == 2 else None)
    yield timed.row(f"evaluate {work}, workers warm", "warm", bare, at_most=LIMIT, check=same)
    start = np.median(timed.seconds["ours"] - timed.seconds["warm"])
    apart = np.median(timed.seconds["in a child"] - timed.seconds["warm"])
    yield Row(f"starting the workers, {work}", span(max(0.0, float(start))),
              check=f"in a child, as for a file that others made: {span(max(0.0, float(apart)))}")
