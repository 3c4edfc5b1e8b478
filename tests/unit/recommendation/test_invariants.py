"""recommend(): what no answer may do, whatever the trace. `CLIPCAL_EXAMPLES=20000` looks longer."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.calibration import recommend
from clipcal.run.trace import Floats

EXAMPLES = int(os.environ.get("CLIPCAL_EXAMPLES", "300"))
many = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def traces(draw: st.DrawFn, most: int = 100) -> Floats:
    """Traces of 8 to ``most`` rows of every kind: level, drift, noise, tail, spikes, an end."""
    n = draw(st.integers(8, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    t = np.linspace(0, 1, n)
    shape = draw(st.sampled_from(["flat", "up", "down", "cycle", "shift", "late", "growth"]))
    size = draw(st.floats(0.1, 8.0))
    course = {
        "flat": np.zeros(n),
        "up": size * t,
        "down": -size * t,
        "cycle": 0.5 * size * np.sin(9 * t),
        "shift": size * (t > draw(st.floats(0.1, 0.95))),
        "late": size * np.maximum(t - 0.85, 0) * 6,
        "growth": 5 * size * np.maximum(t - draw(st.floats(0.0, 0.9)), 0),
    }[shape]
    spread = draw(st.sampled_from([0.0, 0.02, 0.2, 0.6, 1.2]))
    noise = rng.standard_t(2, n) if draw(st.booleans()) else rng.standard_normal(n)
    norms = np.exp(np.clip(course + spread * noise, -200, 200)) * draw(st.sampled_from([1.0, 1e-8, 3e4]))
    for value, rate in ((30.0, 0.05), (math.nan, 0.03), (0.0, 0.2)):
        if draw(st.booleans()):
            hit = rng.random(n) < rate
            norms[hit] = norms[hit] * value if value else 0.0
    if draw(st.booleans()):
        norms = np.array([float(f"{v:.3g}") for v in norms])
    if draw(st.integers(0, 4)) == 0:
        norms[-draw(st.integers(1, 7)) :] = draw(st.sampled_from([math.nan, math.inf, 0.0]))
    return norms


@st.composite
def losses_for(draw: st.DrawFn, norms: Floats) -> Floats | None:
    kind = draw(st.sampled_from(["none", "fell", "noise", "harm", "exploded", "below zero"]))
    if kind == "none":
        return None
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = norms.size
    log = rng.normal(0, 0.1, n) + {"fell": -2.0, "exploded": 6.0}.get(kind, 0.0) * np.linspace(0, 1, n)
    if kind == "harm":
        large = (
            norms > 1.5 * np.median(norms[np.isfinite(norms)]) if np.isfinite(norms).any() else np.zeros(n, dtype=bool)
        )
        for row in np.flatnonzero(large):
            log[row + 1 : row + 4] += 0.4
    return np.exp(log) - (2.0 if kind == "below zero" else 0.0)


def not_beyond(r: Recommendation, norms: Floats) -> None:
    """No number of the answer stands outside what was seen."""
    seen = norms[np.isfinite(norms) & (norms > 0)]
    if r.max_norm is None:
        return
    assert r.stable is not None
    assert r.interval is not None
    assert r.corridor is not None
    top, low = float(np.max(seen)) * (1 + 1e-9), float(np.min(seen)) * (1 - 1e-9)
    net = top * (1.5 if seen.size < 50 else 1.25)
    for level in (r.stable.median, r.stable.median_seen, r.stable.p95, r.stable.p99, r.stable.max, r.corridor[0]):
        assert low <= level <= top
    assert r.corridor[1] == math.inf or r.corridor[1] <= top
    for threshold in (r.max_norm, *r.interval, r.candidates.gentle, r.candidates.middle, r.candidates.firm):
        assert threshold is not None
        assert low <= threshold <= net
    assert r.interval[0] <= r.max_norm <= r.interval[1]
    if r.drift.direction == "down":
        steady = r.reading.stats.steady
        assert steady is not None
        rows = np.sort(np.concatenate([steady.stable_rows, steady.spike_rows]))
        last = r.reading.norms[rows[2 * rows.size // 3 :]]
        assert np.min(last) * (1 - 1e-9) <= r.max_norm <= np.max(last) * (1 + 1e-9)


def agrees_with_itself(r: Recommendation) -> None:
    assert len(r.codes) == len(r.reasons) + len(r.caveats)
    norms = r.reading.norms
    has_threshold = r.verdict in ("spikes", "stable", "heavy_tail") or (
        r.verdict == "diverging" and r.stable is not None
    )
    assert (r.max_norm is not None) is has_threshold
    if r.max_norm is None:
        assert r.confidence == "none"
        return
    assert r.stable is not None
    ordinary, spikes = r.judged_rows()
    assert r.clipped.stable == np.mean(norms[ordinary] > r.max_norm)
    assert r.spikes.count == spikes.size
    assert r.clipped.spikes == (np.mean(norms[spikes] > r.max_norm) if spikes.size else None)
    assert list(r.spikes.steps) == r.reading.steps[spikes].tolist()
    assert (r.verdict == "spikes") is (r.spikes.count > 0 and r.verdict != "diverging")
    assert r.candidates.firm is not None
    assert r.candidates.middle is not None
    assert r.candidates.gentle is not None
    assert r.candidates.firm <= r.candidates.middle <= r.candidates.gentle
    assert r.candidates.firm <= r.max_norm <= r.candidates.gentle
    assert r.max_norm >= r.stable.median
    if r.clipped.stable is not None and r.clipped.stable > 0.25:
        assert r.harm is not None
        assert r.harm.effect == "harm"
    if r.last_healthy_row is not None:
        assert max((*ordinary, *spikes)) <= r.last_healthy_row
    if r.verdict == "diverging":
        assert any(code in ("diverges", "diverges_too_early") for code in r.codes)


@many
@given(st.data(), traces())
def test_no_answer_goes_beyond_its_data_or_contradicts_itself(data: st.DataObject, norms: Floats) -> None:
    losses = data.draw(losses_for(norms))
    r = recommend(norms, losses)
    not_beyond(r, norms)
    agrees_with_itself(r)


@many
@given(traces(most=400), st.integers(2, 4))
def test_every_nth_row_gives_a_compatible_answer(norms: Floats, nth: int) -> None:
    """Of stable traces the intervals meet, give or take a factor that few rows may differ by. A heavy tail has no scale of its own, and where
    norms rise or fall, what was seen last bounds both."""
    whole, part = recommend(norms), recommend(norms[::nth], steps=range(0, norms.size, nth))
    if (
        whole.interval is None
        or part.interval is None
        or {whole.drift.direction, part.drift.direction} & {"up", "down"}
    ):
        return
    assert whole.stable is not None
    assert part.stable is not None
    if part.stable.steps < 50 or {whole.verdict, part.verdict} != {"stable"}:
        return
    slack = 2.0
    assert part.interval[0] <= whole.interval[1] * slack
    assert whole.interval[0] <= part.interval[1] * slack


def _array(values: list[float]) -> NDArray[np.float64]:
    return np.array(values)


def test_ten_rows_that_run_away_name_no_threshold_and_say_what_they_do() -> None:
    for norms in (_array([0.2, 0.2, 0.2, 0.2, 0.3, 1, 3, 30, 300, 960]), _array([3.8e12 * 1.5**i for i in range(10)])):
        r = recommend(norms)
        assert (r.verdict, r.max_norm) == ("insufficient", None)
        assert "the run diverges" in r.reasons[0]
        not_beyond(r, norms)
    assert "1.5-fold a row" in recommend(3.8e12 * 1.5 ** np.arange(10)).reasons[0]


def test_norms_that_fall_get_a_threshold_of_the_size_of_the_last_rows() -> None:
    norms = np.asarray(780 * 0.963 ** np.arange(62), dtype=np.float64)
    r = recommend(norms)
    assert r.max_norm is not None
    assert r.stable is not None
    assert 60 < r.max_norm < 170
    assert r.stable.median >= norms.min()
    assert r.drift.direction == "down"


def test_steps_without_signal_are_not_vanished_gradients() -> None:
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(4.8, 0.6, 120))
    norms[rng.random(120) < 0.6] = 0.0
    norms[-4:] = 0.0
    assert recommend(norms, np.zeros(120)).verdict not in ("vanishing", "diverging")
    norms[60:] = 0.0
    assert recommend(norms, np.full(120, 0.7)).verdict == "vanishing"


def test_a_network_that_explodes_and_dies_diverges() -> None:
    rng = np.random.default_rng(1)
    norms = np.concatenate([0.25 * np.exp(rng.normal(0, 0.1, 40)), [9.1, 17.2, 4.2, 23.0, 7.1], np.zeros(30)])
    assert recommend(norms).verdict == "diverging"
    losses = np.concatenate([np.linspace(1.3, 0.9, 40), np.linspace(2.0, 3.4, 5), np.full(30, 6.0)])
    r = recommend(norms, losses)
    assert (r.verdict, r.last_healthy) == ("diverging", 39)
    quiet = np.concatenate([0.25 * np.exp(rng.normal(0, 0.1, 45)), np.zeros(30)])
    assert recommend(quiet).verdict == "vanishing"
    assert recommend(quiet, losses).verdict == "diverging", "its loss ends above all that it was"


def test_a_network_that_dies_of_its_first_steps_diverges() -> None:
    rng = np.random.default_rng(6)
    norms = np.concatenate([[5.3, 20.7, 0.6], 0.004 * np.exp(rng.normal(0, 0.2, 197))])
    losses = np.concatenate([[2.9, 6.5], 4.16 + rng.normal(0, 0.02, 198)])
    r = recommend(norms, losses)
    assert (r.verdict, r.max_norm) == ("diverging", None)
    assert any(code == "few_healthy" for code in r.codes)
    assert recommend(norms, np.linspace(2.9, 0.5, 200)).verdict != "diverging", "a loss that falls was learned"


def test_norms_that_rise_while_the_loss_falls_do_not_diverge() -> None:
    rng = np.random.default_rng(2)
    norms = np.exp(np.concatenate([rng.normal(-5, 0.1, 30), np.linspace(-5, 1, 90) + rng.normal(0, 0.1, 90)]))
    assert recommend(norms).verdict == "diverging"
    learning = np.concatenate([np.full(30, 7.0), np.linspace(7.0, 3.0, 90)])
    assert recommend(norms, learning).verdict != "diverging"
    assert recommend(norms, learning[::-1]).verdict == "diverging"


def test_a_loss_that_explodes_is_said_whatever_the_norms_do() -> None:
    norms = np.exp(np.random.default_rng(3).normal(0, 0.2, 200))
    losses = np.full(200, 640.0)
    losses[0] = 7.0
    r = recommend(norms, losses)
    assert "loss_exploded" in r.codes
    assert r.confidence == "low"
    assert "from 7 to 640" in r.caveats[0]
    assert "loss_exploded" not in recommend(norms, losses[::-1]).codes


@pytest.mark.parametrize("fold", [0.25, 4.0])
def test_a_leap_late_in_the_trace_is_the_level_to_go_by(fold: float) -> None:
    rng = np.random.default_rng(4)
    norms = np.exp(rng.normal(0, 0.2, 300))
    norms[260:] *= fold
    r = recommend(norms)
    assert r.verdict == "stable"
    assert r.stable is not None
    assert r.max_norm is not None
    assert r.drift.leap == pytest.approx(260, abs=2)
    assert "level_leapt" in r.codes
    assert r.stable.median == pytest.approx(fold, rel=0.15)
    assert 1.2 < r.max_norm / fold < 3
    assert r.clipped.stable == np.mean(norms[r.drift.leap :] > r.max_norm)
    burst = norms.copy()
    burst[280:] /= fold
    assert recommend(burst).drift.leap is None, "it comes back"


def test_a_drift_is_no_leap() -> None:
    rng = np.random.default_rng(5)
    for course in (
        np.linspace(0, 2, 400),
        np.linspace(0, -2, 400),
        np.repeat([0.0, 1.0] * 10, 20),
        np.linspace(0, -18, 400),
    ):
        assert recommend(np.exp(course + rng.normal(0, 0.05, 400))).drift.leap is None
