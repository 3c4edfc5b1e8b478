"""A Weights & Biases offline run (``run-ID.wandb``) -> rows. Needs the wandb package for its messages, and no account.

The frame is LevelDB's log: blocks of 32 KiB, and in them pieces of records, each with its CRC-32, its length and its place in
the record. wandb reads it in a program of its own and has no Python for it any more, so that is done here; the messages
within are read by wandb's classes.
"""

from __future__ import annotations

import importlib
import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from clipcal.errors import InputError
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of
from clipcal.logs.readers.tensorboard import facts_of, is_mean_of, limit_of
from clipcal.logs.rows import Rows, flatten
from clipcal.logs.source import Source

TITLE = "W&B offline run"
MAX_RECORD = 64 * 2**20
"""Bytes: a longer record is no history, and skipped."""
_IDENT = b":W&B"
_PIECE = struct.Struct("<IHB")
_BLOCK, _HEADER = 32 * 2**10, 7  # the file starts with as many bytes: the mark, a magic number, the version
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_CRC = {kind: zlib.crc32(bytes([kind])) for kind in (_FULL, _FIRST, _MIDDLE, _LAST)}


class Records:
    """The records of a file, from its bytes in pieces; one that is cut off at the end is left out. ``num_damaged`` counts the
    blocks with damaged bytes, after iterating: what stands behind these in a block is not read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.num_damaged = 0

    def __iter__(self) -> Iterator[bytes]:
        rest, num_blocks = b"", 0
        parts: list[bytes] = []  # of a record that goes on; none where its start was damaged or too long
        for chunk in chain(self._chunks, [None]):
            rest += chunk or b""
            end = len(rest) if chunk is None else len(rest) - len(rest) % _BLOCK
            for start in range(0, end, _BLOCK):
                block = rest[start : start + _BLOCK]
                at = 0 if num_blocks else _HEADER
                num_blocks += 1
                while at + _HEADER <= len(block):
                    crc, n, kind = _PIECE.unpack_from(block, at)
                    data = block[at + _HEADER : at + _HEADER + n]
                    if len(data) < n and len(block) < _BLOCK:
                        return  # still being written
                    if not (crc or n or kind):
                        break  # nothing was written here
                    if len(data) < n or kind not in _CRC or zlib.crc32(data, _CRC[kind]) != crc:
                        self.num_damaged += 1
                        parts = []
                        break
                    at += _HEADER + n
                    if kind in (_FULL, _FIRST):
                        parts = [data]
                    elif parts:
                        parts.append(data)
                    if sum(map(len, parts)) > MAX_RECORD:
                        parts = []
                    elif parts and kind in (_FULL, _LAST):
                        yield b"".join(parts)
                        parts = []
            rest = rest[end:]


def _read(source: Source) -> Log:
    try:
        messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
        decode_error = importlib.import_module("google.protobuf.message").DecodeError
    except ImportError:
        raise InputError(
            f"{source.path}: is a W&B offline run, which is read with W&B's own package. Install it, and try again:\n"
            "pip install 'clipcal[wandb]'"
        ) from None
    records, rows = Records(source.chunks()), Rows()
    names: set[str] = set()
    means: list[
        dict[str, Any]
    ] = []  # over epochs: only at the end it is known whether the values of the steps stand beside them
    config: dict[str, Any] = {}
    num_bad, unknown = 0, False
    for data in records:
        try:
            record = messages.Record.FromString(data)
        except decode_error:
            num_bad += 1
            continue
        if record.HasField("run"):
            config |= _row(record.run.config.update)
        elif record.HasField("config"):
            config |= _row(record.config.update)
        elif record.HasField("history"):
            row = _row(record.history.item)
            unknown = unknown or (len(record.history.item) > 0 and not row)
            if record.history.HasField("step"):
                row.setdefault("_step", record.history.step.num)
            of_epoch = {name: row.pop(name) for name in [*row] if name.endswith("_epoch")}
            if of_epoch:
                means.append({name: value for name, value in row.items() if kind_of(name) == "step"} | of_epoch)
            names |= row.keys()
            rows.add(row)
    for row in means:
        rows.add({name: value for name, value in row.items() if not is_mean_of(name, names)})
        names |= row.keys()
    if records.num_damaged or num_bad:
        rows.notes.append("The file of the run is damaged in places, and rows are missing there.")
    if unknown:
        rows.notes.append("A newer wandb than the one installed wrote the run, and values are missing: update wandb.")
    config = {name: value for name, value in config.items() if not name.startswith("_wandb")}
    if limit := limit_of(config):
        rows.threshold(f"{limit[0]} in the run's config", limit[1])
    norms = {name for name in names if kind_of(name) == "norm" and not is_mean_of(name, names)}
    return rows.log(TITLE, **facts_of(norms, config))


def _row(items: Iterable[Any]) -> dict[str, Any]:
    """History or config items by their names; an object's members stand under its name, as W&B shows them."""
    row: dict[str, Any] = {}
    for item in items:
        name = ".".join(item.nested_key) or item.key
        text = item.value_json
        if not text:  # wandb 0.3x writes plain values as such too, and may come to write them alone
            kind = item.WhichOneof("value") if "value" in item.DESCRIPTOR.oneofs_by_name else None
            if kind is None:
                continue
            if kind != "json":
                row[name] = getattr(item, kind)
                continue
            text = item.json
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if not isinstance(value, dict):
            row[name] = value
        elif "_type" not in value:  # as histograms and pictures have it
            row |= {f"{name}.{inner}": v for inner, v in flatten(value).items()}
    return row


READER = Reader(
    title=TITLE,
    recognises=lambda source: source.head.startswith(_IDENT),
    read=_read,
    norms='call run.log({"train/grad_norm": norm, ...}) at every step, with the norm that clip_grad_norm_ returns',
)
