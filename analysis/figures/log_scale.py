"""A log axis whose figures have the same bytes on every processor."""

from __future__ import annotations

import numpy as np
from matplotlib.scale import LogScale as MatplotlibLogScale
from matplotlib.scale import LogTransform
from numpy.typing import ArrayLike

DECIMALS = 9  # of logarithms to base 10: on an axis of one decade, less than a millionth of a point


class _RoundedLog(LogTransform):
    def transform_non_affine(self, values: ArrayLike) -> np.ndarray:
        return np.round(np.asanyarray(super().transform_non_affine(values)), DECIMALS)


class LogScale(MatplotlibLogScale):
    """A log axis with rounded logarithms.

    The last bits of NumPy's logarithm differ between processors. On an axis that spans 1 % they changed the tenth
    decimal of a tick's place in the PDF. Rounding is far below what is visible.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rounded = _RoundedLog(self.base)

    def get_transform(self) -> LogTransform:
        return self._rounded
