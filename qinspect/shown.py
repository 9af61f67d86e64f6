"""How results show themselves."""


class Shown:
    """A result that shows itself."""
