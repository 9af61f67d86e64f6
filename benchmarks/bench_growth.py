"""How time grows with examples and with layers of generated networks, as fitted exponents."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench import Row, examples, generated, growth, int8_of, labelled

EXAMPLES = [1000, 10_000, 100_000, 1_000_000]
LAYERS = [10, 50, 100, 250, 500]


def rows() -> Iterator[Row | str]:
    import qinspect as qi

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        files = {count: written(folder, count) for count in [5, *LAYERS]}
        x = examples(EXAMPLES[-1])

        def data(count: int) -> Any:
            return labelled(x[:count])

        for name, verb in (("evaluate", qi.evaluate), ("compare", qi.compare)):
            yield growth(f"{name}, 5 layers", EXAMPLES,
                         lambda count, verb=verb: seconds(lambda: verb(files[5], data(count))),
                         unit="examples")
        yield growth("inspect", LAYERS, lambda count: seconds(lambda: qi.inspect(files[count][1])),
                     unit="layers")
        yield growth("compare, 256 examples", LAYERS,
                     lambda count: seconds(lambda: qi.compare(files[count], data(256))),
                     unit="layers")
        yield growth("errors of layers, 256 examples", LAYERS,
                     lambda count: seconds(lambda: qi.layers(files[count], x[:256])), unit="layers")


def written(folder: Path, layers: int) -> list[Path]:
    content = generated(layers)
    files = [folder / f"float_{layers}.tflite", folder / f"int8_{layers}.tflite"]
    files[0].write_bytes(content)
    files[1].write_bytes(int8_of(content))
    return files


def seconds(work: Callable[[], Any]) -> float:
    """The middle of three, or one where it takes long."""
    taken = []
    while len(taken) < 3 and sum(taken) < 10:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))
