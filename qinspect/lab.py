"""Copy the notebooks to a working folder, keep the learner's edits, and start JupyterLab."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

from qinspect.errors import StoreError, require_extra

_MANIFEST = ".qinspect-notebooks.json"


def notebook_sources() -> dict[str, bytes]:
    """Content of the notebooks that ship with qinspect, by file name.

    Raises
    ------
    StoreError
        If this installation has none.
    """
    checkout = Path(__file__).resolve().parents[1] / "notebooks"
    if checkout.is_dir():
        return {path.name: path.read_bytes() for path in sorted(checkout.glob("*.ipynb"))}
    try:
        shipped = resources.files("qinspect.notebooks")
    except ModuleNotFoundError as error:
        raise StoreError("this installation of qinspect has no notebooks; install it again.") from (
            error
        )
    found = [item for item in shipped.iterdir() if item.name.endswith(".ipynb")]
    return {item.name: item.read_bytes() for item in sorted(found, key=lambda item: item.name)}


def copy_notebooks(folder: Path) -> list[str]:
    """Copy the notebooks into ``folder``; a notebook that was edited there is left alone.

    Parameters
    ----------
    folder : Path
        Working folder, made if it is missing.

    Returns
    -------
    list of str
        One line a notebook: copied, updated, kept.

    Raises
    ------
    StoreError
        If the folder cannot be written.
    """
    manifest_path = folder / _MANIFEST
    lines = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            copied = json.loads(manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            copied = {}
        for name, content in notebook_sources().items():
            target = folder / name
            digest = hashlib.sha256(content).hexdigest()
            if not target.exists():
                target.write_bytes(content)
                lines.append(f"copied {target}")
            else:
                present = hashlib.sha256(target.read_bytes()).hexdigest()
                if present == digest:
                    pass
                elif present == copied.get(name):
                    # Untouched since an older version put it there.
                    target.write_bytes(content)
                    lines.append(f"updated {target}")
                else:
                    lines.append(f"kept your edited {target}")
                    continue
            copied[name] = digest
        manifest_path.write_text(json.dumps(copied, indent=1), encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot write the notebooks to {str(folder)!r}: {error.strerror}; choose another "
            "folder."
        ) from error
    return lines


def start_lab(folder: Path, *, browser: bool = True) -> int:
    """Run JupyterLab on ``folder`` until it is stopped; returns its exit code.

    Raises
    ------
    MissingExtraError
        If JupyterLab is not installed.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise require_extra("jupyterlab", "lab", "opening the notebooks")
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}"]
    if not browser:
        command.append("--no-browser")
    start = folder / "00_start_here.ipynb"
    if start.exists():
        command.append(f"--LabApp.default_url=/lab/tree/{start.name}")
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 0
