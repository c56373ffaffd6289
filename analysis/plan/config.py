"""Models of the configuration files.

`experiments.yaml` says what is trained and drawn; a profile (`quick.yaml`, …) says with which numbers. Both are
read here, before any job starts, and nothing else reads them. `analysis.plan.join` joins the two.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from analysis.specs import (
    Count,
    Decay,
    EnergiesSpec,
    FilterSpec,
    Fraction,
    Frozen,
    Positive,
    ProbeSpec,
    Real,
    Seed,
    Several,
    Size,
    StopSpec,
)


def _no_device(name: str) -> str:
    if name in {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}:
        raise PydanticCustomError("name", "no file can have this name on Windows")
    return name


def _one_line(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise PydanticCustomError("text", "input should be one line of printable characters, no space around it")
    return text


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise PydanticCustomError("twice", "names {name} twice", {"name": repr(twice[0])})
    return names


# Names become parts of paths, so they hold nothing that could leave a folder.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60), AfterValidator(_no_device)]
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_each_once)]
# Labels are drawn: a dollar would begin a formula.
Label = Annotated[str, StringConstraints(pattern=r"^[^<>&\"'\\/$]+$", max_length=80), AfterValidator(_one_line)]
Caption = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_one_line)]


# ---------------------------------------------------------------- experiments.yaml
class Setting(Frozen):
    """A kind of model with its loss. Data and sizes are the profile's."""

    title: Label
    model: Name
    loss: Literal["mse", "cross_entropy", "value"] = "mse"


Varied = Literal["seed", "learning_rate", "holdout", "k", "refresh_every", "step", "alpha_dom", "beta_bulk"]
OF_THE_BEGINNING = ("seed", "holdout")  # cannot change on the way: another sampler, other examples held out


class Segment(Frozen):
    """One update rule, run from where `parent` ends, in each of `settings`.

    `batch` is "full", "mini" (without replacement within an epoch) or "uniform" (with replacement). GD is SGD on the
    full batch. `measures` says what is measured besides the usual, and in which settings; `spectrum` whether the
    largest eigenvalues and the alignment are.

    `varies` makes it a family: one segment for each combination of the values that the profile gives (but α = β = 0,
    which does not move). `step` is where it ends, `k` the filter's. Its descendants are families too; seed, learning
    rate and holdout go on in them.
    """

    settings: Names
    parent: Name | None = None
    rule: Literal["sgd", "gd", "sam", "adam"]
    batch: Literal["mini", "uniform", "full"] | None = None  # "full" for gd, else "mini"
    momentum: Decay = 0.0
    measures: dict[Literal["rates", "snapshots"], Names] = Field(default_factory=dict)
    spectrum: bool = True
    varies: tuple[Varied, ...] = ()
    alpha_dom: Real = 1.0
    beta_bulk: Real = 1.0
    stop: Literal["steps", "aligned"] = "steps"

    @property
    def full_batch(self) -> bool:
        return self.batch == "full" or self.rule == "gd"


Reads = Literal["trajectories", "snapshots", "distances", "energies"]


class Figure(Frozen):
    """Drawn by analysis/figures/<module>.py from runs, each named by its last segment.

    `reads` says what besides the runs' trajectories: their snapshots of θ, the distances between the two runs, or the
    energies along the runs.
    """

    module: Name
    caption: Caption
    settings: Names
    runs: Annotated[dict[Label, Name], Field(min_length=1)]
    reads: Reads = "trajectories"


class Claim(Frozen):
    """Judged by the function of the same name in analysis/claims."""

    settings: Names
    runs: Annotated[dict[Label, Name], Field(min_length=1)]
    reads: Reads = "trajectories"


class Experiments(Frozen):
    settings: dict[Name, Setting]
    segments: dict[Name, Segment]
    figures: dict[Name, Figure]
    claims: dict[Name, Claim] = Field(default_factory=dict)


# ---------------------------------------------------------------- quick.yaml, laptop.yaml, paper.yaml
class Data(Frozen):
    """The first `examples` of a training subset and `test_examples` of a test subset (all, if not given)."""

    train: Name
    test: Name
    examples: Count | None = None
    test_examples: Count | None = None
    scaling: Literal["unit", "channel", "pixel"] = "unit"
    pooling: Count = 1
    max_length: Count = 64


