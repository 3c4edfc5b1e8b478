"""Files of W&B offline runs, framed here after LevelDB's description of its log format."""

from __future__ import annotations

import importlib
import json
import struct
import zlib
from collections.abc import Iterable
from typing import Any

BLOCK = 32 * 1024


def messages() -> Any:
    return importlib.import_module("wandb.proto.wandb_internal_pb2")


def framed(records: Iterable[Any]) -> bytes:
    """Messages, or their bytes, in LevelDB's log format, after its description."""
    out = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for record in records:
        data, first = record if isinstance(record, bytes) else record.SerializeToString(), True
        while True:
            room = BLOCK - len(out) % BLOCK
            if room < 7:
                out += bytes(room)
                continue
            piece, data = data[: room - 7], data[room - 7 :]
            kind = (1 if first else 4) if not data else (2 if first else 3)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
            first = False
            if not data:
                break
    return bytes(out)


def history(step: int, **values: Any) -> Any:
    record = messages().Record()
    record.history.step.num = step
    for name, value in values.items():
        record.history.item.add(nested_key=[name], value_json=json.dumps(value))
    return record


def config(**values: Any) -> Any:
    record = messages().Record()
    for name, value in values.items():
        record.config.update.add(key=name, value_json=json.dumps(value))
    return record
