"""Log axes: their numbers, and logarithms that give figures the same bytes on every processor."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.scale import LogScale as MatplotlibLogScale
from matplotlib.scale import LogTransform
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

DECIMALS = 9  # of logarithms to base 10: on an axis of one decade, less than a millionth of a point
TICKS: tuple[tuple[float, tuple[float, ...]], ...] = (  # for axes of more than such a range: ticks in each decade
    (1e4, (1,)),
    (8, (1, 2, 5)),
    (2.5, (1, 1.5, 2, 3, 4, 5, 6, 8)),
    (0, (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)),
)


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


def tick(value: float, low: float, high: float) -> str:
    """A number at a tick: in full, or with a power of ten if numbers are long on the axis from `low` to `high`."""
    if value == 0 or (low >= 5e-4 and high <= 2e6):
        return f"{value:,g}"
    mantissa, exponent = f"{value:.5e}".split("e")
    factor = "" if float(mantissa) == 1 else rf"{float(mantissa):g}\times"
    return f"${factor}10^{{{int(exponent)}}}$"


def log_axis(axes: Axes) -> None:
    """A vertical log axis with numbers at some of its ticks, even if it spans less than a decade."""
    axes.set_yscale(LogScale())
    low, high = axes.get_ylim()
    subs = next(subs for span, subs in TICKS if high / low > span)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: tick(value, *axes.get_ylim())))
    axes.yaxis.set_minor_formatter(NullFormatter())