class Probes(Frozen):
    """Intervals in steps. `rates` and `snapshots` are for the segments that measure them."""

    loss: Count
    test: Count
    spectrum: Count
    rates: Count | None = None
    snapshots: Count | None = None
    tolerance: Positive = ProbeSpec.model_fields["tolerance"].default
    rates_tolerance: Positive = ProbeSpec.model_fields["rates_tolerance"].default
    ema_factor: Decay = ProbeSpec.model_fields["ema_factor"].default


class SomeProbes(Frozen):
    """What is other in one segment than in its setting."""

    loss: Count | None = None
    test: Count | None = None
    spectrum: Count | None = None
    rates: Count | None = None
    snapshots: Count | None = None
    tolerance: Positive | None = None


class Values(Frozen):
    """The values of what a segment varies in."""

    seed: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    learning_rate: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    holdout: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    k: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    refresh_every: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    step: Annotated[tuple[Size, ...], Field(min_length=1)] | None = None
    alpha_dom: Annotated[tuple[Real, ...], Field(min_length=1)] | None = None
    beta_bulk: Annotated[tuple[Real, ...], Field(min_length=1)] | None = None


class Energies(Frozen):
    """What the curvature stage takes: random vectors for energies and densities, Lanczos steps, precision."""

    probes: Several = EnergiesSpec.model_fields["probes"].default
    density_probes: Count = EnergiesSpec.model_fields["density_probes"].default
    density_steps: Count = EnergiesSpec.model_fields["density_steps"].default
    tolerance: Positive = EnergiesSpec.model_fields["tolerance"].default


class Numbers(Frozen):
    """One segment's length: `steps` more, or up to the global `step`. `aligned` segments end earlier, as soon
    as the EMA of χ_k(∇L) passes `alignment_ema`. `rho` is SAM's. The rest replaces the setting's numbers; `values` are
    those of what the segment varies in."""

    steps: Size | None = None
    step: Size | None = None
    alignment_ema: Fraction | None = None
    learning_rate: Positive | None = None
    rho: Positive | None = None
    probes: SomeProbes = SomeProbes()
    values: Values = Values()


class SettingNumbers(Frozen):
    data: Data
    model: dict[str, Any]
    k: Count | None = None  # number of classes, if not given
    seed: Seed = 0
    dtype: Literal["float32", "float64"] = "float32"
    learning_rate: Positive
    batch_size: Count
    holdout: Size = 0
    refresh_every: Count = 1
    tolerance: Positive = FilterSpec.model_fields["tolerance"].default
    probes: Probes
    energies: Energies = Energies()
    segments: dict[Name, Numbers]


class Profile(Frozen):
    title: Label
    batch_steps: Count = 2000  # segments that can begin together share a process up to so many refreshes' worth
    batch_figures: Count = 8  # so many figures share a process
    settings: Annotated[dict[Name, SettingNumbers], Field(min_length=1)]


def stop_spec(stop: str, numbers: Numbers, varied: int | None = None) -> StopSpec:
    """The stop of a segment (`stop` of experiments.yaml) with a profile's numbers.

    `varied` is the step where it ends, if it varies in that.

    Raises:
        ValueError: where the numbers do not fit; the message names the key relative to the segment.
    """
    if varied is not None:
        if numbers.steps is not None or numbers.step is not None:
            raise ValueError("steps and step are not allowed: this segment varies in step")
        numbers = numbers.model_copy(update={"step": varied})
    if (numbers.steps is None) == (numbers.step is None):
        raise ValueError("give exactly one of steps (so many more) and step (up to that one)")
    if stop == "aligned" and numbers.alignment_ema is None:
        raise ValueError("alignment_ema is missing: this segment stops when the alignment passes it")
    if stop != "aligned" and numbers.alignment_ema is not None:
        raise ValueError("alignment_ema is not allowed: this segment stops by steps")
    return StopSpec(steps=numbers.steps, step=numbers.step, alignment_ema=numbers.alignment_ema)
