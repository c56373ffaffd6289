"""The transformer of `analysis.models.transformer`.

It has post-norm layers, ReLU and no dropout, like `torch.nn.TransformerEncoder` by default (equal to it with equal
weights, tested). Attention is written out by hand, because PyTorch's fused kernels have no second derivatives. The two
papers leave open the positions (here learned, N(0, 1) as `nn.Embedding` draws them) and the feed-forward width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

PADDING = 0  # id of the token that fills a sentence up (analysis.data.preprocess)
HIDDEN = 1 << 18  # numbers between the feed-forward's two layers at once on a CPU: 1 MiB of float32 stays in the caches


class Transformer(nn.Module):
    """[N, T] token ids -> [N, outputs]; a class token before the words gives the output."""

    def __init__(
        self, *, vocabulary: int, length: int, outputs: int, width: int, heads: int, layers: int, feed_forward: int
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length + 1, width)
        self.class_token = nn.Embedding(1, width)
        self.layers = nn.ModuleList(Layer(width, heads, feed_forward) for _ in range(layers))
        self.readout = nn.Linear(width, outputs)

    @staticmethod
    def lengths(tokens: Tensor) -> Tensor:
        """Number of positions [N] of each sentence up to its last word. The positions after it change no output and may
        be cut off."""
        return ((tokens != PADDING) * torch.arange(1, tokens.shape[1] + 1, device=tokens.device)).amax(1)

    def forward(self, tokens: Tensor) -> Tensor:
        n, length = tokens.shape
        x = torch.cat([self.class_token.weight.expand(n, 1, -1), self.words(tokens)], dim=1)
        x = x + self.positions.weight[: length + 1]
        ignored = nn.functional.pad(tokens == PADDING, (1, 0))[:, None, None, :]  # the class token never is
        for layer in self.layers:
            x = layer(x, ignored)
        return self.readout(x[:, 0])


class Layer(nn.Module):
    """Self-attention and feed-forward, each with a residual and then a layer norm."""

    def __init__(self, width: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)  # its parameters and their defaults
        self.expand = nn.Linear(width, feed_forward)
        self.contract = nn.Linear(feed_forward, width)
        self.norm_attention = nn.LayerNorm(width)
        self.norm_feed_forward = nn.LayerNorm(width)

    def forward(self, x: Tensor, ignored: Tensor) -> Tensor:
        x = self.norm_attention(x + attend(self.attention, x, ignored))
        return self.norm_feed_forward(x + self.feed_forward(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        """[N, T, width] position by position. On a CPU, it takes as many positions at once as fit the caches between
        the layers."""
        rows, size = x.flatten(0, 1), max(1, HIDDEN // self.expand.out_features)
        pieces = rows.split(size) if x.device.type == "cpu" and len(rows) > size else [x]
        return torch.cat([self.contract(torch.relu(self.expand(piece))) for piece in pieces]).view_as(x)


def attend(attention: nn.MultiheadAttention, x: Tensor, ignored: Tensor) -> Tensor:
    """Self-attention of x [N, T, width] with the module's weights.

    The keys are the first S positions, except those in `ignored` [N, 1, 1, S].
    """
    n, length, width = x.shape
    heads, size, keys = attention.num_heads, attention.head_dim, ignored.shape[-1]
    qkv = nn.functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = qkv.view(n, length, 3, heads, size).permute(2, 0, 3, 1, 4)
    k, v = (k, v) if keys == length else (k[:, :, :keys], v[:, :, :keys])
    scores = q @ k.transpose(-1, -2) / math.sqrt(size)
    weights = scores.masked_fill(ignored, -torch.inf).softmax(-1)
    return attention.out_proj((weights @ v).transpose(1, 2).reshape(n, length, width))
