"""The real workflow when something goes wrong: its messages, what remains, and how it continues."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from analysis.data import load
from analysis.store.netcdf import write_dataset
from analysis.training.batch import train_batch
from tests.covering import some
from tests.workflow.project import STOPPED, Project, assert_same_dataset

# Within a few seconds, if the machine has nothing else to do.
PATIENCE = 60.0


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.of_sources(tmp_path)


@pytest.fixture
def torch_settings() -> Iterator[None]:
    """Restores what training sets for its process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")


def wait_until(happened: Callable[[], object], process: subprocess.Popen[bytes], output: Path) -> None:
    end = time.monotonic() + 2 * PATIENCE
    while not happened():
        assert process.poll() is None, f"ended too early:\n{output.read_text()}"
        assert time.monotonic() < end, f"waited too long:\n{output.read_text()}"
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes], output: Path) -> tuple[str, float]:
    """What the pipeline said, and how long it took to end."""
    begun = time.monotonic()
    assert process.wait(PATIENCE) != 0
    return output.read_text(), time.monotonic() - begun


def says(log: Path, text: str) -> bool:
    return log.exists() and text in log.read_text()


def engine(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The child of make."""
    (found,) = psutil.Process(process.pid).children()
    return found


def trainers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [p for p in children if "python" in p.name() and p.cmdline()[-1].endswith("segments.py")]


def test_stopped_and_killed_training_ends_as_an_undisturbed_one(
    project: Project, tmp_path: Path, torch_settings: None
) -> None:
    (segment,) = project.plan("long").segments.values()
    folder = project.results("long") / "segments" / segment.id
    log = project.results("long") / "logs" / "segments" / f"{segment.id}.log"
    checkpoint = project.results("long") / "checkpoints" / f"{segment.id}.safetensors"
    for subset in segment.subsets:  # (quicker than in jobs of their own)
        write_dataset(load(subset.rpartition("-")[0]), project.results("long") / "data" / f"{subset}.nc")

    # Asked to stop in the middle of training. A terminal sends Ctrl-C to every process; others tell one.
    ways: dict[str, Callable[[subprocess.Popen[bytes]], None]] = {
        "Ctrl-C": lambda p: os.killpg(p.pid, signal.SIGINT),
        "SIGTERM to all": lambda p: os.killpg(p.pid, signal.SIGTERM),
        "SIGTERM to make": lambda p: os.kill(p.pid, signal.SIGTERM),
        "SIGINT to the engine": lambda p: engine(p).send_signal(signal.SIGINT),
        "SIGKILL to the engine": lambda p: engine(p).kill(),  # the job sees it by itself
    }
    for way in some(["Ctrl-C", "SIGTERM to make", "SIGKILL to the engine"], ways):
        ask = ways[way]
        output, begun = tmp_path / f"{way}.txt", "continues from its checkpoint" if checkpoint.exists() else "begins at"
        log.unlink(missing_ok=True)
        running = project.start("long", output)
        wait_until(lambda begun=begun: says(log, begun), running, output)
        time.sleep(0.2)
        training = trainers(running)
        assert len(training) == 1, way
        ask(running)
        said, seconds = stop(running, output)
        print(f"{way}: {seconds:.1f} s")
        assert seconds < 20, way  # one step and the engine's own end: a second or two on a free machine
        if way == "SIGKILL to the engine":
            assert psutil.wait_procs(training, timeout=20)[1] == [], "an orphan"
        else:
            assert STOPPED in said, way
            assert not training[0].is_running(), way
        assert f"{segment.id}: interrupted at step " in output.read_text(), way
        assert "the same command continues from there" in output.read_text(), way
        assert "Traceback" not in said, way
        assert checkpoint.exists(), way
        assert not (folder / "trajectory.nc").exists(), way

    # The training process killed: its checkpoint stays.
    output = tmp_path / "second.txt"
    log.unlink()
    second = project.start("long", output)
    wait_until(lambda: says(log, "continues from its checkpoint"), second, output)
    for trainer in trainers(second):
        trainer.kill()
    said, _ = stop(second, output)
    assert STOPPED in said
    assert checkpoint.exists()
    assert not (folder / "trajectory.nc").exists()

    # The same command ends it.
    ran = project.reproduce(profile="long")
    assert ran == sorted([*(f"figure {f}" for f in project.plan("long").figures), segment.id, "report"])
    assert "continues from its checkpoint at step " in log.read_text()
    assert " at step 0" not in log.read_text()
    assert not checkpoint.exists()

    undisturbed = tmp_path / "undisturbed" / "segments" / segment.id
    train_batch(
        [segment],
        data=[str(project.results("long") / "data" / f"{s}.nc") for s in segment.subsets],
        parents=[],
        trajectories=[str(undisturbed / "trajectory.nc")],
        states=[str(undisturbed / "state.safetensors")],
        threads=1,
    )
    assert_same_dataset(folder / "trajectory.nc", undisturbed / "trajectory.nc")
    assert (folder / "state.safetensors").read_bytes() == (undisturbed / "state.safetensors").read_bytes()


MOMENTS = (0.0, 0.5, 1.0, 2.0)  # while the engine is imported, reads the workflow and plans


@pytest.mark.parametrize(
    ("number", "moments"),
    some(
        [(signal.SIGINT, MOMENTS[::2]), (signal.SIGTERM, MOMENTS[1::2])],
        [(signal.SIGINT, MOMENTS), (signal.SIGTERM, MOMENTS)],
    ),
)
def test_a_signal_before_the_first_job_is_answered_in_one_line(
    project: Project, tmp_path: Path, number: signal.Signals, moments: tuple[float, ...]
) -> None:
    lock = project.path / ".snakemake" / "tiny.lock"
    for seconds in moments:
        output = tmp_path / f"{seconds}.txt"
        lock.unlink(missing_ok=True)
        running = project.start("tiny", output)
        wait_until(lock.exists, running, output)
        time.sleep(seconds)
        os.killpg(running.pid, number)
        said, took = stop(running, output)
        assert took < 5
        assert said.count(STOPPED) == 1
        assert "Traceback" not in said
        assert "Report:" not in said
    assert project.run(flags="--dry-run").returncode == 0, "nothing is locked"


def test_one_pipeline_at_a_time_and_a_killed_one_locks_nothing(project: Project, tmp_path: Path) -> None:
    output = tmp_path / "first.txt"
    first = project.start("downloaded", output)
    locks = project.path / ".snakemake" / "locks"
    wait_until(lambda: locks.is_dir() and list(locks.iterdir()), first, output)
    first.send_signal(signal.SIGSTOP)
    others = psutil.Process(first.pid).children(recursive=True)
    for process in others:
        process.send_signal(signal.SIGSTOP)
    refused = project.run(profile="downloaded")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(PATIENCE)
    psutil.wait_procs(others, timeout=PATIENCE)  # make may end before the engine, which holds the lock
    assert refused.returncode != 0
    assert "Error: another pipeline runs in this folder (process " in refused.stdout
    assert "Wait until it ends, or stop it." in refused.stdout
    assert list(locks.iterdir()), "this test is to begin with a lock that a killed engine left"

    again = project.run(profile="downloaded", flags="--dry-run")
    assert again.returncode == 0, again.stdout
    assert not locks.exists() or not list(locks.iterdir())


def damaged_mnist(folder: Path) -> Path:
    """MNIST's four files, each cut short after 100 bytes of content."""
    raw = folder / "damaged" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 60000), ("t10k", 10000)):
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, count, 28, 28) + bytes(100))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, count) + bytes(100))
    return folder / "damaged"


