"""Resolved specifications: what a segment or a figure is made from, every value explicit.

Plain frozen values and nothing else (no behaviour), free of torch, so the workflow can read them in
milliseconds. They are hashed by value into the names of results (`analysis.plan.join`); this module is therefore
the only one that a code fingerprint leaves out.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _number(value: object) -> object:
    """YAML reads `1e-3` as a string; take it as the number it is. `yes` is none."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a valid number")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]
LARGEST = 2**31 - 1  # of counts: more than any machine has room or time for
Count = Annotated[int, Field(ge=1, le=LARGEST, strict=True)]
Several = Annotated[int, Field(ge=2, le=LARGEST, strict=True)]
Size = Annotated[int, Field(ge=0, le=LARGEST, strict=True)]
Layers = Annotated[int, Field(ge=1, le=1000, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Fraction = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)]
Decay = Annotated[float, BeforeValidator(_number), Field(ge=0, lt=1)]  # of a moving average


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------- models (sizes; the code is analysis/models/<kind>.py)
class MLPSpec(Frozen):
    kind: Literal["mlp"] = "mlp"
    width: Count
    hidden_layers: Layers = 2
    activation: Literal["tanh", "relu"] = "tanh"


class CNNSpec(Frozen):
    kind: Literal["cnn"] = "cnn"
    channels: Count
    convolutions: Layers = 2


class TransformerSpec(Frozen):
    kind: Literal["transformer"] = "transformer"
    width: Count
    heads: Count
    layers: Layers = 2
    feed_forward: Count


class QuadraticSpec(Frozen):
    """Two parameters (x, y); the formulas of both toys are analysis/toys.py's."""

    kind: Literal["quadratic"] = "quadratic"
    sharp: Positive = 1000.0
    flat: Positive = 1.0
    noise: Real = 100.0
    start: tuple[Real, Real] = (1.0, 1.0)


class ValleySpec(Frozen):
    kind: Literal["valley"] = "valley"
    sharp: Positive = 100.0
    flat: Positive = 1.0
    bend: Real = 0.1
    noise: Real = 6.0
    start: tuple[Real, Real] = (0.5, 2.0)


class VGGSpec(Frozen):
    kind: Literal["vgg11"] = "vgg11"
    width: Count  # channels of the first convolution; 64 in configuration A
    initialisation: Literal["default", "he"] = "default"  # "he": see analysis.models.initialise.redraw_convolutions


class ResNetSpec(Frozen):
    kind: Literal["resnet8"] = "resnet8"
    width: Count  # channels of the first convolution; usually 16


ModelSpec = Annotated[
    MLPSpec | CNNSpec | TransformerSpec | VGGSpec | ResNetSpec | QuadraticSpec | ValleySpec,
    Field(discriminator="kind"),
]
MODELS: dict[str, type[Frozen]] = {
    "mlp": MLPSpec,
    "cnn": CNNSpec,
    "transformer": TransformerSpec,
    "quadratic": QuadraticSpec,
    "valley": ValleySpec,
    "vgg11": VGGSpec,
    "resnet8": ResNetSpec,
}

# ---------------------------------------------------------------- data


class DataSpec(Frozen):
    """`examples` first training examples of subset `train`, tested on the first `test_examples` of `test`.

    The last `holdout` of these examples are never trained on: the Hessian is taken on them. 0: there are none, and it
    is that of the training loss.
    """

    train: str
    train_sha256: str
    examples: Count
    test: str
    test_sha256: str
    test_examples: Count
    scaling: Literal["unit", "channel", "pixel"] = "unit"  # images
    pooling: Count = 1  # images: averaged over squares of this many pixels a side
    max_length: Count = 64  # text, in words
    holdout: Size = 0


class ProblemSpec(Frozen):
    """Model, data and loss: what is minimised. `k` is the dimension of the dominant subspace."""

    data: DataSpec
    model: ModelSpec
    loss: Literal["mse", "cross_entropy", "value"]  # value: the output itself, of toys
    k: Count
    dtype: Literal["float32", "float64"] = "float32"


# ---------------------------------------------------------------- training


class _Rule(Frozen):
    """`batch_size` None is the full batch; minibatches are drawn without replacement within an epoch unless
    `replacement` says otherwise."""

    learning_rate: Positive
    batch_size: Count | None
    replacement: bool = False


class SGDSpec(_Rule):
    """SGD, and on the full batch GD; `momentum` 0 is none."""

    kind: Literal["sgd"] = "sgd"
    momentum: Decay = 0.0


class SAMSpec(_Rule):
    """Sharpness-aware minimisation with perturbation radius `rho`."""

    kind: Literal["sam"] = "sam"
    rho: Positive


class AdamSpec(_Rule):
    """Adam; `momentum` is β_1, and 0 is Adam without momentum."""

    kind: Literal["adam"] = "adam"
    momentum: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: Positive = 1e-8


# The code of an update rule is analysis/rules/<kind>.py.
RuleSpec = Annotated[SGDSpec | SAMSpec | AdamSpec, Field(discriminator="kind")]


class FilterSpec(Frozen):
    """update ← α_dom P_k update + β_bulk P_k^⊥ update, with P_k recomputed every `refresh_every` steps.

    `k` None is the problem's: then the filter's subspace is the one that probes speak of.
    """

    alpha_dom: Real = 1.0
    beta_bulk: Real = 1.0
    k: Count | None = None
    refresh_every: Count = 1
    tolerance: Positive = 1e-2  # residuals relative to λ_k


class StopSpec(Frozen):
    """Stop at the global step `step`, or after `steps` more, or as soon as the alignment's EMA passes a threshold.

    Exactly one of `steps` and `step`; with `alignment_ema` it is the longest the segment may last.
    """

    steps: Size | None = None
    step: Size | None = None
    alignment_ema: Fraction | None = None


class ProbeSpec(Frozen):
    """Intervals in steps; each probe also runs at a segment's first and last step. None: not measured."""

    loss: Count
    test: Count
    spectrum: Count | None
    rates: Count | None = None  # effective learning rates
    snapshots: Count | None = None  # θ
    tolerance: Positive = 1e-2  # residuals of the eigenpairs relative to the smallest eigenvalue asked for
    # Tight: of a gradient that lies in the bulk but for χ_k = 1e-3, what a subspace that is off by 1e-2 takes for its
    # dominant component is mostly bulk, and Dom-LR comes out as Bulk-LR's.
    rates_tolerance: Positive = 1e-4
    ema_factor: Decay = 0.9


class SegmentSpec(Frozen):
    """Everything that decides a segment's arrays, but its parent's state and the code."""

    problem: ProblemSpec
    seed: Seed
    rule: RuleSpec
    filter: FilterSpec | None  # None: the update as it is, and no curvature for it
    stop: StopSpec
    probes: ProbeSpec
    parent: str | None


# ---------------------------------------------------------------- curvature along a trained segment


class EnergiesSpec(Frozen):
    """What the curvature stage makes of a segment's snapshots of θ.

    At each: the dominant subspace, the energies of H, H_o and H_f in it and in the bulk (`probes` random vectors), and
    their spectral densities (`density_probes` vectors, `density_steps` Lanczos steps each).
    """

    problem: ProblemSpec
    segment: str  # whose snapshots
    seed: Seed = 0  # of the random vectors
    probes: Several = 32
    density_probes: Count = 4
    density_steps: Count = 40
    tolerance: Positive = 1e-3  # residuals of the eigenvectors relative to λ_k
