"""qinspect: why is the quantized model better, or worse, than it should be?

Names are loaded on first use, so importing the package costs next to nothing and never imports
TensorFlow or even NumPy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
