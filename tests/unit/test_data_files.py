"""Reading the published layouts: tiny files with a catalogue to match, and the real ones where they are."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr

from analysis.data import cifar, describe, load, mnist, sst2, wordpiece
from analysis.data.catalogue import CATALOGUE
from analysis.data.dataset import id_sha256, image_sha256, text_sha256
from analysis.data.pixel_statistics import pixel_statistics
from analysis.data.preprocess import id_tensors, token_tensors
from sharpflat.errors import InputError

REAL = Path(os.environ.get("DATA_DIR", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
real_data = pytest.mark.skipif(not REAL.is_dir(), reason="no real data: set DATA_DIR to a folder that has them")

MNIST_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")


def _pixels(*shape: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(1)).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def tiny_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Six training images of 3 × 2, of which "mnist5k" is the first four; returns those four."""
    images, labels = _pixels(6, 3, 2), np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / MNIST_FILES[0]).write_bytes(struct.pack(">4I", 2051, 6, 3, 2) + images.tobytes())
    (raw / MNIST_FILES[1]).write_bytes(struct.pack(">2I", 2049, 6) + labels.tobytes())
    entry = replace(describe("mnist5k"), examples=4, shape=(3, 2), sha256=image_sha256(images[:4], labels[:4]))
    monkeypatch.setitem(CATALOGUE, "mnist5k", entry)
    monkeypatch.setitem(mnist.PUBLISHED, "train", 6)
    return images[:4], labels[:4]


@pytest.fixture
def tiny_cifar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Five training images of 3 × 2 × 2, of which "cifar5k" is the first three; returns all five."""
    images, labels = _pixels(5, 3, 2, 2), np.array([9, 0, 2, 7, 7], dtype=np.uint8)
    (tmp_path / cifar.BINARY).mkdir()
    records = np.concatenate([labels[:, None], images.reshape(5, -1)], axis=1)
    (tmp_path / cifar.BINARY / "data_batch_1.bin").write_bytes(records.tobytes())
    entry = replace(describe("cifar5k"), examples=3, shape=(3, 2, 2), sha256=image_sha256(images[:3], labels[:3]))
    monkeypatch.setitem(CATALOGUE, "cifar5k", entry)
    monkeypatch.setattr(cifar, "RECORDS", 5)
    return images, labels


ROWS = [("a fine film ", 1), ("so dull\u2028so long", 0), ("naïve ", 1), ("good", 1)]


@pytest.fixture
def tiny_sst(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Four training sentences, of which "sst1k" is the first three."""
    path = tmp_path / "SST-2" / "train.tsv"
    path.parent.mkdir()
    path.write_text("sentence\tlabel\n" + "".join(f"{s}\t{label}\n" for s, label in ROWS), encoding="utf-8")
    sentences, labels = [s.strip() for s, _ in ROWS[:3]], [label for _, label in ROWS[:3]]
    monkeypatch.setitem(
        CATALOGUE, "sst1k", replace(describe("sst1k"), examples=3, sha256=text_sha256(sentences, labels))
    )
    monkeypatch.setitem(sst2.PUBLISHED_ROWS, "train", 4)
    return path


def _load(name: str, folder: Path) -> xr.Dataset:
    return load(name, data_dir=folder, download=False)


