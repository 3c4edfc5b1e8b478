"""SwanLab's record of a run (``run-ID.swanlab``, 0.10.3) -> rows; it is all that an offline run has.

The frame is that of a LevelDB log. A record is a message: in its field 13 a scalar, with 1 the name, 2 the step, left out where it is 0,
and 5 the value in its field 1.
"""

from __future__ import annotations

from clipcal.logs.in_use import TOLD, threshold_beside
from clipcal.logs.leveldb import Records
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.tfrecord import BYTES, FIXED64, VARINT, Malformed, double, fields, varint

TITLE = "SwanLab record"
_IDENT = b":SWL"
_SCALAR, _NAME, _STEP, _VALUE = 13, 1, 2, 5


def _read(source: Source) -> Log:
    rows, records = Rows(), Records(source.chunks())
    bad = 0
    for record in records:
        try:
            for number, kind, at, end in fields(record, 0, len(record)):
                if (number, kind) == (_SCALAR, BYTES):
                    _add(rows, record, at, end)
        except Malformed:
            bad += 1
    if records.num_damaged or bad:
        rows.notes.append("The file of the run is damaged in places, and rows are missing there.")
    if told := threshold_beside(source, TOLD["swanlab"]):
        rows.threshold(*told)
    return rows.log(TITLE)


def _add(rows: Rows, record: bytes, at: int, end: int) -> None:
    name, step, value = "", 0, None
    for number, kind, a, b in fields(record, at, end):
        if (number, kind) == (_NAME, BYTES):
            name = record[a:b].decode("utf-8", "replace")
        elif (number, kind) == (_STEP, VARINT):
            step = varint(record, a, b)[0]
        elif (number, kind) == (_VALUE, BYTES):
            # a value of 0 is left out
            value = next((double(record, c) for n, k, c, _ in fields(record, a, b) if (n, k) == (1, FIXED64)), 0.0)
    if kind_of(name) != "other" and value is not None:
        rows.add({name: value}, step=float(step))


READER = Reader(
    title=TITLE,
    recognises=lambda source: source.head.startswith(_IDENT),
    read=_read,
    norms='call swanlab.log({"train/grad_norm": norm}, step=step) at every step',
)
