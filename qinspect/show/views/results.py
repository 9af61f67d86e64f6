"""Results: what each model is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qinspect.show import figures, text
from qinspect.show.view import View
from qinspect.show.views.comparisons import model_table

if TYPE_CHECKING:
    from qinspect.predictions import Results
    from qinspect.show.figure import Figure


def view(found: Results) -> View:
    """The view of results."""
    names = text.short_names(found.models)

    def forest() -> Figure:
        rows = found.frame
        return figures.accuracy_forest(rows.assign(model=rows["model"].map(names)))

    return View(f"Results of {len(found.models)} models", (found.sentence,),
                (model_table(found, names),), {"accuracy": forest}, notes=found.notes,
                names=names, explore=lambda: _explore(found))


def _explore(found: Results) -> Any:
    from qinspect.show.widgets import SignificanceExplorer

    return SignificanceExplorer(found)
