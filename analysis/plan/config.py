"""Models of the configuration files.

`experiments.yaml` describes what is trained and drawn, and a profile (`quick.yaml`, …) contains the numbers. Both are
read only here, before any job starts, and `analysis.plan.join` joins them. The numbers of a model, an update rule or a
probe are defined in the file of its kind (`analysis.specs.kinds`).
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

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


T = TypeVar("T")
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$", max_length=60)]  # a file is named after it
Names = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_each_once)]
Caption = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(one_line)]


# ---------------------------------------------------------------- experiments.yaml
class Setting(Frozen):
    """A kind of model with its loss. The profile sets the data and the sizes."""

    title: Annotated[Label, Field(description="Name in figures and the report")]
    model: Annotated[Kind, Field(description="Kind of the model: a file of analysis/models")]
    loss: Annotated[
        Literal["mse", "cross_entropy", "value"],
        Field(description="Loss of an example; `value` is the model's own output, for toys"),
    ] = "mse"


Varied = Literal[
    "seed", "learning_rate", "batch_size", "holdout", "k", "refresh_every", "step", "alpha_dom", "beta_bulk"
]
Seeds = Literal["all", "first"]  # which seeds of a family to use
ALIGNMENT = "spectrum"  # the probe that measures the alignment
GD = "gd"  # another name for sgd on the full batch
OF_THE_BEGINNING = ("seed", "holdout")  # cannot change later: they decide the sampler and the held-out examples


class Rule(Frozen):
    """An update rule's kind, and the rule's own numbers."""

    model_config = ConfigDict(extra="allow")
    kind: Annotated[Kind, Field(description="Kind of the update rule: a file of analysis/rules, or `gd`")]


def _chosen(rule: object) -> object:
    if not isinstance(rule, str | dict):
        raise PydanticCustomError("rule", "Input should be an update rule, or a mapping with its kind and numbers")
    return {"kind": rule} if isinstance(rule, str) else rule


class Segment(Frozen):
    """One update rule that starts where `parent` ends, in each of `settings`.

    `varies` makes it a family, with one segment for each combination of the values in the profile, except α = β = 0,
    which does not move. `step` is the step at which it ends, and `k` is that of the filter. Its descendants are
    families too, and inherit the seed, the learning rate, the batch size and the holdout of their parents. If the
    profile gives no seeds, the segment has the setting's seed.
    """

    settings: Annotated[Names, Field(description="Settings in which it is trained")]
    parent: Annotated[
        Name | None, Field(description="Segment from whose end it starts; if omitted, the initialisation")
    ] = None
    seeds: Annotated[Seeds, Field(description="Start from all seeds of the parent, or only from the first")] = "all"
    rule: Annotated[
        Rule,
        BeforeValidator(_chosen, json_schema_input_type=Kind | Rule),
        Field(description="Update rule: its kind, or a mapping of `kind` and numbers; `gd` is full-batch `sgd`"),
    ]
    batch: Annotated[
        Literal["mini", "uniform", "full"] | None,
        Field(
            description="Minibatches without (`mini`) or with replacement (`uniform`), or all examples (`full`); "
            "if omitted, `full` for `gd` and `mini` for other rules"
        ),
    ] = None
    measures: Annotated[
        dict[Kind, Names], Field(description="Additional probes, each with the settings in which it measures")
    ] = Field(default_factory=dict)
    without: Annotated[
        tuple[Kind, ...],
        AfterValidator(_each_once),
        Field(description="Usual probes that are switched off here"),
    ] = ()
    varies: Annotated[
        tuple[Varied, ...], Field(description="Makes it a family whose members differ in these numbers")
    ] = ()
    alpha_dom: Annotated[Real, Field(description="α, weight of an update's dominant component [1]")] = 1.0
    beta_bulk: Annotated[Real, Field(description="β, weight of an update's bulk component [1]")] = 1.0
    stop: Annotated[
        Literal["steps", "aligned"],
        Field(description="It ends after its steps, or earlier when the gradient is aligned"),
    ] = "steps"

    @property
    def rule_kind(self) -> str:
        """The kind, which is the name of a file."""
        return "sgd" if self.rule.kind == GD else self.rule.kind

    @property
    def full_batch(self) -> bool:
        return self.batch == "full" or self.rule.kind == GD


Reads = Literal["trajectories", "snapshots", "distances", "energies"]


class FromRuns(Frozen):
    """Something that is drawn or judged from runs, in each of `settings`."""

    settings: Annotated[Names, Field(description="Settings, with one panel or one verdict each")]
    runs: Annotated[dict[Label, Name], Field(min_length=1, description="Runs by label, each given by its last segment")]
    reads: Annotated[
        Reads,
        Field(
            description="Data to read besides trajectories: snapshots of θ, distances between the two runs, or energies"
        ),
    ] = "trajectories"
    seeds: Annotated[Seeds, Field(description="Use all seeds of the runs, or only the first")] = "all"


class Figure(FromRuns):
    """A figure or table, drawn by analysis/figures/<module>.py."""

    module: Annotated[Name, Field(description="Module of analysis/figures that draws it, with hyphens")]
    caption: Annotated[Caption, Field(description="What the figure shows, in one line")]
    partial: Annotated[
        bool, Field(description="An archive may hold some of a panel's runs and lack others, and the panel is drawn")
    ] = False


class Claim(FromRuns):
    """A claim, judged by the function that analysis/claims/__init__.py lists under the same name."""


class Experiments(Frozen):
    """The experiments: what is trained, measured, drawn and judged."""

    settings: Annotated[dict[Name, Setting], Field(description="Kinds of models with a loss, by name")]
    segments: Annotated[dict[Name, Segment], Field(description="Stretches of training with one update rule, by name")]
    figures: Annotated[dict[Name, Figure], Field(description="Figures and tables, by name")]
    claims: Annotated[dict[Name, Claim], Field(description="Claims to judge, by name")] = Field(default_factory=dict)


# ---------------------------------------------------------------- quick.yaml, laptop.yaml, paper.yaml
class Data(Frozen):
    """Training and test data: their names in analysis/data/catalogue.py, and how many examples are used."""

    train: Annotated[Name, Field(description="Training data")]
    test: Annotated[Name, Field(description="Test data")]
    examples: Annotated[
        Count | None, Field(description="Number of training examples, from the first on; if omitted, all [examples]")
    ] = None
    test_examples: Annotated[
        Count | None, Field(description="Number of test examples, from the first on; if omitted, all [examples]")
    ] = None
    scaling: Annotated[
        Literal["unit", "channel", "pixel", "pixel-all"],
        Field(
            description="Pixels from 0 to 1 (`unit`), or standardised by channel or by pixel with the statistics of "
            "the images used; `pixel-all` standardises by pixel with the statistics of the whole collection"
        ),
    ] = "unit"
    pooling: Annotated[Count, Field(description="Side of the squares over which images are averaged [pixels]")] = 1
    max_length: Annotated[Count, Field(description="Length to which sentences are cut [words]")] = 64


def some_of(numbers: type[Frozen], base: type[Frozen] = Frozen) -> type[Frozen]:
    """A model in which each of a kind's numbers, except those of `base`, is optional. Given numbers are checked."""
    types = get_type_hints(numbers, include_extras=True)
    fields: dict[str, Any] = {
        name: (types[name], Field(None, description=field.description))
        for name, field in numbers.model_fields.items()
        if name not in (*base.model_fields, "kind")
    }
    return create_model(numbers.__name__, __base__=Frozen, **fields)


