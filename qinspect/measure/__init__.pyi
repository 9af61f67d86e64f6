from .activations import observe_ranges
from .perturbation import calibration_draws, perturbation_null
from .quantizers import quantize_numbers
from .ranges import choose_range

__all__ = ["calibration_draws", "choose_range", "observe_ranges", "perturbation_null",
           "quantize_numbers"]
