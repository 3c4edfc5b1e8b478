"""The line of provenance: what it holds, and that it stays one line above any snippet."""

from __future__ import annotations

import pytest

from clipcal.frameworks.snippets import provenance, snippet


def test_holds_everything_that_is_known() -> None:
    line = provenance(
        version="0.1.0",
        source="configs/char_lstm.yaml",
        steps=300,
        batch_size=8,
        accumulate=4,
        num_ranks=2,
        date="2026-11-21T10:00:00+00:00",
    )
    assert line == (
        "calibrated by clipcal 0.1.0 on 300 steps of configs/char_lstm.yaml, batch 8 x 4 accumulated x 2 ranks, 2026-11-21"
    )


@pytest.mark.parametrize(
    ("known", "line"),
    [
        ({}, "calibrated by clipcal 0.1.0 on 300 steps of train.log"),
        ({"date": "2026-11-21"}, "calibrated by clipcal 0.1.0 on 300 steps of train.log, 2026-11-21"),
        ({"batch_size": 8}, "calibrated by clipcal 0.1.0 on 300 steps of train.log, batch 8"),
        ({"batch_size": 8, "num_ranks": 2}, "calibrated by clipcal 0.1.0 on 300 steps of train.log, batch 8 x 2 ranks"),
        ({"accumulate": 4}, "calibrated by clipcal 0.1.0 on 300 steps of train.log"),
    ],
)
def test_says_nothing_of_what_is_not_known(known: dict[str, object], line: str) -> None:
    assert provenance(version="0.1.0", source="train.log", steps=300, **known) == line  # type: ignore[arg-type]


def test_one_step() -> None:
    assert "on 1 step of" in provenance(version="0.1.0", source="train.log", steps=1)


def test_a_path_with_a_line_break_stays_in_the_comment() -> None:
    line = provenance(version="0.1.0", source="runs/a\nimport os", steps=3, date="2026-11-21")
    text = snippet("nanogpt", max_norm=2.4, provenance=line)
    assert text.splitlines()[0] == "# calibrated by clipcal 0.1.0 on 3 steps of runs/a import os, 2026-11-21"
