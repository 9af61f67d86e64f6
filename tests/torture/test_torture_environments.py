"""The same answer, byte for byte, wherever it is asked for; or one sentence and exit code 2."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from parts import other_process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shells, limits, terminals")

PYTHON = [sys.executable, "-m", "qinspect"]
TEMPORARY = ("TMPDIR", "TEMP", "TMP")
# No BLAS threads: each would reserve address space out of the limit.
TWO_GIGABYTES = 'ulimit -v 2097152; exec "$@"'
NOT_WRITABLE = ('for place in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o ro none "$place"; done; '
                'cd /proc; exec "$@"')


@dataclass(frozen=True)
class Place:
    """Where a command runs: what stands before it, and what is set or taken out around it."""

    before: Sequence[str] = ()
    python: Sequence[str] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    without: Sequence[str] = ()


def shell(script: str) -> list[str]:
    return ["sh", "-c", script, "sh"]


PLACES = {
    "no home": Place(without=("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "MPLCONFIGDIR")),
    "temporary folder read-only": Place(given=dict.fromkeys(TEMPORARY, "/proc")),
    "LANG=C": Place(given={"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}),
    "NO_COLOR": Place(given={"NO_COLOR": "1", "TERM": "xterm-256color"}),
    "40 columns": Place(given={"COLUMNS": "40", "LINES": "10"}),
    "standard input closed": Place(shell('exec "$@" <&-')),
    "standard error closed": Place(shell('exec "$@" 2>&-')),
    "warnings are errors": Place(python=["-W", "error"]),
    "no display": Place(without=("DISPLAY", "WAYLAND_DISPLAY"), given={"MPLBACKEND": "TkAgg"}),
    "one core": Place(["taskset", "-c", str(min(os.sched_getaffinity(0)))]
                      if hasattr(os, "sched_getaffinity") else []),
    "2 GB of memory": Place(shell(TWO_GIGABYTES)),
}
# Those that have failed once, with the command that touches most of the machine.
SHORT = [("compare", place) for place in (
    "standard input closed", "standard error closed", "warnings are errors", "2 GB of memory")]
# The one line that a finished phase of a diagnosis leaves in a log.
PROGRESS = re.compile(rb"evidence: \d+ causes asked about\n")
COMMANDS = ("inspect", "compare", "significance", "evaluate", "layers", "diagnose")


@pytest.fixture(scope="module")
def commands(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("environments")
    arrays = np.load(cases / "15-data-habits" / "cls_images.npz")
    data, table = folder / "data.npz", folder / "answers.csv"
    np.savez(data, x=arrays["images"][:80], y=arrays["labels"][:80])
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 300)
    answers = [np.where(rng.random(300) < p, y, (y + 1) % 4) for p in (0.8, 0.7)]
    np.savetxt(table, np.column_stack([y, *answers]), "%d", ",", header="y,a,b", comments="")
    first, second, third = (str(cases / "10-uint8-units" / f"cls_{name}.tflite")
                            for name in ("float", "ptq", "qat"))
    given = ["--data", str(data)]
    return {
        "inspect": ["inspect", first, second], "compare": ["compare", first, second, *given],
        "significance": ["significance", str(table)],
        "evaluate": ["evaluate", first, second, *given],
        "layers": ["layers", first, second, *given],
        "diagnose": ["diagnose", "--float", first, "--ptq", second, "--qat", third, *given],
    }


def run(arguments: Sequence[str], place: Place, folder: Path) -> subprocess.CompletedProcess[bytes]:
    environment = other_process(**place.given)
    for name in place.without:
        environment.pop(name, None)
    return subprocess.run(
        [*place.before, sys.executable, *place.python, "-m", "qinspect", *arguments],
        capture_output=True, env=environment, cwd=folder, timeout=300, check=False)


@pytest.fixture(scope="module")
def answer(commands: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory
           ) -> Callable[[str], bytes]:
    """What a command prints where nothing is unusual; each is asked once."""
    known: dict[str, bytes] = {}

    def asked(name: str) -> bytes:
        if name not in known:
            done = run(commands[name], Place(), tmp_path_factory.mktemp("plain"))
            assert (done.returncode, PROGRESS.sub(b"", done.stderr)) == (0, b"")
            known[name] = done.stdout
        return known[name]

    return asked


@pytest.mark.slow
@pytest.mark.parametrize(("name", "place"), [
    *SHORT, *(pytest.param(name, place, marks=pytest.mark.torture)
              for name in COMMANDS for place in PLACES if (name, place) not in SHORT)])
def test_the_same_answer_everywhere(name, place, commands, answer, tmp_path) -> None:
    where = PLACES[place]
    if where.before and shutil.which(where.before[0]) is None:
        pytest.skip(f"this machine has no {where.before[0]}")
    done = run(commands[name], where, tmp_path)
    assert (done.returncode, PROGRESS.sub(b"", done.stderr)) == (0, b"")
    assert done.stdout == answer(name)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "compare", pytest.param("diagnose", marks=pytest.mark.torture)])
def test_no_training_packages(name, commands, answer, tmp_path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for package in ("tensorflow", "tf_keras", "keras", "tensorflow_model_optimization"):
        (blocked / f"{package}.py").write_text("raise ImportError('not here')")
    environment = other_process()
    environment["PYTHONPATH"] = os.pathsep.join([str(blocked), environment["PYTHONPATH"]])
    done = subprocess.run([*PYTHON, *commands[name]], capture_output=True, env=environment,
                          timeout=300, check=False)
    assert (done.returncode, PROGRESS.sub(b"", done.stderr)) == (0, b"")
    assert done.stdout == answer(name)
    refused = subprocess.run([*PYTHON, "study", "--out", str(tmp_path / "study")], text=True,
                             capture_output=True, env=environment, timeout=300, check=False)
    assert refused.returncode == 2
    assert "pip install 'qinspect[train]'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def mounts() -> bool:
    """Whether this machine lets a test have file systems of its own."""
    if shutil.which("unshare") is None:
        return False
    tried = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o ro none /var/tmp"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_no_folder_at_all_can_be_written(cases: Path, answer, commands) -> None:
    if not mounts():
        pytest.skip("this machine lets no test mount a file system")
    if any(Path(kept).is_relative_to("/tmp") for kept in (__file__, sys.prefix)):
        pytest.skip("the checkout or its environment lies in /tmp, which this test hides")
    place = Place(["unshare", "-m", *shell(NOT_WRITABLE)], without=TEMPORARY)
    # The read-only file systems hide what lies in the temporary folders, so the data lie elsewhere.
    arguments = [*commands["compare"][:3], "--data",
                 str(cases / "15-data-habits" / "cls_images.npz")]
    plain, done = (run(arguments, where, Path("/")) for where in (Place(), place))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == plain.stdout


@pytest.mark.parametrize("encoding", [
    "ascii", pytest.param("latin-1", marks=pytest.mark.torture)])
def test_an_output_that_holds_no_unicode(encoding, commands, tmp_path) -> None:
    done = run(commands["significance"], Place(given={"PYTHONIOENCODING": encoding}), tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"no gap seen" in done.stdout


def test_a_narrow_terminal_is_not_written_beyond(commands) -> None:
    """A real terminal of 40 columns: no line is longer, and NO_COLOR has no colours."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    environment = other_process(TERM="xterm-256color", NO_COLOR="1")
    environment.pop("COLUMNS", None)
    process = subprocess.Popen([*PYTHON, *commands["significance"]], stdin=theirs, stdout=theirs,
                               stderr=theirs, env=environment)
    os.close(theirs)
    pieces = []
    # Linux answers with an error once the other end of a terminal is closed.
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(ours)
    assert process.wait() == 0
    text = b"".join(pieces).decode()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", text), "colours"
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()
    assert max(map(len, lines)) <= 40
    assert "77.33 %" in text


def test_a_pipe_that_closes_early(commands) -> None:
    """``| head -1``: the reader has what it wanted, and nothing is complained of."""
    process = subprocess.Popen([*PYTHON, *commands["significance"]], env=other_process(),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN))
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() in (0, 1)
