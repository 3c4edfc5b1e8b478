"""The verdict on a threshold, on arms whose truth is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import ArrayLike

from clipcal.arms.pool import Arm, arm_name
from clipcal.run.trace import Floats, Trace
from clipcal.stats.losses import diverged_at, final_loss, jumps, num_spikes
from clipcal.verification.answer import Verification
from clipcal.verification.judging import compare, judge, results_of

ROLES = {"unclipped": "unclipped", "clipped": "max_norm=2"}
N = 200


def falling(seed: int, *, end: float = 1.0, noise: float = 0.02) -> Floats:
    """A loss that falls from 3 towards ``end``, with noise that depends on the seed (the batches) alone."""
    t = np.arange(N)
    return end + (3.0 - end) * np.exp(-t / 30) + noise * np.random.default_rng(seed).normal(size=N)


def trace(loss: ArrayLike, scale: ArrayLike | None = None) -> Trace:
    column = np.asarray(loss, dtype=np.float64)
    n = len(column)
    nan = np.full(n, np.nan)
    return Trace(
        step=np.arange(n),
        loss=column,
        grad_norm=np.ones(n),
        grad_max=np.ones(n),
        lr=nan,
        seconds=nan,
        scale=nan if scale is None else np.asarray(scale, dtype=np.float64),
        skipped=np.zeros(n, dtype=np.bool_),
    )


def arm(
    max_norm: float | None, seed: int, loss: ArrayLike, scale: float = 1.0, lr_scale: float = 1.0
) -> tuple[Arm, Trace]:
    scales = None
    if max_norm is not None:
        scales = np.ones(N)
        scales[::20] = scale
        scales = scales[: len(np.asarray(loss))]
    a = Arm(name=arm_name(max_norm, lr_scale), max_norm=max_norm, seed=seed, lr_scale=lr_scale)
    return a, trace(loss, scales)


def verdict(pairs: list[tuple[ArrayLike, ArrayLike]], scale: float = 0.5) -> Verification:
    arms = []
    for seed, (unclipped, clipped) in enumerate(pairs):
        arms += [arm(None, seed, unclipped), arm(2.0, seed, clipped, scale)]
    return judge(2.0, arms, roles=ROLES)


def runaway(seed: int) -> Floats:
    loss = falling(seed)
    loss[120:] *= np.exp(np.arange(80) / 8)
    return loss


def to_nan(seed: int) -> Floats:
    loss = falling(seed)[:130].copy()
    loss[120:] = np.nan
    return loss


@pytest.mark.parametrize("lost", [runaway, to_nan])
def test_holds_where_clipping_keeps_training_from_being_lost(lost: object) -> None:
    v = verdict([(lost(s), falling(s)) for s in range(3)])  # type: ignore[operator]
    assert v.verdict == "holds"
    assert [a.diverged_at for a in v.arms if a.max_norm is None] == pytest.approx([120] * 3, abs=15)
    assert (v.comparison.loss_difference, v.comparison.interval) == (None, None), "a lost run has no final loss"
    assert v.comparison.better == 3
    assert v.headline == "threshold 2: helped on 3 of 3 seeds."


def test_fails_where_training_is_lost_all_the_same() -> None:
    v = verdict([(runaway(s), runaway(s)) for s in range(3)])
    assert v.verdict == "fails"


def test_fails_where_one_seed_of_three_is_still_lost() -> None:
    v = verdict([(runaway(0), falling(0)), (runaway(1), to_nan(1)), (runaway(2), falling(2))])
    assert v.verdict == "fails"
    assert "seed 1" in v.reasons[0]


def test_where_nothing_is_left_to_compare_there_is_no_difference() -> None:
    v = verdict([(runaway(s), to_nan(s)) for s in range(3)])
    assert v.verdict == "fails"
    answer = json.loads(json.dumps(v.as_dict(), allow_nan=False))
    assert answer["comparison"] == {"loss_difference": None, "interval": None, "seeds": 3, "better": 0}


@pytest.mark.parametrize("lost", [runaway, to_nan])
def test_one_seed_that_is_lost_without_clipping_has_no_difference(
    lost: Callable[[int], Floats],
) -> None:
    v = verdict([(lost(0), falling(0))])
    assert v.verdict == "holds"
    found = json.loads(json.dumps(v.as_dict()))["comparison"]
    assert found == {"loss_difference": None, "interval": None, "seeds": 1, "better": 1}


def test_too_few_steps_for_an_interval_are_said() -> None:
    v = verdict([(falling(0)[:3], falling(0)[:3] + 1e-6)])
    assert v.verdict == "undecided"
    assert v.comparison.interval is None
    assert "too few steps for an interval" in v.reasons[0]
    assert "inf" not in v.reasons[0]


@pytest.mark.parametrize(
    ("pairs", "scale", "sentence"),
    [
        ([(falling(0), falling(0))], 1.0, "No step was clipped: max_norm 2 is a safety net that was not needed."),
        ([(falling(s), falling(s)) for s in (0, 1)], 1.0, "No step of 2 runs was clipped: "),
        ([(runaway(0), falling(0))], 0.5, "Unclipped, the run is lost (at step "),
        ([(runaway(0), falling(0)), (falling(1), falling(1))], 0.5, "Unclipped, 1 of 2 runs is lost (at step "),
        ([(runaway(s), falling(s)) for s in (0, 1)], 0.5, "Unclipped, 2 of 2 runs are lost (the first at step "),
    ],
)
def test_one_run_is_spoken_of_as_one(pairs: list[tuple[ArrayLike, ArrayLike]], scale: float, sentence: str) -> None:
    assert verdict(pairs, scale).reasons[0].startswith(sentence)


def test_no_difference_where_the_threshold_never_acted() -> None:
    v = verdict([(falling(s), falling(s)) for s in range(3)], scale=1.0)
    assert v.verdict == "no_difference"
    assert v.comparison.loss_difference == 0.0
    assert "safety net" in v.reasons[0]


def test_no_difference_where_it_acted_and_nothing_came_of_it() -> None:
    assert verdict([(falling(s), falling(s) + 0.001) for s in range(3)]).verdict == "no_difference"


def test_costs_where_stable_training_ends_higher() -> None:
    v = verdict([(falling(s), falling(s, end=1.3)) for s in range(3)])
    assert v.verdict == "costs"
    assert v.comparison.loss_difference == pytest.approx(0.3, abs=0.05)
    assert v.comparison.interval is not None
    assert v.comparison.interval[0] > 0


def test_holds_where_it_ends_clearly_lower() -> None:
    assert verdict([(falling(s, end=1.4), falling(s)) for s in range(3)]).verdict == "holds"


def test_seeds_that_agree_on_no_difference_are_told_from_those_that_tell_nothing() -> None:
    v = verdict([(falling(s), falling(s) + shift) for s, shift in enumerate([0.003, -0.003, 0.0])])
    assert (v.verdict, v.codes[0]) == ("no_difference", "ends_alike")
    assert "nothing to act on" in v.reasons[0]
    disagreeing: list[list[tuple[ArrayLike, ArrayLike]]] = [
        [(falling(s), falling(s) + shift) for s, shift in enumerate([0.3, -0.3, 0.02])],
        [(falling(s, end=2.0), falling(s, end=2.0 - gain)) for s, gain in enumerate([0.1, 1.2, 0.1])],
    ]
    for pairs in disagreeing:
        v = verdict(pairs)
        assert (v.verdict, v.codes[0]) == ("undecided", "seeds_disagree")
        assert "--seeds 6" in v.reasons[0]
        assert v.headline == "threshold 2: 3 seeds do not tell whether it helps."


def test_a_smaller_rate_that_ends_as_well_is_the_advice() -> None:
    for end, advised in ((1.0, True), (1.5, False)):
        arms = [x for s in range(3) for x in (arm(None, s, runaway(s)), arm(2.0, s, falling(s), 0.5))]
        arms += [arm(None, s, falling(s, end=end), lr_scale=0.1) for s in range(3)]
        v = judge(2.0, arms, roles=ROLES | {"smaller_rate": "lr=0.1x"})
        assert v.helped == "both"
        assert ("smaller_rate_as_well" in v.codes) is advised
        assert ("clipping is not needed" in " ".join(v.reasons)) is advised


def test_holds_where_it_removes_the_spikes_of_the_loss() -> None:
    def spiky(seed: int) -> Floats:
        loss = falling(seed)
        loss[[30, 60, 90, 120, 150]] += 1.0
        return loss

    v = verdict([(spiky(s), falling(s)) for s in range(3)])
    assert v.verdict == "holds"
    assert [a.loss_spikes for a in v.arms] == [5, 0] * 3


def test_one_seed_gets_its_interval_from_the_steps() -> None:
    assert verdict([(falling(0), falling(0, end=1.3))]).verdict == "costs"
    rng = np.random.default_rng(5)
    noisy = verdict([(falling(0), falling(0) + 0.5 * rng.normal(size=N))])
    assert (noisy.verdict, noisy.codes[0]) == ("undecided", "one_seed")
    assert noisy.comparison.interval is not None
    assert noisy.comparison.interval[1] > noisy.comparison.interval[0]


def test_interval_over_seeds_is_students_t() -> None:
    pairs = [(falling(s), falling(s) + shift) for s, shift in enumerate([0.1, 0.2, 0.4])]
    arms = [x for s, (u, c) in enumerate(pairs) for x in (arm(None, s, u), arm(2.0, s, c, 0.5))]
    results, start, _ = results_of(arms)
    clipped, unclipped = [r for r in results if r.max_norm], [r for r in results if r.max_norm is None]
    c = compare(clipped, unclipped, start=start, traces=[])
    d = np.array([0.1, 0.2, 0.4])
    half = 2.919986 * d.std(ddof=1) / math.sqrt(3)  # scipy.stats.t.ppf(0.95, 2)
    assert c.loss_difference == pytest.approx(d.mean(), abs=1e-9)
    assert c.interval == pytest.approx((d.mean() - half, d.mean() + half), rel=1e-3)


@pytest.mark.parametrize(
    ("clipped", "smaller", "together", "helped"),
    [
        (falling, runaway, None, "clipping"),
        (runaway, falling, None, "smaller_rate"),
        (falling, falling, None, "both"),
        (runaway, runaway, falling, "together"),
        (runaway, runaway, runaway, "neither"),
    ],
)
def test_it_says_what_helped(clipped: object, smaller: object, together: object, helped: str) -> None:
    arms = []
    for s in range(2):
        arms += [
            arm(None, s, runaway(s)),
            arm(2.0, s, clipped(s), 0.5),  # type: ignore[operator]
            arm(None, s, smaller(s), lr_scale=0.1),  # type: ignore[operator]
        ]
        if together:
            arms.append(arm(2.0, s, together(s), lr_scale=0.1))  # type: ignore[operator]
    roles = ROLES | {"smaller_rate": "lr=0.1x", "together": "max_norm=2+lr=0.1x"}
    v = judge(2.0, arms, roles=roles)
    assert v.helped == helped
    assert v.verdict == ("holds" if clipped is falling else "fails")


def test_fails_where_clipping_only_stops_the_loss_from_moving() -> None:
    arms = []
    for s in range(3):
        flat = 3.0 + 0.02 * np.random.default_rng(s).normal(size=N)
        arms += [arm(None, s, runaway(s)), arm(2.0, s, flat, 0.01), arm(None, s, falling(s), lr_scale=0.1)]
    v = judge(2.0, arms, roles=ROLES | {"smaller_rate": "lr=0.1x"})
    assert (v.verdict, v.helped) == ("fails", "smaller_rate")


def test_other_thresholds_are_reported_beside() -> None:
    arms = [arm(None, 0, falling(0)), arm(2.0, 0, falling(0), 0.5), arm(0.1, 0, falling(0, end=2.0), 0.1)]
    v = judge(2.0, arms, roles=ROLES)
    beside = next(r for r in v.reasons if r.startswith("max_norm=0.1: final loss "))
    assert float(beside.split()[3].rstrip(",")) == pytest.approx(2.0, abs=0.05)


def test_the_json_is_the_contracts() -> None:
    v = verdict([(to_nan(s), falling(s)) for s in range(2)])
    answer = json.loads(json.dumps(v.as_dict(), allow_nan=False))
    assert answer["schema"] == "clipcal.verification/1"
    assert set(answer) >= {"schema", "verdict", "max_norm", "arms", "comparison", "reasons", "codes", "headline"}
    assert set(answer["comparison"]) == {"loss_difference", "interval", "seeds", "better"}
    assert answer["arms"][0].keys() == {
        "name", "max_norm", "seed", "steps", "final_loss", "diverged_at", "loss_spikes", "clip_fraction", "mean_scale",
    }  # fmt: skip
    assert answer["arms"][0]["final_loss"] == "NaN"
    assert answer["arms"][1]["clip_fraction"] == pytest.approx(10 / 200)
    assert answer["arms"][1]["mean_scale"] == pytest.approx(1 - 0.5 * 10 / 200)


def test_clipping_less_than_nothing_is_never_seen_where_no_loss_jumps() -> None:
    v = verdict([(falling(s), falling(s) + 1e-6) for s in range(3)])
    assert v.verdict == "no_difference"


def test_a_loss_below_zero_can_be_judged() -> None:
    v = verdict([(falling(s) - 5, falling(s, end=1.3) - 5) for s in range(3)])
    assert v.verdict == "costs"


def test_noise_alone_is_not_divergence() -> None:
    for seed in range(20):
        flat = 3.0 + 0.3 * np.random.default_rng(seed).normal(size=N)
        assert diverged_at(flat, floor=final_loss(flat)) is None


def test_jumps_are_measured_against_the_ten_steps_before() -> None:
    loss = np.arange(30.0)
    loss[20] += 7
    expected = [loss[i] - np.median(loss[i - 10 : i]) for i in range(10, 30)]
    np.testing.assert_allclose(jumps(loss)[10:], expected)
    assert np.isnan(jumps(loss)[:10]).all()
    assert num_spikes(loss, spread=1.0, progress=0.0) == 1


def test_a_loss_that_starts_far_up_does_not_hide_what_is_left() -> None:
    def from_bad_init(seed: int, end: float) -> Floats:
        start: Floats = 60 * np.exp(-np.arange(N) / 5)
        return falling(seed, end=end, noise=0.005) + start

    v = verdict([(from_bad_init(s, 0.2), from_bad_init(s, 0.14)) for s in range(3)])
    assert v.verdict == "holds"
