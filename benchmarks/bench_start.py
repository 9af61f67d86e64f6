"""Cold starts, each a process of its own, beside those of Python and of NumPy."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import Row, generated, int8_of, met, paired

TARGETS = {"import qinspect": 0.15, "qinspect --help": 0.3, "qinspect inspect, cold": 1.0}


def rows() -> Iterator[Row | str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "int8.tflite"
        file.write_bytes(int8_of(generated(10)))
        timed = paired({
            "import qinspect": started("-c", "import qinspect"),
            "qinspect --help": started("-m", "qinspect", "--help"),
            "qinspect inspect, cold": started("-m", "qinspect", "inspect", str(file)),
            "python -c pass": started("-c", "pass"),
            "import numpy": started("-c", "import numpy"),
        }, 11)
    for way, most in TARGETS.items():
        peer = "import numpy" if way.startswith("import") else "python -c pass"
        row = timed.row(way, way, peer, check="exit code 0")
        yield Row(row.work, row.ours, row.peer, row.theirs, row.ratio,
                  f"at most {most:g} s: {met(timed.median(way) <= most)}", row.check)


def started(*arguments: str) -> Callable[[], None]:
    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    return run
