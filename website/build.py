"""The site from the repository: docs, notebooks with their outputs, the public names.

``python website/build.py`` runs every notebook, then Sphinx; ``--notebooks FOLDER`` takes executed
copies from there, where their cells are still those of the repository. The pages are in build/site.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from inspect import isfunction, ismodule
from pathlib import Path
from types import ModuleType

import check

import qinspect as qi
from execute import ROOT, executed

HERE = Path(__file__).resolve().parent
# What a verb returns and is worth a section: names of classes by module.
RETURNED = {
    "data.dataset": ("Dataset",),
    "predictions": ("Results",),
    "families": ("Comparisons",),
    "comparisons": ("FileComparison",),
    "measure.layer_tables": ("Layers",),
    "measure.layer_cost": ("Sensitivity",),
    "diagnosis.cases": ("Case",),
    "diagnosis.answer": ("Diagnosis",),
    "studies.stored": ("Study", "Sweep"),
}
# Pages that have an entry of their own in the bar at the top.
AT_THE_TOP = ("gallery.md", "causes.md")


def verbs() -> list[str]:
    """The functions of the face, in alphabetical order."""
    return [name for name in qi.__all__ if isfunction(getattr(qi, name))]


def namespaces() -> list[str]:
    """The modules of the face, such as ``qi.stats``."""
    return [name for name in qi.__all__ if ismodule(getattr(qi, name))]


def lay_out(source: Path, notebooks: Mapping[Path, Path]) -> None:
    """The pages' sources in a folder like the repository, so that links between them hold."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "notebooks" / "README.md",
             ROOT / "data" / "README.md"]
    pictures = [*(ROOT / "docs").rglob("*.png"), *(ROOT / "data").glob("*.png")]
    for path in (*pages, *pictures):
        _put(path, source / path.relative_to(ROOT))
    for path, copy in notebooks.items():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(folded(copy.read_text(encoding="utf-8")), encoding="utf-8")
    for path in (*HERE.glob("*.md"), HERE / "conf.py"):
        _put(path, source / path.name)
    shutil.copytree(HERE / "static", source / "static")
    lessons = [p for p in notebooks if p.parent.name == "notebooks"]
    _append(source / "notebooks" / "README.md", [p.stem for p in lessons])
    _append(source / "docs" / "gallery.md",
            [f"../notebooks/gallery/{p.stem}" for p in notebooks if p not in lessons])
    _append(source / "guide.md", [f"docs/{p.stem}" for p in sorted((ROOT / "docs").glob("*.md"))
                                  if p.name not in AT_THE_TOP], hidden=False)
    (source / "api").mkdir()
    for name, text in api_pages().items():
        (source / "api" / f"{name}.md").write_text(text, encoding="utf-8")


def folded(text: str) -> str:
    """A notebook whose cells are folded on its page as they are in JupyterLab."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        hidden = cell["metadata"].get("jupyter", {})
        if hidden.get("source_hidden"):
            tag = "hide-cell" if hidden.get("outputs_hidden") else "hide-input"
            cell["metadata"].setdefault("tags", []).append(tag)
    return json.dumps(notebook)


def _append(page: Path, entries: Sequence[str], *, hidden: bool = True) -> None:
    """Pages that belong below a page, in the side bar and, unless hidden, in a list."""
    lines = [":hidden:"] if hidden else []
    text = "\n".join(["", "```{toctree}", *lines, "", *entries, "```", ""])
    page.write_text(page.read_text(encoding="utf-8") + text, encoding="utf-8")


def _put(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)


def api_pages() -> dict[str, str]:
    """The reference by page: the verbs, what they return, and a page for each namespace."""
    pages = {"verbs": "# The verbs\n\n" + "\n".join(
        f"## {name}\n\n{_directive('autofunction', f'qinspect.{name}')}" for name in verbs())}
    pages["index"] = "# Reference\n\n```{toctree}\nverbs\nreturned\n" + "\n".join(
        namespaces()) + "\n```\n"
    pages["returned"] = "# What the verbs return\n\n" + "\n".join(
        f"## {name}\n\n{_directive('autoclass', f'qinspect.{module}.{name}', 'members')}"
        for module, names in RETURNED.items() for name in names)
    for space in namespaces():
        module = getattr(qi, space)
        said = (module.__doc__ or "").strip()
        names = sorted(getattr(module, "__all__", None) or _defined(module), key=str.lower)
        pages[space] = f"# qi.{space}\n\n{said}\n\n" + "\n".join(
            f"## {name}\n\n{_member(f'qinspect.{space}.{name}', getattr(module, name))}"
            for name in names)
    return pages


def _defined(module: ModuleType) -> list[str]:
    """Public functions and classes that a module defines itself."""
    return [name for name, value in vars(module).items() if not name.startswith("_")
            and getattr(value, "__module__", "") == module.__name__]


def _member(name: str, value: object) -> str:
    if isinstance(value, type):
        return _directive("autoclass", name, "members")
    return _directive("autofunction" if callable(value) else "autodata", name,
                      *([] if callable(value) else ["no-value"]))


def _directive(kind: str, name: str, *options: str) -> str:
    lines = "".join(f"   :{option}:\n" for option in options)
    return f"```{{eval-rst}}\n.. {kind}:: {name}\n{lines}```\n"


def run_sphinx(source: Path, pages: Path) -> None:
    """Build the pages; warnings are errors."""
    shutil.rmtree(pages, ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-j", "2",
         "-d", str(source.parent / "doctrees"), str(source), str(pages)], check=True)


def main() -> int:
    """Build everything, check it, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--notebooks", type=Path, help="folder of executed notebooks to take")
    given = parser.parse_args().notebooks
    build = ROOT / "build"
    notebooks = executed(given, build / "notebooks")
    began = time.perf_counter()
    lay_out(build / "site-source", notebooks)
    run_sphinx(build / "site-source", build / "site")
    print(f"pages: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return check.main([str(build / "site")])


if __name__ == "__main__":
    sys.exit(main())
