"""The vision transformer of `analysis.models.vit`.

Equal, with equal weights, to torch's encoder with `norm_first=True` and GELU (tested). Attention is written out, as in
`analysis.models.modules.transformer`. Class token and positions are drawn from N(0, 1), as `nn.Embedding` draws them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from analysis.models.modules.transformer import attend


class ViT(nn.Module):
    """[N, channels, rows, columns] -> [N, outputs], read out at the class token."""

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
        self.layers = nn.ModuleList(Layer(width, heads, feed_forward) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.weight.expand(len(images), 1, -1), patches], dim=1) + self.positions.weight
        for layer in self.layers:
            x = layer(x)
        return self.readout(self.norm(x[:, 0]))


class Layer(nn.Module):
    """A layer norm, then self-attention, added to the input; the same with a feed-forward network."""

    def __init__(self, width: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)  # its parameters and their defaults
        self.expand = nn.Linear(width, feed_forward)
        self.contract = nn.Linear(feed_forward, width)
        self.norm_attention = nn.LayerNorm(width)
        self.norm_feed_forward = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        none = torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)  # no key is ignored
        x = x + attend(self.attention, self.norm_attention(x), none)
        return x + self.contract(nn.functional.gelu(self.expand(self.norm_feed_forward(x))))
