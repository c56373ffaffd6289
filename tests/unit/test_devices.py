"""Jobs share GPUs evenly, and the place of one that is killed is free."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from analysis.execution.gpus import share
from analysis.execution.locks import only_pipeline, take
from sharpflat.errors import InputError

HOLD = """
import sys, tempfile, time, torch
from analysis.execution.gpus import share
torch.cuda.device_count = lambda: 2
with share("cuda") as device:
    print(device, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two GPUs, as far as torch says, and a folder of one's own for the locks."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_a_device_that_is_named_is_taken_as_it_is(device: str, gpus: Path) -> None:
    with share(device) as found:
        assert found == device
    assert list(gpus.iterdir()) == []


def test_each_job_takes_the_gpu_with_the_fewest(gpus: Path) -> None:
    with ExitStack() as jobs:
        assert [jobs.enter_context(share("cuda")) for _ in range(5)] == [f"cuda:{i}" for i in (0, 1, 0, 1, 0)]
        with share("cuda") as last:
            assert last == "cuda:1"
        assert jobs.enter_context(share("cuda")) == "cuda:1", "its place was free again"
    with share("cuda") as first:
        assert first == "cuda:0", "all were"


@pytest.mark.slow
def test_the_place_of_a_killed_job_is_free(gpus: Path) -> None:
    environment = os.environ | {"TMPDIR": str(gpus)}
    holder = subprocess.Popen([sys.executable, "-c", HOLD], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "cuda:0\n"
        with share("cuda") as device:
            assert device == "cuda:1", "processes see each other"
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with share("cuda") as device:
        assert device == "cuda:0"


def test_gpus_have_the_same_names_for_those_who_see_only_some(gpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    with share("cuda") as device:
        assert device == "cuda:0"
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        with share("cuda") as other, share("cuda") as third:
            assert (other, third) == ("cuda:0", "cuda:0"), "GPU 1 has a job"


def test_no_gpu_is_told(gpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match=r"^no GPU: torch finds no CUDA device here"), share("cuda"):
        pass


def test_a_lock_is_one_process(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    held = only_pipeline(path)
    assert take(path) is None
    with pytest.raises(InputError, match=rf"another pipeline runs in this folder \(process {os.getpid()}\)"):
        only_pipeline(path)
    os.close(held)
    again = take(path)
    assert again is not None
    os.close(again)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be locked"):
        take(tmp_path / "file" / "lock")
