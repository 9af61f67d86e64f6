"""Single rows of a frame as plain dicts, for the sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def least(frame: pd.DataFrame, column: str) -> dict[str, Any]:
    """The first row with the least value of ``column``; NaN is passed over."""
    return _row(frame, int(np.nanargmin(frame[column].to_numpy(dtype=float))))


def most(frame: pd.DataFrame, column: str) -> dict[str, Any]:
    """The first row with the greatest value of ``column``; NaN is passed over."""
    return _row(frame, int(np.nanargmax(frame[column].to_numpy(dtype=float))))


def _row(frame: pd.DataFrame, at: int) -> dict[str, Any]:
    return {str(key): value for key, value in frame.iloc[at].to_dict().items()}
