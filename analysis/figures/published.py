"""Numbers printed in the papers, for comparison with ours. Nothing is computed or tuned from them."""

from __future__ import annotations

from typing import NamedTuple


class PublishedRates(NamedTuple):
    """Effective learning rates of one method: mean and standard deviation over the first 1,000 steps."""

    dom_mean: float
    dom_std: float
    bulk_mean: float
    bulk_std: float


class PublishedTable(NamedTuple):
    """A table of Song, Ahn, Yun: its number, what was trained, and its rows by method."""

    number: int
    ran: str
    rates: dict[str, PublishedRates]


# Momentum is β = 0.9 in the rows (+m). The minus sign is U+2212, as in the runs' labels.
EFFECTIVE_RATES: dict[str, PublishedTable] = {
    "song-table1": PublishedTable(
        1,
        "Transformer on SST2-1k, GD lr 0.01, Adam lr 0.001",
        {
            "GD(−m)": PublishedRates(0.0100, 0.0000, 0.0100, 0.0000),
            "GD(+m)": PublishedRates(0.0070, 0.0232, 0.0828, 0.0576),
            "Adam(−m)": PublishedRates(0.0325, 0.0054, 0.4672, 0.3555),
            "Adam(+m)": PublishedRates(0.0004, 0.0101, 2.6639, 1.2480),
        },
    ),
    "song-table2": PublishedTable(
        2,
        "MLP on MNIST-5k, GD lr 0.01, Adam lr 0.001",
        {
            "GD(−m)": PublishedRates(0.0100, 0.0000, 0.0100, 0.0000),
            "GD(+m)": PublishedRates(0.0012, 0.0092, 0.1005, 0.0068),
            "Adam(−m)": PublishedRates(0.3317, 0.0571, 0.4021, 0.0868),
            "Adam(+m)": PublishedRates(0.0356, 0.0194, 0.7301, 0.4717),
        },
    ),
    "song-table3": PublishedTable(
        3,
        "CNN on CIFAR10-5k, GD lr 0.001, Adam lr 0.0001",
        {
            "GD(−m)": PublishedRates(0.0010, 0.0000, 0.0010, 0.0000),
            "GD(+m)": PublishedRates(0.0010, 0.0023, 0.0101, 0.0007),
            "Adam(−m)": PublishedRates(0.0191, 0.0020, 0.0289, 0.0053),
            "Adam(+m)": PublishedRates(0.0046, 0.0026, 0.0802, 0.0194),
        },
    ),
}

# The table that is shown next to a setting's own numbers.
TABLE_OF_SETTING = {"transformer": "song-table1", "mlp": "song-table2", "cnn": "song-table3"}


def effective_rates_of(setting: str) -> PublishedTable | None:
    """The published table of a setting; None if the paper has none."""
    name = TABLE_OF_SETTING.get(setting)
    return None if name is None else EFFECTIVE_RATES[name]
