from .ancestry import lineage
from .constants import constant, dequantized
from .identity import Inspections, identify, inspect, inspect_file, scheme_of
from .keras_file import read_keras
from .match import match_graphs
from .read import read_graph
from .run import evaluate
from .sandbox import ensure_runs, probe

__all__ = [
    "Inspections", "constant", "dequantized", "ensure_runs", "evaluate", "identify", "inspect",
    "inspect_file", "lineage", "match_graphs", "probe", "read_graph", "read_keras", "scheme_of",
]
