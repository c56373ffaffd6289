"""No operation of ours is among those that torch refuses on a GPU in deterministic mode.

That is seen without one: the operations are recorded on the CPU. Where a GPU would take another kernel for the same
operation (a convolution of cuDNN), torch has a deterministic one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from analysis.measurement.energies import energies_along
from analysis.specs import EnergiesSpec, StopSpec
from analysis.training.problem import make_problem
from tests.gpu.test_training_cuda import FILTER, MODELS, RULES, dataset, trained, wanted

# As `torch.use_deterministic_algorithms` of torch 2.11 lists them, under the names of its dispatcher. Of NLLLoss that
# is the form for images alone: torch's library for CUDA names no other.
REFUSED = {
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "_ctc_loss_backward",
    "_embedding_bag_backward",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d_backward",
    "avg_pool3d_backward",
    "bincount",
    "cumsum",
    "cumsum_",
    "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "histc",
    "max_pool3d_with_indices_backward",
    "max_unpool2d",
    "max_unpool3d",
    "median",
    "nll_loss2d_forward",
    "put",
    "put_",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
    "scatter_reduce",
    "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward",
    "upsample_linear1d_backward",
    "upsample_trilinear3d_backward",
}

STOP = StopSpec(steps=5)


class Recorded(TorchDispatchMode):
    """The operations that reach a device, by the names of torch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("model", "loss"), [*((model, "mse") for model in MODELS), ("mlp", "cross_entropy")])
@pytest.mark.slow
def test_training_and_measuring_call_nothing_that_is_refused(model: str, loss: str) -> None:
    made = wanted(model, filter=FILTER, stop=STOP)
    problem = made.problem.model_copy(update={"loss": loss})
    made = made.model_copy(update={"problem": problem})
    with Recorded() as recorded:
        snapshots = trained(made, "cpu").snapshots
        asked = EnergiesSpec(problem=problem, segment="x", probes=2, density_probes=1, density_steps=5, tolerance=1e-6)
        data = (dataset(model, 0), dataset(model, 1))
        energies_along(asked, make_problem(problem, *data, made.seed, "cpu"), snapshots)
    assert "mm" in recorded.names
    assert not recorded.names & REFUSED


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_calls_what_is_refused(rule: str) -> None:
    with Recorded() as recorded:
        trained(wanted(rule=rule, stop=STOP), "cpu")
    assert "mm" in recorded.names
    assert not recorded.names & REFUSED


def test_what_is_refused_would_be_seen() -> None:
    """Also below the transforms with which products are made."""
    assert [name for name in REFUSED if not hasattr(torch.ops.aten, name)] == [], "no such operation"
    image = torch.randn(2, 3, 5, 5)
    with Recorded() as recorded:
        torch.func.vmap(torch.func.grad(lambda x: F.adaptive_avg_pool2d(x[None], 2).sum()))(image)
        torch.func.jvp(lambda x: x.cumsum(0), (image,), (image,))
    assert {"_adaptive_avg_pool2d_backward", "cumsum"} <= recorded.names
