"""Descriptions of datasets and their variables, according to the CF conventions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import xarray as xr

CONVENTIONS = "CF-1.11"


class Words(NamedTuple):
    """The description of a variable, a coordinate or a dataset.

    It does not reach any array, so it renames no result: the fingerprint leaves out the arguments of this class.

    Attributes:
        long_name: a label for an axis, or the title of a dataset.
        description: how it was obtained, and what its special values mean.
        units: "1" for numbers, which are all dimensionless here; "" for text.
    """

    long_name: str
    description: str
    units: str = "1"

    def attributes(self) -> dict[str, str]:
        """The description as attributes of a variable."""
        return {name: text for name, text in self._asdict().items() if text}

    def of_dataset(self) -> dict[str, str]:
        """The description as attributes of a dataset."""
        return {"Conventions": CONVENTIONS, "title": self.long_name, "comment": self.description}


STEP = Words("step of training", "number of updates since the initialisation, before the measurement was made")


def describe(dataset: xr.Dataset, words: Mapping[str, Words]) -> xr.Dataset:
    """Adds the descriptions to the variables and coordinates of a dataset in place, and returns it."""
    for name, of_variable in words.items():
        dataset.variables[name].attrs.update(of_variable.attributes())
    return dataset
