"""The gate as a pipeline uses it: exit codes, files for machines, baselines, pytest, the Action."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from parts import ROOT, Here, other_process
from small_net import examples, small_net
from typer.testing import CliRunner

import qinspect as qi
from qinspect.cli import app
from qinspect.errors import QinspectError
from qinspect.measure.activations import observe_ranges
from qinspect.show.pipeline import github_lines, junit_xml
from qinspect.tflite import evaluate, read_graph
from qinspect.tflite.requantize import quantize_file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Old file, a good and a bad new one, data; little data with which nothing can be told."""
    path = tmp_path_factory.mktemp("gate")
    graph = read_graph(small_net())
    (path / "old.tflite").write_bytes(graph.content)
    (path / "good.tflite").write_bytes(
        quantize_file(graph, observe_ranges(graph, examples(100)).over()))
    (path / "bad.tflite").write_bytes(small_net(seed=1))
    x = examples(600, seed=6)
    y = evaluate(graph.content, x).prediction
    np.savez(path / "data.npz", x=x, y=y, id=[f"e{i}" for i in range(600)])
    np.savez(path / "few.npz", x=x[:20], y=y[:20])
    np.savez(path / "shuffled.npz", x=x[::-1], y=y[::-1])
    return path


def ask(*given: object, **variables: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["gate", *map(str, given)],
                              env={"GITHUB_ACTIONS": "", "GITHUB_STEP_SUMMARY": None, **variables})
    return done.exit_code, done.stdout, done.stderr


def test_exit_codes(files: Path, tmp_path: Path) -> None:
    old, data = files / "old.tflite", f"--data={files / 'data.npz'}"
    code, said, _ = ask(old, files / "good.tflite", data, "--margin=5")
    assert (code, "NOT WORSE" in said) == (0, True), said
    code, said, _ = ask(old, files / "bad.tflite", data, "--margin=5")
    assert (code, "WORSE: bad.tflite is worse" in " ".join(said.split())) == (1, True), said
    code, said, _ = ask(old, files / "good.tflite", f"--data={files / 'few.npz'}", "--margin=1")
    assert (code, "more examples" in " ".join(said.split())) == (3, True), said


def test_errors_are_two_and_a_line(files: Path, tmp_path: Path, here: Here) -> None:
    for given in ((), (files / "old.tflite",), (files / "old.tflite", files / "good.tflite"),
                  ("--pair", "a", f"--data={files / 'data.npz'}"),
                  (files / "old.tflite", "missing.tflite", f"--data={files / 'data.npz'}")):
        done = here("gate", *given, cwd=tmp_path)
        assert done.returncode == 2, done.stdout
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_baseline_stands_for_the_old_file_and_for_no_other_data(
        files: Path, tmp_path: Path) -> None:
    old, new, data = files / "old.tflite", files / "bad.tflite", files / "data.npz"
    kept = tmp_path / "base.npz"
    _, both, _ = ask(old, new, f"--data={data}", "--write-baseline", kept, "--json")
    code, alone, _ = ask(new, f"--data={data}", "--baseline", kept, "--json")
    assert code == 1
    first, second = json.loads(both), json.loads(alone)
    assert first["pairs"] == second["pairs"]
    for other in ("shuffled.npz", "few.npz"):
        with pytest.raises(QinspectError, match="other data"):
            qi.gate(new=new, data=files / other, baseline=kept)
    np.savez(tmp_path / "none.npz", y=[1, 2])
    with pytest.raises(QinspectError, match="no baseline"):
        qi.gate(new=new, data=data, baseline=tmp_path / "none.npz")
    with pytest.raises(QinspectError, match="metric"):
        qi.gate(new=new, data=data, baseline=kept, metric="f1")


def test_what_machines_read(files: Path, tmp_path: Path) -> None:
    junit, summary = tmp_path / "out.xml", tmp_path / "summary.md"
    summary.write_text("before\n")
    code, said, github = ask(
        files / "old.tflite", files / "bad.tflite", "--pair",
        f"{files / 'old.tflite'},{files / 'good.tflite'}", f"--data={files / 'data.npz'}",
        "--margin=5", "--junit", junit, "--json", GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(summary))
    answer = json.loads(said)
    assert (code, answer["code"], answer["verdict"]) == (1, 1, "worse")
    assert [pair["verdict"] for pair in answer["pairs"]] == ["worse", "not_worse"]
    assert answer["pairs"][0]["comparison"]["family"] == 2
    lost = answer["pairs"][0]["flips"]["lost"]
    assert len(lost) == answer["pairs"][0]["comparison"]["a_only"] > 10
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert [len(case.findall("failure")) for case in suite] == [1, 0]
    assert lost[0] in suite[0].findtext("system-out", "")
    assert [line.split(" ")[0] for line in github.splitlines()] == ["::error", "::notice"]
    assert summary.read_text().startswith("before\n# Gate: worse")


