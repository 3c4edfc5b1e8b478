"""The bytes of a LevelDB log, which W&B and SwanLab write their runs into -> its records.

The frame is blocks of 32 KiB, and in them pieces of records, each with its CRC-32, its length and its place in the record.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

MAX_RECORD = 64 * 2**20
"""Bytes: a longer record is no history, and skipped."""
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
