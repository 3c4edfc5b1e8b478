"""Which runs are profiled again, under which guard, and which of the runs in a log is judged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import write_trace
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.calibration import recommend
from clipcal.recommendation.evidence import load
from clipcal.recommendation.guarding import guard_of, needs_guard
from clipcal.recommendation.replay import replay
from clipcal.run.trace import Floats


def calm(n: int, *, level: float = 1.0, seed: int = 0) -> Floats:
    return np.asarray(level * np.exp(np.random.default_rng(seed).normal(0.0, 0.2, n)), dtype=np.float64)


def learning(n: int, seed: int = 0) -> Floats:
    return np.asarray(
        3 * np.exp(-np.arange(n) / n) + 0.02 * np.random.default_rng(seed).normal(size=n), dtype=np.float64
    )


INF, NAN = float("inf"), float("nan")


# The guard


@pytest.mark.parametrize(
    ("norms", "guard"),
    [
        ([10.0, 20.0, 30.0], 6.0),
        ([30.0, 10.0, 20.0, 1e6, 1e9], 6.0),  # the median of the first three, in any order, whatever comes then
        ([10.0, 20.0], 4.5),
        ([10.0], 3.0),
        ([55.2107, 82.0174, 104.2399], 25.0),  # 24.6 to two digits
        ([1.234e-5, 1.234e-5, INF], 3.7e-6),
        ([0.0, NAN, 10.0, INF, -5.0, 20.0, 0.0, 30.0, 1e9], 6.0),  # what is no norm is not counted as one
    ],
)
def test_the_guard_is_three_tenths_of_the_median_of_the_first_three_norms(norms: list[float], guard: float) -> None:
    assert guard_of(np.array(norms)) == guard


@pytest.mark.parametrize("norms", [[], [0.0], [NAN, INF, -INF], [0.0, NAN, -1.0]])
def test_where_no_norm_says_anything_there_is_no_guard(norms: list[float]) -> None:
    assert guard_of(np.array(norms, dtype=np.float64)) is None


anything = st.lists(st.one_of(st.floats(1e-30, 1e30), st.sampled_from([0.0, NAN, INF, -INF, -1.0])), max_size=12)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(anything)
def test_the_guard_is_what_numpy_makes_of_it(norms: list[float]) -> None:
    kept = [x for x in norms if 0 < x < INF][:3]
    guard = guard_of(np.array(norms, dtype=np.float64))
    if not kept:
        assert guard is None
    else:
        assert guard == pytest.approx(0.3 * np.median(kept), rel=0.051)  # 0.5 of 10, the most that two digits take away
        assert guard == float(f"{guard:.1e}")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(anything, st.integers(-6, 6))
def test_the_guard_follows_the_unit_of_the_norms(norms: list[float], power: int) -> None:
    column = np.array(norms, dtype=np.float64)
    guard, other = guard_of(column), guard_of(column * 10.0**power)
    assert (guard is None) == (other is None)
    if guard is not None and other is not None:
        assert other == pytest.approx(guard * 10.0**power, rel=0.1)  # a last digit, where rounding was on the edge


# Which runs need one


def lost_after(k: int, n: int = 300, losses: bool = False) -> Recommendation:
    """A run whose norms and losses are not finite any more after ``k`` healthy steps."""
    norms, loss = calm(n), learning(n)
    norms[k:], loss[k:] = INF, NAN
    return recommend(norms, loss if losses else None)


@pytest.mark.parametrize("losses", [False, True])
@pytest.mark.parametrize("healthy", [1, 2, 3, 4, 7, 20, 40])
def test_a_run_that_is_lost_at_once_needs_a_guard(healthy: int, losses: bool) -> None:
    r = lost_after(healthy, healthy + 10, losses)
    assert r.verdict == "diverging"
    assert needs_guard(r)


def test_norms_that_explode_at_once_need_a_guard() -> None:
    norms = np.concatenate([[55.0, 82.0, 104.0, 1467.0, 3e6, INF], np.full(9, NAN)])
    assert needs_guard(recommend(norms))


@pytest.mark.parametrize("losses", [False, True])
@pytest.mark.parametrize("healthy", [80, 150, 250])
def test_a_run_that_is_healthy_for_long_before_it_is_lost_needs_none(healthy: int, losses: bool) -> None:
    r = lost_after(healthy, losses=losses)
    assert r.verdict == "diverging"
    assert r.max_norm is not None
    assert not needs_guard(r)


def test_norms_that_run_away_late_need_none() -> None:
    norms = calm(300)
    norms[200:] *= np.exp(np.arange(100) / 5)
    r = recommend(norms)
    assert r.verdict == "diverging"
    assert not needs_guard(r)


@pytest.mark.parametrize(
    "norms",
    [
        calm(20),
        calm(300),
        np.zeros(50),
        np.full(50, NAN),
        np.array([]),
        np.ones(100),
        np.concatenate([calm(20), [INF], calm(20)]),  # one bad batch
    ],
    ids=["short", "long", "zeros", "nan", "empty", "constant", "one-inf"],
)
def test_what_did_not_diverge_needs_none(norms: Floats) -> None:
    assert not needs_guard(recommend(norms))


# What is said of a guarded run


def test_a_guarded_run_says_so_first_and_is_diverging_whatever_its_norms_look_like() -> None:
    plain, guarded = recommend(calm(200)), recommend(calm(200), guard=0.31)
    assert plain.verdict == "stable"
    assert guarded.verdict == "diverging"
    assert "guard of 0.31" in guarded.reasons[0]
    assert guarded.reasons[1:] == plain.reasons
    assert (guarded.max_norm, guarded.stable, guarded.corridor) == (plain.max_norm, plain.stable, plain.corridor)


def test_a_guarded_run_with_losses_takes_the_firm_threshold() -> None:
    guarded = recommend(calm(200), learning(200), guard=0.31)
    assert guarded.max_norm == guarded.candidates.firm


def test_a_guarded_run_that_says_nothing_names_the_guard_all_the_same() -> None:
    lost_again = recommend(np.array([1.0, 2.0, *[NAN] * 10]), guard=0.31)
    assert lost_again.max_norm is None
    assert "guard of 0.31" in lost_again.reasons[0]
    assert len(lost_again.reasons) == 2


# Runs that share a log


def joined(*parts: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Norms, losses, rates and step numbers of runs one after the other, each from step 0."""
    return (
        np.concatenate(parts),
        np.concatenate([learning(len(p), seed=i) for i, p in enumerate(parts)]),
        np.concatenate([np.linspace(0.1, 0.01, len(p)) for p in parts]),
        np.concatenate([np.arange(len(p), dtype=np.float64) for p in parts]),
    )