def test_names_cannot_write_commands_or_markup() -> None:
    y = np.arange(300) % 3
    name = "x\n::error::y%\x00<b>&"
    found = qi.gate("old", name, predictions=qi.results(
        {"old": y, name: np.zeros(300, int)}, y))
    (line,) = github_lines(found)
    assert "\n" not in line
    assert line.count("%25") > 1
    assert ElementTree.fromstring(junit_xml(found))[0][0].get("name") == (
        "x?::error::y%?<b>& against old")


def test_predictions_of_any_framework(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 3000)
    old = np.where(rng.random(3000) < 0.9, y, (y + 1) % 5)
    lines = ["id,y,old,new", *(f"{i},{a},{b},{b}" for i, (a, b) in enumerate(zip(y, old,
                                                                                 strict=True)))]
    (tmp_path / "preds.csv").write_text("\n".join(lines))
    code, said, _ = ask("old", "new", "--predictions", tmp_path / "preds.csv", "--margin", 1)
    assert (code, "NOT WORSE" in said) == (0, True)


def test_the_fixture_of_pytest(files: Path, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from pathlib import Path\n\n"
        f"FILES = Path({str(files)!r})\n\n"
        "def test_good(qinspect_gate):\n"
        "    found = qinspect_gate(FILES / 'old.tflite', FILES / 'good.tflite',\n"
        "                          FILES / 'data.npz', margin=5)\n"
        "    assert found.code == 0\n\n"
        "def test_bad(qinspect_gate):\n"
        "    qinspect_gate(FILES / 'old.tflite', FILES / 'bad.tflite', FILES / 'data.npz')\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "qinspect.pytest_plugin", "-p",
         "no:cacheprovider", str(tmp_path)],
        # Where qinspect is installed pytest finds the plugin by itself and would load it twice.
        cwd=tmp_path, env=other_process(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"), capture_output=True,
        text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "WORSE: bad.tflite is worse than old.tflite" in done.stdout
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"qinspect": "qinspect.pytest_plugin"}


@pytest.mark.slow
def test_the_script_of_the_action(files: Path, tmp_path: Path) -> None:
    shell = shutil.which("sh")
    if shell is None:
        pytest.skip("there is no shell")
    script = ROOT / ".github" / "actions" / "gate" / "gate.sh"
    given = {"GATE_PYTHON": sys.executable, "GATE_OLD": str(files / "old.tflite"),
             "GATE_DATA": str(files / "data.npz"), "GATE_MARGIN": "5",
             "GATE_JUNIT": str(tmp_path / "j.xml")}
    # A name that a shell would run, were it pasted into the script.
    odd = tmp_path / "$(touch bad) x.tflite"
    shutil.copy(files / "bad.tflite", odd)
    for new, data, more, code in (
            (files / "good.tflite", "data.npz", {}, 0), (odd, "data.npz", {}, 1),
            (files / "good.tflite", "few.npz", {"GATE_MARGIN": "1"}, 3),
            (files / "good.tflite", "few.npz",
             {"GATE_MARGIN": "1", "GATE_ALLOW_CANNOT_TELL": "true"}, 0)):
        done = subprocess.run(
            [shell, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=200,
            check=False, env=other_process(**{**given, "GATE_NEW": str(new),
                                              "GATE_DATA": str(files / data), **more}))
        assert done.returncode == code, done.stderr
        assert (tmp_path / "j.xml").exists()
    assert not (tmp_path / "bad").exists()


def test_neither_a_crash_nor_a_closed_pipe_says_worse() -> None:
    """1 is what Python itself ends with, and an answer of the gate."""
    for fault in ("RuntimeError('x')", "BrokenPipeError()"):
        code = ("import sys; sys.argv[1:] = ['gate']\n"
                "from qinspect.cli import app, main\n"
                "@app.command('gate')\n"
                "def failing() -> None:\n"
                f"    raise {fault}\n"
                "main()\n")
        done = subprocess.run([sys.executable, "-c", code], env=other_process(),
                              capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 2
        assert ("RuntimeError: x" in done.stderr) == fault.startswith("Runtime")


def test_a_name_that_is_no_utf8_is_shown_with_question_marks(files: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"s\xff.tflite")
    odd.write_bytes((files / "good.tflite").read_bytes())
    recording = {odd: np.load(files / "data.npz")["y"]}
    found = qi.evaluate([files / "old.tflite", odd], files / "data.npz", recorded=recording)
    assert found.models == ("old.tflite", "s?.tflite", "s?.tflite, recorded")
    code, said, _ = ask(files / "old.tflite", odd, f"--data={files / 'data.npz'}", "--margin=5",
                        "--json")
    assert (code, json.loads(said)["pairs"][0]["new"]) == (0, "s?.tflite")
