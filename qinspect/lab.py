"""The notebooks that ship beside the code, in a working folder of the learner's own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from qinspect.data.shipped import shipped_files
from qinspect.errors import SpecError, StoreError, require_extra
from qinspect.store import write_bytes

_MANIFEST = ".qinspect-notebooks.json"


def notebook_sources(*, exercises: bool = False) -> dict[str, bytes]:
    """Content of the notebooks that ship with qinspect, by name, with solutions or without."""
    found = {name: item.read_bytes() for name, item in shipped_files("notebooks", ".ipynb").items()}
    return {name: without_solutions(text) for name, text in found.items()} if exercises else found


def guide() -> dict[str, bytes]:
    """What is to be read beside the notebooks by name: overview, paths, notes with the answers."""
    return {name: item.read_bytes() for name, item in shipped_files("notebooks", ".md").items()}


def without_solutions(content: bytes) -> bytes:
    """A notebook for learners: without the cells tagged ``solution``."""
    notebook = json.loads(content)
    kept = [cell for cell in notebook["cells"] if "solution" not in _tags(cell)]
    text = json.dumps({**notebook, "cells": kept}, indent=1, ensure_ascii=False)
    return f"{text}\n".encode()


def solution_sheet() -> str:
    """Every exercise with its solution, as Markdown, for those who teach."""
    lines = []
    for name, content in notebook_sources().items():
        lines.append(f"# {name.removesuffix('.ipynb')}")
        question = ""
        for cell in json.loads(content)["cells"]:
            text = "".join(cell["source"])
            if "solution" in _tags(cell):
                lines += [question, f"```python\n{text}\n```"]
            elif cell["cell_type"] == "markdown":
                question = text.removeprefix("## Exercises").strip()
    return "\n\n".join(lines) + "\n"


def _tags(cell: dict[str, Any]) -> list[str]:
    found: list[str] = cell["metadata"].get("tags", [])
    return found


def with_links(content: bytes, name: str, repository: str) -> bytes:
    """A notebook with links to Colab and Binder and what installs qinspect there.

    They stand after the first cell; an empty ``repository`` takes them away.
    """
    notebook = json.loads(content)
    cells = [c for c in notebook["cells"] if "links" not in _tags(c)]
    if repository:
        found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", repository)
        if found is None:
            raise SpecError(f"{repository!r} is no address that Colab and Binder open; write it as "
                            "in https://github.com/OWNER/NAME.")
        place = found[1]
        links = (f"[Open in Colab](https://colab.research.google.com/github/{place}/blob/HEAD/"
                 f"notebooks/{name}) or [in Binder](https://mybinder.org/v2/gh/{place}/HEAD?"
                 f"labpath=notebooks%2F{name}).")
        install = (
            "import importlib.util\n\n"
            'if importlib.util.find_spec("qinspect") is None:  # as on Colab\n'
            '    get_ipython().run_line_magic(\n'
            f'        "pip", "install --quiet qinspect[all]@git+https://github.com/{place}")\n')
        about = {"metadata": {"tags": ["links"]}}
        cells[1:1] = [
            {"cell_type": "markdown", "id": "links", **about, "source": [links]},
            {"cell_type": "code", "execution_count": None, "id": "install", **about, "outputs": [],
             "source": install.splitlines(keepends=True)}]
    text = json.dumps({**notebook, "cells": cells}, indent=1, ensure_ascii=False)
    return f"{text}\n".encode()


def copy_notebooks(folder: Path, *, exercises: bool = False) -> list[str]:
    """Copy the notebooks, leave alone what was edited, and say in a line what was done to each.

    The solutions of ``exercises`` go to a sheet beside the folder, not into it.
    """
    manifest_path = folder / _MANIFEST
    lines = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            copied = json.loads(manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            copied = {}
        copies = notebook_sources(exercises=exercises)
        if exercises:
            copies[f"../{folder.resolve().name}-solutions.md"] = solution_sheet().encode()
        else:
            copies |= guide()
        for name, content in copies.items():
            target = folder / name
            digest = hashlib.sha256(content).hexdigest()
            present = hashlib.sha256(target.read_bytes()).hexdigest() if target.exists() else None
            # One that is there is replaced only if it is as an older version put it there.
            if present not in (None, digest, copied.get(name)):
                lines.append(f"kept your edited {target}")
                continue
            if present != digest:
                write_bytes(target, content)
                lines.append(f"{'updated' if present else 'copied'} {target}")
            copied[name] = digest
        write_bytes(manifest_path, json.dumps(copied, indent=1).encode())
    except OSError as error:
        raise StoreError(
            f"cannot write the notebooks to {str(folder)!r}: {error.strerror}; choose another "
            "folder."
        ) from error
    return lines


def write_call(folder: Path | None, call: str) -> Path:
    """A notebook of one call of the package, as ``explore('study')``, in a folder or a new one."""
    cells = [{
        "cell_type": "markdown", "id": "how", "metadata": {},
        "source": ["*Run > Run All Cells* opens the dashboard."],
    }, {
        "cell_type": "code", "id": "call", "execution_count": None, "metadata": {}, "outputs": [],
        "source": ["import qinspect as qi\n", "\n", f"qi.{call}"],
    }]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4,
                "nbformat_minor": 5}
    place = Path(tempfile.mkdtemp(prefix="qinspect-")) if folder is None else folder
    content = f"{json.dumps(notebook, indent=1, ensure_ascii=False)}\n".encode()
    # What stands there may have been edited since.
    ends = chain([""], map("-{}".format, count(2)))
    names = (place / f"explore{end}.ipynb" for end in ends)
    path = next(name for name in names if not name.exists() or name.read_bytes() == content)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the folder {str(place)!r}: {error.strerror}; choose "
                         "another one.") from error
    write_bytes(path, content)
    return path


def start_lab(
    folder: Path, *, browser: bool = True, page: str = "00_start_here.ipynb",
    arguments: Sequence[str] = (),
) -> int:
    """Run JupyterLab on ``folder`` until it is stopped, ``page`` open; returns its exit code.

    ``arguments`` are passed on to JupyterLab.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise require_extra("jupyterlab", "lab", "opening the notebooks")
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}"]
    if not browser:
        command.append("--no-browser")
    start = folder / page
    if start.exists():
        command.append(f"--LabApp.default_url=/lab/tree/{start.name}")
    command += arguments
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 0
