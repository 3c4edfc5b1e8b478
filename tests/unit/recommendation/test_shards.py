"""The ranks' own norms beside a run: which rank's shard the spikes come from, and what is said about it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import make_run
from numpy.typing import NDArray

from clipcal.recommendation.evidence import load
from clipcal.recommendation.shards import Shards, find_shards
from clipcal.run.directory import Run
from clipcal.run.layers import LayersWriter, rank_names
from clipcal.run.step import Step

Floats = NDArray[np.float64]
STEPS = 400
SPIKES = np.arange(30, STEPS, 30)  # 13 of them
STABLE = np.setdiff1d(np.arange(STEPS), SPIKES)


def calm(ranks: int, seed: int = 0, noise: float = 0.15) -> Floats:
    """Local norms around 2 that share a level and differ by noise."""
    rng = np.random.default_rng(seed)
    norms: Floats = 2 * rng.lognormal(0, 0.1, (STEPS, 1)) * rng.lognormal(0, noise, (STEPS, ranks))
    return norms


def found(norms: Floats, spikes: NDArray[np.intp] = SPIKES) -> Shards:
    return find_shards(norms, spikes, np.setdiff1d(np.arange(len(norms)), spikes))


@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 64])
def test_one_bad_rank(ranks: int) -> None:
    norms = calm(ranks)
    norms[SPIKES, 1] *= 20
    s = found(norms)
    assert (s.finding, s.ranks, s.num_explained, s.num_spikes) == ("shards", (1,), 13, 13)
    others = np.delete(norms, 1, axis=1)
    assert s.spread == pytest.approx(np.median(norms[SPIKES, 1] / np.median(others[SPIKES], axis=1)))
    assert s.stable_spread == pytest.approx(np.median(norms[STABLE, 1] / np.median(others[STABLE], axis=1)))


def test_a_rank_that_is_always_larger_is_not_blamed_for_that() -> None:
    """Longer sequences, say: it has the largest norm at each spike, and at each other step."""
    norms = calm(4) * np.array([1, 1, 5, 1])
    norms[SPIKES] *= 20
    assert found(norms).finding == "alike"
    norms = calm(4) * np.array([1, 1, 5, 1])
    norms[SPIKES, 0] *= 20
    assert (found(norms).finding, found(norms).ranks) == ("shards", (0,))


def test_the_level_may_move() -> None:
    norms = calm(4) * np.geomspace(100, 1, STEPS)[:, None]
    norms[SPIKES, 3] *= 20
    assert (found(norms).finding, found(norms).ranks, found(norms).num_explained) == ("shards", (3,), 13)
    assert found(calm(4) * np.geomspace(100, 1, STEPS)[:, None]).finding != "shards"


@pytest.mark.parametrize("ranks", [2, 4, 64])
def test_all_alike(ranks: int) -> None:
    norms = calm(ranks)
    norms[SPIKES] *= 20
    s = found(norms)
    assert (s.finding, s.ranks) == ("alike", ())
    assert 1 < s.spread < 1.8
    assert s.spread == pytest.approx(s.stable_spread, rel=0.2)


def test_two_bad_ranks_at_once_or_in_turn() -> None:
    norms = calm(8)
    norms[np.ix_(SPIKES, np.array([2, 5]))] *= 20
    assert (found(norms).finding, found(norms).ranks, found(norms).num_explained) == ("shards", (2, 5), 13)
    norms = calm(16)
    norms[SPIKES[::2], 2] *= 20
    norms[SPIKES[1::2], 5] *= 20
    assert (found(norms).finding, found(norms).ranks, found(norms).num_explained) == ("shards", (2, 5), 13)


def test_single_batches_that_fall_on_any_rank() -> None:
    norms = calm(8)
    norms[SPIKES, np.arange(SPIKES.size) % 8] *= 20
    s = found(norms)
    assert (s.finding, s.num_explained, s.num_spikes) == ("batches", 13, 13)
    assert s.ranks == tuple(range(8))


def test_most_of_the_spikes() -> None:
    norms = calm(4)
    norms[SPIKES[:10], 3] *= 20
    norms[SPIKES[10:]] *= 20
    s = found(norms)
    assert (s.finding, s.ranks, s.num_explained, s.num_spikes) == ("shards", (3,), 10, 13)
    norms = calm(4)
    norms[SPIKES[:5], 3] *= 20
    norms[SPIKES[5:]] *= 20
    assert found(norms).finding == "unclear", "five of thirteen do not make it the cause"


@pytest.mark.parametrize(
    ("ranks", "spikes", "enough"),
    [
        (2, 7, False),
        (2, 8, True),
        (4, 4, False),
        (4, 5, True),
        (8, 3, False),
        (8, 4, True),
        (64, 2, False),
        (64, 3, True),
    ],
)
def test_as_many_spikes_as_chance_would_not_put_on_any_one_rank(ranks: int, spikes: int, enough: bool) -> None:
    """N ranks, one of which has all k spikes: N of N to the power k ways."""
    assert (ranks * ranks**-spikes < 0.01 and spikes >= 3) is enough, "the numbers of this test"
    norms = calm(ranks)
    norms[SPIKES[:spikes], 0] *= 20
    assert found(norms, SPIKES[:spikes]).finding == ("shards" if enough else "unclear")


def test_chance_blames_a_rank_in_less_than_one_of_a_hundred() -> None:
    rng = np.random.default_rng(3)
    blamed = 0
    for seed in range(300):
        norms = calm(4, seed)
        norms[SPIKES, rng.integers(0, 4, SPIKES.size)] *= 20
        blamed += found(norms).finding == "shards"
    assert blamed <= 6


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 3e38])
def test_rows_that_are_broken(value: float) -> None:
    norms = calm(4)
    norms[SPIKES, 3] *= 20
    norms[5] = norms[200, 2] = value
    norms[SPIKES[3]] = value
    s = found(norms)
    assert (s.finding, s.ranks) == ("shards", (3,))
    assert s.num_explained == 12
    assert math.isfinite(s.spread)
    everywhere = np.full((STEPS, 4), value)
    assert found(everywhere).finding in ("unclear", "alike")


def test_a_rank_whose_norm_overflowed() -> None:
    norms = calm(4)
    norms[SPIKES, 3] = np.inf
    s = found(norms)
    assert (s.finding, s.ranks, s.spread) == ("shards", (3,), math.inf)


def test_a_rank_that_else_has_no_gradient() -> None:
    norms = calm(4)
    norms[:, 3] = 0
    norms[SPIKES, 3] = 50
    assert (found(norms).finding, found(norms).ranks) == ("shards", (3,))


VALUES = [0.0, 1e-45, 1.0, 2.0, 30.0, 3e38, math.inf, math.nan]


@given(st.integers(1, 6), st.integers(0, 40), st.lists(st.sampled_from(VALUES), min_size=1), st.integers(0, 1000))
def test_any_values_have_an_answer(ranks: int, spikes: int, values: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = np.sort(rng.permutation(50)[:spikes])
    s = found(rng.choice(values, (50, ranks)).astype(np.float32).astype(np.float64), at)
    assert s.num_explained <= s.num_spikes <= spikes
    assert all(0 <= r < ranks for r in s.ranks)
    assert s.finding != "shards" or (2 * len(s.ranks) <= ranks and s.num_explained >= 3)


@given(st.permutations(range(6)), st.floats(1e-6, 1e6), st.integers(0, 20))
def test_neither_the_order_of_the_ranks_nor_the_unit_matters(order: list[int], unit: float, seed: int) -> None:
    norms = calm(6, seed)
    norms[SPIKES, 1] *= 20
    norms[SPIKES[::3], 4] *= 30
    one, other = found(norms), found(unit * norms[:, order])
    assert (one.finding, one.num_explained) == (other.finding, other.num_explained)
    assert sorted(order[r] for r in other.ranks) == list(one.ranks)
    assert one.spread == pytest.approx(other.spread)


# what is said of a run


def made(folder: Path, local: Floats, *, total: Floats | None = None, **fields: Any) -> Run:
    """A run whose ranks had these local norms: orthogonal gradients, whose mean this is."""
    norms = np.sqrt((local**2).sum(axis=1)) / local.shape[1] if total is None else total
    run = make_run(folder, norms, **fields)
    writer = LayersWriter(run.ranks, rank_names(local.shape[1]), 2.0)
    with np.errstate(over="ignore"):
        writer.append(local.astype(np.float32))
    writer.close()
    return run


def bad(ranks: int = 4, rank: int = 3) -> Floats:
    norms = calm(ranks)
    norms[SPIKES, rank] *= 40
    return norms


def reasons(run: Run) -> str:
    return " ".join(load(run.folder).recommend().reasons)


def test_the_rank_is_named_with_its_numbers(tmp_path: Path) -> None:
    r = load(made(tmp_path / "run", bad()).folder).recommend()
    assert r.verdict == "spikes"
    assert r.reasons[-1].startswith("13 of 13 spikes come from rank 3: its own gradient was ")
    assert r.reasons[-1].endswith(" times at stable steps. Look at its shard of the data.")
    assert " times the median of the other ranks there, 1.0 times at stable steps" in r.reasons[-1]
    assert r.caveats == load(make_run(tmp_path / "other", load(tmp_path / "run").norms).folder).recommend().caveats


def test_of_two_ranks_there_is_one_other(tmp_path: Path) -> None:
    assert "times the norm of the other there" in reasons(made(tmp_path / "run", bad(2, 1)))


def test_several_ranks_are_named(tmp_path: Path) -> None:
    norms = calm(8)
    norms[np.ix_(SPIKES, np.array([2, 5]))] *= 40
    said = reasons(made(tmp_path / "run", norms))
    assert "13 of 13 spikes come from ranks 2 and 5: the largest gradient of these was " in said
    assert said.endswith("Look at their shards of the data.")


def test_ranks_that_are_alike(tmp_path: Path) -> None:
    norms = calm(4)
    norms[SPIKES] *= 40
    said = reasons(made(tmp_path / "run", norms))
    assert "The spikes are on all ranks alike (the largest local norm is 1." in said
    assert said.endswith("the cause is not one shard of the data.")


def test_single_batches(tmp_path: Path) -> None:
    norms = calm(4)
    norms[SPIKES, np.arange(SPIKES.size) % 4] *= 40
    assert "now from one and now from another (4 of 4 have some): single batches make them" in reasons(
        made(tmp_path / "run", norms)
    )


def test_a_heavy_tail_has_large_steps(tmp_path: Path) -> None:
    norms = calm(4)
    norms[:, 2] *= 1 + 2 * np.random.default_rng(1).pareto(1.3, STEPS)
    run = made(tmp_path / "run", norms)
    assert load(run.folder).recommend().verdict == "heavy_tail", "the premise"
    assert "large steps come from rank 2" in reasons(run)


def test_nothing_is_said_without_anything_to_explain(tmp_path: Path) -> None:
    run = made(tmp_path / "run", calm(4))
    assert load(run.folder).recommend().verdict == "stable", "the premise"
    run.ranks.write_bytes(b"damaged")
    assert "rank" not in reasons(run)
    assert not any("rank" in c for c in load(run.folder).recommend().caveats)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_rank_that_went_first(tmp_path: Path, value: float) -> None:
    local = calm(4)
    local[310:, 1] = value
    total = np.sqrt((local**2).sum(axis=1)) / 4
    said = reasons(made(tmp_path / "run", local, total=total))
    assert (
        "Step 310, the first without a finite norm, comes from rank 1: the gradients of the other ranks are finite"
        in said
    )
    local[310] = value
    assert "first without a finite norm" not in reasons(made(tmp_path / "all", local, total=total))


def test_rows_follow_the_steps_where_a_line_of_the_trace_is_gone(tmp_path: Path) -> None:
    run = made(tmp_path / "run", bad())
    lines = run.trace.read_bytes().splitlines(keepends=True)
    run.trace.write_bytes(b"".join([*lines[:20], b"{garbled\n", *lines[21:]]))
    assert "13 of 13 spikes come from rank 3" in reasons(run)
    run.trace.write_bytes(b"".join(lines[:350]))
    assert "11 of 11 spikes come from rank 3" in reasons(run), "a killed run holds more rows than its trace"


def test_a_guarded_trace_has_ranks_of_its_own(tmp_path: Path) -> None:
    run = made(tmp_path / "run", bad(rank=3), guard=1.0)
    run.guarded.write_bytes(run.trace.read_bytes())
    assert "rank 3" not in reasons(run)
    run.ranks.rename(run.guarded_ranks)
    assert "come from rank 3" in reasons(run)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: whole[:-4000], "ranks.f32 holds 150 steps and the trace goes to step 399"),
        (lambda whole: b"something else", "ranks.f32 cannot be read as the norms of ranks"),
        (lambda whole: b"", "ranks.f32 cannot be read as the norms of ranks"),
        (lambda whole: whole[:20], "ranks.f32 cannot be read as the norms of ranks"),
        (lambda whole: whole.replace(b"rank 1", b"body.w"), "ranks.f32 cannot be read as the norms of ranks"),
        (lambda whole: whole.replace(b'"rank 0", "rank 1", "rank 2", "rank 3"', b'"rank 0"'), "norms of ranks"),
        (
            lambda whole: whole.partition(b"\n")[0] + b"\n" + b"\x00\x00\x00\x3a" * 1600,
            "ranks.f32 does not fit the trace",
        ),
    ],
)
def test_what_cannot_be_used_is_a_caveat(tmp_path: Path, damage: Any, said: str) -> None:
    """The threshold does not need it."""
    run = made(tmp_path / "run", bad())
    whole = load(run.folder).recommend()
    run.ranks.write_bytes(damage(run.ranks.read_bytes()))
    r = load(run.folder).recommend()
    assert r.max_norm == whole.max_norm
    assert r.reasons == whole.reasons[:-1]
    assert said in r.caveats[-1]
    assert "so which rank the spikes come from is not known" in r.caveats[-1]
    run.ranks.unlink()
    assert load(run.folder).recommend().caveats == whole.caveats


def test_a_directory_in_its_place_is_a_caveat(tmp_path: Path) -> None:
    run = made(tmp_path / "run", bad())
    run.ranks.unlink()
    run.ranks.mkdir()
    assert "cannot be read as the norms of ranks" in load(run.folder).recommend().caveats[-1]


# what a line of the trace has of it


@pytest.mark.parametrize(
    ("norms", "spread"),
    [
        ((1.0, 4.0), 1.6),
        ((4.0, 1.0, 2.0), 2.0),
        ((1.0, 1.0, 3.0, 8.0), 4.0),
        ((0.0, 0.0, 1.0), "Infinity"),
        ((0.0, 0.0), "NaN"),
        ((1.0, 1.0, math.inf), "Infinity"),
        ((1.0, math.nan, 2.0), "NaN"),
        (None, None),
    ],
)
def test_the_spread_is_over_the_median(norms: tuple[float, ...] | None, spread: Any) -> None:
    step = Step(step=0, loss=1.0, grad_norm=1.0, grad_max=1.0, lr=0.1, seconds=0.1, rank_norms=norms)
    line = json.loads(step.line())
    assert line.get("rank_spread") == spread
    assert "rank_norms" not in line
