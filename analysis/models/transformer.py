"""Transformer encoder for sentence classification, with a class token before the words that gives the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from analysis.specs import Count, ModelNumbers
from analysis.specs.base import Layers

if TYPE_CHECKING:
    from torch import nn


class Numbers(ModelNumbers):
    takes: ClassVar[Literal["image", "text", "toy"]] = "text"
    product_cost: ClassVar[float] = 10
    kind: Literal["transformer"] = "transformer"
    width: Annotated[
        Count, Field(description="Length of the vector that represents a word, a multiple of `heads` [numbers]")
    ]
    heads: Annotated[Count, Field(description="Attention heads of each layer [heads]")]
    layers: Annotated[Layers, Field(description="Number of encoder layers [layers]")] = 2
    feed_forward: Annotated[Count, Field(description="Hidden units of each layer's feed-forward network [units]")]

    def words(self) -> str:
        return f"{self.layers} layers, width {self.width}, {self.heads} heads"

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        vocabulary, length = inputs
        w, layer = self.width, layer_parameters(self.width, self.heads, self.feed_forward)
        return (vocabulary + length + 2) * w + self.layers * layer + (w + 1) * outputs


def layer_parameters(width: int, heads: int, feed_forward: int) -> int:
    """The parameters of one layer: self-attention, feed-forward, two layer norms.

    Raises:
        ValueError: the heads do not divide the width.
    """
    if width % heads:
        raise ValueError(f"the width {width} must be a multiple of the number of heads, {heads}")
    return 4 * width * (width + 1) + (width + 1) * feed_forward + (feed_forward + 1) * width + 4 * width


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, T] token ids -> [N, outputs], for `inputs` = (vocabulary size, longest T)."""
    from analysis.models.modules.transformer import Transformer

    vocabulary, length = inputs
    return Transformer(
        vocabulary=vocabulary,
        length=length,
        outputs=outputs,
        width=numbers.width,
        heads=numbers.heads,
        layers=numbers.layers,
        feed_forward=numbers.feed_forward,
    )
