"""Which GPU a job works on, where several jobs share several."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from analysis.execution.locks import take
from sharpflat.errors import InputError

# Of a job of the workflow: its profile says what there is.
WITHOUT_GPU = (
    "on this machine, give snakemake --workflow-profile workflow/profiles/local (make: WORKFLOW=local), or --resources "
    "gpu=0; on a cluster, set gpu: 0, or a partition with GPUs, in workflow/profiles/slurm/stages.yaml"
)


@contextmanager
def share(device: str, otherwise: str = "--device cpu takes the CPU") -> Iterator[str]:
    """The device to work on, within the context: for "cuda" the GPU with the fewest jobs, any other as it is.

    A job holds the lock of a place on a GPU, the first that is free: first places first, so that GPUs fill up evenly.
    The system frees the place of one that is killed. How many jobs there are at once is for whoever starts them
    (the workflow engine's resource `gpu`, `--jobs`).

    Args:
        device: as in `python -m analysis run --device`.
        otherwise: what to do where there is no GPU, for whoever started the job.

    Raises:
        InputError: for "cuda" where there is no GPU, or if the locks' folder is not writable.
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
