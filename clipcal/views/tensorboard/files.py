"""Steps -> a TensorBoard event file: four scalars of every step, and now and then a histogram of the norms.

The messages and the checksums are those of the tensorboard package. Its EventFileWriter is not used: it writes from a thread,
which a full disk ends with a traceback and a cut record. Nor is its RecordWriter: the package around it loads TensorFlow.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipcal.errors import InputError
from clipcal.logs.tfrecord import FOOTER, HEADER, Records
from clipcal.run.step import Step
from clipcal.run.trace import AppendOnly

NORM, LOSS, LR, SCALE = "train/grad_norm_pre_clip", "train/loss", "train/lr", "train/clip_scale"
HISTOGRAM, LOG_HISTOGRAM = f"{NORM}_histogram", f"{NORM}_histogram_log10"
EVERY = 50
"""Steps that one histogram is of: six of the usual 300, which can still be told apart in TensorBoard's stack."""
BINS = 30
"""Of a histogram: as many as TensorBoard makes by itself, and draws."""
SUFFIX = ".clipcal"
"""How the names of the event files end that clipcal wrote, and may replace."""
_WRITER = "clipcal "


def messages() -> Any:
    """TensorBoard's messages. Raises InputError where the package is not installed."""
    try:
        return importlib.import_module("tensorboard.compat.proto.event_pb2")
    except ImportError:
        raise InputError(
            "--tensorboard writes with TensorBoard's own package, which is not installed. Run pip install 'clipcal[tensorboard]'"
        ) from None


def own_files(folder: Path) -> list[Path]:
    """The event files in a folder that clipcal wrote."""
    return sorted(folder.glob(f"events.out.tfevents.*{SUFFIX}"))


def remove(folder: Path, *, replaced: bool = False) -> None:
    """Remove what clipcal wrote, and the folder where it holds nothing else.

    ``replaced``: the first record of the last file stays. An open TensorBoard does not get past a file that has gone, and
    would show the old curve for good.
    """
    files = own_files(folder)
    for path in files:
        if replaced and path == files[-1] and (kept := _first_record(path)):
            os.truncate(path, HEADER + len(kept) + FOOTER)
        else:
            path.unlink(missing_ok=True)
    if files:
        with contextlib.suppress(OSError):
            folder.rmdir()


def owner_of(path: Path) -> str:
    """What was given as ``owner`` when the file was begun; empty where it cannot be read."""
    try:
        first = messages().Event.FromString(_first_record(path))
    except (OSError, importlib.import_module("google.protobuf.message").DecodeError):
        return ""
    return str(first.source_metadata.writer).removeprefix(_WRITER)


def _first_record(path: Path) -> bytes:
    with path.open("rb") as f:
        return next(iter(Records([f.read(2**16)])), b"")


def framed(record: bytes) -> bytes:
    """TFRecord's frame: the length with its checksum before the record, the record's checksum behind it."""
    checksum = importlib.import_module("tensorboard.compat.tensorflow_stub.pywrap_tensorflow").masked_crc32c
    length = struct.pack("<Q", len(record))
    return b"".join([length, struct.pack("<I", checksum(length)), record, struct.pack("<I", checksum(record))])


class EventFile:
    """A new event file in ``folder``, which TensorBoard takes for the whole run: what it has read of older files goes.

    ``owner`` is kept in it. ``add`` writes at once, in one piece, so that a killed process leaves whole records. Raises
    InputError or OSError where it cannot be written; what was there before stays readable.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        host, now = socket.gethostname().replace(os.sep, "-"), time.time_ns()
        # an open TensorBoard goes on to a file whose name sorts behind the last one's, also of the same second
        name = f"events.out.tfevents.{now // 10**9:010d}.{host}.{now}{SUFFIX}"
        self._pb = messages()
        self._file = AppendOnly(folder / name)
        self._owner = owner
        self._last: float | None = None
        self._step = self._num_new = 0
        self._norms: list[float] = []

    def add(self, steps: Sequence[Step], *, ended: float) -> None:
        """``ended`` is when the last one ended, in seconds since 1970."""
        now = ended - sum(map(_seconds, steps))
        events = []
        if self._last is None:
            self._last = now
            first, start = self._pb.Event(wall_time=now, file_version="brain.Event:2"), self._pb.Event(wall_time=now)
            first.source_metadata.writer = _WRITER + self._owner
            start.session_log.status = self._pb.SessionLog.START  # what TensorBoard has read of this run is no more
            events = [first, start]
        now = max(self._last, now)
        latest = max(self._last, ended)
        for s in steps:
            now = min(now + _seconds(s), latest)
            events.append(self._scalars(s, now))
            self._step = s.step
            self._num_new += 1
            if math.isfinite(s.grad_norm) and not s.skipped:
                self._norms.append(s.grad_norm)
            if self._num_new == EVERY:
                events += self._histograms(now)
        self._last = now
        self._write(events)

    def text(self, tag: str, markdown: str) -> None:
        event = self._pb.Event(wall_time=time.time(), step=self._step)
        value = event.summary.value.add(tag=tag)
        value.metadata.plugin_data.plugin_name = "text"
        value.tensor.dtype = 7  # DT_STRING
        value.tensor.tensor_shape.SetInParent()  # of no dimension: a list of one text is shown as a table
        value.tensor.string_val.append(markdown.encode())
        self._write([event])

    def finish(self) -> None:
        """Write the histogram of the steps that have none yet."""
        if self._num_new and self._last is not None:
            self._write(self._histograms(self._last))

    def close(self) -> None:
        self._file.close()

    def _scalars(self, s: Step, now: float) -> Any:
        event = self._pb.Event(wall_time=now, step=s.step)
        shown = {NORM: s.grad_norm, LOSS: s.loss, LR: s.lr, SCALE: 1.0 if s.scale is None else s.scale}
        for tag, value in shown.items():
            if not (s.skipped and tag in (NORM, SCALE)):  # the GradScaler dropped it: it has no norm and was not scaled
                event.summary.value.add(tag=tag, simple_value=value)
        return event

    def _histograms(self, now: float) -> list[Any]:
        norms = np.array(self._norms)
        self._num_new, self._norms = 0, []
        events = []
        # one spike puts all else into the first bin of the norms themselves; in powers of ten both are seen
        for tag, values in ((HISTOGRAM, norms), (LOG_HISTOGRAM, np.log10(norms[norms > 0]))):
            if not len(values):
                continue
            low, high = float(values.min()), float(values.max())
            edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
            places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
            event = self._pb.Event(wall_time=now, step=self._step)
            histogram = event.summary.value.add(tag=tag).histo
            with np.errstate(over="ignore"):
                histogram.sum, histogram.sum_squares = float(values.sum()), float((values * values).sum())
            histogram.min, histogram.max, histogram.num = float(edges[0]), float(edges[-1]), len(values)
            histogram.bucket_limit.extend(edges[1:].tolist())
            histogram.bucket.extend(np.bincount(places, minlength=len(edges) - 1).tolist())
            events.append(event)
        return events

    def _write(self, events: Sequence[Any]) -> None:
        self._file.append(b"".join(framed(event.SerializeToString()) for event in events))


def _seconds(s: Step) -> float:
    return s.seconds if math.isfinite(s.seconds) else 0.0
