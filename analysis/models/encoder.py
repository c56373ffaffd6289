"""Transformer encoder as in the code behind Song et al.'s tables: sinusoids, layers that start equal, mean pooling.

It differs from `transformer` in details that the paper leaves open. Positions are fixed sinusoids, there is no class
token, and the output is computed from the mean over all positions, including padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from analysis.models.transformer import layer_parameters
from analysis.specs import Count, ModelNumbers
from analysis.specs.base import Layers

if TYPE_CHECKING:
    from torch import nn


class Numbers(ModelNumbers):
    takes: ClassVar[Literal["image", "text", "toy"]] = "text"
    product_cost: ClassVar[float] = 10
    kind: Literal["encoder"] = "encoder"
    width: Annotated[Count, Field(description="Width of each position [features]")]
    heads: Annotated[Count, Field(description="Attention heads of a layer [heads]")]
    layers: Annotated[Layers, Field(description="Number of layers [layers]")] = 2
    feed_forward: Annotated[Count, Field(description="Width of the feed-forward part [units]")]
    embedding: Annotated[
        Literal["all", "used"],
        Field(description="Which rows of the embedding are parameters: all, or those that the training examples use"),
    ] = "all"

    def words(self) -> str:
        return f"{self.layers} layers, width {self.width}, {self.heads} heads, mean pooling"

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        w, layer = self.width, layer_parameters(self.width, self.heads, self.feed_forward)
        return inputs[0] * w + self.layers * layer + (w + 1) * outputs


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, T] token ids -> [N, outputs], for `inputs` = (vocabulary size, T)."""
    from analysis.models.modules.encoder import Encoder

    vocabulary, length = inputs
    return Encoder(
        vocabulary=vocabulary,
        length=length,
        outputs=outputs,
        width=numbers.width,
        heads=numbers.heads,
        layers=numbers.layers,
        feed_forward=numbers.feed_forward,
        all_rows=numbers.embedding == "all",
    )
