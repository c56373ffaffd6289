"""The device of a job's tensors, and torch's settings for repeatable numbers."""

from __future__ import annotations

import os

import torch

from sharpflat.errors import InputError


def prepare(device: str, threads: int) -> torch.device:
    """Sets torch up for a job: only deterministic algorithms, and float32 products in float32 (no TF32).

    The device is not part of any name. The files of a job record it in their provenance.

    Args:
        device: "cpu", "cuda" or as in "cuda:1".
        threads: number of torch threads on the CPU. It is fixed, because another number changes the rounding.

    Raises:
        InputError: torch finds no such device.
    """
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # cuBLAS reads it when it starts; set later, it is refused
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(
        "error"
    )  # use_deterministic_algorithms would import the compiler, which takes seconds
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    try:
        found = torch.device(device)
    except RuntimeError:
        found = torch.device("meta")
    if found.type == "cpu":
        return found
    count = torch.cuda.device_count()
    if found.type != "cuda" or (found.index or 0) >= count:
        there = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
        raise InputError(f"device: found {device!r}; torch finds here: {there}")
    found = torch.device("cuda", found.index or 0)
    torch.cuda.set_device(found)  # otherwise each process also takes memory of the first GPU
    return found
