"""The table of readers: the first that recognises a file reads it, so the particular ones stand before the general."""

from __future__ import annotations

from clipcal.logs import huggingface, llmc
from clipcal.logs.reader import Reader

READERS: tuple[Reader, ...] = (
    huggingface.READER,
    llmc.READER,
)