def _message(name: str, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        _load(name, folder)
    return str(caught.value)


# MNIST


def test_mnist_unpacked_and_packed_are_the_same(tiny_mnist: tuple[np.ndarray, ...], tmp_path: Path) -> None:
    ds = _load("mnist5k", tmp_path)
    np.testing.assert_array_equal(ds["inputs"], tiny_mnist[0])
    np.testing.assert_array_equal(ds["labels"], tiny_mnist[1])
    assert ds["inputs"].dims == ("example", "row", "column")
    assert ds.attrs["source"] == "files in MNIST/raw"
    assert ds["inputs"].values.flags.owndata  # no view of the whole file
    for name in MNIST_FILES:
        path = tmp_path / "MNIST" / "raw" / name
        path.with_name(f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        xr.testing.assert_identical(_load("mnist5k", tmp_path), ds)


@pytest.mark.usefixtures("tiny_mnist")
@pytest.mark.parametrize(("name", "expected"), [(MNIST_FILES[0], 52), (MNIST_FILES[1], 14)])
@pytest.mark.parametrize("kept", [0, 5, 13])
def test_mnist_cut_short(name: str, expected: int, kept: int, tmp_path: Path) -> None:
    path = tmp_path / "MNIST" / "raw" / name
    path.write_bytes(path.read_bytes()[:kept])
    assert _message("mnist5k", tmp_path) == (
        f"{path}: cut short. Found {kept} bytes, expected {expected}. Remove the file; the next run downloads it again."
    )


@pytest.mark.usefixtures("tiny_mnist")
def test_mnist_packed_cut_short_damaged_or_too_long(tmp_path: Path) -> None:
    path = tmp_path / "MNIST" / "raw" / MNIST_FILES[0]
    content = path.read_bytes()
    path.unlink()
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(content)[:-9])
    assert _message("mnist5k", tmp_path).startswith(f"{packed}: cut short. Found ")
    assert "bytes unpacked, expected 52." in _message("mnist5k", tmp_path)
    packed.write_bytes(b"no gzip")
    assert _message("mnist5k", tmp_path).startswith(f"{packed}: damaged (Not a gzipped file")
    packed.write_bytes(gzip.compress(content + b"x"))
    assert "too long. Found 53 bytes or more unpacked, expected 52." in _message("mnist5k", tmp_path)


@pytest.mark.usefixtures("tiny_mnist")
def test_mnist_wrong_header(tmp_path: Path) -> None:
    path = tmp_path / "MNIST" / "raw" / MNIST_FILES[1]
    path.write_bytes(b"\0\0\x08\x03" + path.read_bytes()[4:])
    assert _message("mnist5k", tmp_path) == (
        f"{path}: not the IDX file of this name: it starts with 0000080300000006, expected 0000080100000006. "
        "Remove the file; the next run downloads it again."
    )


@pytest.mark.parametrize("name", MNIST_FILES)
def test_mnist_one_changed_byte_is_refused(name: str, tiny_mnist: tuple[np.ndarray, ...], tmp_path: Path) -> None:
    path = tmp_path / "MNIST" / "raw" / name
    content = bytearray(path.read_bytes())
    content[17 if "images" in name else 9] ^= 1
    path.write_bytes(content)
    expected = image_sha256(*tiny_mnist)
    message = _message("mnist5k", tmp_path)
    found = message.split("found:    ")[1][:64]
    assert found != expected
    assert message == (
        f"{tmp_path / 'MNIST/raw/train-images-idx3-ubyte'}, train-labels-idx1-ubyte: "
        "not the data of MNIST-5k (mnist5k).\n"
        f"  SHA-256 found:    {found}\n  SHA-256 expected: {expected}\n"
        "  Remove these files; the next run downloads them again."
    )


# CIFAR-10


def test_cifar_binary(tiny_cifar: tuple[np.ndarray, ...], tmp_path: Path) -> None:
    ds = _load("cifar5k", tmp_path)
    np.testing.assert_array_equal(ds["inputs"], tiny_cifar[0][:3])
    np.testing.assert_array_equal(ds["labels"], tiny_cifar[1][:3])
    assert ds["inputs"].dims == ("example", "channel", "row", "column")
    assert ds.attrs["source"] == "files in cifar-10-batches-bin"


@pytest.mark.usefixtures("tiny_cifar")
@pytest.mark.parametrize(("change", "problem"), [(-1, "cut short"), (-65, "cut short"), (13, "too long")])
def test_cifar_of_wrong_size(change: int, problem: str, tmp_path: Path) -> None:
    path = tmp_path / cifar.BINARY / "data_batch_1.bin"
    path.write_bytes((path.read_bytes() + bytes(13))[: 65 + change])
    assert _message("cifar5k", tmp_path) == (
        f"{path}: {problem}. Found {65 + change} bytes, expected 65. "
        "Remove this file; the next run downloads the data again."
    )


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes bytes as Python 2 did its strings, which is what the published files hold."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self, value: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(value)) + value)

    dispatch[bytes] = save_bytes


def _python2(path: Path, value: object) -> str:
    with path.open("wb") as file:
        _Python2Pickler(file, protocol=2).dump(value)
    # Where numpy's code lay when the files were written.
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("writer", ["python 2", "python 3"])
def test_cifar_python_layout(
    writer: str, tiny_cifar: tuple[np.ndarray, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = _load("cifar5k", tmp_path)
    (tmp_path / cifar.BINARY / "data_batch_1.bin").unlink()
    (tmp_path / cifar.PYTHON).mkdir()
    path = tmp_path / cifar.PYTHON / "data_batch_1"
    images, labels = tiny_cifar
    text = "training batch 1 of 5"
    if writer == "python 2":
        batch = {b"data": images.reshape(5, -1), b"labels": labels.tolist(), b"batch_label": text.encode()}
        md5 = _python2(path, batch)
        assert b"numpy.core" in path.read_bytes()
        assert b"_codecs" not in path.read_bytes()
    else:
        path.write_bytes(pickle.dumps({"data": images.reshape(5, -1), "labels": labels.tolist()}, protocol=2))
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(cifar.PYTHON_MD5, "data_batch_1", md5)
    ds = _load("cifar5k", tmp_path)
    assert ds.attrs.pop("source") == "files in cifar-10-batches-py"
    del binary.attrs["source"]
    xr.testing.assert_identical(ds, binary)


@pytest.mark.usefixtures("tiny_cifar")
def test_cifar_python_layout_needs_its_md5_before_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / cifar.BINARY / "data_batch_1.bin").unlink()
    (tmp_path / cifar.PYTHON).mkdir()
    path = tmp_path / cifar.PYTHON / "data_batch_1"
    path.write_bytes(b"anything")
    monkeypatch.setattr(cifar, "_ArrayUnpickler", lambda *_, **__: pytest.fail("opened"))
    assert _message("cifar5k", tmp_path) == (
        f"{path}: not the published file, or cut short (8 bytes). It was not opened.\n"
        f"  MD5 found:    {hashlib.md5(b'anything').hexdigest()}\n"
        "  MD5 expected: c99cafc152244af753f735de768cd75f\n"
        "  Remove this file; the next run downloads the data again."
    )


class _Evil:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.usefixtures("tiny_cifar")
def test_cifar_pickle_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with the right MD5, a pickle can only yield numpy arrays."""
    (tmp_path / cifar.BINARY / "data_batch_1.bin").unlink()
    (tmp_path / cifar.PYTHON).mkdir()
    path = tmp_path / cifar.PYTHON / "data_batch_1"
    target = tmp_path / "created"
    for evil in (_Evil(os.mkdir, str(target)), _Evil(eval, "1"), _Evil(np.load, "x")):
        path.write_bytes(pickle.dumps({"data": evil}, protocol=2))
        monkeypatch.setitem(cifar.PYTHON_MD5, "data_batch_1", hashlib.md5(path.read_bytes()).hexdigest())
        assert "is not allowed" in _message("cifar5k", tmp_path)
        assert not target.exists()


# SST-2


def test_sst(tiny_sst: Path, tmp_path: Path) -> None:
    ds = _load("sst1k", tmp_path)
    assert ds["sentences"].values.tolist() == ["a fine film", "so dull\u2028so long", "naïve"]
    assert ds["labels"].values.tolist() == [1, 0, 1]
    assert ds.attrs["source"] == "files in SST-2"
    ds.to_netcdf(tmp_path / "again.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "again.nc", engine="netcdf4") as again:
        xr.testing.assert_identical(again.load(), ds)
    tiny_sst.write_bytes(tiny_sst.read_bytes().replace(b"\n", b"\r\n"))
    xr.testing.assert_identical(_load("sst1k", tmp_path), ds)


@pytest.mark.parametrize(("kept", "rows"), [(45, 1), (34, 1), (17, 0), (15, 0), (14, 0)])
def test_sst_cut_short(kept: int, rows: int, tiny_sst: Path, tmp_path: Path) -> None:
    tiny_sst.write_bytes(tiny_sst.read_bytes()[:kept])
    assert _message("sst1k", tmp_path) == (
        f"{tiny_sst}: cut short. Found {rows} sentences in {kept} bytes, expected 4 sentences. "
        "Remove this file; the next run downloads it again."
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("so dull", "so\tdull", ", line 3: found 'so\\tdull\\u2028so long\\t0', expected a sentence, a tab"),
        ("\t0", "\t2", ", line 3: found 'so dull\\u2028so long\\t2', expected a sentence, a tab"),
        ("sentence\t", "text\t", ", line 1: found 'text\\tlabel', expected 'sentence\\tlabel'."),
    ],
)
def test_sst_malformed(old: str, new: str, message: str, tiny_sst: Path, tmp_path: Path) -> None:
    tiny_sst.write_text(tiny_sst.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    assert _message("sst1k", tmp_path).startswith(f"{tiny_sst}{message}")


def test_sst_not_text(tiny_sst: Path, tmp_path: Path) -> None:
    tiny_sst.write_bytes(tiny_sst.read_bytes().replace(b"fine", b"\xff\xfe"))
    assert _message("sst1k", tmp_path).startswith(f"{tiny_sst}: not UTF-8 text")


def test_sst_changed_word_is_refused(tiny_sst: Path, tmp_path: Path) -> None:
    tiny_sst.write_bytes(tiny_sst.read_bytes().replace(b"fine", b"Fine"))
    message = _message("sst1k", tmp_path)
    assert message.startswith(f"{tiny_sst}: not the data of SST2-1k (sst1k).\n  SHA-256 found: ")
    assert CATALOGUE["sst1k"].sha256 in message


# WordPiece

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fine", "film", "so", "du", "##ll", "long", "naive")
IDS = [[2, 5, 6, 7, 3, 0, 0, 0], [2, 8, 9, 10, 8, 11, 3, 0], [2, 12, 3, 0, 0, 0, 0, 0]]


@pytest.fixture
def tiny_wordpiece(tiny_sst: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vocabulary for the three sentences, whose ids have eight positions."""
    path = tiny_sst.with_name("bert-base-uncased-vocab.txt")
    path.write_text("\n".join(VOCABULARY), encoding="utf-8")
    monkeypatch.setattr(wordpiece, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    sha256 = id_sha256(np.array(IDS), np.array([1, 0, 1]))
    entry = replace(describe("sst1k-wordpiece"), examples=3, shape=(8,), sha256=sha256)
    monkeypatch.setitem(CATALOGUE, "sst1k-wordpiece", entry)
    return path


@pytest.mark.usefixtures("tiny_wordpiece")
def test_wordpiece_ids_by_hand(tmp_path: Path) -> None:
    ds = _load("sst1k-wordpiece", tmp_path)
    assert ds["ids"].values.tolist() == IDS  # accents and case are gone
    assert ds["labels"].values.tolist() == [1, 0, 1]
    assert (ds.attrs["vocabulary"], ds.attrs["source"]) == (30522, "files in SST-2")
    ds.to_netcdf(tmp_path / "again.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "again.nc", engine="netcdf4") as again:
        xr.testing.assert_identical(again.load(), ds)


def test_another_vocabulary_is_refused(tiny_wordpiece: Path, tmp_path: Path) -> None:
    tiny_wordpiece.write_text("[PAD]\n", encoding="utf-8")
    message = _message("sst1k-wordpiece", tmp_path)
    assert message.startswith(f"{tiny_wordpiece}: not the published vocabulary.\n  SHA-256 found:    ")
    assert wordpiece.SHA256 in message


def test_other_ids_are_refused(tiny_wordpiece: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fine", "a", *VOCABULARY[7:])
    tiny_wordpiece.write_text("\n".join(swapped), encoding="utf-8")
    monkeypatch.setattr(wordpiece, "SHA256", hashlib.sha256(tiny_wordpiece.read_bytes()).hexdigest())
    message = _message("sst1k-wordpiece", tmp_path)
    assert message.startswith(f"{tiny_wordpiece}: not the data of SST2-1k (WordPiece) (sst1k-wordpiece).\n")
    assert "use the locked dependencies" in message


def test_a_missing_vocabulary_is_asked_for(tiny_wordpiece: Path, tmp_path: Path) -> None:
    tiny_wordpiece.unlink()
    assert _message("sst1k-wordpiece", tmp_path) == (
        "SST2-1k (WordPiece) (sst1k-wordpiece): no data, and downloading is off.\n"
        f"  Looked for:\n    {tiny_wordpiece}\n"
        f"  What to do: get {wordpiece.URL}, unpack it, and put the files there by hand, or allow downloading.\n"
        "  The quick profile needs no download."
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tiny_sst: Path, tmp_path: Path) -> None:
    tiny_sst.chmod(0)
    assert _message("sst1k", tmp_path) == f"{tiny_sst}: cannot be read (Permission denied)."


def test_unreadable_file_by_stub(tiny_sst: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert _message("sst1k", tmp_path) == f"{tiny_sst}: cannot be read (Permission denied)."


# the real files


@real_data
@pytest.mark.parametrize(
    "name", ["mnist5k", "mnist-test", "cifar5k", "cifar-test", "sst1k", "sst-dev", "sst1k-wordpiece"]
)
def test_real_files(name: str, tmp_path: Path) -> None:
    entry, ds = describe(name), _load(name, REAL)
    assert ds.sizes["example"] == entry.examples
    assert str(REAL) not in str(ds.attrs)
    ds.to_netcdf(tmp_path / "again.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "again.nc", engine="netcdf4") as again:
        xr.testing.assert_identical(again.load(), ds)


@real_data
def test_pixel_statistics_of_all_of_cifar() -> None:
    """Equal to those of the five batches; where there is but the first, as near as 10,000 of 50,000 images can be."""
    paths = [REAL / cifar.BINARY / f"data_batch_{number}.bin" for number in range(1, 6)]
    there = [path for path in paths if path.is_file()]
    pixels = np.concatenate([cifar._read_binary(path, (3, 32, 32))[0] for path in there])
    found, found_deviation = pixels.mean(axis=0) / 255, pixels.std(axis=0) / 255
    mean, deviation = pixel_statistics("cifar10")
    error = 0 if there == paths else 5 * deviation / np.sqrt(len(pixels))
    assert (abs(found - mean) <= error + 1e-12).all()
    assert (abs(found_deviation - deviation) <= error + 1e-12).all()


@real_data
def test_real_sst_is_what_its_page_says() -> None:
    train = _load("sst1k", REAL)
    assert int(train["labels"].sum()) == 542
    ids, _, vocabulary = token_tensors(train, _load("sst-dev", REAL), 51)
    assert ids.shape == (1000, 51)
    assert len(vocabulary) == 2 + 2968
    with pytest.raises(InputError, match="has a sentence of 51 words, more than max_length = 50"):
        token_tensors(train, train, 50)


@real_data
def test_real_wordpiece_ids_are_what_their_page_says() -> None:
    train, test = _load("sst1k-wordpiece", REAL), _load("sst-dev-wordpiece", REAL)
    ids, test_ids = id_tensors(train, test, 66)
    found = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
    assert found == "dae0784d029b366150fe047fa59a150d6a92af7e5e22c425f9bc9248c966cc3a"
    assert (ids.shape, test_ids.shape) == ((1000, 66), (872, 66))
    lengths = (ids != 0).sum(1)
    assert (int(lengths.max()), round(float(lengths.double().mean()), 1)) == (56, 13.3)
    assert len(ids.unique()) == 3253  # the padding is one of them
    assert not bool((ids == 100).any())  # [UNK]
    with pytest.raises(InputError, match="has a sentence of 56 ids, more than max_length = 55"):
        id_tensors(train, test, 55)


@real_data
def test_real_mnist_packed_gives_the_same(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        content = (REAL / "MNIST" / "raw" / part).read_bytes()
        (raw / f"{part}.gz").write_bytes(gzip.compress(content, compresslevel=1))
    xr.testing.assert_identical(_load("mnist-test", tmp_path), _load("mnist-test", REAL))
