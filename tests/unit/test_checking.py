"""What a threshold in use is to a training, against counts made here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipcal.checking import Check, check
from clipcal.errors import InputError
from clipcal.evidence import load
from clipcal.trace import Floats

RNG = np.random.default_rng(0)
STABLE = np.exp(RNG.normal(0.0, 0.2, 600))  # median 1, 99% point 1.6


def with_spikes(norms: Floats, at: Any, height: float) -> Floats:
    spiky = norms.copy()
    spiky[at] = height
    return spiky


SPIKY = with_spikes(STABLE, [100, 250, 251, 400, 555], 20.0)


def checked(tmp_path: Path, norms: Any, max_norm: float | None = None, **row: Any) -> Check:
    path = tmp_path / "log.jsonl"
    path.write_text(
        "".join(json.dumps({"step": i, "grad_norm": float(v)} | row) + "\n" for i, v in enumerate(np.asarray(norms)))
    )
    return check(load(path), max_norm)


@pytest.mark.parametrize(
    ("norms", "max_norm", "verdict", "fits"),
    [
        (SPIKY, 3.0, "guard", True),
        (SPIKY, 2.5, "guard", True),
        (SPIKY, 50.0, "inactive", False),  # every spike passes
        (SPIKY, 0.5, "brake", False),
        (SPIKY, 1.15, "limiter", False),
        (STABLE, 2.5, "inactive", True),  # a net above stable training
        (STABLE, 1000.0, "inactive", False),  # a net that nothing ever falls into
        (STABLE, 0.9, "brake", False),
    ],
)
def test_what_a_threshold_is(tmp_path: Path, norms: Floats, max_norm: float, verdict: str, fits: bool) -> None:
    answer = checked(tmp_path, norms, max_norm)
    assert (answer.verdict, answer.fits) == (verdict, fits)


@pytest.mark.parametrize("max_norm", [0.7, 1.0, 1.3, 3.0, 25.0])
def test_how_often_and_how_strongly_it_acts(tmp_path: Path, max_norm: float) -> None:
    answer = checked(tmp_path, SPIKY, max_norm)
    scale = np.minimum(1.0, max_norm / SPIKY)
    assert answer.acts.share == pytest.approx(np.mean(max_norm < SPIKY))
    assert answer.acts.rows == np.sum(max_norm < SPIKY)
    assert answer.mean_scale == pytest.approx(np.mean(scale))
    if answer.acts.rows:
        at = np.flatnonzero(max_norm < SPIKY)
        assert answer.scale_when_clipped == pytest.approx(np.mean(scale[at]))
        assert (answer.acts.first_step, answer.acts.last_step) == (at[0], at[-1])
    else:
        assert answer.scale_when_clipped is None
        assert answer.acts.first_step is None
    for k, quarter in enumerate(answer.quarters):
        part = SPIKY[150 * k : 150 * (k + 1)]
        assert (quarter.first_step, quarter.last_step, quarter.rows) == (150 * k, 150 * k + 149, 150)
        assert quarter.median == pytest.approx(np.median(part))
        assert quarter.clipped == pytest.approx(np.mean(part > max_norm))
        assert quarter.mean_scale == pytest.approx(np.mean(np.minimum(1.0, max_norm / part)))


def test_norms_that_have_risen_above_it(tmp_path: Path) -> None:
    """It guarded the first half; by the end it acts on nearly every step."""
    answer = checked(tmp_path, STABLE * np.linspace(1.0, 4.0, 600), 3.0)
    assert answer.fits is False
    assert answer.quarters[0].verdict in ("inactive", "guard")
    assert answer.quarters[-1].verdict == "brake"
    assert any("more as training goes" in reason for reason in answer.reasons)


def test_norms_that_have_fallen_below_it(tmp_path: Path) -> None:
    answer = checked(tmp_path, STABLE * np.geomspace(3.0, 1.0, 600), 3.0)
    assert answer.quarters[-1].verdict == "inactive"
    assert any("less as training goes" in reason for reason in answer.reasons)


def test_a_run_that_diverged_though_it_was_clipped(tmp_path: Path) -> None:
    lost = np.concatenate([STABLE[:300], np.geomspace(10, 1e6, 30)])
    answer = checked(tmp_path, lost, max_grad_norm=3.0)
    assert (answer.max_norm, answer.max_norm_from) == (3.0, "max_grad_norm")
    assert answer.fits is False
    assert "diverges although it was clipped at 3" in answer.reasons[0]


def test_norms_after_clipping_show_how_often_and_not_how_strongly(tmp_path: Path) -> None:
    answer = checked(tmp_path, np.minimum(STABLE, 0.9), 0.9)
    assert (answer.verdict, answer.fits) == ("brake", False)
    assert answer.acts.share == pytest.approx(np.mean(STABLE > 0.9), abs=0.02)
    assert answer.mean_scale is None
    other = checked(tmp_path, np.minimum(STABLE, 0.9), 2.0)
    assert (other.verdict, other.fits) == (None, None)
    assert "logged after clipping" in other.reasons[0]


def test_too_little_to_tell(tmp_path: Path) -> None:
    answer = checked(tmp_path, [1.0, 1.1, 0.9], 2.0)
    assert (answer.verdict, answer.fits) == ("inactive", None)
    assert "cannot be told" in answer.reasons[1]
    nothing = checked(tmp_path, [math.nan] * 30, 2.0)
    assert (nothing.verdict, nothing.fits) == (None, None)


def test_the_threshold_may_stand_in_the_log(tmp_path: Path) -> None:
    assert checked(tmp_path, SPIKY, clip_norm=3.0).verdict == "guard"
    assert checked(tmp_path, SPIKY, 0.5, clip_norm=3.0).verdict == "brake"  # what is asked outranks it
    with pytest.raises(InputError, match=r"does not say which threshold was in use.*--max-norm"):
        checked(tmp_path, SPIKY)
    with pytest.raises(InputError, match=r"was not clipped \(clip_norm\).*--max-norm"):
        checked(tmp_path, SPIKY, clip_norm=0.0)


@pytest.mark.parametrize("max_norm", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_threshold(tmp_path: Path, max_norm: float) -> None:
    with pytest.raises(InputError, match="--max-norm must be a positive number"):
        checked(tmp_path, SPIKY, max_norm)


def test_the_object_that_json_prints(tmp_path: Path) -> None:
    answer = checked(tmp_path, SPIKY, 0.5)
    found = answer.as_dict()
    assert list(found) == [
        "schema",
        "source",
        "steps",
        "max_norm",
        "max_norm_from",
        "verdict",
        "fits",
        "acts",
        "mean_scale",
        "scale_when_clipped",
        "quarters",
        "reasons",
        "drift",
        "recommended",
        "caveats",
    ]
    assert found["schema"] == "clipcal.check/1"
    assert found["recommended"]["max_norm"] == load(tmp_path / "log.jsonl").recommend().max_norm
    json.dumps(found, allow_nan=False)
