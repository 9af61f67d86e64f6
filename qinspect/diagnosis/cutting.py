"""The first cut of each quantized file of a case, before any cause is asked about."""

from __future__ import annotations

from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import some_examples
from qinspect.errors import QinspectError
from qinspect.measure.first_cut import FirstCut, apart, enough, first_cut, halves


def first_cuts(evidence: Evidence) -> tuple[FirstCut, ...]:
    """Weights against activations of the PTQ and of the QAT file, where there is a float one."""
    roles = evidence.case.roles
    if "float" not in roles:
        return ()
    return tuple(_cut(evidence, role) for role in roles if role != "float")


def _cut(evidence: Evidence, role: str) -> FirstCut:
    whole = evidence.results(own=True)
    try:
        graph = evidence.graph("float")
        index = some_examples(evidence, enough(graph))
        found = halves(graph, evidence.graph(role), evidence.match("float", role))
        return first_cut(whole if index is None else whole.take(index), role, found, whole.n,
                         lambda made: evidence.scorable(evidence.answers(made, index), index))
    except QinspectError as error:  # a metric that a part of the examples does not have, say
        return first_cut(whole, role, apart(error), whole.n, evidence.answers)
