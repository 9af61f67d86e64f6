"""Times and sizes beside what a user would take instead: ``make bench``, ``benchmarks/results.md``.

    python benchmarks/bench.py [SUBJECT ...] [--out FILE] [--note TEXT]

Every round runs all ways of doing the same work in turn, so that a ratio does not depend on what
else the machine does; a ratio is the median of the rounds, with its quartiles.  A subject is one
file ``bench_<subject>.py`` with a function ``rows``, in a process of its own.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import io
import json
import os
import platform
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SUBJECTS = ("evaluate", "compare", "layers", "sensitivity", "stats", "start", "memory", "growth",
            "sweep", "pipeline")
PACKAGES = ("numpy", "scipy", "ai-edge-litert", "litert-quantizer", "tensorflow", "tf-keras",
            "statsmodels", "distributed")
ROUNDS = 5


class Missing(Exception):
    """Why a row cannot be measured on this machine."""


@dataclass(frozen=True)
class Row:
    """One line of the table; ``ratio`` says how many times faster ours is, unless it says else."""

    work: str
    ours: str
    peer: str = ""
    theirs: str = ""
    ratio: str = ""
    target: str = ""
    check: str = ""


@dataclass(frozen=True)
class Rounds:
    """Seconds of every way, one entry a round, and what each gave in the last."""

    seconds: dict[str, Array]
    found: dict[str, Any]

    def median(self, way: str) -> float:
        return float(np.median(self.seconds[way]))

    def ratio(self, peer: str, ours: str) -> tuple[float, float, float]:
        """Median, lower and upper quartile of how many times longer ``peer`` takes."""
        low, middle, high = np.percentile(self.seconds[peer] / self.seconds[ours], [25, 50, 75])
        return float(middle), float(low), float(high)

    def row(self, work: str, ours: str, peer: str, *, target: float | None = None,
            at_most: float | None = None, check: str = "") -> Row:
        """A line of the table; ``at_most`` is a limit on our time as a multiple of the peer's."""
        middle, low, high = self.ratio(peer, ours)
        goal = ""
        if at_most is not None:
            middle, low, high = self.ratio(ours, peer)
            goal = f"at most {at_most:g} of the peer's time: {met(middle <= at_most)}"
        elif target is not None:
            goal = f"at least {target:g}: {met(middle >= target)}"
        count = len(self.seconds[ours])
        rounds = "" if count >= ROUNDS else f", {count} rounds"
        shown = f"{middle:.3g} [{low:.3g}, {high:.3g}]{rounds}"
        if at_most is not None:
            shown = f"takes {shown}"
        return Row(work, span(self.median(ours)), peer, span(self.median(peer)), shown, goal, check)


