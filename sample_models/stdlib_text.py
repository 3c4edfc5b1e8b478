"""Text that every machine with Python has: a few source files of its own standard library.

The language models here need a corpus that nobody has to download. The files' text changes a little from one Python
release to the next, and the losses with it; on one machine it is always the same.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

# Single files (not packages) in every CPython since 3.11, about 250 kB together: read in milliseconds, and too much to
# learn by heart in a few hundred steps of 2,000 characters.
FILES = ("textwrap.py", "heapq.py", "fractions.py", "statistics.py", "random.py", "functools.py", "dataclasses.py")

# A fixed alphabet rather than the one found: the vocabulary, and with it the model, is the same on every Python.
ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
VOCAB_SIZE = len(ALPHABET)
_UNKNOWN = ALPHABET.index("?")  # a handful of accented letters in people's names


@cache
def corpus() -> Tensor:
    """The files, one after another, as indices into `ALPHABET`: int64, shape (about 250,000,)."""
    folder = Path(sysconfig.get_path("stdlib"))
    text = "".join((folder / name).read_text(encoding="utf-8") for name in FILES)
    index = {character: position for position, character in enumerate(ALPHABET)}
    return torch.tensor([index.get(character, _UNKNOWN) for character in text])


def windows(batch_size: int, seq_len: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random windows of the corpus for ever: (characters, the characters that follow), each (batch_size, seq_len)."""
    text = corpus()
    generator = torch.Generator().manual_seed(seed)  # its own: initialising a model must not shift the batches
    offsets = torch.arange(seq_len)
    while True:
        starts = torch.randint(len(text) - seq_len, (batch_size, 1), generator=generator)
        positions = starts + offsets
        yield text[positions], text[positions + 1]
