from .ranges import choose_range

__all__ = ["choose_range"]
