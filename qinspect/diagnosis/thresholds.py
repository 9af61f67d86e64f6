"""Every number that decides a verdict of the diagnosis, in one place, with where it comes from.

``measured`` means: seen on the project's own studies and on the files of the MLPerf Tiny networks;
``chosen`` means: a convention that no measurement stands behind yet.
"""

from __future__ import annotations

# --- gaps and interventions -------------------------------------------------------------------

# A gap below this many points is not one that a person would claim; chosen.
NOTICEABLE_PP = 0.5
# An intervention closes a significant part of the gap from this share on; chosen.
CLOSED_SHARE = 0.3
# PTQ is asked about instead of QAT - PTQ when it loses this much to float; chosen, the default
# equivalence margin of a study.
PTQ_LOSS_PP = 1.0

# --- evaluation -------------------------------------------------------------------------------

# Predictions of one file on the same examples agree at least this much on different machines and
# kernels; measured 0.995 and more between default and reference kernels.
SAME_PREDICTIONS = 0.99
# A known mistake explains claimed predictions when it reproduces this share of them; chosen.
REPRODUCED = 0.97
# Claimed predictions with the same number of each class, but agreeing less than this, have lost
# their order; chosen.
REORDERED = 0.95
# Flips between kernels above this share of examples; measured 0 to 0.5 % on healthy files.
KERNEL_FLIPS = 0.01
# Tied outputs above this share of examples; measured up to 1.1 % on healthy files with softmax.
TIE_SHARE = 0.03
# A label offset or permutation is certain when it explains this share of predictions; chosen.
RELABELLED = 0.95

# --- networks ---------------------------------------------------------------------------------

# Median channel cosine that separates one lineage from strangers; measured in docs/lineage.md.
LINEAGE_COSINE = 0.6

# --- ranges -----------------------------------------------------------------------------------

# Bits of an 8-bit activation left unused, median over layers; measured: PTQ 0 to 0.3, QAT from
# default observers after 113 to 375 steps 1 and more.
STALE_BITS = 0.7
# Share of values beyond the stored range in the worst layer from which clipping matters; chosen.
CLIPPED_SHARE = 0.01
# Stored range of a calibrated file against the range seen: wider by this factor points to
# outliers (one bit), narrower by this one to too few or other examples; chosen.
WIDE_RATIO = 2.0
NARROW_RATIO = 0.9
# Width of the typical calibration example over that of the typical evaluation example: outside
# of 1 / this to this, the whole set is in other units; chosen.
UNITS_RATIO = 1.5
# Share of layers that must be so narrow or wide; chosen.
LAYER_SHARE = 0.3
# Stored and recomputed ranges agree to this relative width when the set was used; measured 1e-3
# between LiteRT and the converter's calibrator, the margin is chosen.
SAME_RANGE = 0.05
# A range is as narrow as that of so few evaluation examples; chosen.
FEW_EXAMPLES = 16
# Batch-norm statistics against re-estimated ones, in standard deviations (means) and as a ratio
# (standard deviations), medians over channels; measured: 0.01 and 1.00 after 12 epochs on digits,
# 0.09 to 0.11 and 1.05 after one epoch on Fashion-MNIST, where they cost 3 to 6 points.
BN_SHIFT = 0.04
BN_RATIO = 1.03

# --- training ---------------------------------------------------------------------------------

# Loss of the last epoch against the one before: falls by more than this share; chosen.
STILL_FALLING = 0.1
# A training loss (nats) below which its slope says nothing; chosen.
CONVERGED_LOSS = 0.05
# Share of the loss of guessing (the logarithm of the number of classes) above which a network has
# learned little, and the fall in the last epoch from which it is still learning; chosen after a
# case of the calibration half of the fault benchmark (0.92, falling by 0.06 in 22 steps).
UNLEARNED = 0.5
STILL_MOVING = 0.02
# QAT raised the training loss to this many times the float model's last one; chosen.
LOSS_RISE = 1.5
# Cosine between float and QAT kernels below which QAT moved the weights far; measured 0.978 and
# more after fine-tuning at sane learning rates.
MOVED_COSINE = 0.95

# --- weights ----------------------------------------------------------------------------------

# One scale for channels whose largest weights differ by this factor loses 4 of 8 bits; chosen.
CHANNEL_DISPARITY = 16.0
# SQNR in dB below which the weights of a channel carry little information; chosen.
CHANNEL_SQNR_DB = 12.0
# A stored bias at this share of 2**31 was clipped; the converter clips to the limit itself.
BIAS_LIMIT = 0.999
# Local SQNR of one layer below the median of the layers by so many dB, and in itself below the
# level at which classes change; chosen (measured layers of healthy int8 files: 29 dB and more).
SENSITIVE_DB = 6.0
SENSITIVE_LEVEL_DB = 25.0
# Levels of 256 that the typical channel of an activation gets, below which it is starved by the
# channels that set the range; measured on the calibration half of the fault benchmark: 107 and
# more in healthy networks, 4 and less where one channel was made to set the range.
STARVED_LEVELS = 16.0

# --- data -------------------------------------------------------------------------------------

# Kolmogorov-Smirnov distance between per-example ranges on two sets; chosen: two samples of 500
# from one distribution stay below 0.12 in all of 20 tensors with probability 0.98.  Measured on the
# calibration half of the fault benchmark: up to 0.12 in the hidden layers of healthy networks (up
# to 0.30 in their scores, which are left out), 0.11 to 0.84 with noise on the pixels.
SHIFT_DISTANCE = 0.2
# Points that choosing the best checkpoint on the test set gained; chosen.
OPTIMISM_PP = 0.2
# p-value of the gain against random perturbations of the weights; convention.
REGULARISATION_P = 0.05

# --- how much is measured ---------------------------------------------------------------------

RANGE_EXAMPLES = 1_000
REPRODUCED_EXAMPLES = 1_000
OWN_EXAMPLES = 256
KERNEL_EXAMPLES = 256
SENSITIVITY_EXAMPLES = 1_000
PERTURBATION_EXAMPLES = 1_000
PERTURBATION_DRAWS = 100
