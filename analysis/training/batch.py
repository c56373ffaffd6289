"""Training several segments from files to files, in one process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.store.netcdf import read_dataset, write_dataset
from analysis.training.problem import device_name
from analysis.training.segment import CHECKPOINT_SECONDS, Interrupted, train_segment
from analysis.training.state import read_state, write_state
from analysis.training.torch_setup import prepare

if TYPE_CHECKING:
    from analysis.plan.plan import PlannedSegment

log = logging.getLogger(__name__)


def train_batch(
    segments: Sequence[PlannedSegment],
    *,
    data: Sequence[str],
    parents: Sequence[str],
    trajectories: Sequence[str],
    states: Sequence[str],
    snapshots: Sequence[str] = (),
    threads: int,
    device: str = "cpu",
    interrupted: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Trains segments that share data, parents before their children. Each writes its own files.

    Checkpoints are in `checkpoints/<id>.safetensors` and stay until the whole batch is done. The workflow engine
    deletes all outputs of a job that fails, and finished siblings are then restored from their checkpoints.

    Args:
        segments: the planned segments.
        data: files of the training and the test subset.
        parents: the files of the states of parents that are not among `segments`, as <id>/<file>.
        trajectories: output file of each segment.
        states: output file of each segment.
        snapshots: output file of each segment that takes snapshots of θ, in order.
        threads: number of torch threads. It is fixed, because another number changes the rounding.
        device: as in `analysis.training.torch_setup.prepare`.
        interrupted: as in `train_segment`.
        checkpoint_seconds: as in `train_segment`.

    Raises:
        InputError: a file is damaged, an output cannot be written, or there is no such device.
        SystemExit: training was interrupted. The message says what to do.
    """
    on = prepare(device, threads)
    train, test = (read_dataset(Path(path)) for path in data)
    # A parent in this batch is read back too, so that a child starts from the same data whichever process trained it.
    state_files = {Path(path).parent.name: Path(path) for path in (*parents, *states)}
    checkpoints, snapshot_files = [], iter(snapshots)
    for segment, trajectory, state in zip(segments, map(Path, trajectories), map(Path, states), strict=True):
        name, parent, begun = segment.id, segment.spec.parent, time.monotonic()
        checkpoint = trajectory.parents[2] / "checkpoints" / f"{name}.safetensors"
        checkpoints.append(checkpoint)
        try:
            result = train_segment(
                segment.spec,
                name,
                train,
                test,
                None if parent is None else read_state(state_files[parent]),
                device=on,
                checkpoint=checkpoint,
                checkpoint_seconds=checkpoint_seconds,
                interrupted=interrupted,
            )
        except Interrupted as stop:
            log.error("%s", stop)
            raise SystemExit(130) from None
        seconds = time.monotonic() - begun
        provenance = {
            "fingerprint": segment.fingerprint,
            "device": device_name(result.state.theta),
            "threads": threads,
            "seconds": round(seconds, 2),
            "chunk_halvings": result.halvings,
        }
        write_state(result.state, state, name)
        if result.snapshots is not None:
            write_dataset(result.snapshots, Path(next(snapshot_files)), provenance)
        write_dataset(result.trajectory, trajectory, provenance)
        log.info(
            "%s: %s at step %d by %s, %.1f s",
            name,
            result.trajectory.attrs["status"],
            result.state.step,
            result.trajectory.attrs["stopped_by"],
            seconds,
        )
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