def met(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def span(seconds: float) -> str:
    """Seconds as people read them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def paired(ways: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS, *,
           longest: float = 120.0) -> Rounds:
    """Run all ways in turn, the first one changing; no new round begins after ``longest`` s."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    names, began = list(ways), time.perf_counter()
    for number in range(rounds):
        for name in names[number % len(names):] + names[: number % len(names)]:
            start = time.perf_counter()
            found[name] = ways[name]()
            seconds[name].append(time.perf_counter() - start)
        if time.perf_counter() - began > longest:
            break
    return Rounds({name: np.array(one) for name, one in seconds.items()}, found)


def exponent(sizes: Array, seconds: Array) -> float:
    """The power of the size with which time grows: least squares on logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def growth(work: str, sizes: list[int], cost: Callable[[int], float], *, unit: str = "") -> Row:
    """Seconds at several sizes and the exponents of all and of the upper half."""
    seconds = [cost(size) for size in sizes]
    x, y = np.array(sizes, float), np.array(seconds)
    half = len(sizes) // 2
    return Row(f"{work}, {', '.join(f'{size:,}' for size in sizes)} {unit}".strip(),
               ", ".join(span(one) for one in seconds),
               check=f"grows with the power {exponent(x, y):.2f}, "
                     f"of the larger sizes {exponent(x[half - 1:], y[half - 1:]):.2f}")


def data_folder() -> Path:
    """Public files that are not in the repository."""
    named = os.environ.get("QINSPECT_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        raise Missing("the environment variable QINSPECT_DATA names no folder of data")
    return folder


def need(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Missing(f"{module} is not installed") from None


def resnet8(examples: int) -> tuple[Path, Array, Array]:
    """Folder of the files, images as float32 and labels."""
    folder = data_folder() / "tflite" / "resnet8"
    with np.load(folder / "cifar_eval.npz", allow_pickle=False) as archive:
        return folder, archive["x"][:examples].astype(np.float32), archive["y"][:examples]


def interpreter(content: bytes, batch: int = 1, threads: int = 1
                ) -> tuple[Any, dict[str, Any], int]:
    """A plain LiteRT interpreter, its input and the index of its output."""
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_content=content, num_threads=threads)
    detail = made.get_input_details()[0]
    if batch > 1:
        made.resize_tensor_input(detail["index"], (batch, *detail["shape"][1:]))
    made.allocate_tensors()
    return made, detail, made.get_output_details()[0]["index"]


def stored(x: Array, detail: dict[str, Any]) -> Array:
    """Input values by the formula of the tutorials, in float64."""
    if detail["dtype"] is np.float32:
        return x
    scale, zero = detail["quantization"]
    return np.clip(np.rint(x.astype(np.float64) / scale) + zero, -128, 127).astype(np.int8)


def tutorial(content: bytes, x: Array) -> Array:
    """One example after the other, as in the tutorials."""
    made, detail, out = interpreter(content)
    rows = []
    for example in x:
        made.set_tensor(detail["index"], stored(example[None], detail))
        made.invoke()
        rows.append(made.get_tensor(out)[0])
    return np.stack(rows)


def bare(content: bytes, x: Array, workers: int, batch: int) -> Callable[[], Array]:
    """Nothing but set, invoke and get on warm interpreters: the limit of the machine."""
    import threading

    ready = [interpreter(content, batch) for _ in range(workers)]
    fed = stored(x, ready[0][1])
    rows = len(x) // batch * batch
    shape = ready[0][0].get_tensor(ready[0][2]).shape[1:]

    def run() -> Array:
        lock, starts = threading.Lock(), iter(range(0, rows, batch))
        found = np.empty((rows, *shape), fed.dtype)

        def work(made: Any, detail: dict[str, Any], out: int) -> None:
            while True:
                with lock:
                    start = next(starts, None)
                if start is None:
                    return
                made.set_tensor(detail["index"], fed[start : start + batch])
                made.invoke()
                found[start : start + batch] = made.get_tensor(out)

        threads = [threading.Thread(target=work, args=one) for one in ready]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    return run


def fastest_bare(content: bytes, x: Array, workers: int, batches: tuple[int, ...] = (1, 2, 4, 8, 16)
                 ) -> tuple[Callable[[], Array], str]:
    """The best bare loop of some batches and one interpreter or one a core, and what it is."""
    best: tuple[float, Callable[[], Array], str] | None = None
    for count in {1, workers}:
        for batch in batches:
            if batch > len(x):
                continue
            run = bare(content, x[: len(x) // batch * batch], count, batch)
            run()
            seconds = min(paired({"run": run}, 3).seconds["run"])
            if best is None or seconds < best[0]:
                best = seconds, run, f"{count} x batch {batch}"
    assert best is not None
    return best[1], best[2]


def cores() -> int:
    return len(os.sched_getaffinity(0))


def on_one_core(work: Callable[[], Any]) -> Any:
    """Run something on the first of our cores only, and so the children that it starts."""
    from qinspect.tflite import isolated

    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})
    isolated.end_spare()
    try:
        return work()
    finally:
        os.sched_setaffinity(0, ours)
        isolated.end_spare()


def python(code: str, *arguments: str, **variables: str) -> str:
    """What a fresh Python process prints; it finds this checkout and the benchmarks."""
    path = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": path, **variables})
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


def profile(work: Callable[[], Any], most: int = 8) -> str:
    """The functions that take longest of some work on this thread, as lines of a code block."""
    watched = cProfile.Profile()
    watched.runcall(work)
    text = io.StringIO()
    pstats.Stats(watched, stream=text).strip_dirs().sort_stats("tottime").print_stats(most)
    lines = text.getvalue().strip().splitlines()
    start = next(i for i, line in enumerate(lines) if line.lstrip().startswith("ncalls"))
    return "\n".join(f"    {line}" for line in lines[start:])


# --- networks that are made here -----------------------------------------------------------------


def generated(layers: int) -> bytes:
    """A small float network of so many operators, without TensorFlow."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from small_net import small_net

    return small_net(deeper=layers - 5)


def examples(count: int) -> Array:
    """Examples of a generated network."""
    return np.random.default_rng(1).standard_normal((count, 8, 8, 2), dtype=np.float32)


def labelled(x: Array, y: Array | None = None) -> Any:
    """A data set of an array, with any labels where none are given."""
    from qinspect.data.dataset import Dataset

    y = np.arange(len(x)) % 4 if y is None else y
    return Dataset("examples", x, y, np.arange(len(x)).astype(str), int(y.max()) + 1)


def int8_of(content: bytes) -> bytes:
    """The fully quantized file of a generated network."""
    from qinspect.measure.activations import observe_ranges
    from qinspect.tflite import read_graph
    from qinspect.tflite.requantize import quantize_file

    graph = read_graph(content)
    return quantize_file(graph, observe_ranges(graph, examples(64)).over())


# --- the table -----------------------------------------------------------------------------------


def machine() -> str:
    """Processor, cores, memory, versions."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        model = found[0] if found else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} missing")
    return (f"{model}, {cores()} cores, {memory:.0f} GiB, {platform.system()}; Python "
            f"{platform.python_version()}, {', '.join(versions)}")


def table(found: list[Row]) -> str:
    heads = ("work", "ours", "beside", "takes", "ratio [quartiles]", "target", "check")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(asdict(row).values()) + " |" for row in found]
    return "\n".join(lines)


def measured(subject: str) -> tuple[list[Row], list[str]]:
    """Rows of one subject, and texts to follow the table, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "rows.json"
        path = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, __file__, "--child", subject, str(answer)], check=False,
            stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3",
                 "TF_USE_LEGACY_KERAS": "1"})
        if done.returncode:
            print(done.stderr[-4000:], file=sys.stderr)
            return [Row(subject, f"FAILED with exit code {done.returncode}")], []
        made = json.loads(answer.read_text())
    return [Row(**row) for row in made["rows"]], made["texts"]


