"""What quantization does to ranges, weights, activations, layers and outputs of files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
