"""The table of readers: the first that recognises a file reads it, so the particular ones stand before the general.

A reader is loaded where its sign is seen: loading all of them takes longer than reading most logs.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass

from clipcal.logs.log import Reader
from clipcal.logs.source import Source


@dataclass(frozen=True, kw_only=True)
class Entry:
    """``module`` of ``clipcal.logs.readers`` that has the reader, under ``name``. ``starts`` and ``holds`` are its signs: it recognises no file
    that neither starts with one of the former nor holds one of the latter in what is looked at first. Without signs it may be any file."""

    module: str
    name: str = "READER"
    starts: tuple[bytes, ...] = ()
    holds: tuple[bytes, ...] = ()

    def may_be(self, source: Source) -> bool:
        if self.starts:
            return source.head.startswith(self.starts) or source.opening in self.starts
        if not self.holds or any(sign in source.head for sign in self.holds):
            return True
        return source.is_text and any(sign in block for block in source.early for sign in self.holds)

    def reader(self) -> Reader:
        module = importlib.import_module(f"clipcal.logs.readers.{self.module}")
        found: Reader = getattr(module, self.name)
        return found


_SQLITE, _JSON = (b"SQLite format 3",), (b"{", b"[")
_BY_FIRST_BYTES = (
    Entry(module="tensorboard", holds=(b"brain.Event:",)),
    Entry(module="wandb_run", starts=(b":W&B",)),
    Entry(module="swanlab", starts=(b":SWL",)),
    Entry(module="parquet", starts=(b"PAR1",)),
    Entry(module="visualdl", holds=(b"\0\0\0\0",)),
)
_OF_TRACKERS = (
    *(Entry(module="databases", name=name, starts=_SQLITE) for name in ("MLFLOW", "TRACKIO", "NEPTUNE")),
    *(Entry(module="offline", name=name, starts=_JSON) for name in ("CLEARML", "COMET", "NEPTUNE")),
)
_JSON_DOCUMENTS = tuple(
    Entry(module=module, starts=_JSON)
    for module in ("huggingface", "tensorboard_json", "sacred", "skorch", "json_columns")
)
_JSON_LINES = (
    Entry(module="fairseq", holds=(b"gnorm",)),  # its JSON may stand in any text
    Entry(module="mmcv", holds=(b"{",)),
    Entry(module="epochs", holds=(b"{",)),
)
_TEXT = (
    Entry(module="marian", holds=(b" : Up. ",)),
    Entry(module="llmc", holds=(b"norm", b"tel:", b"trl:")),
    Entry(module="coqui", holds=(b"GLOBAL_STEP:",)),
    Entry(module="swin", holds=(b"Train: [",)),
    Entry(module="megatron", holds=(b"iteration", b"> global batch")),
    Entry(module="espnet", holds=(b"epoch:train:",)),
    Entry(module="parlai", holds=(b"gnorm",)),
    Entry(module="huggingface_console", holds=(b"'",)),
    Entry(module="metriclogger", holds=(b"eta: ",)),
)
_WHATEVER_NAMES_ITS_VALUES = (
    Entry(module="jsonlines", holds=(b"{",)),
    *(Entry(module=module) for module in ("lightning", "delimited", "keyed")),
)
ENTRIES = (*_BY_FIRST_BYTES, *_OF_TRACKERS, *_JSON_DOCUMENTS, *_JSON_LINES, *_TEXT, *_WHATEVER_NAMES_ITS_VALUES)


def readers() -> tuple[Reader, ...]:
    """All of them."""
    return tuple(entry.reader() for entry in ENTRIES)


def readers_for(source: Source) -> Iterator[Reader]:
    """Those that may recognise a file."""
    return (entry.reader() for entry in ENTRIES if entry.may_be(source))
