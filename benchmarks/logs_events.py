"""How fast an event file of a million scalars is read, beside TensorBoard's own EventAccumulator: a run of 250,000 steps that
wrote its gradient norm, its loss, its learning rate and one more value at each.

The file is made twice: with simple values, as torch writes them, and with tensors, as TensorFlow 2 does. The readers take
turns, each time in a Python of its own, so that the peak of its memory is its own too; importing is on nobody's clock. The
numbers that they come to must be equal bit for bit, or the script stops.

Exits with 1 where the target is missed beyond its interval.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.overhead import peak_memory
from benchmarks.reporting import interval, judged, print_table, write_results

STEPS, SEED = 250_000, 0
TAGS = ("train/grad_norm", "train/loss", "lr", "train/other")
KINDS = ("simple values", "tensors")
READERS = ("clipcal", "EventAccumulator")
TARGET = 5.0  # times as fast
_START = 1.7e9  # seconds since 1970

Bytes = NDArray[np.uint8]


def write_events(path: Path, columns: Sequence[NDArray[np.float32]], kind: str) -> None:
    """An event file with TAGS at the steps 0, 1, ..., whole columns at a time: a million records take a second or two."""
    n = len(columns[0])
    times = _START + 0.01 * np.arange(n)
    version = b"\x09" + np.float64(_START).tobytes() + b"\x1a\x0dbrain.Event:2"
    with path.open("wb") as file:
        file.write(_frame(np.frombuffer(version, np.uint8)[None, :]).tobytes())
        for size in range(1, 5):  # steps whose varint takes as many bytes; step 0 is written out here
            first, last = (0 if size == 1 else 128 ** (size - 1)), min(n, 128**size)
            steps = np.arange(first, last)
            if not steps.size:
                break
            digits = np.stack([steps >> 7 * i & 127 | (128 if i < size - 1 else 0) for i in range(size)], axis=1)
            head = [_same(b"\x09", steps.size), _raw(times[first:last]), _same(b"\x10", steps.size), digits]
            records = []
            for tag, values in zip(TAGS, columns, strict=True):
                before, after = _around(tag, kind)
                parts = [*head, _same(before, steps.size), _raw(values[first:last]), _same(after, steps.size)]
                records.append(_frame(np.concatenate(parts, axis=1).astype(np.uint8)))
            file.write(np.concatenate(records, axis=1).tobytes())


def _around(tag: str, kind: str) -> tuple[bytes, bytes]:
    """What stands around the four bytes of a value, from the field of the summary on."""
    name = b"\x0a" + bytes([len(tag)]) + tag.encode()
    if kind == "simple values":
        before, after = name + b"\x15", b""
    else:  # dtype float, no shape, four bytes of content; the plugin's name
        before, after = name + b"\x42\x0a\x08\x01\x12\x00\x22\x04", b"\x4a\x0b\x0a\x09\x0a\x07scalars"
    inner = len(before) + 4 + len(after)
    return b"\x2a" + bytes([inner + 2]) + b"\x0a" + bytes([inner]) + before, after


def _same(data: bytes, n: int) -> Bytes:
    return np.broadcast_to(np.frombuffer(data, np.uint8), (n, len(data)))


def _raw(values: NDArray[Any]) -> Bytes:
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)


def _frame(bodies: Bytes) -> Bytes:
    """Records of one length (n, bytes) with their lengths and checksums around them."""
    n, size = bodies.shape
    length = np.frombuffer(np.uint64(size).tobytes(), np.uint8)[None, :]
    lengths = np.broadcast_to(np.concatenate([length, _crc(length)], axis=1), (n, 12))
    return np.concatenate([lengths, bodies, _crc(bodies)], axis=1)


def _crc(rows: Bytes) -> Bytes:
    """The masked CRC-32C of each row, as bytes (n, 4)."""
    table: NDArray[np.uint32] = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1 ^ np.where(table & 1, 0x82F63B78, 0)).astype(np.uint32)
    crc: NDArray[np.uint32] = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in rows.T:
        crc = table[(crc ^ column) & 0xFF] ^ crc >> 8
    crc = ~crc
    return _raw((crc >> 15 | crc << 17) + np.uint32(0xA282EAD8))


def make_columns(n: int) -> list[NDArray[np.float32]]:
    draw, t = np.random.default_rng(SEED), np.arange(n) / n
    norms = np.exp(0.3 * draw.standard_normal(n))
    losses = 2 + np.exp(-t / 0.2) + 0.02 * draw.standard_normal(n)
    return [x.astype(np.float32) for x in (norms, losses, 1e-3 * (1 - t), draw.random(n))]


def read(reader: str, path: Path, numbers: Path) -> None:
    """In a process of its own: read the file, print what it took, and keep step, norm, loss and rate (4, n)."""
    if reader == "clipcal":
        from clipcal.logs.readers.tensorboard import READER
        from clipcal.logs.source import Source
    else:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    before, begin, begin_cpu = peak_memory(), time.perf_counter(), time.process_time()
    if reader == "clipcal":
        (series,) = READER.read(Source(path)).series
        found = [series.step, series.grad_norm, series.loss, series.lr]
    else:
        accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
        accumulator.Reload()
    took = {"wall": time.perf_counter() - begin, "cpu": time.process_time() - begin_cpu}
    took |= {"bytes": peak_memory() - before}
    if reader != "clipcal":
        from tensorboard.util import tensor_util

        if accumulator.Tags()["scalars"]:
            events = [[(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in TAGS[:3]]
        else:
            events = [
                [(e.step, tensor_util.make_ndarray(e.tensor_proto).item()) for e in accumulator.Tensors(tag)]
                for tag in TAGS[:3]
            ]
        found = [np.array([step for step, _ in events[0]], float), *(np.array([v for _, v in e]) for e in events)]
    np.save(numbers, np.stack(found))
    print(json.dumps(took))


def main() -> None:
    parser = argparse.ArgumentParser(description="Reading an event file, beside TensorBoard's EventAccumulator.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, two rounds: a look, not a result")
    parser.add_argument("--child", nargs=3, metavar=("READER", "FILE", "NUMBERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        reader, *paths = arguments.child
        read(reader, *map(Path, paths))
        return
    steps, num_rounds = (STEPS // 10, 2) if arguments.quick else (STEPS, 5)
    head = ["", "median s", "95 % interval", "CPU s", "us per scalar", "peak MB", "x clipcal", "95 % interval"]
    table, results = [head], dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder:
        columns = make_columns(steps)
        for kind in KINDS:
            path = Path(folder) / f"events.out.tfevents.{kind.split()[0]}"
            write_events(path, columns, kind)
            took: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
            for _ in range(num_rounds if kind == KINDS[0] else min(num_rounds, 3)):
                for reader in READERS:
                    took[reader].append(_child(reader, path, Path(folder) / f"{reader}.npy"))
            ours, theirs = (np.load(Path(folder) / f"{reader}.npy") for reader in READERS)
            if not np.array_equal(ours, theirs) or not np.array_equal(ours[1], columns[0].astype(float)):
                sys.exit(f"{kind}: the numbers differ")
            results[kind] = {reader: _summary(took[reader], took["clipcal"]) for reader in READERS}
            for reader in READERS:
                r = results[kind][reader]
                table.append(
                    [
                        f"{kind}: {reader}",
                        f"{r['wall']:.2f}",
                        "{:.2f} .. {:.2f}".format(*r["wall_interval"]),
                        f"{r['cpu']:.2f}",
                        f"{1e6 * r['wall'] / (steps * len(TAGS)):.2f}",
                        f"{r['bytes'] / 1e6:.0f}",
                        f"{r['ratio']:.1f}",
                        "{:.1f} .. {:.1f}".format(*r["ratio_interval"]),
                    ]
                )
            path.unlink()
    print_table(table)
    verdicts = []
    for kind in KINDS:
        r = results[kind]["EventAccumulator"]
        low, high = r["ratio_interval"]
        verdicts.append(judged(-r["ratio"], -high, -low, at_most=-TARGET))
        memory = r["bytes"] / results[kind]["clipcal"]["bytes"]
        print(
            f"{kind}: {r['ratio']:.1f} times as fast, target {TARGET:g}: {verdicts[-1]}; {memory:.1f} times less memory"
        )
    if arguments.quick:
        return
    settings = {"steps": steps, "tags": TAGS, "rounds": num_rounds, "seed": SEED}
    write_results("logs_events", results, tensorboard=version("tensorboard"), **settings)
    if "missed" in verdicts:
        sys.exit(1)


def _child(reader: str, path: Path, numbers: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.logs_events", "--child", reader, str(path), str(numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _summary(took: Sequence[dict[str, float]], base: Sequence[dict[str, float]]) -> dict[str, Any]:
    wall = [t["wall"] for t in took]
    ratios = [t["wall"] / b["wall"] for t, b in zip(took, base, strict=True)]
    return {
        "wall": statistics.median(wall),
        "wall_interval": interval(wall),
        "cpu": statistics.median(t["cpu"] for t in took),
        "bytes": statistics.median(t["bytes"] for t in took),
        "ratio": statistics.median(ratios),
        "ratio_interval": interval(ratios),
    }


if __name__ == "__main__":
    main()