def test_a_data_file_that_is_cut_short(project: Project, tmp_path: Path) -> None:
    folder = damaged_mnist(tmp_path)
    done = project.run(profile="downloaded", DATA_DIR=str(folder))
    assert done.returncode != 0
    expected = 16 + 60000 * 28 * 28
    assert (
        f"Error: {folder}/MNIST/raw/train-images-idx3-ubyte: cut short. Found 116 bytes, expected {expected:,}. "
        "Remove the file; the next run downloads it again."
    ) in done.stdout
    assert STOPPED in done.stdout
    assert list(project.results("downloaded").rglob("*.nc")) == []


def test_results_that_cannot_be_written(project: Project) -> None:
    # A file where the folder should be: as a user with all rights, too, no folder can be made there.
    (project.path / "results").write_text("no folder")
    done = project.run()
    assert done.returncode != 0
    assert "results: is not a writable folder; the results go to results/tiny" in done.stdout
    assert "snakemake/" not in done.stdout, "a traceback of the engine's own"
    assert (project.path / "results").read_text() == "no folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write to read-only folders")
def test_a_read_only_results_folder(project: Project) -> None:
    (project.path / "results").mkdir(mode=0o555)
    done = project.run()
    assert done.returncode != 0
    assert "results: is not a writable folder; the results go to results/tiny" in done.stdout


def test_a_mistake_in_the_configuration_stops_everything(project: Project) -> None:
    project.edit("workflow/config/tiny.yaml", "learning_rate: 0.05", "learning_rte: 0.05")
    for target in ("reproduce", "stale"):
        done = project.run(target)
        assert done.returncode != 0
        assert (
            'workflow/config/tiny.yaml: settings.mlp.learning_rte: unknown key; did you mean "learning_rate"?'
        ) in done.stdout
        assert "Traceback" not in done.stdout
        assert "figures:" not in done.stdout
        assert not (project.path / "results").exists()