def child(subject: str, answer: Path) -> None:
    found: list[Row] = []
    texts: list[str] = []
    made: Iterator[Row | str] = importlib.import_module(f"bench_{subject}").rows()
    try:
        for one in made:
            if isinstance(one, str):
                texts.append(one)
            else:
                found.append(one)
                print("  " + " | ".join(filter(None, asdict(one).values())), flush=True)
    except Missing as missing:
        found.append(Row(subject, f"not measured: {missing}"))
    answer.write_text(json.dumps({"rows": [asdict(row) for row in found], "texts": texts}))


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--out", type=Path, help="write the page here")
    parser.add_argument("--note", default="", help="a sentence to stand above the tables")
    chosen = parser.parse_args()
    unknown = set(chosen.subjects) - set(SUBJECTS)
    if unknown:
        parser.error(f"there is no subject {min(unknown)}; choose of {', '.join(SUBJECTS)}.")
    began = time.perf_counter()
    load = os.getloadavg()[0]
    parts, failed = [], False
    for subject in chosen.subjects or SUBJECTS:
        start = time.perf_counter()
        print(f"== {subject}", flush=True)
        found, texts = measured(subject)
        failed = failed or any(row.ours.startswith("FAILED") for row in found)
        purpose = (importlib.import_module(f"bench_{subject}").__doc__ or "").strip()
        command = f"`python benchmarks/bench.py {subject}`, {time.perf_counter() - start:.0f} s"
        parts.append("\n\n".join([f"## {subject}", purpose, command, table(found), *texts]))
    head = (
        f"# Times and sizes\n\n{datetime.now(UTC):%Y-%m-%d}, {machine()}; load before the start "
        f"{load:.1f}; {time.perf_counter() - began:.0f} s in all. Made by `make bench`. A ratio is "
        'that of the peer\'s time to ours unless it begins with "takes": the median of the rounds, '
        f"at least {ROUNDS} unless fewer are named, which run all ways in turn.")
    page = "\n\n".join(filter(None, [head, chosen.note, *parts])) + "\n"
    print(f"\n{page}")
    if chosen.out:
        chosen.out.write_text(page, encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
