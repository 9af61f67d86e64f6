"""The progress line in a terminal, in a log, in a notebook, and in a notebook once saved."""

from __future__ import annotations

import io
import sys

import pytest
from parts import need_package

from qinspect import progress, shown
from qinspect.shown import tell


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(show: progress.Progress) -> None:
    for done in range(5):
        show("float", done, 4, f"epoch {done}/4")


def test_a_terminal_gets_one_line_that_is_rewritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 0.0)
    run(progress.make_progress())
    written = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert written.count("\r") == 5
    assert written.count("\n") == 1
    assert written.endswith("epoch 4/4\n")
    assert "100 %" in written
    assert capsys.readouterr().out == ""


def test_a_terminal_is_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    show = progress.make_progress()
    for done in range(10_000):
        show("float", done, 10_000, "")
    show("float", 10_000, 10_000, "done")
    assert sys.stderr.getvalue().count("\r") < 100  # type: ignore[attr-defined]
    assert sys.stderr.getvalue().endswith("done\n")  # type: ignore[attr-defined]


def test_what_is_often_done_at_once_leaves_no_trace_unless_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(progress.late_progress())
    assert capsys.readouterr().err == ""  # no terminal
    told: list[str] = []
    monkeypatch.setattr(progress, "kernel", lambda: object())
    monkeypatch.setattr(progress, "make_progress",
                        lambda: lambda phase, done, total, message: told.append(message))
    run(progress.late_progress())
    assert told == []
    monkeypatch.setattr(progress, "_LATE_SECONDS", 0.0)
    run(progress.late_progress())
    assert len(told) == 5


def test_names_cannot_break_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    progress.make_progress()("a\nb\x1b[2J", 1, 1, "c\rd" + "x" * 500)
    written = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert written.count("\n") == written.count("\r") == written.count("\x1b") == 1
    assert len(written) < 200


def test_a_log_gets_one_line_a_phase(capsys: pytest.CaptureFixture[str]) -> None:
    show = progress.make_progress()  # pytest's stderr is no terminal
    run(show)
    run(show)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["float: epoch 4/4"] * 2
    assert captured.out == ""


@pytest.mark.slow
def test_a_saved_notebook_keeps_the_last_text(tmp_path) -> None:
    for package in ("nbclient", "nbformat", "ipykernel"):
        need_package(package)
    import nbformat

    from qinspect_bench.running import run_notebook

    source = (
        "from qinspect.progress import make_progress\n"
        "show = make_progress()\n"
        "for phase in ('float', '<b>qat</b>'):\n"
        "    for done in range(5):\n"
        "        show(phase, done, 4, f'epoch {done}/4')\n"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    run_notebook(notebook, tmp_path)
    (output,) = notebook.cells[0].outputs
    assert set(output["data"]) == {"text/plain"}
    lines = output["data"]["text/plain"].splitlines()
    assert [line.split(" [")[0] for line in lines] == ["float", "<b>qat</b>"]
    assert all("100 %" in line and line.endswith("epoch 4/4") for line in lines)


def test_messages_leave_standard_output_to_results_but_for_notebooks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tell("one")
    monkeypatch.setattr(shown, "kernel", object)
    told: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: told.append(bundle))
    tell("two <b>")
    found = capsys.readouterr()
    assert (found.err, found.out) == ("one\n", "")
    assert told[0]["text/plain"] == "two <b>"
    assert "two &lt;b&gt;" in told[0]["text/html"]


def test_a_terminal_breaks_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "40")
    words = [f"word{'x' * (i % 11)}" for i in range(60)]
    tell(" ".join(words))
    lines = sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 40
    assert " ".join(lines).split() == words
