"""PaddlePaddle's VisualDL (``vdlrecords.TIME.log``, 2.5.3) -> rows.

A record is its length in eight bytes, little-endian, and a message: values in its field 1, each with 1 the step, left out where it is 0,
2 the tag, and 4 the value in four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.tfrecord import BYTES, FIXED32, VARINT, Malformed, fields, varint

TITLE = "VisualDL record"
_LENGTH, _FLOAT = struct.Struct("<Q"), struct.Struct("<f")
_LARGEST = 64 * 2**20
_VALUE, _STEP, _TAG, _NUMBER = 1, 1, 2, 4


def _records(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The records; one that is cut off at the end, or whose length is none, ends them."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        at = 0
        while len(rest) - at >= _LENGTH.size:
            (n,) = _LENGTH.unpack_from(rest, at)
            if not 0 < n <= _LARGEST:
                return
            if len(rest) - at < _LENGTH.size + n:
                break
            yield rest[at + _LENGTH.size : at + _LENGTH.size + n]
            at += _LENGTH.size + n
        rest = rest[at:]


def _values(record: bytes) -> Iterator[tuple[str, int, float | None]]:
    for number, kind, at, end in fields(record, 0, len(record)):
        if (number, kind) != (_VALUE, BYTES):
            continue
        tag, step, value = "", 0, None
        for n, k, a, b in fields(record, at, end):
            if (n, k) == (_TAG, BYTES):
                tag = record[a:b].decode("utf-8", "replace")
            elif (n, k) == (_STEP, VARINT):
                step = varint(record, a, b)[0]
            elif (n, k) == (_NUMBER, FIXED32):
                value = float(_FLOAT.unpack_from(record, a)[0])
        if tag:
            yield tag, step, value


def _recognises(source: Source) -> bool:
    record = next(_records(iter([source.head])), None)
    try:
        return record is not None and any(True for _ in _values(record))
    except Malformed:
        return False


def _read(source: Source) -> Log:
    rows, bad = Rows(), 0
    for record in _records(source.chunks()):
        try:
            for tag, step, value in _values(record):
                if kind_of(tag) != "other" and value is not None:
                    rows.add({tag: value}, step=float(step))
        except Malformed:
            bad += 1
    if bad:
        rows.notes.append(f"Of the records of the file {bad:,} are damaged and were left out.")
    return rows.log(TITLE)


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms='call writer.add_scalar("train/grad_norm", norm, step) at every step',
)
