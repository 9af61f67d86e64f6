"""The reports of one study: its own, the comparison of its files, and the diagnosis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from show_study import write_study

from qinspect.comparisons import compare
from qinspect.diagnosis.cases import case as make_case
from qinspect.diagnosis.engine import diagnose
from qinspect.show.compare_table import write_compare_report
from qinspect.show.diagnosis import write_diagnosis_report
from qinspect.show.layer_tables import compared_layer_tables
from qinspect.show.report import write_study_report
from qinspect.studies.run import load_splits
from qinspect.tflite.inputs import Preprocessing


def write_reports(folder: Path, deeper: int = 0) -> dict[str, Path]:
    """Write a study and its reports; nothing is trained.

    Returns
    -------
    dict of str to Path
        ``study``, ``compare``, ``diagnose``: the HTML files.
    """
    study = write_study(folder / "study", deeper=deeper)
    (folder / "compare").mkdir()
    test = load_splits(study.spec).test
    np.savez(folder / "test.npz", x=test.x, y=test.y)
    files = [study.file(arm) for arm in ("float", "ptq_int8", "qat")]
    found = compare(files, folder / "test.npz").to_json()
    tables = compared_layer_tables(files, folder / "test.npz", [Preprocessing()] * 3)
    case = make_case(study)
    answer = diagnose(case, interventions=False).to_json()
    return {
        "study": write_study_report(study),
        "compare": write_compare_report(found, folder / "compare" / "report.html", tables),
        "diagnose": write_diagnosis_report(
            answer, case.name, study.folder / "diagnosis.html", case
        ),
    }