@cache
def rule_numbers(kind: str) -> type[Frozen]:
    """A model in which each of an update rule's own numbers is optional."""
    return some_of(numbers_of(RULES, kind), RuleNumbers)


def _of_probes(name: str, doc: str, *, some: bool) -> type[Frozen]:
    fields: dict[str, Any] = {}
    for kind in kinds(PROBES):
        numbers = numbers_of(PROBES, kind)
        model: Any = some_of(numbers) if some else numbers
        of: Any = Annotated[model, BeforeValidator(with_every, json_schema_input_type=Count | model)]
        about = f"Numbers of the probe `{kind}`, or its interval [steps]"
        needed = numbers.everywhere and not some
        fields[kind] = (of, Field(description=about)) if needed else (of | None, Field(None, description=about))
    return create_model(name, __base__=Frozen, __doc__=doc, **fields)


Probes = _of_probes(
    "Probes", "The numbers of each probe by kind; a single number is its interval in steps.", some=False
)
SomeProbes = _of_probes("SomeProbes", "One segment's overrides of its setting's probes.", some=True)


Given = Annotated[tuple[T, ...], Field(min_length=1)]


class Values(Frozen):
    """The values of the numbers in which the members of a family differ."""

    seed: Annotated[Given[Seed] | None, Field(description="Seeds [1]")] = None
    learning_rate: Annotated[Given[Positive] | None, Field(description="Learning rates [1]")] = None
    batch_size: Annotated[Given[Count] | None, Field(description="Sizes of minibatches [examples]")] = None
    holdout: Annotated[
        Given[Count] | None,
        Field(description="Numbers of held-out examples [examples]"),
    ] = None
    k: Annotated[
        Given[Count] | None,
        Field(description="Dimensions of the filter's subspace [dimensions]"),
    ] = None
    refresh_every: Annotated[
        Given[Count] | None,
        Field(description="Intervals between refreshes of the subspace [steps]"),
    ] = None
    step: Annotated[
        Given[Size] | None,
        Field(description="Steps at which the segment ends, counted from the initialisation [steps]"),
    ] = None
    alpha_dom: Annotated[
        Given[Real] | None,
        Field(description="Weights of the dominant component [1]"),
    ] = None
    beta_bulk: Annotated[Given[Real] | None, Field(description="Weights of the bulk component [1]")] = None


