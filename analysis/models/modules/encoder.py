"""The encoder of `analysis.models.encoder`; with equal weights it equals `torch.nn.TransformerEncoder` (tested)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from analysis.models.modules.initialise import initialise
from analysis.models.modules.transformer import PADDING, Layer


class Encoder(nn.Module):
    """[N, T] token ids -> [N, outputs], computed from the mean over all T positions, including padding."""

    def __init__(
        self,
        *,
        vocabulary: int,
        length: int,
        outputs: int,
        width: int,
        heads: int,
        layers: int,
        feed_forward: int,
        all_rows: bool = True,
    ) -> None:
        super().__init__()
        self.words: nn.Module = nn.Embedding(vocabulary, width)
        self._all_rows = all_rows
        self.positions = Sinusoids(length, width)
        self.layers = Copies(Layer(width, heads, feed_forward) for _ in range(layers))
        self.readout = nn.Linear(width, outputs)

    def train_on(self, tokens: Tensor) -> None:
        """Turns the embedding's rows that these examples do not use, and that therefore never move, into constants."""
        if not self._all_rows:
            self.words = UsedRows(cast("nn.Embedding", self.words), tokens.unique())

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.positions(self.words(tokens))
        ignored = tokens == PADDING
        if tokens.device.type == "cpu":  # on another device, the host would have to wait
            ignored = ignored[
                :, : int((~ignored).any(0).nonzero().max()) + 1
            ]  # positions that are keys of any sentence
        for layer in self.layers:
            x = layer(x, ignored[:, None, None, :])
        return self.readout(x.mean(1))


class UsedRows(nn.Module):
    """An embedding whose rows `used` [U] are parameters and whose other rows are constants. All values are
    unchanged."""

    place: Tensor
    constant: Tensor

    def __init__(self, embedding: nn.Embedding, used: Tensor) -> None:
        super().__init__()
        rows = embedding.weight.detach()
        self.weight = nn.Parameter(rows[used].clone())
        place = torch.full((len(rows),), -1, dtype=torch.int64)
        place[used] = torch.arange(len(used))
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("constant", rows, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        place = self.place[ids]
        return torch.where((place < 0)[..., None], self.constant[ids], self.weight[place.clamp(min=0)])


class Sinusoids(nn.Module):
    """Adds fixed positions to x [N, T, width]: sin(t/10000^(2i/width)) and its cosine at 2i and 2i + 1."""

    table: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.empty(length, width), persistent=False)

    def initialise(self, generator: torch.Generator) -> None:
        """Computes the table. Nothing is drawn for it."""
        length, width = self.table.shape
        rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000) / width))
        angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
        self.table[:, 0::2] = angles.sin()
        self.table[:, 1::2] = angles.cos()[:, : width // 2]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[: x.shape[1]]


class Copies(nn.ModuleList):
    """Modules that start from the same parameters, those of the first, as `torch.nn.TransformerEncoder`'s layers do."""

    def initialise(self, generator: torch.Generator) -> None:
        first, *others = self
        initialise(first, generator)
        for other in others:
            other.load_state_dict(first.state_dict())
