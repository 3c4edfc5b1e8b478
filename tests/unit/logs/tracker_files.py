"""Files of trackers, made by hand after the layouts of the versions that their readers name."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def whole(number: int, n: int) -> bytes:
    return varint(number << 3) + varint(n) if n else b""


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def leveldb(records: Sequence[bytes], ident: bytes = b":SWL") -> bytes:
    """The frame, each record in one piece."""
    out = ident + struct.pack("<HB", 0xE1D6, 2)
    for record in records:
        room = 32768 - len(out) % 32768
        if room < 7 + len(record):
            out += b"\0" * room
        out += struct.pack("<IHB", zlib.crc32(b"\x01" + record), len(record), 1) + record
    return out


def swanlab(columns: Mapping[str, Sequence[float]], first: int = 0) -> bytes:
    records = [field(12, field(3, name.encode())) for name in columns]
    records += [
        field(13, field(1, name.encode()) + whole(2, step) + field(5, double(1, float(value))))
        for name, values in columns.items()
        for step, value in enumerate(values, start=first)
    ]
    return leveldb(records)


def visualdl(columns: Mapping[str, Sequence[float]], first: int = 0) -> bytes:
    out = b""
    for name, values in {"meta_data_tag": [], **columns}.items():
        for step, value in enumerate(values, start=first):
            number = b"\x25" + struct.pack("<f", value)
            record = field(1, whole(1, step) + field(2, name.encode()) + whole(3, 1796132077648) + number)
            out += struct.pack("<Q", len(record)) + record
    return out


def mlflow(
    path: Path, runs: Mapping[str, Mapping[str, Sequence[float]]], *, params: dict[str, str], first: int = 0
) -> bytes:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE runs (run_uuid TEXT, name TEXT, start_time BIGINT)")
        db.execute("CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT)")
        db.execute(
            "CREATE TABLE metrics (key TEXT, value FLOAT, timestamp BIGINT, run_uuid TEXT, step BIGINT, is_nan BOOLEAN)"
        )
        for number, (run, columns) in enumerate(runs.items()):
            db.execute("INSERT INTO runs VALUES (?, ?, ?)", (run, f"name of {run}", number))
            db.executemany("INSERT INTO params VALUES (?, ?, ?)", [(k, v, run) for k, v in params.items()])
            for name, values in columns.items():
                for step, value in enumerate(values, start=first):
                    stored = 0.0 if math.isnan(value) else max(-sys.float_info.max, min(value, sys.float_info.max))
                    db.execute(
                        "INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
                        (name, float(stored), 1700 + step, run, step, math.isnan(value)),
                    )
        db.commit()
    return path.read_bytes()


def trackio(path: Path, columns: Mapping[str, Sequence[float]], *, config: dict[str, float], first: int = 0) -> bytes:
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_id TEXT, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT)"
        )
        db.execute("CREATE TABLE configs (id INTEGER PRIMARY KEY, run_id TEXT, run_name TEXT, config TEXT)")
        db.execute("INSERT INTO configs (run_id, run_name, config) VALUES ('x', 'run', ?)", (json.dumps(config),))
        for step, values in enumerate(zip(*columns.values(), strict=True), start=first):
            row = {
                name: float(v) if math.isfinite(v) else str(json.dumps(float(v)))
                for name, v in zip(columns, values, strict=True)
            }
            db.execute(
                "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES ('x', '2026', 'run', ?, ?)",
                (step, json.dumps(row)),
            )
        db.commit()
    return path.read_bytes()


def neptune_scale(path: Path, columns: Mapping[str, Sequence[float]], first: int = 0) -> bytes:
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "CREATE TABLE run_operations (sequence_id INTEGER PRIMARY KEY, timestamp INTEGER, operation_type INTEGER, operation BLOB, "
            "operation_size_bytes INTEGER)"
        )
        for step, values in enumerate(zip(*columns.values(), strict=True), start=first):
            named = [
                field(8, field(1, n.encode()) + field(2, double(1, float(v))))
                for n, v in zip(columns, values, strict=True)
            ]
            operation = field(1, whole(1, step)) + b"".join(named)
            db.execute("INSERT INTO run_operations (operation) VALUES (?)", (operation,))
        db.commit()
    return path.read_bytes()


def clearml(columns: Mapping[str, Sequence[float]], first: int = 0) -> bytes:
    """One line of all messages; what is not finite is 0.0 in them."""
    rows = [
        {
            "type": "training_stats_scalar",
            "iter": step,
            "metric": name.partition("/")[0],
            "variant": name.partition("/")[2],
            "value": float(value) if math.isfinite(value) else 0.0,
        }
        for name, values in columns.items()
        for step, value in enumerate(values, start=first)
    ]
    return json.dumps(rows).encode() + b"\n"


def comet(columns: Mapping[str, Sequence[float]], params: dict[str, float], first: int = 0) -> bytes:
    lines = [
        {"payload": {"param": {"paramName": k, "paramValue": v}}, "type": "parameter_msg"} for k, v in params.items()
    ]
    lines += [
        {
            "payload": {
                "metric": {
                    "epoch": None,
                    "metricName": name,
                    "metricValue": v if math.isfinite(v) else "NaN",
                    "step": step,
                }
            },
            "type": "metric_msg",
        }
        for name, values in columns.items()
        for step, v in enumerate(map(float, values), start=first)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def neptune(columns: Mapping[str, Sequence[float]], params: dict[str, float], first: int = 0) -> bytes:
    """An operation a line; what is not finite is missing."""
    lines = [
        {"obj": {"type": "AssignFloat", "path": k.split("/"), "value": v}, "version": 1} for k, v in params.items()
    ]
    lines += [
        {
            "obj": {"type": "LogFloats", "path": name.split("/"), "values": [{"value": v, "step": step, "ts": 1.5}]},
            "version": 2,
        }
        for name, values in columns.items()
        for step, v in enumerate(map(float, values), start=first)
        if math.isfinite(v)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def skorch(columns: Mapping[str, Sequence[float]]) -> bytes:
    batches = [
        {name.partition("/")[2]: float(v) for name, v in zip(columns, values, strict=True)} | {"train_batch_size": 8}
        for values in zip(*columns.values(), strict=True)
    ]
    half = len(batches) // 2
    epochs = [{"epoch": i + 1, "batches": part, "dur": 1.0} for i, part in enumerate((batches[:half], batches[half:]))]
    return json.dumps(epochs).encode()
