"""A small vision transformer (Dosovitskiy et al. 2021): patches, a class token, learned positions, pre-norm, GELU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from analysis.models.transformer import layer_parameters
from analysis.specs import Count, ModelNumbers
from analysis.specs.base import Layers

if TYPE_CHECKING:
    from torch import nn


class Numbers(ModelNumbers):
    """`patch` is the side of a patch in pixels. Pixels that do not fill a patch are cut off."""

    kind: Literal["vit"] = "vit"
    patch: Annotated[Count, Field(description="Side of a patch [pixels]")]
    width: Annotated[Count, Field(description="Width of each position [features]")]
    heads: Annotated[Count, Field(description="Attention heads of a layer [heads]")]
    layers: Annotated[Layers, Field(description="Number of layers [layers]")] = 2
    feed_forward: Annotated[Count, Field(description="Width of the feed-forward part [units]")]

    def words(self) -> str:
        return f"patches {self.patch} × {self.patch}, {self.layers} layers, width {self.width}, {self.heads} heads"

    def parameter_count(self, inputs: tuple[int, ...], outputs: int) -> int:
        layer = layer_parameters(self.width, self.heads, self.feed_forward)
        channels, rows, columns = inputs
        if min(rows, columns) < self.patch:
            raise ValueError(f"patches of {self.patch} × {self.patch} pixels do not fit images of {rows} × {columns}")
        w, patches = self.width, (rows // self.patch) * (columns // self.patch)
        return (channels * self.patch**2 + 1) * w + (patches + 2) * w + self.layers * layer + 2 * w + (w + 1) * outputs


def build(numbers: Numbers, inputs: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, channels, rows, columns] -> [N, outputs]."""
    from analysis.models.modules.vit import ViT

    channels, rows, columns = inputs
    return ViT(
        channels=channels,
        patches=(rows // numbers.patch) * (columns // numbers.patch),
        outputs=outputs,
        **numbers.model_dump(exclude={"kind"}),
    )
