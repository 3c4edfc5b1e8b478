"""The labels of the synthetic traces are true: on the process that drew them, and on the traces themselves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

import clipcal
from benchmarks.traces import packages, process
from benchmarks.traces.coverage import PROCESSES, Answer
from benchmarks.traces.generator import REGIMES, labelled
from benchmarks.traces.labels import (
    APART,
    DIVERGING,
    HEAVY,
    INSUFFICIENT,
    SPIKES,
    STABLE,
    Labelled,
    Truth,
    quiet_verdicts,
    spiky_verdicts,
)
from benchmarks.traces.scoring import baselines, is_beyond, score
from clipcal.recommendation.answer import Verdict

STATIONARY = (
    "log_normal",
    "gamma",
    "skewed",
    "autocorrelated",
    "two_sources",
    "mode_near_zero",
    "heavy_tail",
    "wide_log_normal",
)
SEEDS = range(8)
LAWS = {
    "log-normal": process.lognormal(0.4),
    "gamma": process.gamma(3.0),
    "skewed": process.skewed(0.2),
    "AR(1)": process.autocorrelated(0.3, 0.6),
    "Pareto": process.pareto(0.3, 2.0, 0.1),
    "log t": process.log_t(0.3, 3.0),
}


def truth_of(trace: Labelled) -> Truth:
    assert trace.truth is not None
    return trace.truth


@pytest.mark.parametrize("regime", REGIMES)
def test_traces_are_the_same_for_a_seed_and_differ_between_seeds(regime: str) -> None:
    first, again, other = labelled(regime, 1), labelled(regime, 1), labelled(regime, 2)
    np.testing.assert_array_equal(first.norms, again.norms)
    assert (first.truth, first.verdicts) == (again.truth, again.verdicts)
    assert not np.array_equal(first.norms, other.norms, equal_nan=True) or regime == "nothing"


@pytest.mark.parametrize("regime", REGIMES)
def test_labels_are_consistent(regime: str) -> None:
    for seed in SEEDS:
        trace = labelled(regime, seed)
        assert trace.norms.ndim == 1
        assert trace.verdicts
        assert trace.verdicts <= set(get_args(Verdict))
        if trace.truth is None:
            continue
        t = trace.truth
        assert 0 < t.lower < t.p95 <= t.p98 <= t.p99 < APART * t.p99 <= t.upper < math.inf
        assert t.is_good(math.sqrt(t.p98 * t.upper))
        assert not t.has_spikes or SPIKES in trace.verdicts or DIVERGING in trace.verdicts


@pytest.mark.parametrize("law", LAWS)
def test_the_median_of_a_law_is_one(law: str) -> None:
    assert np.median(LAWS[law](np.random.default_rng(0), 40_000)) == pytest.approx(1.0, abs=0.02)


def test_known_quantiles() -> None:
    rng = np.random.default_rng(0)
    assert np.quantile(process.lognormal(0.4)(rng, 200_000), 0.99) == pytest.approx(math.exp(0.4 * 2.3263), rel=0.01)
    # A Pareto tail of index 2 from its upper tenth on: ten times rarer lies sqrt(10) times higher.
    start = math.exp(0.3 * 1.2816)
    assert np.quantile(process.pareto(0.3, 2.0, 0.1)(rng, 200_000), 0.99) == pytest.approx(
        start * math.sqrt(10), rel=0.03
    )
    slow = np.log(process.autocorrelated(0.3, 0.9)(rng, 100_000))
    assert np.std(slow) == pytest.approx(0.3, rel=0.05)
    assert np.corrcoef(slow[1:], slow[:-1])[0, 1] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("regime", STATIONARY)
def test_stable_traces_exceed_their_quantiles_as_often_as_they_should(regime: str) -> None:
    traces = [labelled(regime, seed) for seed in range(30)]
    above = {
        q: np.concatenate([t.norms > getattr(truth_of(t), q) for t in traces]) for q in ("lower", "p95", "p98", "p99")
    }
    assert np.mean(above["lower"]) == pytest.approx(0.5, abs=0.03)
    assert np.mean(above["p95"]) == pytest.approx(0.05, abs=0.008)
    assert np.mean(above["p98"]) == pytest.approx(0.02, abs=0.004)
    assert np.mean(above["p99"]) == pytest.approx(0.01, abs=0.003)


@pytest.mark.parametrize("regime", ["many_spikes", "wide_and_near", "many_in_few"])
def test_the_smallest_spike_is_one_of_the_trace_and_stands_apart(regime: str) -> None:
    for seed in SEEDS:
        trace = labelled(regime, seed)
        truth = truth_of(trace)
        assert truth.has_spikes
        # The unit of sizes, the law's 99% point, is measured twice, on 20,000 draws each.
        spikes = trace.norms[trace.norms > 0.95 * truth.upper]
        assert np.min(spikes) == pytest.approx(truth.upper, rel=0.06)
        stable = np.sort(trace.norms)[: -spikes.size]
        assert np.mean(stable > truth.p99) < 0.01 + 3 * math.sqrt(0.01 / stable.size)


@pytest.mark.parametrize("regime", ["growth", "plateau", "nan_tail", "spikes_then_end"])
def test_what_comes_after_the_end_is_no_part_of_the_truth(regime: str) -> None:
    for seed in SEEDS:
        trace = labelled(regime, seed)
        middle = trace.norms[round(0.15 * trace.norms.size) : round(0.35 * trace.norms.size)]
        assert np.median(middle) == pytest.approx(truth_of(trace).lower, rel=0.25)
        assert not trace.norms[-1] < 3 * truth_of(trace).p99


def test_levels_go_on_where_the_trace_ends() -> None:
    rng = np.random.default_rng(0)
    courses = [process.drift(rng, 1000, math.log(4.0)) for _ in range(6)]
    courses += [process.u_shape(1000, 1.0), process.staircase(rng, 1000)]
    for course in courses:
        assert course.ahead[0] == pytest.approx(course.seen[-1], rel=0.02)
    assert all(np.all(np.diff(c.ahead) > 0) for c in courses[:6])
    cycle = process.periodic(1000, 4.4, lambda phase: 0.5 * phase)
    assert np.max(cycle.ahead) == pytest.approx(np.max(cycle.seen), rel=0.01)
    assert np.min(cycle.ahead) == pytest.approx(np.min(cycle.seen), rel=0.01)


def test_a_warm_up_is_gone_in_time() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        start = process.warm_up(rng, 1000)
        assert 4.9 < start[0] < 51
        assert np.all(start[150:] < 1.1)


def test_verdicts_follow_from_what_is_to_be_seen() -> None:
    none, after = np.zeros(2, dtype=np.bool_), np.array([False, True, True])
    assert quiet_verdicts(1.2) == {STABLE}
    assert quiet_verdicts(1.8) == {STABLE, HEAVY}
    assert quiet_verdicts(4.0) == {HEAVY}
    assert spiky_verdicts(1.3, np.array([2.0, 9.0]), none) == {SPIKES}
    assert spiky_verdicts(1.8, np.array([2.0, 9.0]), none) == {SPIKES, HEAVY}
    assert spiky_verdicts(1.3, np.array([2.0, 1.5, 1.75]), after) == {SPIKES, HEAVY}


def test_scores() -> None:
    truth = Truth(lower=1.0, p95=1.6, p98=2.0, p99=2.2, upper=6.0, has_spikes=True)
    trace = Labelled(norms=np.ones(3), verdicts=frozenset([STABLE]), truth=truth)
    good = score(trace, 2.2, "stable")
    assert (good.corridor, good.good, good.over_p99, good.verdict, good.false_spikes) == (True, True, 1.0, True, False)
    assert (score(trace, 1.5).corridor, score(trace, 1.5).good, score(trace, 1.5).verdict) == (True, False, None)
    assert [score(trace, t).fair for t in (1.5, 1.7, 2.2, 6.0)] == [False, True, True, False]
    for outside in (0.9, 6.0, None, math.inf, math.nan):
        assert (score(trace, outside).corridor, score(trace, outside).good) == (False, False)
    assert score(trace, 2.2, "spikes").false_spikes is True
    heavy = Labelled(norms=np.ones(3), verdicts=frozenset([HEAVY]), truth=truth, heavy=True)
    assert (score(heavy, 2.2, "spikes").false_spikes, score(heavy, 2.2, "spikes").tail_as_spikes) == (None, True)


def beyond(
    rows: int = 100,
    *,
    median: float = 1.0,
    p99: float = 1.39,
    max_norm: float = 1.5,
    interval: tuple[float, float] = (1.4, 1.6),
) -> bool:
    """Whether an answer with these numbers goes beyond norms of 0.6 to 1.4."""
    norms = np.random.default_rng(0).permutation(np.linspace(0.6, 1.4, rows))
    answer = clipcal.recommend(norms)
    assert answer.stable is not None
    stable = replace(answer.stable, median=median, p99=p99)
    answer = replace(answer, stable=stable, max_norm=max_norm, interval=interval)
    return is_beyond(Labelled(norms=norms, verdicts=frozenset([STABLE]), truth=None), answer)


def test_an_answer_beyond_its_trace() -> None:
    assert not beyond()
    assert not beyond(max_norm=1.25 * 1.4)
    assert beyond(max_norm=1.26 * 1.4)
    assert not beyond(40, max_norm=1.5 * 1.4)
    assert beyond(40, max_norm=1.51 * 1.4)
    assert not beyond(interval=(0.6, 1.7))
    assert beyond(interval=(0.59, 1.7))
    assert beyond(interval=(0.6, 1.8))
    assert beyond(median=1.41)
    assert beyond(p99=1.41)
    assert beyond(median=0.5)
    nothing = Labelled(norms=np.full(20, np.nan), verdicts=frozenset([STABLE]), truth=None)
    assert is_beyond(nothing, clipcal.recommend(np.linspace(0.6, 1.4, 100)))
    assert not is_beyond(nothing, clipcal.recommend(nothing.norms))


@pytest.mark.parametrize("regime", ["level_shift", "late_shift", "late_onset"])
def test_what_is_ahead_is_the_level_of_the_end(regime: str) -> None:
    for seed in range(20):
        trace = labelled(regime, seed)
        last, first = np.median(trace.norms[-20:]), np.median(trace.norms[: len(trace.norms) // 10])
        ahead = truth_of(trace).lower
        assert abs(math.log(last / ahead)) < 0.5
        assert abs(math.log(first / ahead)) > math.log(1.3)


@pytest.mark.parametrize("regime", ["excerpt", "steep_excerpt"])
def test_an_excerpt_is_short_and_any_first_number_is_right(regime: str) -> None:
    for seed in SEEDS:
        trace = labelled(regime, seed)
        assert 10 <= trace.norms.size <= 60
        assert trace.truth is None
        assert trace.verdicts >= {INSUFFICIENT, STABLE, SPIKES, HEAVY}


def test_every_baseline_answers_on_finite_norms() -> None:
    norms = np.array([np.nan, 0.0, *np.linspace(0.5, 1.5, 60), np.inf])
    for threshold in baselines().values():
        assert math.isfinite(threshold(norms) or math.nan)


def test_an_interval_holds_the_truth_of_its_own_quantity() -> None:
    truth = Answer(verdict="stable", max_norm=2.5, p99=2.0)
    answer = Answer(verdict="spikes", max_norm=3.0, p99=2.0, interval=(2.7, 3.3))
    assert not answer.holds(truth)
    assert answer.holds_p99(truth)
    assert not Answer(verdict="insufficient", max_norm=math.nan, p99=math.nan).holds(truth)


@pytest.mark.parametrize("name", PROCESSES)
def test_processes_have_no_scale_of_their_own(name: str) -> None:
    norms = PROCESSES[name](np.random.default_rng(0), 2000)
    assert norms.shape == (2000,)
    assert 0.7 < np.median(norms) < 1.5


def test_packages_are_read_by_what_they_do() -> None:
    pytest.importorskip("autoclip")
    norms = process.lognormal(0.3)(np.random.default_rng(0), 100)
    assert packages.autoclip(norms) == pytest.approx(np.quantile(norms, 0.9))


def test_zclip_is_read_by_what_it_does() -> None:
    pytest.importorskip("zclip")
    norms = 5 * process.lognormal(0.3)(np.random.default_rng(0), 200)
    assert packages.zclip(norms) == pytest.approx(baselines()["zclip"](norms), rel=1e-3)
    assert packages.zclip_default(norms) == pytest.approx(1.0, rel=1e-5)
