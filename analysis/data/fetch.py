"""Missing data: downloads them once, checks them and puts complete files in place, or says what the user can do.

No incomplete file has a final name, because downloads and unpacking happen in a separate folder inside the data folder,
and finished files are moved.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from analysis.data.catalogue import Description
from sharpflat.errors import InputError

SCHEMES = ("https",)
TIMEOUT_SECONDS = 30
MOST_BYTES = 1 << 29  # of a download, and of a file in an archive; the largest has 170 MB
NO_DOWNLOAD = "The quick profile needs no download."


def check_folder(data_dir: Path, *, download: bool) -> None:
    """Refuses a data folder that is a file, or that is missing and should not be created.

    A missing folder is created before a download if its parent exists. A missing parent is probably a typing mistake.

    Raises:
        InputError: the folder is refused.
    """
    if data_dir.is_dir():
        return
    if data_dir.exists() and not data_dir.is_dir():  # it may have been made in between
        raise InputError(
            f"{data_dir}: the data folder is a file. Give a folder, the one that holds MNIST/, "
            "cifar-10-batches-bin/ or SST-2/."
        )
    if not download or not data_dir.absolute().parent.is_dir():
        raise InputError(
            f"{data_dir}: the data folder does not exist. Create it, or give the folder that holds MNIST/, "
            f"cifar-10-batches-bin/ or SST-2/. {NO_DOWNLOAD}"
        )


def obtain(
    entry: Description,
    data_dir: Path,
    *,
    files: Sequence[str],
    present: Callable[[], bool],
    get: Callable[[Path], None],
    urls: Sequence[str],
    download: bool,
    check: Callable[[Path], object] | None = None,
) -> bool:
    """Makes sure that files exist. Existing files are never replaced.

    Args:
        entry: the data set that needs them.
        data_dir: the data folder.
        files: their paths in this folder.
        present: whether the data that `entry` needs exist in any form.
        get: downloads `files` into a given folder.
        urls: the sources of `get`, for the error message.
        download: whether downloading is allowed.
        check: reads one of `files`, and raises InputError if it is not what it should be.

    Returns:
        Whether something was downloaded.

    Raises:
        InputError: the folder is unusable, or the files are missing and downloading is off, impossible, or gives a
            wrong checksum.
    """
    check_folder(data_dir, download=download)
    if present():
        return False
    what = f"{entry.title} ({entry.name})"
    paths = [data_dir / file for file in files]
    some = any(_found(path) for path in paths)  # otherwise all are missing
    wanted = "".join(f"\n    {_state(path, check) if some else path}" for path in paths)
    by_hand = (
        f"  What to do: get {', '.join(urls)}, unpack it, and put the files there by hand{{allow}}.\n  {NO_DOWNLOAD}"
    )
    if not download:
        raise InputError(
            f"{what}: no data, and downloading is off.\n  Looked for:{wanted}\n"
            + by_hand.format(allow=", or allow downloading")
        )
    with contextlib.ExitStack() as stack:
        try:
            data_dir.mkdir(exist_ok=True)
            stack.enter_context(_locked(data_dir))
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".download-", dir=data_dir)))
        except OSError as error:
            raise InputError(
                f"{data_dir}: cannot write to the data folder ({error.strerror}), so {what} cannot be "
                f"downloaded there.\n  Looked for:{wanted}\n"
                + by_hand.format(allow=", make the folder writable, or give another one")
            ) from error
        if present():  # another process was faster
            return False
        try:
            get(scratch)
        # ValueError: a wrong checksum, no TLS, too long; RuntimeError: zipfile's word for what it cannot unpack.
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{what}: no data, and the download failed.\n  Looked for:{wanted}\n"
                f"  Tried: {', '.join(urls)}\n  Error: {error}\n" + by_hand.format(allow=", or try again later")
            ) from error
        for file in files:
            target = data_dir / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                os.replace(scratch / file, target)
    return True


def _found(path: Path) -> Path | None:
    """The file, unpacked or packed, if it exists."""
    return next((p for p in (path, path.with_name(f"{path.name}.gz")) if p.is_file()), None)


def _state(path: Path, check: Callable[[Path], object] | None) -> str:
    """A file and its state: whether it exists and, if it is wrong, what is wrong with it."""
    found = _found(path)
    if found is None:
        return f"{path}: missing"
    try:
        if check is not None:
            check(found)
    except InputError as error:
        return f"{error}".replace("\n", " ").replace("the next run downloads it again", "it is not the right one")
    return f"{found}: there"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Allows one download at a time, because the training and the test split are often requested together."""
    with (folder / ".download.lock").open("w") as file:
        with contextlib.suppress(OSError):  # on a file system without locks, both download, which does no harm
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def retrieve(url: str, *, known_hash: str, path: Path) -> None:
    """Downloads one file to `path` with a progress bar. The file exists afterwards only if its hash is right.

    Args:
        url: https only, also for redirections.
        known_hash: "<algorithm>:<hexadecimal digest>".
        path: path of the file.

    Raises:
        ValueError: the URL is not https, the file is longer than `MOST_BYTES`, or its hash is wrong. The message has
            both hashes.
        OSError: there is no network (`requests`' exceptions are OSErrors).
    """
    import pooch  # imported here, because it takes 0.2 s that existing data do not need

    _check_scheme(url)
    if not known_hash:  # pooch would take anything
        raise ValueError(f"{url}: no download without a known hash")
    path.parent.mkdir(parents=True, exist_ok=True)
    pooch.retrieve(
        url,
        known_hash=known_hash,
        fname=path.name,
        path=path.parent,
        downloader=_download,
    )


