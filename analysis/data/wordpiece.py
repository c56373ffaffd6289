"""SST-2 as WordPiece ids: [CLS] sentence [SEP], lower case, by the published vocabulary of bert-base-uncased.

distilbert-base-uncased, whose tokenizer Song et al.'s code loads, has the same vocabulary.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import xarray as xr

from analysis.data import fetch, sst2
from analysis.data.catalogue import Description, describe
from analysis.data.dataset import id_dataset
from sharpflat.errors import InputError

SENTENCES = {"train": "sst1k", "test": "sst-dev"}
FILE = f"{sst2.LAYOUT}/bert-base-uncased-vocab.txt"
URL = "https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt"
SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
VOCABULARY = 30522
_ADVICE = "Remove this file; the next run downloads it again."


def load(entry: Description, *, data_dir: Path, download: bool) -> xr.Dataset:
    """The ids of the split's sentences.

    Raises:
        InputError: the sentences or the vocabulary are missing and unavailable or have another checksum, or the ids are
            wrong.
    """
    from tokenizers import BertWordPieceTokenizer

    text = sst2.load(describe(SENTENCES[entry.split]), data_dir=data_dir, download=download)
    path = data_dir / FILE
    downloaded = fetch.obtain(
        entry, data_dir, files=[FILE], present=path.is_file, get=_get, urls=[URL], download=download
    )
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise InputError(
            f"{path}: not the published vocabulary.\n  SHA-256 found:    {found}\n"
            f"  SHA-256 expected: {SHA256}\n  {_ADVICE}"
        )
    encoded = BertWordPieceTokenizer(str(path), lowercase=True).encode_batch(text["sentences"].values.tolist())
    ids = np.zeros((len(encoded), *entry.shape), np.int64)  # 0 is [PAD]
    for row, sentence in zip(ids, encoded, strict=True):
        row[: len(sentence.ids)] = sentence.ids
    return id_dataset(
        entry,
        ids,
        text["labels"].values,
        VOCABULARY,
        source="download" if downloaded else text.attrs["source"],
        where=str(path),
        advice="The tokenizer has changed: use the locked dependencies.",
    )


def _get(folder: Path) -> None:
    fetch.retrieve(URL, known_hash=f"sha256:{SHA256}", path=folder / FILE)
