"""Text that every machine with Python has: a few source files of Python's own standard library.

The language models here need a text that nobody has to download. The text of the files changes a little from one
Python release to the next, and so do the losses. On one machine it is always the same.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

# Single files (not packages) in every CPython since 3.11, about 250 kB together. They are read in milliseconds, and a
# model cannot memorise them in a few hundred steps of 2,000 characters.
FILES = ("textwrap.py", "heapq.py", "fractions.py", "statistics.py", "random.py", "functools.py", "dataclasses.py")

# A fixed alphabet, not the characters of the files: the vocabulary, and so the model, is the same on every Python.
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
VOCAB_SIZE = len(ALPHABET)
_UNKNOWN = ALPHABET.index("?")  # for a few accented letters in people's names


@cache
def corpus() -> Tensor:
    """The files, one after another, as indices into `ALPHABET`: int64, shape (about 250,000,)."""
    folder = Path(sysconfig.get_path("stdlib"))
    text = "".join((folder / name).read_text(encoding="utf-8") for name in FILES)
    index = {character: position for position, character in enumerate(ALPHABET)}
    return torch.tensor([index.get(character, _UNKNOWN) for character in text])


def windows(batch_size: int, seq_len: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random windows of the corpus, without end: (characters, the next characters), each (batch_size, seq_len)."""
    text = corpus()
    generator = torch.Generator().manual_seed(seed)  # separate: initialising a model must not change the batches
    offsets = torch.arange(seq_len)
    while True:
        starts = torch.randint(len(text) - seq_len, (batch_size, 1), generator=generator)
        positions = starts + offsets
        yield text[positions], text[positions + 1]
