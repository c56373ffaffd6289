"""Models of the configuration files.

`experiments.yaml` says what is trained and drawn; a profile (`quick.yaml`, …) says with which numbers. Both are
read here, before any job starts, and nothing else reads them. `analysis.plan.join` joins the two. What can be said of
a model, an update rule or a probe is in the file of its kind (`analysis.specs.kinds`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, create_model
from pydantic_core import PydanticCustomError

from analysis.specs import (
    Count,
    EnergiesSpec,
    FilterSpec,
    Fraction,
    Frozen,
    Positive,
    Real,
    Refreshes,
    RuleNumbers,
    Seed,
    Several,
    Size,
    StopSpec,
)
from analysis.specs.kinds import PROBES, RULES, kinds, numbers_of, with_every
from analysis.specs.panels import Label, Name, one_line


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise PydanticCustomError("twice", "names {name} twice", {"name": repr(twice[0])})
    return names


Kind = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$", max_length=60)]  # a file is named after it
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_each_once)]
Caption = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(one_line)]


# ---------------------------------------------------------------- experiments.yaml
class Setting(Frozen):
    """A kind of model with its loss. Data and sizes are the profile's."""

    title: Label
    model: Kind
    loss: Literal["mse", "cross_entropy", "value"] = "mse"


Varied = Literal["seed", "learning_rate", "holdout", "k", "refresh_every", "step", "alpha_dom", "beta_bulk"]
Seeds = Literal["all", "first"]  # of those that a segment varies in, which its users take
ALIGNMENT = "spectrum"  # the probe that measures the alignment
GD = "gd"  # another name for sgd on the full batch
OF_THE_BEGINNING = ("seed", "holdout")  # cannot change on the way: another sampler, other examples held out


class Rule(Frozen):
    """An update rule's kind, with numbers that are the rule's own."""

    model_config = ConfigDict(extra="allow")
    kind: Kind


def _chosen(rule: object) -> object:
    if not isinstance(rule, str | dict):
        raise PydanticCustomError("rule", "Input should be an update rule, or a mapping with its kind and numbers")
    return {"kind": rule} if isinstance(rule, str) else rule


class Segment(Frozen):
    """One update rule, run from where `parent` ends, in each of `settings`.

    `rule` is the rule's kind, or a mapping of its `kind` and of numbers that are the rule's own. GD is SGD on the full
    batch. `batch` is "full", "mini" (without replacement within an epoch) or "uniform" (with replacement). `measures`
    says which probes besides the usual measure, and in which settings; `without`, which of the usual do not.

    `varies` makes it a family: one segment for each combination of the values that the profile gives (but α = β = 0,
    which does not move). `step` is where it ends, `k` the filter's. Its descendants are families too; seed, learning
    rate and holdout go on in them. Where the profile gives no seeds, it has the setting's. With `seeds: first` it goes
    on from the first seed of a family alone.
    """

    settings: Names
    parent: Name | None = None
    seeds: Seeds = "all"
    rule: Annotated[Rule, BeforeValidator(_chosen)]
    batch: Literal["mini", "uniform", "full"] | None = None  # "full" for gd, else "mini"
    measures: dict[Kind, Names] = Field(default_factory=dict)
    without: Annotated[tuple[Kind, ...], AfterValidator(_each_once)] = ()
    varies: tuple[Varied, ...] = ()
    alpha_dom: Real = 1.0
    beta_bulk: Real = 1.0
    stop: Literal["steps", "aligned"] = "steps"

    @property
    def rule_kind(self) -> str:
        """The kind that a file is named after."""
        return "sgd" if self.rule.kind == GD else self.rule.kind

    @property
    def full_batch(self) -> bool:
        return self.batch == "full" or self.rule.kind == GD


Reads = Literal["trajectories", "snapshots", "distances", "energies"]


class Figure(Frozen):
    """Drawn by analysis/figures/<module>.py from runs, each named by its last segment.

    `reads` says what besides the runs' trajectories: their snapshots of θ, the distances between the two runs, or the
    energies along the runs. `seeds` says whether it takes all seeds of its runs, or the first.
    """

    module: Name
    caption: Caption
    settings: Names
    runs: Annotated[dict[Label, Name], Field(min_length=1)]
    reads: Reads = "trajectories"
    seeds: Seeds = "all"


class Claim(Frozen):
    """Judged by the function of the same name in analysis/claims."""

    settings: Names
    runs: Annotated[dict[Label, Name], Field(min_length=1)]
    reads: Reads = "trajectories"
    seeds: Seeds = "all"


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
    scaling: Literal["unit", "channel", "pixel", "pixel-all"] = "unit"
    pooling: Count = 1
    max_length: Count = 64


def some_of(numbers: type[Frozen], base: type[Frozen] = Frozen) -> type[Frozen]:
    """A model of some of the numbers that a kind has beyond those of `base`; those that are given are checked."""
    types = get_type_hints(numbers, include_extras=True)
    fields: dict[str, Any] = {
        name: (types[name], None) for name in numbers.model_fields if name not in (*base.model_fields, "kind")
    }
    return create_model(numbers.__name__, __base__=Frozen, **fields)


def rule_numbers(kind: str) -> type[Frozen]:
    """A model of some of the numbers that are an update rule's own."""
    return some_of(numbers_of(RULES, kind), RuleNumbers)


def _of_probes(name: str, doc: str, *, some: bool) -> type[Frozen]:
    fields: dict[str, Any] = {}
    for kind in kinds(PROBES):
        numbers = numbers_of(PROBES, kind)
        of: Any = Annotated[some_of(numbers) if some else numbers, BeforeValidator(with_every)]
        fields[kind] = (of, ...) if numbers.everywhere and not some else (of | None, None)
    return create_model(name, __base__=Frozen, __doc__=doc, **fields)


Probes = _of_probes("Probes", "The numbers of each probe by kind; a bare number is its interval in steps.", some=False)
SomeProbes = _of_probes("SomeProbes", "One segment's overrides of its setting's probes.", some=True)


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


class SegmentNumbers(Refreshes):
    """One segment's length: `steps` more, or up to the global `step`. `aligned` segments end earlier, as soon
    as the EMA of χ_k(∇L) passes `alignment_ema`. `rule` has numbers of the update rule's own. The rest replaces the
    setting's numbers; `values` are those of what the segment varies in."""

    steps: Size | None = None
    step: Size | None = None
    alignment_ema: Fraction | None = None
    learning_rate: Positive | None = None
    rule: dict[str, Any] = Field(default_factory=dict)
    probes: SomeProbes = SomeProbes()  # type: ignore[valid-type]
    values: Values = Values()


class SettingNumbers(Refreshes):
    data: Data
    model: dict[str, Any]
    k: Count | None = None  # number of classes, if not given
    seed: Seed = 0
    dtype: Literal["float32", "float64"] = "float32"
    learning_rate: Positive
    batch_size: Count
    holdout: Size = 0
    tolerance: Positive = FilterSpec.model_fields["tolerance"].default
    probes: Probes  # type: ignore[valid-type]
    energies: Energies = Energies()
    segments: dict[Name, SegmentNumbers]


class Profile(Frozen):
    title: Label
    batch_steps: Count = 2000  # segments that can begin together share a process up to so many refreshes' worth
    batch_figures: Count = 8  # so many figures share a process
    settings: Annotated[dict[Name, SettingNumbers], Field(min_length=1)]


def stop_spec(stop: str, numbers: SegmentNumbers, varied: int | None = None) -> StopSpec:
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
