"""How well qinspect does: known faults and its score on them, and comparisons of recipes."""
