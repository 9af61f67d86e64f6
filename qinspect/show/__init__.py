"""Show results: figures, tables, the terminal, notebook cells, reports, widgets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules=["figures", "widgets"],
    submod_attrs={"figure": ["Figure"], "style": ["COLOURS", "INK"], "table": ["Table"],
                  "widgets": ["ObserverPlayer", "QuantizationPlayground"]},
)
