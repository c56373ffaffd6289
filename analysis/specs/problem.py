"""The problem that is minimised: model, data and loss."""

from __future__ import annotations

from typing import Literal

from analysis.specs.base import Count, Frozen, Size
from analysis.specs.kinds import ModelSpec


class DataSpec(Frozen):
    """The first `examples` training examples of the subset `train`, and the first `test_examples` of `test`.

    The last `holdout` training examples are never trained on, and the Hessian is computed on them. If there are none
    (0), it is the Hessian of the training loss.
    """

    train: str
    train_sha256: str
    examples: Count
    test: str
    test_sha256: str
    test_examples: Count
    scaling: Literal["unit", "channel", "pixel", "pixel-all"] = "unit"  # images
    pooling: Count = 1  # images: averaged over squares of this many pixels a side
    max_length: Count = 64  # text, in words or ids
    holdout: Size = 0


class ProblemSpec(Frozen):
    """The model, data and loss of a problem. `k` is the dimension of the dominant subspace."""

    data: DataSpec
    model: ModelSpec
    loss: Literal["mse", "cross_entropy", "value"]  # value: the output itself, of toys
    k: Count
    dtype: Literal["float32", "float64"] = "float32"
