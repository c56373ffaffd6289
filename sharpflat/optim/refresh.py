"""When the dominant subspace is refreshed: at fixed steps, or as often as an accuracy needs.

At a refresh, the old and the new subspace are both available. So the error of the old one is measured there, and the
next interval is chosen from it. To first order, a subspace turns in proportion to the number of steps. The relative
error of the filtered update, and √(1 − overlap), grow in the same way.

Intervals are odd. At the edge of stability, θ and the subspace return after two steps, and a refresh after an even
number of steps would see no change.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isfinite, isnan, nan, sqrt

from torch import Tensor

from sharpflat.arguments import check_counts
from sharpflat.errors import InputError

LONGEST = 99  # steps: a subspace that does not turn is checked again, since it may begin to turn


@dataclass(frozen=True)
class Refresh:
    """The results of one refresh of the dominant subspace.

    Attributes:
        step: the step at which it was made.
        eigenvalues: [k], descending.
        residual: the largest residual norm of the eigenpairs.
        overlap: the overlap with the previous subspace, in [0, 1]; NaN at the first refresh.
        products: number of Hessian products used.
        converged: whether the eigensolver reached its tolerance, or, with a bound on the update's error, was accurate
            enough for that.
        reason: why it did not converge; None if it did.
        interval: steps since the previous refresh; 0 at the first.
        error: relative error that this step's filtered update would have had with the previous subspace,
            ‖(F_new − F_old) u‖/‖F_new u‖; NaN at the first refresh.
        kept: whether the steps since the previous refresh met the requested accuracy; True if none was requested.
    """

    step: int
    eigenvalues: Tensor
    residual: float
    overlap: float
    products: int
    converged: bool
    reason: str | None = None
    interval: int = 0
    error: float = nan
    kept: bool = True


@dataclass(frozen=True)
class RefreshRule:
    """When to refresh: every n steps, or as often as a bound on the error or on the overlap needs.

    Exactly one of the three attributes is given.

    Attributes:
        every: steps from one refresh to the next. 1 is the papers' "at every step".
        error: largest allowed relative error of a filtered update, ‖(F_new − F_old) u‖/‖F_new u‖.
        overlap: smallest allowed overlap of the subspace in use with the one that a refresh would find.
    """

    every: int | None = None
    error: float | None = None
    overlap: float | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            InputError: not exactly one is given, or it is out of range.
        """
        if sum(given is not None for given in (self.every, self.error, self.overlap)) != 1:
            raise InputError("give exactly one of refresh_every, refresh_error and refresh_overlap")
        check_counts(refresh_every=self.every)
        if self.error is not None and not (_is_number(self.error) and self.error > 0):
            raise InputError(f"refresh_error must be a finite number above 0, not {self.error!r}")
        if self.overlap is not None and not (_is_number(self.overlap) and 0 < self.overlap < 1):
            raise InputError(f"refresh_overlap must be a number between 0 and 1, not {self.overlap!r}")

    @property
    def first(self) -> int:
        """The interval after the first refresh. It is one step, unless the interval is fixed."""
        return self.every or 1

    def enough(self, *, error: float, overlap: float, remaining: float) -> bool:
        """Whether a subspace is accurate enough if one more power step changes it by this error and overlap.

        `remaining` is the largest error after the step relative to its change: above 1 if λ_(k+1) > λ_k/2. Without
        it, a subspace that the steps hardly turn, since λ_k ≈ λ_(k+1), would count as accurate wherever it is.
        """
        turned, allowed = self._turned(error, overlap)
        return turned * max(1.0, remaining) <= allowed

    def _turned(self, error: float, overlap: float) -> tuple[float, float]:
        """What grows in proportion to a small rotation of the subspace, and how large it may be."""
        if self.overlap is not None:
            return sqrt(max(0.0, 1 - overlap)), sqrt(1 - self.overlap)
        assert self.error is not None
        return error, self.error

    def next(self, interval: int, planned: int, *, error: float, overlap: float) -> tuple[bool, int]:
        """Whether the steps since the last refresh met the requested accuracy, and the number of steps to the next one.

        The previous subspace was last used when it was at most planned − 1 steps old, and its error was then smaller
        in proportion. So an interval of 1 always meets the accuracy, because each of its steps had a new subspace.

        Args:
            interval: steps since the last refresh.
            planned: the interval that was planned. It is shorter if steps in between did not need the subspace.
            error: see `Refresh`.
            overlap: see `Refresh`.
        """
        if self.every is not None:
            return True, self.every
        turned, allowed = self._turned(error, overlap)
        each = turned / interval
        following = min(2 * min(interval, planned) + 1, LONGEST)
        if isnan(each):
            following = 1
        elif each * following > allowed:
            following = min(following, 1 + floor(allowed / each))
        return not each * (min(interval, planned) - 1) > allowed, following - (following % 2 == 0)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
