"""The device of a test: the CPU, so that the tests themselves run everywhere, and a GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import pytest
import torch

NEEDS_CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def devices(*values: Iterable[Any]) -> list[Any]:
    """Each of the product of the values on a GPU; the first also on the CPU, where the test compares equal runs."""
    rows = list(product(*values))
    return [(*rows[0], "cpu"), *(pytest.param(*row, "cuda", marks=NEEDS_CUDA) for row in rows)]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Its name; what a job sets for its process is restored afterwards."""
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    yield request.param
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_deterministic_debug_mode("default")
