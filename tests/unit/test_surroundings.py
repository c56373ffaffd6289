"""File systems, locks and code that are not as they should be: what is said, and that no sound file is deleted."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import xarray as xr

from analysis.data import load
from analysis.execution import planned
from analysis.execution.locks import hold, on_this_machine, only_pipeline, take
from analysis.execution.planned import check_code
from analysis.execution.signals import job
from analysis.plan.join import load_plan
from analysis.plan.part import again, chosen
from analysis.soundness import check_results
from analysis.store.filesystems import file_system
from analysis.store.netcdf import read_dataset, write_dataset
from analysis.store.tensors import read_tensors, write_tensors
from sharpflat.errors import InputError

ROOT = Path(__file__).parents[2]


# ---------------------------------------------------------------- locks
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lock is then one of this machine, which holds as well."""
    path, true = tmp_path / "project" / "lock", fcntl.flock
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))

    def without(file: int, operation: int) -> None:
        if os.readlink(f"/proc/self/fd/{file}").startswith(str(path.parent)):
            raise OSError(number, os.strerror(number))
        true(file, operation)

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.raises(InputError, match=r"the file system \(\w+\) has no locks") as refused:
        take(path)
    assert "writable" not in str(refused.value)
    held = only_pipeline(path)
    assert "has no locks" in capsys.readouterr().err
    with pytest.raises(InputError, match=rf"another pipeline runs in this folder \(process {os.getpid()}\)"):
        only_pipeline(path)
    os.close(held)
    assert on_this_machine(path) != on_this_machine(tmp_path / "other" / "lock")


def test_one_process_holds_a_lock_once(tmp_path: Path) -> None:
    hold(tmp_path / "lock")
    hold(tmp_path / "folder" / ".." / "lock")
    with pytest.raises(InputError, match="another pipeline"):
        only_pipeline(tmp_path / "lock")


def test_the_type_of_a_file_system(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("a / ext4 rw 0 0\nb /home/a\\040b nfs4 rw 0 0\nc /home tmpfs rw 0 0\n")
    assert file_system(Path("/home/a b/c"), mounts) == "nfs4"
    assert file_system(Path("/home/ab"), mounts) == "tmpfs"
    assert file_system(Path("/other"), mounts) == "ext4"
    assert file_system(Path("/other"), tmp_path / "none") == "unknown"


# ---------------------------------------------------------------- sound files
def dataset(path: Path) -> Path:
    write_dataset(xr.Dataset({"x": ("step", [1.0, 2.0])}), path)
    return path


def test_a_sound_dataset_that_cannot_be_opened_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dataset(tmp_path / "x.nc")

    def refused(*arguments: object, **options: object) -> None:
        raise OSError(-101, "NetCDF: HDF error")

    with monkeypatch.context() as patched:
        patched.setattr(xr, "open_dataset", refused)
        with pytest.raises(InputError, match=r"is sound .* set HDF5_USE_FILE_LOCKING=FALSE") as said:
            read_dataset(path)
        assert "delete" not in str(said.value)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="delete it and run again"):
        read_dataset(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ESTALE])
