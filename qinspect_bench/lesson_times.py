"""How long each notebook takes on this machine, as a table.

Made by ``python -m qinspect_bench.lesson_times notebooks/TIMES.md``; names after it run
those notebooks alone and keep the other rows.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

from qinspect.data.shipped import shipped_files
from qinspect.errors import SpecError
from qinspect.store import write_bytes
from qinspect_bench.running import run_notebook

_HEAD = """# How long the notebooks take

Run from top to bottom in an empty folder, solutions included, without a browser. *Processor* is
what all processes of the notebook computed, however busy the machine was; the wait depends on that:
a machine of two cores is busy at a load above 2. Made with `make lesson-times` ({machine}).

| notebook | waited, seconds | processor, seconds |
|---|---|---|
"""


def run(content: str) -> tuple[float, float]:
    """Seconds waited and seconds of the processor for one notebook in a fresh kernel."""
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        notebook = nbformat.reads(content, as_version=4)
        before, start = processor_seconds(), time.perf_counter()
        run_notebook(notebook, Path(folder))
        return time.perf_counter() - start, processor_seconds() - before


def processor_seconds() -> float:
    """What the child processes that have ended computed."""
    import resource  # not on Windows

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(rows: dict[str, tuple[float, float]]) -> str:
    """The page: one row a notebook, and the sum."""
    whole = (sum(waited for waited, _ in rows.values()), sum(used for _, used in rows.values()))
    every = {**dict(sorted(rows.items())), "all": whole}
    machine = (f"{platform.system()}, {platform.machine()}, {os.cpu_count()} cores, load "
               f"{os.getloadavg()[2]:.0f}")
    return _HEAD.format(machine=machine) + "".join(
        f"| `{name}` | {row[0]:.0f} | {row[1]:.0f} |\n" for name, row in every.items())


def read_table(text: str) -> dict[str, tuple[float, float]]:
    """The rows of a page that :func:`table` made."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {name.strip("`"): (float(waited), float(used)) for name, waited, used in cells
            if name != "`all`"}


def main() -> None:
    """Run the notebooks that are named, or all, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 04")
    given = parser.parse_args()
    notebooks = {name.removesuffix(".ipynb"): item
                 for name, item in shipped_files("notebooks", ".ipynb").items()}
    chosen = [name for name in notebooks if name.startswith(tuple(given.names or ("",)))]
    if not chosen:
        raise SpecError(f"no notebook begins with {given.names[0]!r}; there are "
                        f"{', '.join(notebooks)}.")
    rows = read_table(given.page.read_text()) if given.page.exists() and given.names else {}
    for name in chosen:
        rows[name] = run(notebooks[name].read_text(encoding="utf-8"))
        print(f"{name}: {rows[name][0]:.0f} s, processor {rows[name][1]:.0f} s", flush=True)
        write_bytes(given.page, table(rows).encode())


if __name__ == "__main__":
    main()
