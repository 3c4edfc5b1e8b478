"""The bytes of an event file -> its records (TFRecord's frame) -> the fields of a record (protobuf's wire format).

The frame is the length (uint64), its masked CRC-32C, the record, the record's CRC-32C. The latter is not checked, as in
TensorBoard's own data server: it would take longer than all the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

HEADER, FOOTER = 12, 4
MAX_RECORD = 64 * 2**20
"""Bytes: what is longer is a graph or a film, and skipped unread."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""protobuf's wire types."""
_MAX_KNOWN = 20_000
_DOUBLE = struct.Struct("<d")
_CRC_TABLE = [0] * 256
for _i in range(256):
    _crc = _i
    for _ in range(8):
        _crc = _crc >> 1 ^ (0x82F63B78 if _crc & 1 else 0)
    _CRC_TABLE[_i] = _crc


class Malformed(ValueError):
    """Bytes that are no message."""


class Records:
    """The records of a file, from its bytes in pieces. What is cut off at the end, as in a live file, ends it quietly.

    ``damaged_at``, after iterating: the byte at which a length fails its checksum, since nothing behind it can be found.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.damaged_at: int | None = None

    def __iter__(self) -> Iterator[bytes]:
        lengths: dict[bytes, int] = {}  # by header: few differ, and one that came before needs no check
        held: list[bytes] = []
        before, have, need, skip = 0, 0, HEADER, 0
        for chunk in self._chunks:
            if skip:
                before += min(skip, len(chunk))
                skip, chunk = max(skip - len(chunk), 0), chunk[skip:]
            held.append(chunk)
            have += len(chunk)
            if have < need:
                continue
            buffer, at, need = b"".join(held), 0, HEADER
            while have - at >= HEADER:
                header = buffer[at : at + HEADER]
                n = lengths.get(header)
                if n is None:
                    n = length_of(header)
                    if n is None:
                        self.damaged_at = before + at
                        return
                    if len(lengths) < _MAX_KNOWN:
                        lengths[header] = n
                end = at + HEADER + n + FOOTER
                if end > have:
                    need = end - at
                    break
                yield buffer[at + HEADER : end - FOOTER]
                at = end
            if need > MAX_RECORD:
                skip, at, need = need - (have - at), have, HEADER
            held, have, before = [buffer[at:]], have - at, before + at


def length_of(header: bytes) -> int | None:
    """The length that a header tells; None where its checksum says that it is none."""
    if len(header) < HEADER:
        return None
    n, masked = struct.unpack("<QI", header)
    crc = 0xFFFFFFFF
    for byte in header[:8]:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return int(n) if masked == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF else None


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the message in ``data[at:end]``: number, wire type, and where the value starts and ends. Raises Malformed."""
    while at < end:
        key, at = varint(data, at, end)
        kind = key & 7
        if kind == BYTES:
            n, at = varint(data, at, end)
            stop = at + n
        elif kind == VARINT:
            stop = varint(data, at, end)[1]
        elif kind in (FIXED64, FIXED32):
            stop = at + (8 if kind == FIXED64 else 4)
        else:
            raise Malformed
        if stop > end:
            raise Malformed
        yield key >> 3, kind, at, stop
        at = stop


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number that starts at ``at``, and where it ends. Raises Malformed."""
    number = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise Malformed


def double(data: bytes, at: int) -> float:
    """The number of a field of eight bytes. Raises Malformed."""
    try:
        return float(_DOUBLE.unpack_from(data, at)[0])
    except struct.error:
        raise Malformed from None


def signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