def test_a_file_that_cannot_be_read_now_is_kept(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = dataset(tmp_path / "x.nc"), tmp_path / "x.safetensors"
    write_tensors({"θ": torch.ones(3)}, {}, state)

    def refused(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", refused)
    monkeypatch.setattr("analysis.store.tensors.safe_open", refused)
    for read, file in ((read_dataset, path), (read_tensors, state)):
        with pytest.raises(InputError, match=r"cannot be read \(.*\); the file may be sound: keep it") as said:
            read(file)  # type: ignore[operator]
        assert "delete" not in str(said.value)


def test_a_sound_state_that_cannot_be_mapped_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors({"θ": torch.ones(3)}, {"a": 1}, path)

    def refused(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    with monkeypatch.context() as patched:
        patched.setattr("analysis.store.tensors.safe_open", refused)
        with pytest.raises(InputError, match=r"is sound .* but cannot be opened"):
            read_tensors(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="delete it and run again"):
        read_tensors(path)


def test_verify_finds_what_is_damaged(tmp_path: Path) -> None:
    for name in ("data/a.nc", "data/b.nc"):
        dataset(tmp_path / name)
    write_tensors({"θ": torch.ones(3)}, {}, tmp_path / "segments" / "s" / "state.safetensors")
    assert check_results(tmp_path).sound == 3
    for name in ("data/b.nc", "segments/s/state.safetensors"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-20])
    dataset(tmp_path / "energies" / "foreign.nc")
    (tmp_path / "made-from").mkdir()
    (tmp_path / "made-from" / "report-00000000.json").write_text('{"sha256": {"report.html": "00"}}')
    found = check_results(tmp_path)
    assert found.sound == 1
    for name in ("data/b.nc", "segments/s/state.safetensors", "energies/foreign.nc", "report.html"):
        assert any(name in problem for problem in found.problems), name


# ---------------------------------------------------------------- code
@pytest.mark.parametrize("kind", ["segments", "figures", "energies", "distances"])
@pytest.mark.slow
def test_code_that_is_not_the_planned_is_not_run(kind: str) -> None:
    plan = load_plan("quick")
    one = next(iter(getattr(plan, kind).values()))
    other = type(one).model_validate(one.model_dump() | {"fingerprint": "0" * 16})
    planned._CHECKED.clear()
    check_code([one])
    check_code([plan.report, plan.claims])
    with pytest.raises(InputError, match="is not the code with which this run was planned"):
        check_code([one, other])


def test_a_job_of_another_folder_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "workflow" / "scripts"
    with pytest.raises(SystemExit), job(tmp_path / "log", script):
        raise AssertionError("it ran")
    assert f"this job would run the code in {ROOT}, not that in {tmp_path}" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_the_command_refuses_another_folders_code(tmp_path: Path) -> None:
    """Where Python does not look in the present folder first."""
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").touch()
    (tmp_path / "Snakefile").touch()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "analysis", "tree"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"Error: this is the code in {ROOT}, not that of this folder, {tmp_path}" in done.stderr


# ---------------------------------------------------------------- what is made again
@pytest.mark.slow
def test_what_is_to_be_made_again_is_named() -> None:
    plan = load_plan("quick")
    figure = plan.figures["song-fig01"]
    assert again(plan, ["song-fig01"]) == again(plan, ["fig01"]) == {*figure.files, figure.record}
    assert again(plan, [figure.files[0], f"figures-{figure.name}"]) == {*figure.files, figure.record}
    assert again(plan, ["song-1"]) == again(plan, ["claims"]) == {*plan.claims.files, plan.claims.record}
    assert again(plan, ["report"]) == {*plan.report.files, plan.report.record}
    segment = next(iter(plan.segments.values()))
    assert again(plan, [segment.id]) == set(segment.files)
    assert len(again(plan, ["figures", "energies"])) > len(plan.figures)
    both = plan.figures["open-refresh"]  # a claim has this name too
    assert again(plan, ["open-refresh"]) == {*both.files, both.record, *plan.claims.files, plan.claims.record}
    assert [*chosen(plan, ["open-refresh"]).figures] == ["open-refresh"]
    with pytest.raises(InputError, match=r'FORCE: .* did you mean "song-fig01"'):
        again(plan, ["song-fgi01"])


# ---------------------------------------------------------------- data
def test_which_data_files_are_wrong_and_which_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("analysis.data.fetch.retrieve", no_network)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"wrong")
    with pytest.raises(InputError) as said:
        load("mnist5k", tmp_path)
    text = str(said.value)
    assert f"{raw}/train-images-idx3-ubyte: cut short. Found 5 bytes" in text
    assert f"{raw}/train-labels-idx1-ubyte: missing" in text
    batches = tmp_path / "cifar-10-batches-bin"
    batches.mkdir()
    (batches / "test_batch.bin").write_bytes(b"wrong")
    with pytest.raises(InputError) as said:
        load("cifar5k", tmp_path)
    assert f"{batches}/test_batch.bin: cut short" in str(said.value)
    assert f"{batches}/data_batch_1.bin: missing" in str(said.value)
