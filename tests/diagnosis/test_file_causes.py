"""Causes that lie in the files: which is which, constants, branches, layers left in float."""

from __future__ import annotations

from diagnose_cases import calibration, case, int8, moved, ranges

from qinspect.causes import all_rules
from qinspect.diagnosis.cases import Case
from qinspect.diagnosis.engine import diagnose
from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.rule import Finding


def finding(name: str, given: Case) -> Finding:
    return all_rules()[name].check(Evidence(given))


# --- swapped-roles ----------------------------------------------------------------------------


def test_exchanged_files_without_a_record_are_told_by_their_weights() -> None:
    """No metadata: PTQ was fine-tuned, and QAT holds the float file's weights."""
    ptq, qat = int8(ranges(calibration())), moved(0.1, relu_below_zero=True)
    assert finding("swapped-roles", case(ptq, qat_graph=qat)).verdict == "ruled_out"
    found = diagnose(case(qat, qat_graph=ptq))
    assert (found.primary, found.proved) == ("swapped-roles", True)
    assert found.cause("swapped-roles").finding.facts["ptq_origin"] == "unknown"
    # Without the float file there is nothing left that tells.
    alone = case(qat, qat_graph=ptq, float_graph=None)
    assert finding("swapped-roles", alone).verdict == "ruled_out"


def test_an_earlier_checkpoint_is_another_network_and_not_exchanged() -> None:
    """It descends from the float file, and was quantized after training all the same."""
    found = diagnose(case(moved(0.5), qat_graph=int8(ranges(calibration()))))
    numbers = found.cause("different-network").finding.numbers
    assert numbers["float_ptq_lineage"] == "fine-tuned from"
    assert (found.primary, found.proved) == ("different-network", True)
    assert found.cause("swapped-roles").finding.verdict == "ruled_out"
