"""Networks, float training, post-training quantization and quantization-aware training.

The only room that imports TensorFlow, and it does so when a function is called: importing
``qinspect.train`` itself costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
