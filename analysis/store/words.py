"""What a dataset says about itself, after the CF conventions: the words of each variable and of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import xarray as xr

CONVENTIONS = "CF-1.11"


class Words(NamedTuple):
    """Words of a variable, a coordinate or a dataset.

    They reach no array, so they rename no result: the fingerprint leaves out the arguments of this class.

    Attributes:
        long_name: as a label of an axis has it; of a dataset, its title.
        description: how it was obtained, and what its special values mean.
        units: "1" for numbers, which are all dimensionless here; "" for text.
    """

    long_name: str
    description: str
    units: str = "1"

    def attributes(self) -> dict[str, str]:
        """As attributes of a variable."""
        return {name: text for name, text in self._asdict().items() if text}

    def of_dataset(self) -> dict[str, str]:
        """As attributes of a dataset."""
        return {"Conventions": CONVENTIONS, "title": self.long_name, "comment": self.description}


STEP = Words("step of training", "number of updates since the initialisation, before the measurement was made")


def describe(dataset: xr.Dataset, words: Mapping[str, Words]) -> xr.Dataset:
    """The dataset, whose variables and coordinates got their words in place."""
    for name, of_variable in words.items():
        dataset.variables[name].attrs.update(of_variable.attributes())
    return dataset
