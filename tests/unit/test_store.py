"""Files are whole or not there, and what is damaged is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from analysis.store import netcdf
from analysis.store.atomic import write_atomically
from analysis.store.netcdf import PROVENANCE, read_dataset, write_dataset
from analysis.store.tensors import read_tensors, write_tensors
from sharpflat.errors import InputError


def example() -> xr.Dataset:
    steps = np.arange(100)
    return xr.Dataset(
        {
            "loss": ("step", np.linspace(1, 0, 100), {"long_name": "training loss"}),
            "missing": ("step", np.full(100, np.nan)),
            "converged": ("step", np.ones(100, dtype=np.int64)),
            "pixels": (("step", "index"), np.arange(300, dtype=np.uint8).reshape(100, 3)),
            "sentences": ("step", np.array([f"naïve {i}" for i in range(100)])),
            "empty": ("none", np.zeros(0)),
        },
        coords={"step": steps, "index": [1, 2, 3]},
        attrs={"status": "completed", "last_step": 99, "title": "χ"},
    )


def test_a_dataset_comes_back_as_it_was(tmp_path: Path) -> None:
    write_dataset(example(), tmp_path / "new" / "a.nc")
    found = read_dataset(tmp_path / "new" / "a.nc")
    del found.attrs[PROVENANCE]
    xr.testing.assert_identical(found, example())
    assert {n: v.dtype for n, v in found.variables.items()} == {n: v.dtype for n, v in example().variables.items()}


def test_runs_differ_in_provenance_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(example(), tmp_path / "a.nc", {"seconds": 1.0})
    monkeypatch.setattr(netcdf, "environment", lambda: {"torch": "9.9"})
    write_dataset(example(), tmp_path / "b.nc", {"seconds": 2.0})
    one, other = read_dataset(tmp_path / "a.nc"), read_dataset(tmp_path / "b.nc")
    assert {n for n in one.attrs if one.attrs[n] != other.attrs[n]} == {PROVENANCE}
    assert json.loads(one.attrs[PROVENANCE])["seconds"] == 1.0
    assert json.loads(one.attrs[PROVENANCE])["python"]
    assert json.loads(other.attrs[PROVENANCE]) == {"torch": "9.9", "seconds": 2.0}


def test_the_datasets_attributes_are_left_alone(tmp_path: Path) -> None:
    dataset = example()
    write_dataset(dataset, tmp_path / "a.nc")
    xr.testing.assert_identical(dataset, example())


def tensors() -> dict[str, torch.Tensor]:
    whole = torch.arange(12, dtype=torch.float64).reshape(3, 4)
    # A view that is not contiguous, one that shares memory, and one that needs a gradient
    return {
        "whole": whole,
        "transposed": whole.T,
        "row": whole[1],
        "float32": torch.ones(2, requires_grad=True),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 2),
    }


METADATA: dict[str, Any] = {"step": 7, "ema": None, "nested": {"b": [1, 2.5], "a": "χ"}, "nan": 1e-300}


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    write_tensors(tensors(), METADATA, tmp_path / "a.safetensors")
    found, metadata = read_tensors(tmp_path / "a.safetensors")
    assert metadata == METADATA
    assert found.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
        assert found[name].is_contiguous()
        assert found[name].data_ptr() % 64 == 0 or found[name].numel() == 0, "rounding depends on alignment"


def test_equal_tensors_make_equal_bytes(tmp_path: Path) -> None:
    for name in "abcdef":
        write_tensors(tensors(), METADATA, tmp_path / name)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_float_metadata_survives_exactly(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    write_tensors({}, {"ema": value}, tmp_path / "a")
    assert read_tensors(tmp_path / "a")[1]["ema"] == value


# ---------------------------------------------------------------- damage
Read = Callable[[Path], object]
READERS = [(read_dataset, "netCDF"), (read_tensors, "safetensors")]


def written(read: Read, path: Path) -> bytes:
    if read is read_dataset:
        write_dataset(example(), path)
    else:
        write_tensors(tensors(), METADATA, path)
    return path.read_bytes()


@pytest.mark.parametrize(("read", "kind"), READERS)
def test_a_missing_file(tmp_path: Path, read: Read, kind: str) -> None:
    path = tmp_path / "none"
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: there is no such file"


@pytest.mark.parametrize(("read", "kind"), READERS)
@pytest.mark.parametrize("kept", [0, 1, 5, 8, 100, -1])
def test_a_file_that_is_cut_short(tmp_path: Path, read: Read, kind: str, kept: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(written(read, path)[:kept])
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: is no readable {kind} file (")
    assert str(caught.value).endswith("); delete it and run again")


@pytest.mark.parametrize(("read", "kind"), READERS)
@pytest.mark.parametrize("content", [b"text", b"\x89HDF\r\n\x1a\n" + bytes(500), b"\xff" * 500, b"{}" * 100])
def test_a_file_of_another_kind(tmp_path: Path, read: Read, kind: str, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: is no readable {kind} file (")


@pytest.mark.parametrize(("read", "kind"), READERS)
def test_a_folder_in_place_of_the_file(tmp_path: Path, read: Read, kind: str) -> None:
    with pytest.raises(InputError, match=f"^{tmp_path}: is no readable {kind} file"):
        read(tmp_path)


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    for name, metadata in {"a": None, "b": {"metadata": "no json"}, "c": {"metadata": "{}"}}.items():
        save_file({"a": torch.ones(1)}, tmp_path / name, metadata=metadata)
        with pytest.raises(InputError, match="its content does not have the SHA-256 in its metadata"):
            read_tensors(tmp_path / name)


@pytest.mark.parametrize(("read", "kind"), READERS)
def test_every_flipped_bit_is_noticed(tmp_path: Path, read: Read, kind: str) -> None:
    whole = written(read, tmp_path / "whole")
    spread = {8 * i * len(whole) // 300 + i % 8 for i in range(300)}
    bits = sorted(spread | set(range(8 * (len(whole) - 100), 8 * len(whole), 9)))  # at the end: the seal itself
    for bit in bits:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path = tmp_path / f"{bit}"  # the library that reads netCDF keeps damaged files open
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: is no readable {kind} file (")
        path.unlink()


def test_a_dataset_that_lost_its_seal_is_refused_and_one_that_never_had_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    whole = written(read_dataset, path)
    path.write_bytes(whole[: whole.rindex(b"\nSHA-256")])
    with pytest.raises(InputError, match="the SHA-256 at its end is missing"):
        read_dataset(path)
    example().to_netcdf(tmp_path / "old.nc", engine="netcdf4")
    xr.testing.assert_identical(read_dataset(tmp_path / "old.nc"), example())


def test_others_read_a_sealed_dataset(tmp_path: Path) -> None:
    write_dataset(example(), tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="netcdf4") as found:
        xr.testing.assert_equal(found, example())


# ---------------------------------------------------------------- atomic writes
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("HDF error")])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail(target: Path) -> None:
        target.write_text("half")
        raise error

    with pytest.raises(InputError) as caught:
        write_atomically(path, fail)
    advice = "the folder must exist, be writable and have free space"
    assert str(caught.value) == f"{path}: cannot be written ({error}); {advice}"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_an_exception_in_the_middle_of_a_write(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail(target: Path) -> None:
        target.write_text("half")
        raise error

    with pytest.raises(error):
        write_atomically(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "old"


def test_nothing_stands_under_the_final_name_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a"

    def write(target: Path) -> None:
        assert target.parent == path.parent
        target.write_text("half")
        assert not path.exists()
        target.write_text("whole")

    write_atomically(path, write)
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.nc"
    for write in (lambda: write_dataset(example(), path), lambda: write_tensors(tensors(), {}, path)):
        with pytest.raises(InputError) as caught:
            write()
        assert str(caught.value).startswith(f"{path}: cannot be written (")
        assert str(caught.value).endswith("; the folder must exist, be writable and have free space")


def test_a_folder_stands_where_the_file_should(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_dataset(example(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert [p for p in tmp_path.parent.iterdir() if p.name.startswith(f".{tmp_path.name}.")] == []