def _download(url: str, output_file: str, _: object) -> None:
    """What pooch calls."""
    import requests
    from tqdm import tqdm

    with (
        requests.get(url, stream=True, timeout=TIMEOUT_SECONDS, hooks={"response": _check_redirect}) as response,
        Path(output_file).open("wb") as file,
    ):
        response.raise_for_status()
        with tqdm(total=int(response.headers.get("content-length", 0)), unit="B", unit_scale=True) as progress:
            for chunk in response.iter_content(1 << 16):
                _write(chunk, file, url)
                progress.update(len(chunk))


def _check_redirect(response: Any, *_: object, **__: object) -> None:
    if response.is_redirect:
        _check_scheme(urljoin(response.url, response.headers["location"]))


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError(f"{url}: downloads use {', '.join(SCHEMES)} only")


def _write(chunk: bytes, file: IO[bytes], what: str) -> None:
    file.write(chunk)
    if file.tell() > MOST_BYTES:
        raise ValueError(f"{what}: longer than {MOST_BYTES:,} bytes")


def unpack(archive: Path, members: Sequence[str], folder: Path) -> None:
    """Extracts only `members` from a zip or tar archive.

    The files are written to `folder / member`. Names, links and permissions in the archive have no influence.

    Raises:
        ValueError: a member is missing, not a plain file or longer than `MOST_BYTES`, or the archive is broken.
    """
    try:
        with contextlib.ExitStack() as stack:
            opener = _members(archive, stack)
            for member in members:
                target = folder / member
                target.parent.mkdir(parents=True, exist_ok=True)
                with opener(member) as source, target.open("wb") as sink:
                    while chunk := source.read(1 << 16):
                        _write(chunk, sink, f"{archive.name}: {member}")
    except (KeyError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise ValueError(f"{archive.name}: broken archive ({error})") from error


def _members(archive: Path, stack: contextlib.ExitStack) -> Callable[[str], IO[bytes]]:
    if archive.suffix == ".zip":
        return stack.enter_context(zipfile.ZipFile(archive)).open
    tar = stack.enter_context(tarfile.open(archive))  # noqa: SIM115 (the caller's stack closes it)

    def opened(member: str) -> IO[bytes]:
        info = tar.getmember(member)
        file = tar.extractfile(info) if info.isreg() else None
        if file is None:
            raise tarfile.TarError(f"{member} is no plain file")
        return file

    return opened
