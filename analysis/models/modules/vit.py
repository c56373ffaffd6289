"""The vision transformer of `analysis.models.vit`.

With equal weights, it equals torch's encoder with `norm_first=True` and GELU (tested). Attention is written out by
hand, as in `analysis.models.modules.transformer`. Class token and positions are drawn from N(0, 1), as `nn.Embedding`
draws them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from analysis.models.modules.transformer import Layer, attend


class ViT(nn.Module):
    """[N, channels, rows, columns] -> [N, outputs], computed from the class token."""

    def __init__(
        self,
        *,
        channels: int,
        patches: int,
        outputs: int,
        patch: int,
        width: int,
        heads: int,
        layers: int,
        feed_forward: int,
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.class_token = nn.Embedding(1, width)
        self.positions = nn.Embedding(patches + 1, width)
        self.layers = nn.ModuleList(PreNormLayer(width, heads, feed_forward) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.weight.expand(len(images), 1, -1), patches], dim=1) + self.positions.weight
        ignored = torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)  # no position
        for layer in self.layers:
            x = layer(x, ignored)
        return self.readout(self.norm(x[:, 0]))


class PreNormLayer(Layer):
    """The parts of `Layer` in another order: layer norm, self-attention, residual; layer norm, feed-forward,
    residual."""

    def forward(self, x: Tensor, ignored: Tensor) -> Tensor:
        x = x + attend(self.attention, self.norm_attention(x), ignored)
        return x + self.contract(nn.functional.gelu(self.expand(self.norm_feed_forward(x))))
