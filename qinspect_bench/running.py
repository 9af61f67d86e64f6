"""Notebooks run from top to bottom in a fresh kernel."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

# Of one cell; no lesson comes near it.
_SECONDS = 1200


def run_notebook(notebook: Any, folder: Path, *, widgets: bool = False) -> None:
    """Run all cells with ``folder`` as working folder; outputs, and widgets, stay in it."""
    from nbclient import NotebookClient
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(prefix="qinspect-", ignore_cleanup_errors=True) as own:
        channel = Config()
        if os.name != "nt":
            # Kernels that start at once may take one TCP port; these files are its own, and
            # their path is short, as sockets want it.
            channel = Config({"KernelManager": {
                "transport": "ipc", "connection_file": f"{own}/kernel.json"}})
        NotebookClient(
            notebook, timeout=_SECONDS, startup_timeout=180, kernel_name="python3",
            store_widget_state=widgets, config=channel,
            resources={"metadata": {"path": str(folder)}},
        ).execute(env={**os.environ, "IPYTHONDIR": f"{own}/ipython"})
