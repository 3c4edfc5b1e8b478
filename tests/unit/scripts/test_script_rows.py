"""The row of a script's step: what a watched process packs, byte for byte, and what the parent reads of it."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

from clipcal.run.step import Step
from clipcal.scripts.child.growing import GrowingRows, row_of
from clipcal.scripts.gathering import Gathering

STEP = (7, 2.5, math.inf, 0.25, 0.1, 0.5, True)


def test_a_row_is_that_of_every_version() -> None:
    assert row_of(2).pack(*STEP, 1.5, 0.0) == struct.pack("<qdddddB2f", *STEP, 1.5, 0.0)


def test_what_is_packed_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "streams" / "0-100-1"
    folder.mkdir(parents=True)
    rows = GrowingRows(folder / "steps", row_of(2))
    rows.append(*STEP, 1.5, 0.0)
    about = {"number": 1, "pid": 100, "rank": 0, "world": 1, "names": ["a", "b"], "sharded": False}
    (folder / "stream.json").write_text(json.dumps(about))
    (folder / "seen.json").write_text(json.dumps({"picked": True}))
    steps, norms = Gathering(tmp_path).poll()
    assert steps == [
        Step(step=7, loss=2.5, grad_norm=math.inf, grad_max=0.25, lr=0.1, seconds=0.5, skipped=True),
    ]
    assert norms.tolist() == [[1.5, 0.0]]
    assert [type(value) for value in (steps[0].step, steps[0].loss, steps[0].skipped)] == [int, float, bool]
