"""The first cut of each quantized file of a case, before any cause is asked about."""

from __future__ import annotations

from qinspect.diagnosis.evidence import Evidence
from qinspect.diagnosis.requantized import some_examples
from qinspect.errors import QinspectError
from qinspect.measure.first_cut import FirstCut, enough, first_cut, halves


def first_cuts(evidence: Evidence) -> tuple[FirstCut, ...]:
    """Weights against activations of the PTQ and of the QAT file, where there is a float one."""
    roles = evidence.case.roles
    if "float" not in roles:
        return ()
    return tuple(_cut(evidence, role) for role in roles if role != "float")


def _cut(evidence: Evidence, role: str) -> FirstCut:
    graph, quantized = evidence.graph("float"), evidence.graph(role)
    index = some_examples(evidence, enough(graph))
    found = halves(graph, quantized, evidence.match("float", role))
    results = evidence.results(own=True)
    total = results.n
    if index is not None:
        results = results.take(index)
    answers = {}
    notes = list(found.notes)
    for part, made in found.graphs.items():
        try:
            answers[part] = evidence.scorable(evidence.answers(made, index), index)
        except QinspectError as error:
            notes.append(f"{part}: {error}")
    return first_cut(results.with_outputs(**answers), role, found, total, tuple(notes))
