"""The frames of event files, against TensorBoard's own writer."""

from __future__ import annotations

import io
import random

import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from clipcal.logs.tfrecord import Records
from clipcal.views.tensorboard.files import framed


@pytest.mark.parametrize("seed", range(20))
def test_frames_are_tensorboards(seed: int) -> None:
    rng = random.Random(seed)
    records = [rng.randbytes(rng.choice([0, 1, 63, 64, 65, 108])) for _ in range(rng.randrange(1, 40))]
    file = io.BytesIO()
    writer = RecordWriter(file)
    for record in records:
        writer.write(record)
    assert b"".join(map(framed, records)) == file.getvalue()
    assert list(Records([file.getvalue()])) == records


def test_what_is_cut_off_is_no_record() -> None:
    assert list(Records([])) == []
    first, second = framed(b"first"), framed(b"second")
    for n in range(len(first)):
        assert list(Records([first[:n]])) == []
    for n in range(len(first), len(first + second)):
        assert list(Records([(first + second)[:n]])) == [b"first"]
