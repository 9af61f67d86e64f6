"""What is chosen, shared by all views of a dashboard: one layer, one channel, one example."""

from __future__ import annotations

import traitlets

# No single channel.
WHOLE = -1


class Selection(traitlets.HasTraits):
    """What a person looks at; each view shows it and changes it, and knows no other view.

    ``example`` is an id; a layer or example is empty where none was chosen yet.
    """

    layer = traitlets.Unicode("")
    channel = traitlets.Int(WHOLE)
    example = traitlets.Unicode("")
