"""The forum's puzzle as a finished study, kept as results without its models.

Made by ``python -m qinspect_bench.forum_study data/forum_puzzle``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from qinspect import store
from qinspect.studies.run import study
from qinspect.studies.stored import RESULT_FILES

# Picked because PTQ is far above QAT with it, as in the forum; see ``data/README.md``.
SEED = 1
KEPT = (*RESULT_FILES, "objective.json", "steps/summary.json")


def make(folder: Path) -> None:
    """Train the study in a folder of its own, and copy what it says, not what it made."""
    with tempfile.TemporaryDirectory() as scratch:
        made = study("digits", preset="one-epoch", seed=SEED, repeats=1, out=scratch)
        kept = store.prepare_folder(folder, ("steps",))
        for name in KEPT:
            store.write_bytes(kept / name, (made.folder / name).read_bytes())


def main() -> None:
    """Write the study to the folder that the command names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)


if __name__ == "__main__":
    main()
