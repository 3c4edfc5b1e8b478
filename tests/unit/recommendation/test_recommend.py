"""recommend(): known traces and their answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pace import loops

from clipcal.errors import InputError
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.baselines import BASELINES
from clipcal.recommendation.calibration import recommend
from clipcal.recommendation.thresholds import rounded

Array = NDArray[np.float64]


def calm(n: int = 300, sigma: float = 0.2, seed: int = 0) -> Array:
    return np.exp(np.random.default_rng(seed).normal(0.0, sigma, n))


def spiky(n: int = 300, every: int = 30, size: float = 8.0, seed: int = 0) -> Array:
    norms = calm(n, seed=seed)
    norms[every // 2 :: every] *= size * np.exp(
        np.random.default_rng(seed + 1).uniform(0, 2, norms[every // 2 :: every].size)
    )
    return norms


def threshold(answer: Recommendation) -> float:
    assert answer.max_norm is not None
    assert answer.interval is not None
    assert answer.corridor is not None
    assert answer.interval[0] <= answer.max_norm <= answer.interval[1]
    assert answer.corridor[0] <= answer.max_norm <= answer.corridor[1]
    return answer.max_norm


class TestSpikes:
    def test_the_threshold_separates_them(self) -> None:
        norms = spiky()
        answer = recommend(norms)
        assert answer.verdict == "spikes"
        assert answer.spikes.count == 10
        assert answer.spikes.steps == tuple(range(15, 300, 30))
        assert answer.spikes.min == pytest.approx(np.sort(norms)[-10])
        assert answer.clipped.stable == pytest.approx(0, abs=0.01)
        assert answer.clipped.spikes == 1.0
        assert answer.confidence == "high"
        assert np.quantile(calm(), 0.98) < threshold(answer) < 3

    def test_the_reason_has_the_numbers(self) -> None:
        answer = recommend(spiky())
        assert "10 of 300 steps (3.3%) stand clear" in answer.reasons[0]
        assert f"{answer.spikes.min:.3g}" in answer.reasons[0]

    def test_step_numbers_are_the_callers(self) -> None:
        answer = recommend(spiky(), steps=list(range(1000, 4000, 10)))
        assert answer.spikes.steps[0] == 1150

    def test_few_spikes_come_with_their_odds(self) -> None:
        norms = calm()
        norms[[100, 200]] = 20.0
        assert any("chance 1/3" in c for c in recommend(norms).caveats)

    def test_many_wide_spikes(self) -> None:
        answer = recommend(spiky(600, every=8, size=6))
        assert answer.verdict == "spikes"
        assert 1.4 < threshold(answer) < 4

    def test_bursts(self) -> None:
        norms = calm(400)
        for start in (80, 210, 330):
            norms[start : start + 9] *= 40 * 0.8 ** np.arange(9)
        answer = recommend(norms)
        assert answer.verdict == "spikes"
        assert 1.3 < threshold(answer) < 5


class TestNoSpikes:
    def test_a_stable_run_gets_a_net(self) -> None:
        answer = recommend(calm())
        assert answer.verdict == "stable"
        assert answer.spikes.count == 0
        assert answer.corridor is not None
        assert answer.corridor[1] == float("inf")
        assert 1.6 < threshold(answer) < 2.6
        assert "rate of spikes to about 1%" in answer.reasons[0]

    def test_false_alarms_are_rare(self) -> None:
        assert sum(recommend(calm(200, 0.3, seed)).verdict == "spikes" for seed in range(60)) <= 1

    def test_a_heavy_tail_is_named(self) -> None:
        answer = recommend(np.exp(np.random.default_rng(3).exponential(0.5, 2000)))
        assert answer.verdict == "heavy_tail"
        assert "no gap" in answer.reasons[0]
        assert answer.clipped.stable is not None
        assert 0 < answer.clipped.stable < 0.05

    def test_rounded_to_two_decimals(self) -> None:
        answer = recommend(np.round(0.28 * calm(2000, 0.1), 2))
        assert answer.verdict == "stable"
        assert 0.33 < threshold(answer) < 0.5

    def test_a_second_mode_near_zero(self) -> None:
        norms = calm(400)
        norms[::4] *= 0.003
        answer = recommend(norms)
        assert answer.verdict == "stable"
        assert 1.3 < threshold(answer) < 6

    def test_a_stretch_of_near_zero_norms_makes_no_spikes_around_it(self) -> None:
        norms = calm(1600, 0.1)
        norms[800:880][np.arange(80) % 10 < 7] *= 0.003
        answer = recommend(norms)
        assert answer.verdict == "stable"
        assert threshold(answer) < 2

    def test_warm_up_is_no_spike(self) -> None:
        norms = calm(500) * (1 + 30 * np.exp(-np.arange(500) / 15))
        answer = recommend(norms)
        assert answer.verdict == "stable"
        assert answer.stable is not None
        assert 25 <= answer.stable.first_step <= 150
        assert threshold(answer) < 3


class TestDrift:
    def test_rising_norms_get_room(self) -> None:
        answer = recommend(calm(600, 0.15) * np.exp(np.linspace(0, np.log(8), 600)))
        assert answer.drift.direction == "up"
        assert answer.drift.ratio == pytest.approx(8, rel=0.2)
        assert threshold(answer) > 8 * 1.35
        assert any("rising" in c for c in answer.caveats)

    def test_falling_norms(self) -> None:
        norms = calm(600, 0.15) * np.exp(np.linspace(np.log(8), 0, 600))
        norms[[150, 300, 450, 580]] *= 12
        answer = recommend(norms)
        assert answer.drift.direction == "down"
        assert answer.spikes.count == 4
        assert threshold(answer) < 4

    def test_a_cycle_is_not_drift(self) -> None:
        norms = calm(600, 0.1) * np.exp(0.8 * np.sin(np.arange(600) / 600 * 6 * np.pi))
        answer = recommend(norms)
        assert answer.drift.direction == "cycle"
        assert answer.clipped.stable == pytest.approx(0, abs=0.02)


class TestEndings:
    def test_divergence_is_judged_by_what_came_before(self) -> None:
        norms = calm(400)
        norms[250:] *= np.exp(0.2 * np.arange(150))
        answer = recommend(norms)
        assert answer.verdict == "diverging"
        assert 1.5 < threshold(answer) < 3
        assert answer.reasons[0].startswith("From step 2")

    def test_divergence_into_nan(self) -> None:
        answer = recommend(np.concatenate([calm(150), np.full(50, np.nan)]))
        assert answer.verdict == "diverging"
        assert answer.nonfinite.count == 50
        assert answer.nonfinite.first_step == 150
        assert 1.4 < threshold(answer) < 3

    def test_a_few_good_norms_then_inf(self) -> None:
        answer = recommend([1.0, 1.2, 0.9, 1.4, 1.1, 1.3] + [float("inf")] * 40)
        assert answer.verdict == "diverging"
        assert answer.confidence == "low"
        assert threshold(answer) > 1.2
        assert any("max_norm=0.3 " in c for c in answer.caveats)

    def test_too_few_good_norms_then_inf(self) -> None:
        answer = recommend([1.0, 3.0] + [float("inf")] * 40)
        assert (answer.verdict, answer.max_norm, answer.confidence) == ("diverging", None, "none")
        assert any("temporary guard max_norm=0.6" in c for c in answer.caveats)

    def test_vanishing(self) -> None:
        answer = recommend(calm(300) * np.exp(-0.2 * np.clip(np.arange(300) - 100, 0, 100)))
        assert (answer.verdict, answer.max_norm) == ("vanishing", None)

    def test_tiny_norms_with_a_loss_that_stands_still(self) -> None:
        norms, noise = 1e-6 * calm(200), np.random.default_rng(5).normal(0, 0.01, 200)
        assert recommend(norms, 2.3 + noise).verdict == "vanishing"
        assert recommend(norms, 2.3 + noise - np.linspace(0, 1, 200)).verdict == "stable"
        assert recommend(norms).verdict == "stable"


class TestNoAnswer:
    @pytest.mark.parametrize("n", [0, 1, 5, 14])
    def test_too_few(self, n: int) -> None:
        answer = recommend(calm(n))
        assert (answer.verdict, answer.max_norm) == ("insufficient", None)
        assert "15" in answer.reasons[0]

    def test_nan_from_the_first_step(self) -> None:
        answer = recommend([float("nan")] * 30, [float("nan")] * 30)
        assert answer.verdict == "insufficient"
        assert "from the first step" in answer.reasons[0]
        assert answer.baselines["default_1.0"] == 1.0
        assert answer.baselines["median"] is None

    def test_all_zero(self) -> None:
        answer = recommend(np.zeros(100))
        assert (answer.verdict, answer.zeros) == ("insufficient", 100)
        assert recommend(np.zeros(100), np.full(100, 2.3)).verdict == "vanishing"
        assert recommend(np.zeros(100), np.linspace(3, 1, 100)).verdict == "insufficient"

    @pytest.mark.parametrize("norms", [np.full(100, 3.0), np.minimum(calm(300, 0.5), 1.0)])
    def test_already_clipped(self, norms: Array) -> None:
        answer = recommend(norms)
        assert (answer.verdict, answer.max_norm) == ("clipped", None)


class TestNoise:
    def test_nan_and_zeros_in_the_middle(self) -> None:
        norms = spiky()
        norms[[50, 51, 120]] = [np.nan, np.inf, 0.0]
        answer = recommend(norms)
        assert answer.verdict == "spikes"
        assert (answer.nonfinite.count, answer.nonfinite.first_step, answer.zeros) == (2, 50, 1)
        assert threshold(answer) == pytest.approx(threshold(recommend(spiky())), rel=0.1)

    def test_negative_norms_are_named(self) -> None:
        norms = calm()
        norms[7] = -1.0
        assert any("negative" in c for c in recommend(norms).caveats)

    def test_steps_that_go_back_are_named(self) -> None:
        answer = recommend(calm(200), steps=list(range(100)) * 2)
        assert any("go back 1 time:" in c for c in answer.caveats)
        assert answer.steps == 100


class TestLosses:
    @staticmethod
    def wide(effect: float, onset: float = 1.5) -> tuple[Array, Array]:
        rng = np.random.default_rng(0)
        norms = np.exp(0.8 * rng.standard_normal(400))
        log_loss = rng.normal(0, 0.02, 400) - 0.002 * np.arange(400)
        for step in np.flatnonzero(norms > onset):
            log_loss[step + 1 : step + 4] += effect
        return norms, np.exp(log_loss)

    def test_harmful_norms_choose_firm(self) -> None:
        answer = recommend(*self.wide(0.2))
        assert answer.candidates.firm is not None
        assert answer.candidates.gentle is not None
        assert threshold(answer) == answer.candidates.firm < answer.candidates.gentle
        assert answer.harm is not None
        assert answer.harm.loss_change_above > answer.harm.loss_change_below
        assert any("do harm" in r for r in answer.reasons)

    def test_a_rise_that_is_sure_and_slight_is_no_harm(self) -> None:
        """5% is harm, 0.5% is not, however long the log that shows both."""
        rng = np.random.default_rng(0)
        norms = np.exp(0.5 * rng.standard_normal(5000))
        for effect, harmful in ((0.05, True), (0.005, False)):
            log_loss = 0.002 * rng.standard_normal(5000)
            for step in np.flatnonzero(norms > 1.6):
                log_loss[step + 1 : step + 4] += effect
            answer = recommend(norms, np.exp(log_loss))
            assert (threshold(answer) == answer.candidates.firm) is harmful
            assert answer.harm is not None
            assert answer.harm.effect == ("harm" if harmful else "none")
            assert any("large norms do harm here" in r for r in answer.reasons) is harmful

    def test_harm_from_far_norms_alone_chooses_what_lies_between(self) -> None:
        answer = recommend(*self.wide(0.2, onset=3.0))
        assert answer.harm is not None
        assert answer.candidates.firm is not None
        assert answer.candidates.firm < threshold(answer) < answer.harm.threshold
        assert answer.harm.effect == "harm"
        assert any("lower than the norms alone say" in r for r in answer.reasons)

    @pytest.mark.parametrize("seed", range(8))
    def test_losses_that_do_not_tell_lean_towards_the_middle_and_say_so(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        norms = np.exp(0.8 * rng.standard_normal(200))
        answer = recommend(norms, np.exp(rng.normal(0, 0.2, 200)))
        c, taken = answer.candidates, threshold(answer)
        assert c.firm is not None
        assert c.gentle is not None
        assert answer.harm is not None
        if answer.harm.effect in ("none", "harm"):  # one seed in ten each
            return
        assert c.firm < taken < c.gentle
        assert answer.clipped.stable is not None
        assert answer.clipped.stable <= 0.25
        said = next(r for r in answer.reasons if "(p = " in r)
        assert f"leans from {c.gentle:g}, which the norms alone say, to {taken:g}" in said
        assert "`clipcal calibrate` decides" in said

    def test_the_more_steps_show_no_harm_the_less_the_threshold_leans(self) -> None:
        rng = np.random.default_rng(3)
        norms, losses = np.exp(0.8 * rng.standard_normal(8000)), np.exp(rng.normal(0, 0.1, 8000))
        short, middle, long = (recommend(norms[:n], losses[:n]) for n in (100, 800, 8000))
        ratios = [threshold(r) / r.candidates.gentle for r in (short, middle, long) if r.candidates.gentle]
        assert ratios[0] < ratios[2]
        assert ratios[2] > 0.9
        assert long.harm is not None
        assert long.harm.effect == "none"

    def test_losses_of_rows_that_are_not_neighbours_move_nothing(self) -> None:
        norms, losses = self.wide(0.2)
        alone = recommend(norms, steps=range(0, 4000, 10))
        answer = recommend(norms, losses, steps=range(0, 4000, 10))
        assert threshold(answer) == threshold(alone) == answer.candidates.gentle
        assert answer.harm is None
        assert "rows_apart" in answer.codes
        assert recommend(norms, losses, single_steps=False).max_norm == threshold(alone)

    def test_the_reason_names_the_threshold_that_was_taken(self) -> None:
        """Where stable norms hardly spread, gentle, middle and firm are one number; a run that is lost gets a firm one under a guard."""
        answers = [recommend(*self.wide(harm, onset=onset)) for harm in (0.0, 0.2, -0.1) for onset in (1.5, 3.0)]
        noise = np.random.default_rng(5).normal(0, 0.05, 400)
        answers += [recommend(norms, np.exp(noise)) for norms in (spiky(400), calm(400, 0.1))]
        answers += [recommend(calm(400, 0.5), np.exp(noise), guard=0.3)]
        said = {
            "they are left alone": 0,
            "stays gentle": 0,
            "the threshold is firm": 0,
            "leans from": 0,
            "lower than": 0,
        }
        for answer in answers:
            reason = next((r for r in answer.reasons if "(p = " in r), None)
            if reason is None:
                continue
            c, taken = answer.candidates, answer.max_norm
            named = [text for text in said if text in reason]
            assert len(named) == 1, reason
            assert (taken == c.gentle) is (named[0] in ("they are left alone", "stays gentle")), reason
            assert named[0] != "the threshold is firm" or taken == c.firm, reason
            said[named[0]] += 1
        assert sum(n > 0 for n in said.values()) >= 4, said

    def test_harmless_norms_choose_gentle(self) -> None:
        answer = recommend(*self.wide(-0.1))
        assert answer.harm is not None
        assert answer.harm.effect == "none"
        assert threshold(answer) == answer.candidates.gentle
        assert any("ordinary training" in r for r in answer.reasons)

    def test_without_losses_gentle(self) -> None:
        answer = recommend(self.wide(0.2)[0])
        assert threshold(answer) == answer.candidates.gentle
        assert answer.harm is None

    def test_a_learning_rate_that_is_too_high_is_named(self) -> None:
        norms = calm(300)
        norms[40:80:5] *= 1000
        losses = np.linspace(2.0, 9.0, 300)
        caveats = recommend(norms, losses, lrs=np.full(300, 0.5)).caveats
        assert any("lower the learning rate (up to 0.5 here), about 10x" in c for c in caveats)
        assert not any("learning rate" in c for c in recommend(norms, losses[::-1]).caveats)

    def test_a_threshold_that_torch_cannot_apply_is_named(self) -> None:
        assert any("adds 1e-06" in c for c in recommend(calm() * 1e-6).caveats)
        assert not any("1e-06" in c for c in recommend(calm() * 1e-3).caveats)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            ({"grad_norms": [[1.0, 2.0]]}, "shape"),
            ({"grad_norms": ["a"]}, "numbers"),
            ({"grad_norms": [1.0], "losses": [1.0, 2.0]}, "losses has 2 values"),
            ({"grad_norms": [1.0], "steps": [1, 2]}, "steps has 2"),
            ({"grad_norms": [1.0], "lrs": []}, "lrs has 0"),
            ({"grad_norms": [1.0], "steps": [float("nan")]}, "non-finite"),
            ({"grad_norms": [1.0], "method": "norms"}, "Did you mean 'norm'"),
            ({"grad_norms": [1.0], "norm_type": 0}, "norm_type=0"),
            ({"grad_norms": [1.0], "norm_type": float("nan")}, "norm_type=nan"),
        ],
    )
    def test_what_fits_no_trace_is_refused(self, arguments: dict[str, Any], word: str) -> None:
        with pytest.raises(InputError, match=word):
            recommend(**arguments)

    @pytest.mark.parametrize("method", ["norm", "value", "per_tensor"])
    def test_what_was_asked_goes_into_the_answer(self, method: Any) -> None:
        answer = recommend(calm(), method=method, norm_type=float("inf"), source="a.log", caveats=["known"])
        assert (answer.method, answer.norm_type, answer.source) == (method, float("inf"), "a.log")
        assert answer.caveats[-1] == "known"

    def test_lists_and_arrays_give_the_same(self) -> None:
        assert recommend(spiky().tolist()) == recommend(spiky())

    def test_the_answer_is_json(self) -> None:
        answer = recommend(spiky()).as_dict()
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        assert list(answer["baselines"]) == list(BASELINES)


@pytest.mark.parametrize(
    ("value", "corridor", "expected"),
    [
        (2.437, (1.3, 6.8), 2.4),
        (1.337, (1.31, 6.8), 1.34),
        (0.02449, (0.0, 1.0), 0.024),
        (1234.0, (500.0, float("inf")), 1200.0),
        (1.30004, (1.30001, 1.30005), 1.30004),
    ],
)
def test_rounding_for_people(value: float, corridor: tuple[float, float], expected: float) -> None:
    assert rounded(value, corridor) == expected


def test_a_hundred_thousand_steps_take_no_time() -> None:
    norms = calm(100_000)
    assert loops(lambda: recommend(norms), best_of=2) < 25  # about 3
