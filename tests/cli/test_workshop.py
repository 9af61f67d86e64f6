"""The workshop kit: wheels for other computers than this one, start scripts, pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.tags import sys_tags
from parts import missing, need_package, other_process

from qinspect.errors import SpecError, StoreError
from qinspect.lab import notebook_sources
from qinspect.show.slides import page, slides
from qinspect.workshop import Target, kit, lacking

WINDOWS, LINUX = Target("win_amd64", "3.12"), Target("manylinux_2_28_x86_64", "3.11")
# Asks for colorama on Windows only: a marker that pip alone would answer for this computer.
SMALL = ("tqdm",)


@pytest.fixture(scope="module")
def small_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_package("pip")
    need_package("nbconvert")
    out = tmp_path_factory.mktemp("kit") / "kit"
    try:
        kit([WINDOWS, LINUX], out, print, requirements=SMALL)
    except StoreError as error:
        if re.search(r"tqdm\S* has no wheel", str(error)):
            missing("the package index cannot be reached")
        raise
    return out


def wheels_of(out: Path, target: Target) -> set[str]:
    return {path.name.split("-")[0] for path in (out / "wheels" / target.name).glob("*.whl")}


def test_each_platform_gets_what_it_asks_for(small_kit: Path) -> None:
    assert wheels_of(small_kit, WINDOWS) == {"tqdm", "colorama"}
    assert wheels_of(small_kit, LINUX) == {"tqdm"}


def test_what_is_complete_is_kept_and_what_is_damaged_is_fetched_again(
        small_kit: Path, tmp_path: Path) -> None:
    out = tmp_path / "kit"
    shutil.copytree(small_kit, out)
    said: list[str] = []
    kit([WINDOWS], out, said.append, requirements=SMALL)
    assert said == [f"{WINDOWS.name}: complete"]
    folder = out / "wheels" / WINDOWS.name
    (colorama,) = folder.glob("colorama*")
    whole = colorama.read_bytes()
    # As after a kill: under the name of what is not finished, a wheel cut short.
    part = folder.rename(folder.with_name(f".{folder.name}.unfinished"))
    (part / colorama.name).write_bytes(whole[:999])
    kit([WINDOWS], out, said.append, requirements=SMALL)
    assert colorama.read_bytes() == whole
    assert not part.exists()
    colorama.unlink()
    assert lacking(folder, SMALL, WINDOWS) == ['colorama; platform_system == "Windows"']


def test_a_platform_without_wheels_is_named_and_the_others_are_made(
        small_kit: Path, tmp_path: Path) -> None:
    mac = Target("macosx_10_15_x86_64", "3.12")
    with pytest.raises(StoreError, match=r"ai-edge-litert\S* has no wheel for macosx_10_15"):
        kit([mac], tmp_path / "kit", print, requirements=("ai-edge-litert>=2.1",))
    assert (tmp_path / "kit" / "start.bat").exists()
    assert not (tmp_path / "kit" / "wheels" / mac.name).exists()


def test_markers_and_tags_are_those_of_this_computer_where_it_is_the_target() -> None:
    here = default_environment()
    if here["sys_platform"] != "linux" or here["platform_machine"] != "x86_64":
        pytest.skip("compared on Linux, x86-64")
    told = Target("manylinux_2_17_x86_64", here["python_version"]).environment
    for name in ("os_name", "sys_platform", "platform_system", "platform_machine",
                 "python_version", "implementation_name", "platform_python_implementation"):
        assert told[name] == here[name]
    assert set(told) == set(here)
    mine = {tag.platform for tag in sys_tags()}
    assert set(Target("manylinux_2_17_x86_64", "3.11").platforms) <= mine


@pytest.mark.parametrize(("platform", "python"), [
    ("windows", "3.12"), ("win_amd64", "3"), ("../x", "3.12"), ("win_amd64", "3.12; x")])
def test_what_is_no_platform_or_version_is_refused(platform: str, python: str) -> None:
    with pytest.raises(SpecError):
        Target(platform, python)


def test_the_command_refuses_in_a_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qinspect", "workshop", "kit", "--platform", "win_amd64",
         "--python", "3.11", "--python", "3.12", "--out", str(tmp_path / "kit")],
        env=other_process(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "1 platforms and 2 versions" in done.stderr
    assert "Traceback" not in done.stderr


def test_learners_get_no_solutions_and_teachers_do(small_kit: Path) -> None:
    name = "03_ptq.ipynb"
    assert '"solution"' not in (small_kit / "exercises" / name).read_text()
    assert '"solution"' in (small_kit / "teacher" / "solutions" / name).read_text()
    assert not (small_kit / "exercises" / "README.md").exists()
    assert {path.name for path in small_kit.iterdir()} == {
        "README.html", "exercises", "start.bat", "start.sh", "teacher", "wheels"}
    assert (small_kit / "teacher" / "solutions.md").exists()


def test_pages_ask_no_other_host(small_kit: Path) -> None:
    pages = [*small_kit.rglob("*.html")]
    assert len(pages) == len(notebook_sources()) + 2
    for path in pages:
        text = path.read_text()
        assert not re.search(r"""(src|srcset)=["'](?!data:)|<link|@import|url\(|fetch\(""", text)
        assert "MathJax" not in text


def test_slides_are_the_notebook_without_answers() -> None:
    need_package("nbconvert")
    for content in notebook_sources().values():
        notebook = json.loads(content)
        text = slides(notebook)
        headings = sum(cell["cell_type"] == "markdown" and
                       "".join(cell["source"]).lstrip().startswith("#")
                       and "solution" not in cell["metadata"].get("tags", [])
                       for cell in notebook["cells"])
        assert text.count("<section>") == headings
    assert "$$" not in slides(json.loads(notebook_sources()["01_integers_for_floats.ipynb"]))


def test_formulas_are_pictures_and_code_keeps_its_dollars() -> None:
    need_package("nbconvert")
    text = page("a", r"A $\frac{1}{2}$ costs `$5`; $\nosuchcommand{x}$ is told as it is.")
    assert text.count('<img class="formula"') == 1
    assert "<code>$5</code>" in text
    assert r"<code>\nosuchcommand{x}</code>" in text


def test_the_start_script_says_which_python_it_needs(small_kit: Path, tmp_path: Path) -> None:
    shell, dirname = shutil.which("sh"), shutil.which("dirname")
    if shell is None or dirname is None:
        pytest.skip("there is no shell")
    (tmp_path / "dirname").symlink_to(dirname)
    done = subprocess.run([shell, str(small_kit / "start.sh")], env={"PATH": str(tmp_path)},
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "3.11 3.12" in done.stderr
    assert os.access(small_kit / "start.sh", os.X_OK)


def test_the_windows_script_has_no_gaps(small_kit: Path) -> None:
    text = (small_kit / "start.bat").read_bytes().decode()
    assert text.count("\r\n") == text.count("\n")
    assert not re.search("VERSIONS|MINORS|EXTRAS|PAGE", text)
    assert set(re.findall(r"goto (\w+)", text)) <= set(re.findall(r"^:(\w+)", text, re.MULTILINE))
