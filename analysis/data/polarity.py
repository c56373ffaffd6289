"""polarity-1k: made-up sentences of opinion with negation and contrast, from a small grammar.

The data set is synthetic, and it is called so wherever it appears. It gives the quick profile a text problem without a
download. Nothing about language follows from it.

A sentence has one or two clauses, and the deciding one gives the label (1 = positive). A clause contains a word with a
polarity and zero, one or two negations, each of which reverses it. In a contrast, the other clause has the opposite
polarity, and "but", "although" or "despite" shows which clause decides. So the presence of a word carries little
information, and the words before it decide. (A linear bag of words reaches 0.56 on the test split, a small
Transformer 0.7.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from analysis.data.catalogue import Description
from analysis.data.dataset import text_dataset

_SEED = 2024
_TRAIN = 1000
_TEST = 500
_LONGEST = 20

_SUBJECTS = (
    *("the film", "the plot", "the acting", "the script", "the ending", "the music", "the dialogue"),
    *("the story", "the cast", "the pacing", "this sequel", "her performance"),
)
# By polarity: negative, positive.
_ADJECTIVES = (
    ("dull", "bad", "boring", "weak", "clumsy", "tedious", "awful", "bland", "messy", "shallow"),
    ("good", "great", "funny", "clever", "charming", "moving", "fresh", "brilliant", "gripping", "warm"),
)
_NOUNS = (("flaws", "faults", "mistakes", "clichés"), ("charm", "beauty", "life", "ideas"))
_VERBS = (("hated", "disliked", "regretted"), ("loved", "liked", "enjoyed"))
_PEOPLE = ("i", "we", "my friends", "the audience", "most critics", "everyone")
# By the number of negations.
_WHO = (_PEOPLE, (*(f"{person} never" for person in _PEOPLE), "nobody"), ("nobody never",))
_INTENSIFIERS = ("", "", "", "very", "really", "quite", "rather", "truly")
_OPENINGS = (
    *("", "", "", "", "", "", "to be honest", "in the end", "for once", "frankly", "as expected"),
    *("once again", "strange to say", "by and large"),
)
_CLOSINGS = ("", "", "", "", "", "in every scene", "from start to finish", "this time", "for me")


class _Draw:
    """Random choices from raw Philox output, whose stream numpy guarantees."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=seed)

    def below(self, bound: int) -> int:
        return int(self._bits.random_raw()) % bound  # bias below 1e-16

    def of(self, options: Sequence[str]) -> str:
        return options[self.below(len(options))]


def load(entry: Description, *, data_dir: Path, download: bool) -> xr.Dataset:
    """The generated sentences. `data_dir` and `download` are not used.

    Raises:
        InputError: the generator gave wrong sentences.
    """
    rows = generate(_TRAIN + _TEST, seed=_SEED)
    rows = rows[:_TRAIN] if entry.split == "train" else rows[_TRAIN:]
    return text_dataset(
        entry,
        [sentence for sentence, _ in rows],
        [label for _, label in rows],
        source="generated",
        where="analysis/data/polarity.py",
        advice="The generator or numpy's Philox has changed: restore the module, or use the locked dependencies.",
    )


def generate(count: int, *, seed: int) -> list[tuple[str, int]]:
    """Distinct sentences with their labels, which alternate 0, 1, 0, 1, …"""
    draw = _Draw(seed)
    sentences: dict[str, int] = {}
    while len(sentences) < count:
        label = len(sentences) % 2
        sentence = _sentence(draw, label)
        if len(sentence.split()) <= _LONGEST:
            sentences.setdefault(sentence, label)  # a repeated one is drawn again, so the splits are disjoint
    return list(sentences.items())


def _sentence(draw: _Draw, label: int) -> str:
    body: tuple[str, ...]
    shape = draw.below(10)
    if shape < 6:
        body = (_clause(draw, label), draw.of(_CLOSINGS))
    elif shape < 7:
        body = (_clause(draw, label), "and", _clause(draw, label))
    elif shape < 8:
        body = (_clause(draw, 1 - label), "but", _clause(draw, label))
    elif shape < 9:
        body = ("although", _clause(draw, 1 - label), _clause(draw, label))
    else:
        body = ("despite", "its", draw.of(_NOUNS[1 - label]), _clause(draw, label))
    return _join(draw.of(_OPENINGS), *body)


def _clause(draw: _Draw, label: int) -> str:
    """A clause of this polarity with no (6 in 10), one (3 in 10) or two (1 in 10) negations."""
    negations = (0, 0, 0, 0, 0, 0, 1, 1, 1, 2)[draw.below(10)]
    word = 1 - label if negations == 1 else label
    form = draw.below(4)
    if form == 0:
        return _join(draw.of(_WHO[negations]), draw.of(_VERBS[word]), draw.of(_SUBJECTS))
    subject = draw.of(_SUBJECTS)
    if form == 1:
        return _join(subject, ("is full of", "has no", "is not without")[negations], draw.of(_NOUNS[word]))
    doubt = draw.of(("nobody can say that", "i do not think that")) if negations == 2 else ""
    verb = _join("is", draw.of(("not", "never", "far from")) if negations else "")
    return _join(doubt, subject, verb, draw.of(_INTENSIFIERS), draw.of(_ADJECTIVES[word]))


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
