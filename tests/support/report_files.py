"""The reports of one study: its own, the comparison of its files, and the diagnosis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from show_study import write_study

from qinspect.comparisons import compare
from qinspect.diagnosis.cases import case
from qinspect.diagnosis.engine import diagnose
from qinspect.studies.run import load_splits


def write_reports(folder: Path, deeper: int = 0) -> dict[str, Path]:
    """Write a study and its reports; nothing is trained.

    Returns
    -------
    dict of str to Path
        ``study``, ``compare``, ``diagnose``: the HTML files.
    """
    study = write_study(folder / "study", deeper=deeper)
    test = load_splits(study.spec).test
    np.savez(folder / "test.npz", x=test.x, y=test.y)
    files = [study.file(arm) for arm in ("float", "ptq_int8", "qat")]
    found = compare(files, folder / "test.npz")
    answer = diagnose(case(study), interventions=False)
    return {
        "study": study.report(study.folder / "report.html"),
        "compare": found.report(study.folder / "compare.html"),
        "diagnose": answer.report(study.folder / "diagnosis.html"),
    }
