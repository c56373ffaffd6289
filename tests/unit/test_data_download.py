"""Downloads, against a server on this machine, and what is said when they are impossible."""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import http.server
import io
import os
import struct
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.data import cifar, describe, fetch, load, mnist, sst2, wordpiece
from analysis.data.catalogue import CATALOGUE
from analysis.data.dataset import id_sha256, image_sha256, text_sha256
from sharpflat.errors import InputError

SST_FILES = {
    "SST-2/train.tsv": b"sentence\tlabel\ngood \t1\nbad \t0\n",
    "SST-2/dev.tsv": b"sentence\tlabel\nfine \t1\n",
}


class Server:
    """Serves a folder and records the requests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                if self.command == "GET":
                    outer.requests.append(self.path)

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "SCHEMES", ("http",))  # no certificate for 127.0.0.1
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "served"
    folder.mkdir()
    server = Server(folder)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _change(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    monkeypatch.setitem(CATALOGUE, name, replace(describe(name), **fields))


def _everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def served_sst(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    archive = _zip({**SST_FILES, "SST-2/original/README.txt": b"no", "../outside.txt": b"no"})
    (server.folder / "SST-2.zip").write_bytes(archive)
    monkeypatch.setattr(sst2, "URL", f"{server.url}SST-2.zip")
    monkeypatch.setattr(sst2, "SHA256", hashlib.sha256(archive).hexdigest())
    monkeypatch.setattr(sst2, "PUBLISHED_ROWS", {"train": 2, "test": 1})
    _change(monkeypatch, "sst1k", examples=2, sha256=text_sha256(["good", "bad"], [1, 0]))
    _change(monkeypatch, "sst-dev", examples=1, sha256=text_sha256(["fine"], [1]))
    return server


def test_sst_download(served_sst: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    ds = load("sst1k", data_dir=data)
    assert ds["sentences"].values.tolist() == ["good", "bad"]
    assert ds.attrs["source"] == "download"
    assert "100%" in capfd.readouterr().err  # the progress bar
    # Only what is needed, in its place, and nothing of the download left.
    assert _everything_in(data) == {*SST_FILES, ".download.lock"}
    assert not (tmp_path / "outside.txt").exists()
    assert load("sst1k", data_dir=data).attrs["source"] == "files in SST-2"
    assert load("sst-dev", data_dir=data)["labels"].values.tolist() == [1]
    assert served_sst.requests == ["/SST-2.zip"]  # once


def test_vocabulary_download(served_sst: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good"]).encode()
    (served_sst.folder / "vocab.txt").write_bytes(content)
    monkeypatch.setattr(wordpiece, "URL", f"{served_sst.url}vocab.txt")
    monkeypatch.setattr(wordpiece, "SHA256", hashlib.sha256(content).hexdigest())
    ids, labels = np.array([[2, 5, 3], [2, 1, 3]]), np.array([1, 0])
    _change(monkeypatch, "sst1k-wordpiece", examples=2, shape=(3,), sha256=id_sha256(ids, labels))
    data = tmp_path / "data"
    ds = load("sst1k-wordpiece", data_dir=data)
    assert (ds["ids"].values.tolist(), ds.attrs["source"]) == (ids.tolist(), "download")
    assert _everything_in(data) == {*SST_FILES, wordpiece.FILE, ".download.lock"}
    assert load("sst1k-wordpiece", data_dir=data).attrs["source"] == "files in SST-2"
    assert served_sst.requests == ["/SST-2.zip", "/vocab.txt"]  # once


def test_a_present_file_is_never_replaced(served_sst: Server, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "SST-2").mkdir(parents=True)
    (data / "SST-2" / "dev.tsv").write_text("my own")
    load("sst1k", data_dir=data)
    assert (data / "SST-2" / "dev.tsv").read_text() == "my own"


def test_a_wrong_present_file_is_refused_and_not_downloaded_over(served_sst: Server, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "SST-2").mkdir(parents=True)
    (data / "SST-2" / "train.tsv").write_text("sentence\tlabel\ngood\t1\nworse\t0\n")
    with pytest.raises(InputError, match="SHA-256 found"):
        load("sst1k", data_dir=data)
    assert served_sst.requests == []


def test_wrong_archive_is_refused(served_sst: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sst2.SHA256
    monkeypatch.setattr(sst2, "SHA256", "5" * 64)
    with pytest.raises(InputError) as caught:
        load("sst1k", data_dir=tmp_path / "data")
    message = str(caught.value)
    assert message.startswith("SST2-1k (sst1k): no data, and the download failed.\n")
    assert found in message
    assert "5" * 64 in message
    assert _everything_in(tmp_path / "data") == {".download.lock"}


@pytest.mark.parametrize("packed", ["missing member", "no archive"])
def test_broken_archive(packed: str, served_sst: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _zip({"SST-2/train.tsv": b"x"}) if packed == "missing member" else b"<html>Sorry</html>"
    (served_sst.folder / "SST-2.zip").write_bytes(archive)
    monkeypatch.setattr(sst2, "SHA256", hashlib.sha256(archive).hexdigest())
    with pytest.raises(InputError, match=r"Error: SST-2\.zip: broken archive"):
        load("sst1k", data_dir=tmp_path / "data")
    assert _everything_in(tmp_path / "data") == {".download.lock"}  # nor half of it


def test_server_says_no(served_sst: Server, tmp_path: Path) -> None:
    (served_sst.folder / "SST-2.zip").unlink()
    with pytest.raises(InputError, match=r"(?s)the download failed.*Error: 404 Client Error"):
        load("sst1k", data_dir=tmp_path / "data")


def test_two_at_once_download_once(served_sst: Server, tmp_path: Path) -> None:
    errors: list[Exception] = []

    def ask(name: str) -> None:
        try:
            load(name, data_dir=tmp_path / "data")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("sst1k", "sst-dev", "sst1k")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert served_sst.requests == ["/SST-2.zip"]


def test_cifar_download(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(2 * 12, dtype=np.uint8).reshape(2, 3, 2, 2)
    labels = np.array([4, 6], dtype=np.uint8)
    content = b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, pixels, strict=True))
    names = [f"cifar-10-batches-bin/{name}.bin" for name in ("data_batch_1", "test_batch")]
    archive = _tar({**dict.fromkeys(names, content), "/etc/passwd": b"no", "cifar-10-batches-bin/x": b"no"})
    (server.folder / "cifar-10-binary.tar.gz").write_bytes(archive)
    monkeypatch.setattr(cifar, "URL", f"{server.url}cifar-10-binary.tar.gz")
    monkeypatch.setattr(cifar, "SHA256", hashlib.sha256(archive).hexdigest())
    monkeypatch.setattr(cifar, "RECORDS", 2)
    for name in ("cifar5k", "cifar-test"):
        _change(monkeypatch, name, examples=2, shape=(3, 2, 2), sha256=image_sha256(pixels, labels))
        np.testing.assert_array_equal(load(name, data_dir=tmp_path / "data")["inputs"], pixels)
    assert _everything_in(tmp_path / "data") == {*names, ".download.lock"}
    assert len(server.requests) == 1


def test_a_link_in_a_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("x/data")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ValueError, match=r"a\.tar\.gz: broken archive \(x/data is no plain file\)"):
        fetch.unpack(tmp_path / "a.tar.gz", ["x/data"], tmp_path / "out")


# MNIST


@pytest.fixture
def served_mnist(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    images, labels = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2), np.array([7, 2, 1], dtype=np.uint8)
    for split in ("train", "t10k"):
        for name, content in (
            (f"{split}-images-idx3-ubyte", struct.pack(">4I", 2051, 3, 2, 2) + images.tobytes()),
            (f"{split}-labels-idx1-ubyte", struct.pack(">2I", 2049, 3) + labels.tobytes()),
        ):
            packed = gzip.compress(content, mtime=0)
            (server.folder / f"{name}.gz").write_bytes(packed)
            monkeypatch.setitem(mnist.MD5, name, hashlib.md5(packed).hexdigest())
    monkeypatch.setattr(mnist, "MIRROR", server.url)
    monkeypatch.setattr(mnist, "PUBLISHED", {"train": 3, "test": 3})
    _change(monkeypatch, "mnist5k", examples=2, shape=(2, 2), sha256=image_sha256(images[:2], labels[:2]))
    _change(monkeypatch, "mnist-test", examples=3, shape=(2, 2), sha256=image_sha256(images, labels))
    return server


def test_mnist_download(served_mnist: Server, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert load("mnist5k", data_dir=data)["labels"].values.tolist() == [7, 2]
    assert _everything_in(data) == {*(f"MNIST/raw/{name}" for name in mnist.MD5), ".download.lock"}
    assert load("mnist-test", data_dir=data)["labels"].values.tolist() == [7, 2, 1]
    assert sorted(served_mnist.requests) == sorted(f"/{name}.gz" for name in mnist.MD5)  # once each


def test_mnist_checksums_are_torchvisions() -> None:
    try:
        from torchvision.datasets import MNIST
    except (ImportError, RuntimeError):
        pytest.skip("torchvision does not fit the torch installed here")
    assert [(f"{name}.gz", md5) for name, md5 in mnist.MD5.items()] == MNIST.resources
    assert mnist.MIRROR in MNIST.mirrors


# impossible


def test_addresses_are_https() -> None:
    assert all(url.startswith("https://") for url in (mnist.MIRROR, cifar.URL, sst2.URL, wordpiece.URL))
    with pytest.raises(ValueError, match="downloads use https only"):
        fetch.retrieve("http://127.0.0.1:1/x", known_hash="md5:0", path=Path("x"))


@pytest.mark.parametrize("name", ["mnist5k", "cifar-test", "sst1k"])
def test_no_data_and_no_network(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "https://127.0.0.1:1/"  # refuses connections
    monkeypatch.setattr(mnist, "MIRROR", nowhere)
    monkeypatch.setattr(cifar, "URL", f"{nowhere}cifar-10-binary.tar.gz")
    monkeypatch.setattr(sst2, "URL", f"{nowhere}SST-2.zip")
    data = tmp_path / "data"
    with pytest.raises(InputError) as caught:
        load(name, data_dir=data)
    lines = str(caught.value).splitlines()
    entry = describe(name)
    files, url = {
        "mnist5k": (
            [f"MNIST/raw/{file}" for file in mnist.MD5],
            f"{nowhere}train-images-idx3-ubyte.gz, {nowhere}train-labels-idx1-ubyte.gz",
        ),
        "cifar-test": (
            ["cifar-10-batches-bin/data_batch_1.bin", "cifar-10-batches-bin/test_batch.bin"],
            cifar.URL,
        ),
        "sst1k": (["SST-2/train.tsv", "SST-2/dev.tsv"], sst2.URL),
    }[name]
    assert lines[0] == f"{entry.title} ({name}): no data, and the download failed."
    assert lines[1] == "  Looked for:"
    assert lines[2 : 2 + len(files)] == [f"    {data / file}" for file in files]
    rest = lines[2 + len(files) :]
    assert rest[0] == f"  Tried: {url}"
    assert rest[1].startswith("  Error: ")
    assert "refused" in rest[1]
    assert rest[2:] == [
        f"  What to do: get {url}, unpack it, and put the files there by hand, or try again later.",
        "  The quick profile needs no download.",
    ]
    assert _everything_in(data) == {".download.lock"}


def test_downloading_is_off(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load("sst-dev", data_dir=tmp_path, download=False)
    assert str(caught.value) == (
        "SST-2 dev (sst-dev): no data, and downloading is off.\n"
        f"  Looked for:\n    {tmp_path}/SST-2/train.tsv\n    {tmp_path}/SST-2/dev.tsv\n"
        f"  What to do: get {sst2.URL}, unpack it, and put the files there by hand, or allow downloading.\n"
        "  The quick profile needs no download."
    )
    assert _everything_in(tmp_path) == set()


def test_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(InputError) as caught:
        load("mnist5k", data_dir=tmp_path / "data")
    assert str(caught.value) == (
        f"{tmp_path}/data: the data folder is a file. Give a folder, the one that holds MNIST/, "
        "cifar-10-batches-bin/ or SST-2/."
    )


@pytest.mark.parametrize(("folder", "download"), [("data", False), ("misspelt/data", True)])
def test_folder_does_not_exist(folder: str, download: bool, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load("cifar5k", data_dir=tmp_path / folder, download=download)
    assert str(caught.value) == (
        f"{tmp_path}/{folder}: the data folder does not exist. Create it, or give the folder that holds "
        "MNIST/, cifar-10-batches-bin/ or SST-2/. The quick profile needs no download."
    )
    assert list(tmp_path.iterdir()) == []


def _read_only_message(data: Path, reason: str) -> str:
    return (
        f"{data}: cannot write to the data folder ({reason}), "
        "so SST2-1k (sst1k) cannot be downloaded there.\n"
        f"  Looked for:\n    {data}/SST-2/train.tsv\n    {data}/SST-2/dev.tsv\n"
        f"  What to do: get {sst2.URL}, unpack it, and put the files there by hand, "
        "make the folder writable, or give another one.\n"
        "  The quick profile needs no download."
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError) as caught:
        load("sst1k", data_dir=tmp_path)
    assert str(caught.value) == _read_only_message(tmp_path, "Permission denied")


def test_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(InputError) as caught:
        load("sst1k", data_dir=tmp_path)
    assert str(caught.value) == _read_only_message(tmp_path, "Read-only file system")


def test_data_in_a_read_only_folder_need_no_writing(
    served_sst: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("sst1k", data_dir=tmp_path / "data")
    monkeypatch.setattr(fetch, "_locked", lambda folder: pytest.fail("wrote to the folder"))
    load("sst1k", data_dir=tmp_path / "data")
