"""The bytes of a TensorBoard event file -> its scalars, and its texts that name clipping. Needs no TensorBoard.

A record is an ``Event`` of tensorflow/core/util/event.proto. Records of one tag differ in the time, the step and the value
alone: what stands around these is parsed once, and known when it comes again. That makes the reading fast.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from clipcal.logs import tfrecord as wire
from clipcal.logs.tfrecord import Malformed, fields

MAX_TEXT, MAX_TEXTS, MAX_TAG, MAX_TAGS = 2**20, 50, 1000, 10_000
_MAX_KNOWN, _MAX_SHAPE = 20_000, 500  # shapes that are kept, and the bytes of one; the others are parsed each time
# dtype of a TensorProto -> how a value stands in its tensor_content, and the field that lists the values instead
_DTYPES = {1: ("<f", 5), 2: ("<d", 6), 3: ("<i", 7), 9: ("<q", 10), 14: ("<H", 13), 19: ("<e", 13)}
_STRING, _BFLOAT16, _HALF = 7, 14, 19
Unpack = Callable[[bytes, int], tuple[float]]
_UNPACK: dict[str, Unpack] = {form: struct.Struct(form).unpack_from for form in ("<f", "<d", "<i", "<q", "<e", "<H")}


@dataclass(kw_only=True, slots=True)
class Scalars:
    """The wanted scalars of a file, in its order: columns of equal length, where ``tag`` is a place in ``tags``.

    ``texts``: those that say something of clipping or norms, by their tags. ``started`` and ``ended``: when the first event and
    the last were written, in seconds since 1970. ``num_bad``: records that could not be parsed. ``damaged_at``: the byte behind which nothing was read.
    """

    tags: list[str] = field(default_factory=list)
    tag: array[int] = field(default_factory=lambda: array("i"))
    step: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))
    texts: dict[str, str] = field(default_factory=dict)
    started: float = math.inf
    ended: float = -math.inf
    num_bad: int = 0
    damaged_at: int | None = None


@dataclass(frozen=True, slots=True)
class _Value:
    """One value of a summary; ``number`` is None for what is no scalar. ``at`` is where the number's bytes start and
    ``form`` how struct unpacks them, where they are of a fixed length."""

    tag: str
    number: float | None = None
    text: bytes = b""
    at: int = 0
    form: str = ""


@dataclass(frozen=True, slots=True)
class _Shape:
    """Summaries of one length whose number stands at one place. ``places``: their other bytes -> the place of their tag in
    ``Scalars.tags``, -1 where it is not wanted."""

    at: int
    stop: int
    unpack: Unpack
    places: dict[bytes, int] = field(default_factory=dict)


def is_event_file(head: bytes) -> bool:
    """Whether the bytes start with a whole record, the one that event files start with."""
    n = wire.length_of(head[: wire.HEADER])
    if n is None or n > len(head) - wire.HEADER - wire.FOOTER:
        return False
    try:
        numbers = {number for number, _, _, _ in fields(head, wire.HEADER, wire.HEADER + n)}
    except Malformed:
        return False
    return 3 in numbers and b"brain.Event:" in head[wire.HEADER : wire.HEADER + n]


def read_scalars(chunks: Iterable[bytes], wanted: Callable[[str], bool]) -> Scalars:
    """The scalars with tags that are wanted, from the bytes of a file in pieces."""
    out = Scalars()
    add_tag, add_step, add_value = out.tag.append, out.step.append, out.value.append
    shapes: dict[int, list[_Shape]] = {}  # by the length of the summary
    parser = _Parser(out, wanted, shapes)
    record, records = b"", wire.Records(chunks)
    for record in records:
        n, at = len(record), 0
        if n > 20 and record[0] == 0x09:  # the time comes first, then the step, which is left out where it is 0
            if record[9] == 0x2A:
                step, at = 0, 9
            elif record[9] != 0x10:
                pass
            elif (a := record[10]) < 128:
                step, at = a, 11
            elif (b := record[11]) < 128:
                step, at = a & 127 | b << 7, 12
            elif (c := record[12]) < 128:
                step, at = a & 127 | (b & 127) << 7 | c << 14, 13
            elif (d := record[13]) < 128:
                step, at = a & 127 | (b & 127) << 7 | (c & 127) << 14 | d << 21, 14
        if at:
            place = None
            for shape in shapes.get(n - at, ()):
                place = shape.places.get(record[at : at + shape.at] + record[at + shape.stop :])
                if place is not None:
                    if place >= 0:
                        add_tag(place)
                        add_step(step)
                        add_value(shape.unpack(record, at + shape.at)[0])
                    break
            if place is not None:
                continue
        try:
            parser.add(record, at)
        except Malformed:
            out.num_bad += 1
    if len(record) > 8 and record[0] == 0x09:
        (out.ended,) = struct.unpack_from("<d", record, 1)
    out.damaged_at = records.damaged_at
    return out


class _Parser:
    """Adds records to scalars, field by field, and remembers the shapes of those that hold nothing but one number."""

    def __init__(self, out: Scalars, wanted: Callable[[str], bool], shapes: dict[int, list[_Shape]]) -> None:
        self._out, self._wanted, self._shapes = out, wanted, shapes
        self._places: dict[str, int] = {}
        self._num_known = 0

    def add(self, record: bytes, at: int) -> None:
        """``at`` is where the summary's field starts behind a time and a step, 0 where that is unknown. Raises Malformed."""
        out, n = self._out, len(record)
        step, start, stop = 0, 0, 0
        for number, kind, begin, end in fields(record, 0, n):
            if number == 1 and kind == wire.FIXED64 and math.isinf(out.started):
                (out.started,) = struct.unpack_from("<d", record, begin)
            elif number == 2 and kind == wire.VARINT:
                step = wire.signed(wire.varint(record, begin, end)[0])
            elif number == 5 and kind == wire.BYTES:
                start, stop = begin, end
        values = [
            _value(record, begin, end)
            for number, kind, begin, end in fields(record, start, stop)
            if number == 1 and kind == wire.BYTES
        ]
        for value in values:
            if value.number is None:
                if value.text and len(out.texts) < MAX_TEXTS:
                    out.texts.setdefault(value.tag, value.text.decode("utf-8", "replace"))
                continue
            place = self._place(value.tag)
            if place >= 0:
                out.tag.append(place)
                out.step.append(step)
                out.value.append(value.number)
            # nothing but the summary stands behind the step, and it holds nothing but this
            if value.form and len(values) == 1 and at and stop == n and wire.varint(record, at + 1, n)[1] == start:
                self._remember(record[at:], value.at - at, value.form, place)

    def _place(self, tag: str) -> int:
        out, place = self._out, self._places.get(tag)
        if place is None:
            if len(tag) > MAX_TAG or len(out.tags) >= MAX_TAGS or not self._wanted(tag):
                return -1
            place = self._places[tag] = len(out.tags)
            out.tags.append(tag)
        return place

    def _remember(self, summary: bytes, at: int, form: str, place: int) -> None:
        if len(summary) > _MAX_SHAPE or self._num_known >= _MAX_KNOWN:
            return
        self._num_known += 1
        alike = self._shapes.setdefault(len(summary), [])
        new = _Shape(at, at + struct.calcsize(form), _UNPACK[form])
        shape = next((s for s in alike if (s.at, s.stop, s.unpack) == (new.at, new.stop, new.unpack)), new)
        if shape is new:
            alike.append(new)
        shape.places[summary[:at] + summary[shape.stop :]] = place


