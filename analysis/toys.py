"""The two-dimensional toys of Song et al., appendix A. Their formulas work for numbers, arrays and tensors.

s = ±1 is the side of an example, and L is the mean of both sides' losses (s = 0):

    quadratic (A.2)   ℓ_s(x, y) = ½ (sharp x² + flat y²) + s noise x y
    valley    (A.3)   ℓ_s(x, y) = ½ (sharp a² + flat y²) + s noise a      with a = x − bend y², the way across

The paper has no formula for the valley. Here its bottom a = 0 is a parabola that descends towards y = 0. The valley
is steep in the direction across, and for the two examples it is shifted by ∓noise/sharp. With bend 0, L is the
quadratic.
"""

from __future__ import annotations

from typing import Any, Protocol


class Toy(Protocol):
    """The numbers of a toy (`analysis.models.quadratic`, `analysis.models.valley`); a valley also has a `bend`."""

    @property
    def kind(self) -> str: ...
    @property
    def sharp(self) -> float: ...
    @property
    def flat(self) -> float: ...
    @property
    def noise(self) -> float: ...
    @property
    def start(self) -> tuple[float, float]: ...


def loss(toy: Toy, x: Any, y: Any, side: Any = 0) -> Any:
    """ℓ_side(x, y), or L(x, y) without a side. The arguments are numbers, arrays or tensors whose shapes broadcast."""
    a = across(toy, x, y)
    mean = 0.5 * (toy.sharp * a * a + toy.flat * y * y)
    return mean + side * toy.noise * (a * y if toy.kind == "quadratic" else a)


def across(toy: Toy, x: Any, y: Any) -> Any:
    """How far (x, y) is from the bottom of the valley, along x."""
    return x - bottom(toy, y)


def bottom(toy: Toy, y: Any) -> Any:
    """x of the bottom of the valley at y."""
    return 0 * y if toy.kind == "quadratic" else _bend(toy) * y * y


def formula(toy: Toy) -> str:
    """L and the two examples' losses with their numbers, in two lines."""
    a = "x" if toy.kind == "quadratic" else f"(x {_signed(-_bend(toy))}y²)"
    coupled = "x y" if toy.kind == "quadratic" else a
    mean = f"L(x, y) = ½({_factor(toy.sharp)}{a}² + {_factor(toy.flat)}y²)"
    return f"{mean}\nexamples: L ± {_factor(abs(toy.noise))}{coupled}"


def _bend(toy: Any) -> float:
    bend: float = toy.bend
    return bend


def _factor(value: float) -> str:
    return "" if value == 1 else f"{value:.12g} "


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'} {_factor(abs(value))}"
