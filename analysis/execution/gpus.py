"""Chooses the GPU of a job when several jobs share several GPUs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from analysis.execution.locks import take
from sharpflat.errors import InputError

# The advice for a job of the workflow, whose profile decides about GPUs.
WITHOUT_GPU = (
    "on this machine, give snakemake --workflow-profile workflow/profiles/local (make: WORKFLOW=local), or --resources "
    "gpu=0; on a cluster, set gpu: 0, or a partition with GPUs, in workflow/profiles/slurm/stages.yaml"
)


@contextmanager
def share(device: str, otherwise: str = "--device cpu takes the CPU") -> Iterator[str]:
    """The device to use within the context. For "cuda", it is the GPU with the fewest jobs; any other device is
    unchanged.

    A job holds the lock of the first free place on a GPU. All first places come before the second ones, so that GPUs
    fill up evenly. If a job is killed, the system frees its place. Whoever starts the jobs limits their number (the
    workflow engine's resource `gpu`, or `--jobs`).

    Args:
        device: as in `python -m analysis run --device`.
        otherwise: advice for the message if there is no GPU.

    Raises:
        InputError: the device is "cuda" and there is no GPU, or the folder of the locks is not writable.
    """
    if device != "cuda":
        yield device
        return
    import torch  # here: it takes seconds

    gpus = torch.cuda.device_count()
    if not gpus:
        raise InputError(f"no GPU: torch finds no CUDA device here; {otherwise}.")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(gpus)]  # the same for all processes
    folder = Path(tempfile.gettempdir()) / f"sharp-and-flat-{os.getuid()}"
    places = ((index, folder / f"gpu-{names[index]}-{n}.lock") for n in count() for index in range(gpus))
    index, lock = next((index, lock) for index, path in places if (lock := take(path)) is not None)
    try:
        yield f"cuda:{index}"
    finally:
        os.close(lock)
