"""Eigenvectors followed along a run by their overlaps (`analysis.training.probes.tracks`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_OVERLAP = 0.5  # squared cosine; more than half of a vector can lie in only one other vector


def follow(overlaps: NDArray[np.float64], first: int = 0) -> NDArray[np.int64]:
    """The position of each followed eigenvector among the descending eigenvalues, [measurement, track]; -1 if it was
    lost.

    Args:
        overlaps: [measurement, now, before].
        first: measurement at which the tracks begin, in the order of their eigenvalues. Earlier rows are -1.
    """
    count = overlaps.shape[-1]
    places = np.full(overlaps.shape[:2], -1, dtype=np.int64)
    places[first] = np.arange(count)
    for row in range(first + 1, len(overlaps)):
        for track in np.flatnonzero(places[row - 1] >= 0):
            column = overlaps[row, :, places[row - 1, track]]
            best = int(np.argmax(column))
            if column[best] > LEAST_OVERLAP:
                places[row, track] = best
    return places
