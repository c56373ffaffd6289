"""The two-dimensional toys of Song et al., appendix A: their formulas, for numbers, arrays and tensors alike.

With s = ±1 the side of an example, and L the mean of both sides' losses (s = 0):

    quadratic (A.2)   ℓ_s(x, y) = ½ (sharp x² + flat y²) + s noise x y
    valley    (A.3)   ℓ_s(x, y) = ½ (sharp a² + flat y²) + s noise a      with a = x − bend y², the way across

The paper has no formula for the valley. Here its bottom a = 0 is a parabola that descends towards y = 0, it is steep
across, and the two examples see it shifted by ∓noise/sharp. With bend 0 L is the quadratic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.specs import QuadraticSpec, ValleySpec

ToySpec = QuadraticSpec | ValleySpec


def read(model: Mapping[str, Any]) -> ToySpec | None:
    """The toy that a model's plain values describe, or None if it is none."""
    kinds: dict[str, type[QuadraticSpec] | type[ValleySpec]] = {"quadratic": QuadraticSpec, "valley": ValleySpec}
    return kinds[model["kind"]].model_validate(model) if model["kind"] in kinds else None


def loss(spec: ToySpec, x: Any, y: Any, side: Any = 0) -> Any:
    """ℓ_side(x, y), or L(x, y) without a side: numbers, arrays or tensors, of shapes that broadcast."""
    a = across(spec, x, y)
    mean = 0.5 * (spec.sharp * a * a + spec.flat * y * y)
    return mean + side * spec.noise * (a * y if isinstance(spec, QuadraticSpec) else a)


def across(spec: ToySpec, x: Any, y: Any) -> Any:
    """How far (x, y) is from the bottom of the valley, along x."""
    return x - bottom(spec, y)


def bottom(spec: ToySpec, y: Any) -> Any:
    """x of the bottom of the valley at y."""
    return 0 * y if isinstance(spec, QuadraticSpec) else spec.bend * y * y


def formula(spec: ToySpec) -> str:
    """L and the two examples' losses with their numbers, in two lines."""
    a = "x" if isinstance(spec, QuadraticSpec) else f"(x {_signed(-spec.bend)}y²)"
    mean = f"L(x, y) = ½({_factor(spec.sharp)}{a}² + {_factor(spec.flat)}y²)"
    return f"{mean}\nexamples: L ± {_factor(abs(spec.noise))}{'x y' if isinstance(spec, QuadraticSpec) else a}"


def _factor(value: float) -> str:
    return "" if value == 1 else f"{value:.12g} "


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'} {_factor(abs(value))}"