def _value(data: bytes, at: int, end: int) -> _Value:
    """A Summary.Value; TF2 and torch's new style put the number into a tensor."""
    tag, tensor, number, spot = "", None, None, 0
    for name, kind, start, stop in fields(data, at, end):
        if name == 1 and kind == wire.BYTES:
            tag = data[start : min(stop, start + 4 * MAX_TAG + 4)].decode("utf-8", "replace")
        elif name == 2 and kind == wire.FIXED32:
            (number,), spot = _UNPACK["<f"](data, start), start
        elif name == 8 and kind == wire.BYTES:
            tensor = (start, stop)
    if number is not None:
        return _Value(tag, number, b"", spot, "<f")
    return _tensor(data, *tensor, tag) if tensor else _Value(tag)


def _tensor(data: bytes, at: int, end: int, tag: str) -> _Value:
    spans: dict[int, tuple[int, int, int]] = {}
    dtype = 0
    for name, kind, start, stop in fields(data, at, end):
        if name == 1 and kind == wire.VARINT:
            dtype = wire.varint(data, start, stop)[0]
        elif name in spans:
            return _Value(tag)  # several values, one field each
        else:
            spans[name] = (kind, start, stop)
    if dtype == _STRING and 8 in spans:
        text = data[spans[8][1] : min(spans[8][2], spans[8][1] + MAX_TEXT)]
        return _Value(tag, None, text if b"norm" in text or b"clip" in text else b"")
    form, listed = _DTYPES.get(dtype, ("", 0))
    kind, start, stop = spans.get(4, (wire.BYTES, 0, 0))  # tensor_content
    if start == stop and listed in spans:
        kind, start, stop = spans[listed]
        if form in ("<i", "<q", "<H", "<e"):
            bits, after = wire.varint(data, start, stop)
            if after != stop:
                return _Value(tag)
            if dtype in (_BFLOAT16, _HALF):
                return _Value(tag, _of_bits(bits, dtype))
            return _Value(tag, wire.signed(bits))
    if not form or stop - start != struct.calcsize(form):
        return _Value(tag)  # a histogram, or another tensor of several values
    (number,) = _UNPACK[form](data, start)
    if dtype == _BFLOAT16:
        return _Value(tag, _of_bits(int(number), dtype))
    return _Value(tag, number, b"", start, form)


def _of_bits(bits: int, dtype: int) -> float:
    raw = (bits & 0xFFFF).to_bytes(2, "little")
    (number,) = struct.unpack("<e", raw) if dtype == _HALF else struct.unpack("<f", b"\0\0" + raw)
    return float(number)