class Energies(Frozen):
    """Numbers of the curvature stage, which measures energies and spectral densities at snapshots."""

    probes: Annotated[Several, Field(description="Number of random vectors for the energy in the bulk [vectors]")] = (
        EnergiesSpec.model_fields["probes"].default
    )
    density_probes: Annotated[Count, Field(description="Number of random vectors for a density [vectors]")] = (
        EnergiesSpec.model_fields["density_probes"].default
    )
    density_steps: Annotated[Count, Field(description="Number of Lanczos steps for each of these vectors [steps]")] = (
        EnergiesSpec.model_fields["density_steps"].default
    )
    tolerance: Annotated[
        Positive, Field(description="Largest residual of the dominant eigenvectors, relative to λ_k [1]")
    ] = EnergiesSpec.model_fields["tolerance"].default


class SegmentNumbers(Refreshes):
    """The length of one segment (`steps` or `step`), and numbers that replace those of its setting."""

    steps: Annotated[Size | None, Field(description="Length; with `alignment_ema`, the maximum length [steps]")] = None
    step: Annotated[
        Size | None,
        Field(description="Instead of `steps`: the step at which it ends, counted from the initialisation [steps]"),
    ] = None
    alignment_ema: Annotated[
        Fraction | None,
        Field(description="An `aligned` segment ends when the moving average of χ_k(∇L) exceeds this [1]"),
    ] = None
    learning_rate: Annotated[
        Positive | None, Field(description="Learning rate, if it differs from the setting's [1]")
    ] = None
    rule: Annotated[dict[str, Any], Field(description="The update rule's own numbers")] = Field(default_factory=dict)
    probes: Annotated[SomeProbes, Field(description="Numbers of probes that differ from the setting's")] = SomeProbes()  # type: ignore[valid-type]
    values: Annotated[Values, Field(description="Values of the numbers in which the segment varies")] = Values()


class SettingNumbers(Refreshes):
    """The numbers of one setting."""

    data: Annotated[Data, Field(description="Training and test data")]
    model: Annotated[dict[str, Any], Field(description="Sizes of the model")]
    k: Annotated[
        Count | None,
        Field(description="Dimension of the dominant subspace; if omitted, the number of classes [dimensions]"),
    ] = None
    seed: Annotated[Seed, Field(description="Seed of initialisation, minibatches and random vectors [1]")] = 0
    dtype: Annotated[Literal["float32", "float64"], Field(description="Precision of training and products")] = "float32"
    learning_rate: Annotated[Positive, Field(description="Learning rate η [1]")]
    batch_size: Annotated[Count, Field(description="Size of a minibatch [examples]")]
    holdout: Annotated[
        Size, Field(description="Number of held-out examples, on which the Hessian is computed; 0 for none [examples]")
    ] = 0
    tolerance: Annotated[
        Positive, Field(description="Largest residual of the filter's eigenvectors, relative to λ_k [1]")
    ] = FilterSpec.model_fields["tolerance"].default
    probes: Annotated[Probes, Field(description="Interval and precision of each probe")]  # type: ignore[valid-type]
    energies: Annotated[Energies, Field(description="Numbers of the curvature stage")] = Energies()
    segments: Annotated[dict[Name, SegmentNumbers], Field(description="Numbers of each segment")]


class Profile(Frozen):
    """The numbers of the experiments."""

    title: Annotated[Label, Field(description="Name in the report")]
    batch_steps: Annotated[
        Count, Field(description="Largest amount of work of the segments that share a process [refreshes]")
    ] = 2000
    batch_figures: Annotated[Count, Field(description="Number of figures that one process draws [figures]")] = 8
    settings: Annotated[
        dict[Name, SettingNumbers],
        Field(min_length=1, description="Numbers of each setting; settings that are left out are not run"),
    ]


def stop_spec(stop: str, numbers: SegmentNumbers, varied: int | None = None) -> StopSpec:
    """The stop of a segment (`stop` of experiments.yaml) with a profile's numbers.

    `varied` is the step at which it ends, if it varies in that.

    Raises:
        ValueError: the numbers do not fit. The message names the key relative to the segment.
    """
    if varied is not None:
        if numbers.steps is not None or numbers.step is not None:
            raise ValueError("steps and step are not allowed: this segment varies in step")
        numbers = numbers.model_copy(update={"step": varied})
    if (numbers.steps is None) == (numbers.step is None):
        raise ValueError("give exactly one of steps (the length) and step (the step at which it ends)")
    if stop == "aligned" and numbers.alignment_ema is None:
        raise ValueError("alignment_ema is missing: this segment stops when the alignment passes it")
    if stop != "aligned" and numbers.alignment_ema is not None:
        raise ValueError("alignment_ema is not allowed: this segment stops by steps")
    return StopSpec(steps=numbers.steps, step=numbers.step, alignment_ema=numbers.alignment_ema)
