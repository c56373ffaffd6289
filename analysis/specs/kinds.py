"""Models, update rules and probes by kind.

A kind is one file with its name. It contains a class `Numbers`, which defines what a configuration can set, and the
code of the kind: `analysis/models/<kind>.py`, `analysis/rules/<kind>.py` or `analysis/training/probes/<kind>.py`. It is
found by the name of its file, and no list contains it. Plans import these files, so they import torch only inside their
functions.

A segment's name hashes the values of `Numbers` but not its code. So nothing that determines an array may be a method of
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from analysis.specs.base import Count, Frozen, Positive
from sharpflat.errors import InputError

MODELS, RULES, PROBES = "models", "rules", "training.probes"
_ANALYSIS = Path(__file__).resolve().parents[1]


def kinds(package: str) -> tuple[str, ...]:
    """The kinds for which a package ("models") has files, in alphabetical order. They are not imported."""
    files = _ANALYSIS.joinpath(*package.split(".")).glob("*.py")
    return tuple(sorted(file.stem for file in files if not file.stem.startswith("_")))


@cache
def numbers_of(package: str, kind: str) -> type[Any]:
    """The class `Numbers` of a kind.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in kinds(package):
        what = package.rpartition(".")[2].removesuffix("s")
        raise InputError(f"unknown {what} {kind!r}; there is no analysis/{package.replace('.', '/')}/{kind}.py")
    found: type[Any] = import_module(f"analysis.{package}.{kind}").Numbers
    return found


def read_numbers(package: str, plain: Mapping[str, Any]) -> Any:
    """The numbers of a kind from plain values, of which `kind` is one.

    Raises:
        InputError: there is no such kind.
    """
    return numbers_of(package, plain["kind"]).model_validate(plain)


class ModelNumbers(Frozen):
    """A model's sizes; `kind` is its file's name. The file also has `build(numbers, inputs, outputs)`.

    Attributes:
        takes: the kind of data that it accepts.
        product_cost: a Hessian product's time at the sizes of `quick`, relative to the MLP's. The workflow packs
            jobs by it.
    """

    takes: ClassVar[Literal["image", "text", "toy"]] = "image"
    product_cost: ClassVar[float] = 1.0
    kind: str

    def words(self) -> str:
        """The sizes as they appear in the title of a panel."""
        return _words(self, "kind")

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        """The number of parameters, without building the model.

        Args:
            inputs: shape of an example: (channels, rows, columns), (vocabulary size, longest sentence), or (1,).
            outputs: number of outputs.

        Raises:
            ValueError: there is no such model. The message says why.
        """
        raise NotImplementedError


class RuleNumbers(Frozen):
    """An update rule's numbers; `kind` is its file's name. The file also has the class `Rule`.

    `batch_size` None is the full batch; minibatches are drawn without replacement within an epoch unless `replacement`
    says otherwise.
    """

    kind: str
    learning_rate: Positive
    batch_size: Count | None
    replacement: bool = False

    @property
    def title(self) -> str:
        """The rule's name as figures have it."""
        return self.kind

    @property
    def remembered(self) -> int:
        """How many vectors of θ's size the rule keeps between steps."""
        return 0

    def words(self) -> str:
        """How the rule was run, e.g. for a panel's title."""
        own = _words(self, *RuleNumbers.model_fields)
        return ", ".join([self.title, *([own] if own else []), self.usual_words()])

    def usual_words(self) -> str:
        """Learning rate and batch in words."""
        replaced = " with replacement" if self.replacement else ""
        batch = "full batch" if self.batch_size is None else f"batch {self.batch_size}{replaced}"
        return f"lr {self.learning_rate:g}, {batch}"

    def short(self) -> str:
        """The rule as names of segments have it."""
        return self.kind if self.batch_size is None else f"{self.kind}-b{self.batch_size}"


@dataclass(frozen=True)
class Measurement:
    """The cost of one measurement of a probe, for estimates.

    Attributes:
        gradient: whether it needs the full batch's loss or gradient, which all probes of a step share.
        tests: number of evaluations of the test data.
        products: number of Hessian products, if it is known beforehand.
        eigenpairs: number of largest eigenpairs, in multiples of k. The products that they need depend on θ's path.
        stored: number of vectors of θ's size that are written to a file.
    """

    gradient: bool = True
    tests: int = 0
    products: int = 0
    eigenpairs: int = 0
    stored: int = 0


class ProbeNumbers(Frozen):
    """A probe's numbers. Its file also has the class `Probe`, with `dimension` and `variables`.

    Attributes:
        everywhere: whether every segment measures it unless it is switched off. Otherwise, only segments that list it
            in `measures` do.
        apart: whether its measurements go to a separate file.
        place: "first" measures before the other probes, and before the decision whether the segment ends here.
            "update" measures the update of a step, and so not at a segment's last step, which has none. "usual" is for
            all others.
        every: interval in steps.
    """

    everywhere: ClassVar[bool] = False
    apart: ClassVar[bool] = False
    place: ClassVar[Literal["first", "usual", "update"]] = "usual"
    every: Annotated[Count, Field(description="Interval between measurements [steps]")]

    def measurement(self) -> Measurement:
        """The cost of one measurement."""
        return Measurement()


def _words(numbers: Frozen, *without: str) -> str:
    return ", ".join(f"{name} {value}" for name, value in numbers if name not in without)


def _of_kind(package: str) -> BeforeValidator:
    def resolve(value: object) -> object:
        if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
            return value
        return read_numbers(package, value)

    return BeforeValidator(resolve)


def _by_kind(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return {
        kind: numbers if isinstance(numbers, Frozen) else numbers_of(PROBES, kind).model_validate(with_every(numbers))
        for kind, numbers in value.items()
    }


def with_every(numbers: object) -> object:
    """A probe's numbers. A single number is its interval."""
    return numbers if isinstance(numbers, Mapping) else {"every": numbers}


ModelSpec = Annotated[SerializeAsAny[ModelNumbers], _of_kind(MODELS)]
RuleSpec = Annotated[SerializeAsAny[RuleNumbers], _of_kind(RULES)]
ProbeSpecs = Annotated[dict[str, SerializeAsAny[ProbeNumbers]], BeforeValidator(_by_kind)]  # by kind