def same(one: Recommendation, other: Recommendation) -> None:
    def without(r: Recommendation) -> Recommendation:
        kept = [c for c in r.caveats if c not in about_runs(r)]
        return dataclasses.replace(r, caveats=tuple(kept), codes=r.codes[: len(r.reasons)])

    assert without(one) == without(other)


def about_runs(r: Recommendation) -> list[str]:
    return [c for c in r.caveats if "share this log" in c]


@pytest.mark.parametrize("earlier", [(300,), (40, 120), (60, 60, 60)])
def test_the_last_of_the_runs_in_a_log_is_judged_alone(earlier: tuple[int, ...]) -> None:
    parts = [calm(n, level=20.0 * (i + 1), seed=i + 5) for i, n in enumerate(earlier)]
    last = calm(150)
    last[20::30] *= 9
    norms, losses, lrs, steps = joined(*parts, last)
    k = len(last)
    r = recommend(norms, losses, steps=steps, lrs=lrs)
    alone = recommend(last, losses[-k:], steps=steps[-k:], lrs=lrs[-k:])
    same(r, alone)
    assert r.steps == k
    assert alone.spikes.steps == (20, 50, 80, 110, 140), "the premise: the last run has its own spikes"
    assert about_runs(alone) == []
    (caveat,) = about_runs(r)
    times = "1 time:" if len(earlier) == 1 else f"{len(earlier)} times:"
    for words in (times, "The last one is judged", "150 rows"):
        assert words in caveat


def test_what_is_said_of_the_learning_rate_is_of_the_last_run() -> None:
    last = calm(200)
    last[50::50] *= 1000.0
    norms, losses, lrs, steps = joined(calm(200), last)
    losses[-50:] = 9.0
    lrs[:200] *= 100
    r = recommend(norms, losses, steps=steps, lrs=lrs)
    assert any("up to 0.1 here" in c for c in r.caveats), r.caveats


def test_the_last_run_keeps_its_own_step_numbers() -> None:
    steps = np.concatenate([np.arange(500), np.arange(400, 600)])  # gone on with from a checkpoint
    last = calm(200)
    last[100] = 30.0
    r = recommend(np.concatenate([calm(500, level=7.0), last]), steps=steps)
    assert r.spikes.steps == (500,)
    assert "from step 400 on" in about_runs(r)[0]


@pytest.mark.parametrize(("rows", "alone"), [(49, False), (50, True)])
def test_fifty_rows_are_enough_to_be_judged_alone(rows: int, alone: bool) -> None:
    norms, losses, _, steps = joined(calm(200, level=20.0), calm(rows))
    r = recommend(norms, losses, steps=steps)
    assert (r.steps == rows) is alone
    if alone:
        same(r, recommend(norms[-rows:], losses[-rows:]))


def test_a_last_run_too_short_is_judged_with_the_others_and_that_is_said() -> None:
    norms, losses, lrs, steps = joined(calm(200), calm(30, seed=1))
    r = recommend(norms, losses, steps=steps, lrs=lrs)
    as_one = recommend(norms, losses, lrs=lrs)
    assert (r.steps, r.max_norm, r.interval) == (230, as_one.max_norm, as_one.interval)
    (caveat,) = about_runs(r)
    for words in ("1 time:", "judged as one", "30 rows only"):
        assert words in caveat


def test_a_tenth_of_a_long_log_is_too_short_too() -> None:
    norms, _, _, steps = joined(calm(1000), calm(60, seed=1))
    r = recommend(norms, steps=steps)
    assert r.steps == 1060
    assert "60 rows only" in about_runs(r)[0]


@pytest.mark.parametrize("steps", [np.arange(200), np.arange(10, 2010, 10), np.arange(200) ** 2, np.arange(-100, 100)])
def test_step_numbers_that_only_rise_are_one_run(steps: Floats) -> None:
    r = recommend(calm(200), steps=steps)
    assert r.steps == 200
    assert about_runs(r) == []


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    """A log with two runs in it, and one with the second alone."""
    both, late = tmp_path / "both.jsonl", tmp_path / "late.jsonl"
    early = write_trace(both, [*calm(80, level=50.0)]).read_text()
    both.write_text(early + write_trace(late, [*calm(120, seed=3)]).read_text())
    return both, late


def test_a_trace_file_with_two_runs_is_judged_by_the_last(logs: tuple[Path, Path]) -> None:
    r, alone = (load(path).recommend() for path in logs)
    same(dataclasses.replace(r, source=None), dataclasses.replace(alone, source=None))
    assert len(about_runs(r)) == 1
    assert about_runs(alone) == []


def test_rules_are_compared_on_the_run_that_is_judged(logs: tuple[Path, Path]) -> None:
    one, other = (replay(load(log).recommend()) for log in logs)
    assert one == other
