"""The frames of event files, against TensorBoard's own writer."""

from __future__ import annotations

import io
import random

import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from clipcal.views.tensorboard.frames import first_record, framed


def by_tensorboard(records: list[bytes]) -> bytes:
    file = io.BytesIO()
    writer = RecordWriter(file)
    for record in records:
        writer.write(record)
    return file.getvalue()


@pytest.mark.parametrize("seed", range(20))
def test_frames_are_tensorboards(seed: int) -> None:
    rng = random.Random(seed)
    records = [rng.randbytes(rng.choice([0, 1, 63, 64, 65, 108])) for _ in range(rng.randrange(1, 40))]
    alike = bytearray(rng.randbytes(rng.choice([64, 65, 200])))
    for _ in range(20):  # as the steps of a training: few bytes differ
        alike[rng.randrange(len(alike))] = rng.randrange(256)
        records.append(bytes(alike))
    rng.shuffle(records)
    assert framed(records) == by_tensorboard(records)


def test_nothing_and_what_is_cut_off() -> None:
    assert framed([]) == b""
    whole = framed([b"first", b"second"])
    assert first_record(whole) == b"first"
    for n in range(len(framed([b"first"]))):
        assert first_record(whole[:n]) == b""
