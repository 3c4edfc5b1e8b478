"""Which candidate a race ends with, and what it asks for meanwhile: on arms whose ends are known, counted as they are asked for."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_races import (
    FIELD,
    FIRM,
    GENTLE,
    SNUG,
    End,
    Training,
    WithNorms,
    effect,
    falling,
    loss_of,
    raced,
    trace,
    unlike,
)
from scipy.stats import t as students_t
from scipy.stats import ttest_1samp

from clipcal.arms.pool import arm_name
from clipcal.recommendation.answer import Candidates, Choice, Recommendation
from clipcal.recommendation.calibration import recommend
from clipcal.run.trace import Floats
from clipcal.verification.racing import (
    _T90,
    _T975,
    APART,
    MORE,
    USUAL_APART,
    candidates_of,
)


def last_fifth(loss: Floats) -> float:
    return float(np.median(loss[-(len(loss) // 5) :]))


def shown(reason: str) -> dict[str, float]:
    """The final losses in a reason, by the candidate's name."""
    return {name: float(loss) for name, loss in re.findall(r"(\w+) [\d.e+-]+ ends at ([\d.e+-]+)[,;]", reason)}


# Who wins


@pytest.mark.parametrize("best", range(3))
def test_the_one_that_trains_clearly_best_wins(best: int) -> None:
    ends = {None: 1.5} | {c.max_norm: 1.0 if i == best else 1.4 for i, c in enumerate(FIELD)}
    result = raced(Training(ends))
    assert result.chosen == FIELD[best]
    assert f"{FIELD[best].name} trains best" in result.reason


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_a_tie_goes_to_the_gentlest(seeds: int) -> None:
    ends = {None: 1.0, 4.0: 1.002, 2.0: 0.999, 1.0: 1.0}
    result = raced(Training(ends), seeds)
    assert result.chosen == GENTLE
    assert "alike" in result.reason
    assert "gentlest" in result.reason


def test_of_two_that_tie_the_gentler_wins_and_the_third_is_left_behind() -> None:
    assert raced(Training({None: 1.5, 4.0: 1.5, 2.0: 1.001, 1.0: 1.0})).chosen == FIRM


def test_what_is_nothing_to_act_on_is_a_tie() -> None:
    """1% of the progress from 3 to 1, the same on every seed: the seeds are sure of it, and nobody would care."""
    assert raced(Training({None: 1.0, 4.0: 1.015, 2.0: 1.0, 1.0: 1.0})).chosen == GENTLE
    assert raced(Training({None: 1.0, 4.0: 1.03, 2.0: 1.0, 1.0: 1.0})).chosen == FIRM


def test_standings_are_the_means_of_the_final_losses() -> None:
    ends: dict[float | None, End | Sequence[End]] = {None: 1.5, 4.0: [1.5, 1.7, 1.6], 2.0: [1.0, 1.2, 1.1], 1.0: 2.0}
    training = Training(ends)
    result = raced(training)
    assert [s.candidate for s in result.standings] == list(FIELD)
    for standing in result.standings:
        losses = [loss_of(training.end(standing.candidate.max_norm, s), s) for s in range(standing.seeds)]
        assert standing.loss == pytest.approx(np.mean([last_fifth(loss) for loss in losses]), abs=1e-12)
        assert standing.lost == 0
        assert standing.seeds == len(training.seeds_of(standing.candidate))


# What large norms do


UNTOLD: dict[float | None, End | Sequence[End]] = {
    None: 1.0,
    4.0: [0.9, 1.1, 0.8, 1.0, 0.9],
    2.0: [1.2, 0.9, 1.4, 0.8, 1.3],
    1.0: [1.6, 0.7, 1.9, 0.7, 1.6],
}
"""The gentler the lower on average, and the seeds do not agree."""


def with_norms(rise: float, away: int = 1) -> WithNorms:
    training = WithNorms(UNTOLD)
    training.rise, training.away = rise, away
    return training


def test_where_large_norms_do_harm_and_the_seeds_do_not_tell_the_firm_one_is_taken() -> None:
    harmed, innocent = raced(with_norms(0.8)), raced(with_norms(0.8, away=5))
    assert harmed.chosen == FIRM
    assert "the loss tends to rise after large norms" in harmed.reason
    assert innocent.chosen == GENTLE, "the same rises at other times say nothing"


def test_where_large_norms_do_no_harm_and_the_seeds_do_not_tell_the_gentlest_is_taken() -> None:
    result = raced(with_norms(-0.5))
    assert result.chosen == GENTLE
    assert "the loss does not rise after large norms" in result.reason


def test_harm_does_not_bring_back_what_is_clearly_worse() -> None:
    training = with_norms(0.8)
    training.ends = {None: 1.0, 4.0: 1.0, 2.0: 1.8, 1.0: 2.0}
    assert raced(training).chosen == GENTLE


def test_what_large_norms_do_is_read_from_all_unclipped_arms_together() -> None:
    assert effect([unlike(s, 0.8) for s in range(3)]) == "harm"
    assert effect([unlike(s, -0.5) for s in range(3)]) == "none"
    assert effect([trace(falling(1.0, s)) for s in range(3)]) == "unclear", "norms that are all alike"


def test_two_seeds_that_say_the_opposite_say_nothing() -> None:
    assert effect([unlike(0, 0.8), unlike(1, -0.5)]) == "unclear"


@pytest.mark.parametrize("how", ["nan", "runaway"])
def test_an_unclipped_arm_that_is_lost_is_harm(how: str) -> None:
    quiet = [trace(falling(1.0, s)) for s in range(2)]
    assert effect([*quiet, trace(loss_of(how, 2))]) == "harm"


@pytest.mark.parametrize("how", ["nan", "runaway"])
def test_where_the_unclipped_arm_is_lost_and_the_seeds_do_not_tell_a_tight_one_is_taken(how: str) -> None:
    result = raced(Training(UNTOLD | {None: how}))
    assert result.chosen in (FIRM, SNUG)
    assert shown(result.reason)[result.chosen.name] > shown(result.reason)["gentle"], "the premise"


# Lost


@pytest.mark.parametrize("how", ["nan", "runaway"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_candidate_that_is_lost_where_others_are_not_is_out(how: str, seed: int) -> None:
    """Even where its other seed ends lowest by far."""
    best_but_lost: list[End] = [0.2, 0.2, 0.2, 0.2]
    best_but_lost[seed] = how
    training = Training({None: 1.5, 4.0: 1.5, 2.0: best_but_lost, 1.0: 1.4})
    result = raced(training, seeds=4)
    assert training.seeds_of(FIRM) == [0, 1]
    assert result.chosen == SNUG
    assert "firm 2 was lost on 1 of 2 seeds" in result.reason
    assert {s.candidate: s.lost for s in result.standings} == {GENTLE: 0, FIRM: 1, SNUG: 0}


def test_a_candidate_that_is_lost_on_a_later_seed_is_not_chosen() -> None:
    training = Training({None: 1.5, 4.0: 1.02, 2.0: [1.0, 1.0, "nan", 1.0], 1.0: 1.0})
    result = raced(training, seeds=4)
    assert training.seeds_of(FIRM) == [0, 1, 2]
    assert result.chosen in (GENTLE, SNUG)


@pytest.mark.parametrize("seeds", [1, 3])
def test_where_all_are_lost_there_is_an_answer_all_the_same(seeds: int) -> None:
    result = raced(Training(dict.fromkeys((None, 4.0, 2.0, 1.0), "nan")), seeds)
    assert result.chosen in FIELD
    assert all(s.lost == s.seeds for s in result.standings)
    assert result.reason.count("was lost on") == 3


def test_a_leader_that_is_lost_after_the_others_were_dropped_is_not_chosen() -> None:
    """The gentlest is faster until it diverges on the third seed; the others never do."""
    result = raced(Training({None: 1.0, 4.0: [1.0, 1.0, "nan", "nan", "nan"], 2.0: 1.3, 1.0: 1.4}))
    assert result.chosen != GENTLE, result.reason


# What is trained


def test_what_is_clearly_worse_after_two_seeds_is_not_trained_again() -> None:
    training = Training({None: 1.5, 4.0: 1.0, 2.0: 1.01, 1.0: 2.0})
    result = raced(training, seeds=4)
    assert training.seeds_of(SNUG) == [0, 1]
    assert training.seeds_of(GENTLE) == training.seeds_of(FIRM) == training.seeds_of(None) == [0, 1, 2, 3]
    assert [s.seeds for s in result.standings] == [4, 4, 2]


@pytest.mark.parametrize(("behind", "dropped"), [((0.50, 0.45), True), ((0.50, 0.40), False)])
def test_clearly_is_one_chance_in_forty_by_students_t(behind: tuple[float, float], dropped: bool) -> None:
    p = float(ttest_1samp(behind, 0.0, alternative="greater").pvalue)
    assert (p < 0.025) is dropped, "the premise"
    training = Training({None: 1.5, 4.0: 1.0, 2.0: [*(1.0 + b for b in behind), 1.5, 1.5, 1.5]})
    raced(training, field=(GENTLE, FIRM))
    assert (training.seeds_of(FIRM) == [0, 1]) is dropped


def test_the_quantiles_are_students() -> None:
    degrees = np.arange(1, len(_T90) + 1)
    np.testing.assert_allclose(_T90, students_t.ppf(0.9, degrees), rtol=1e-3)
    np.testing.assert_allclose(_T975, students_t.ppf(0.975, degrees), rtol=1e-3)


OPEN: dict[float | None, End | Sequence[End]] = {
    None: 1.5,
    4.0: 1.0,
    2.0: [1.9, 0.7, 1.6, 0.8, 1.8, 1.5, 1.5],
    1.0: 2.5,
}
"""The firm one is behind on average, after every number of seeds up to five, and may be so by chance."""


def test_seeds_are_added_while_it_is_open_and_no_more_than_that() -> None:
    training = Training(OPEN, first=7)
    result = raced(training)
    assert training.seeds_of(None) == training.seeds_of(GENTLE) == training.seeds_of(FIRM)
    assert training.seeds_of(GENTLE) == list(range(7, 7 + 3 + MORE))
    assert training.seeds_of(SNUG) == [7, 8]
    assert result.seeds == 3 + MORE


def test_seeds_are_added_until_it_is_settled() -> None:
    ends = dict(OPEN)
    ends[2.0] = [1.9, 0.7, 1.6, -0.2, math.nan]  # the fourth makes their means equal; a fifth must not be asked for
    result = raced(Training(ends))
    assert result.seeds == 4
    assert result.chosen == GENTLE


def test_no_seed_is_added_where_it_is_settled() -> None:
    for ends in ({None: 1.5, 4.0: 1.0, 2.0: 1.0, 1.0: 1.0}, {None: 1.5, 4.0: 1.5, 2.0: 1.0, 1.0: 1.5}):
        assert raced(Training(ends)).seeds == 3


def test_the_first_two_seeds_are_trained_at_once_and_every_arm_once() -> None:
    training = Training(OPEN)
    raced(training)
    assert training.calls == 1 + 1 + MORE
    assert [a.seed for a in training.asked[:8]] == [0] * 4 + [1] * 4
    assert len(set(training.asked)) == len(training.asked)
    assert all(a.name == arm_name(a.max_norm) and a.lr_scale == 1.0 for a in training.asked)


@pytest.mark.parametrize("best", range(3))
def test_one_seed_is_one_seed_and_answers(best: int) -> None:
    ends = {None: 1.5} | {c.max_norm: 1.0 if i == best else 1.4 for i, c in enumerate(FIELD)}
    training = Training(ends, first=3)
    result = raced(training, seeds=1)
    assert [(a.max_norm, a.seed) for a in training.asked] == [(None, 3), (4.0, 3), (2.0, 3), (1.0, 3)]
    assert (result.chosen, result.seeds) == (FIELD[best], 1)
    assert "on 1 seed:" in result.reason


def test_one_candidate_has_won() -> None:
    training = Training({None: 1.5, 4.0: 1.0})
    result = raced(training, field=(GENTLE,))
    assert result.chosen == GENTLE
    assert training.seeds_of(GENTLE) == [0, 1, 2]


def test_the_same_race_ends_the_same() -> None:
    one, other = Training(OPEN), Training(OPEN)
    first, second = raced(one), raced(other)
    assert one.asked == other.asked
    assert (first.chosen, first.standings, first.reason, first.seeds) == (
        second.chosen,
        second.standings,
        second.reason,
        second.seeds,
    )
    assert [arm for arm, _ in first.trained] == one.asked


# Why


@pytest.mark.parametrize(
    "training",
    [
        Training({None: 1.5, 4.0: 1.5, 2.0: 1.0, 1.0: 1.2}),
        Training({None: 1.0, 4.0: 1.0, 2.0: 1.0, 1.0: 1.0}),
        Training(OPEN),
        with_norms(0.8),
        with_norms(-0.5),
    ],
    ids=["best", "tie", "undecided", "harm", "harmless"],
)
def test_a_reason_is_a_sentence_with_the_numbers_in_it(training: Training) -> None:
    result = raced(training)
    text = result.reason
    assert text.startswith(f"Trained side by side on {result.seeds} seeds: ")
    assert text.endswith(".")
    assert text.count(". ") == text.count("\n") == text.count("  ") == text.count("nan") == 0
    assert len(text) < 300
    losses = {s.candidate.name: float(f"{s.loss:.4g}") for s in result.standings if s.seeds == result.seeds}
    assert losses.items() <= shown(text).items()
    for candidate in FIELD:
        assert f"{candidate.name} {candidate.max_norm:g} " in text
    assert result.chosen.name in text.partition(";")[2], "says who is taken, and why"


def test_where_nothing_tells_the_one_that_ends_lowest_so_far_is_taken() -> None:
    ends = dict(zip((None, 2.0, 4.0, 1.0), UNTOLD.values(), strict=True))
    result = raced(Training(ends))
    numbers = shown(result.reason)
    assert result.chosen == FIRM
    assert min(numbers, key=lambda name: numbers[name]) == "firm"
    assert "do not tell them apart" in result.reason


def test_seeds_that_do_not_tell_are_said_not_to() -> None:
    assert "do not tell them apart" in raced(Training(UNTOLD)).reason


def test_the_numbers_in_a_reason_do_not_speak_against_the_choice() -> None:
    """The third seed is a hard one for everybody, and what is dropped before it never sees it."""
    result = raced(Training({None: 2.0, 4.0: [1.0, 1.0, 2.2], 2.0: [1.3, 1.3, 2.5], 1.0: [1.4, 1.4, 2.6]}))
    assert result.chosen == GENTLE
    numbers = shown(result.reason)
    assert numbers["gentle"] < numbers.get("firm", math.inf), result.reason


def test_a_choice_among_one_leaves_no_empty_reason_behind() -> None:
    norms = np.exp(np.random.default_rng(0).normal(0, 0.2, 300))
    only = raced(Training({None: 1.5, 4.0: 1.0}), field=(GENTLE,))
    choice = Choice(name=only.chosen.name, max_norm=only.chosen.max_norm, reason=only.reason)
    assert all(recommend(norms, choice=choice).reasons)


@pytest.mark.parametrize(("rise", "chosen"), [(0.8, 4.0), (-0.5, 1.0)])
def test_the_reasons_around_a_choice_do_not_contradict_it(rise: float, chosen: float) -> None:
    arm = unlike(0, rise)
    alone = recommend(arm.grad_norm, arm.loss)
    choice = Choice(name="gentle" if rise > 0 else "snug", max_norm=chosen, reason="Trained side by side.")
    beside = recommend(arm.grad_norm, arm.loss, choice=choice)
    of_losses, again = (next(reason for reason in r.reasons if "(p = " in reason) for r in (alone, beside))
    assert alone.max_norm != beside.max_norm == chosen, "the premise"
    for conclusion in (", so the threshold is", ", so they are left alone"):
        assert conclusion not in again, f"{again} And alone: {of_losses}"


# The candidates


CALM = recommend(np.exp(np.random.default_rng(0).normal(0, 0.2, 300)))


def recommended(gentle: float, firm: float, median: float) -> Recommendation:
    """A recommendation with these numbers in the place of its own."""
    assert CALM.stable is not None
    return dataclasses.replace(
        CALM,
        candidates=Candidates(gentle=gentle, middle=(gentle * firm) ** 0.5, firm=firm),
        stable=dataclasses.replace(CALM.stable, median=median),
    )


def thresholds(gentle: float, firm: float, median: float) -> dict[str, float]:
    return {c.name: c.max_norm for c in candidates_of(recommended(gentle, firm, median))}


def test_candidates_come_the_gentlest_first() -> None:
    found = thresholds(30.0, 12.5, 10.0)
    assert list(found)[:2] == ["gentle", "firm"]
    assert (found["gentle"], found["firm"]) == (30.0, 12.5)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_candidates_that_are_near_are_one_and_the_gentlest_stands_for_them() -> None:
    assert thresholds(10.5, 10.2, 10.0) == {"gentle": 10.5}


@pytest.mark.parametrize(
    ("gentle", "firm", "median", "usual"),
    [
        (2.0, 0.5, 0.4, True),
        (3.0, 1.25, 1.0, False),  # below them all
        (0.9, 0.5, 0.4, False),  # above them all
        (1.3, 0.5, 0.4, False),  # near the gentlest
        (3.0, 0.88, 0.7, False),  # near the firm one
        (1.0, 0.5, 0.4, False),  # it is the gentlest
    ],
)
def test_the_usual_threshold_is_tried_where_it_lies_among_ours_and_is_another(
    gentle: float, firm: float, median: float, usual: bool
) -> None:
    found = thresholds(gentle, firm, median)
    assert (1.0 in found.values() and gentle != 1.0) is usual
    assert (found.get("default") == 1.0) is usual
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_without_a_threshold_there_are_no_candidates() -> None:
    assert candidates_of(recommend([1.0, 2.0])) == []


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(1e-4, 1e4), st.floats(1.0, 3.0), st.floats(1.0, 3.0))
def test_candidates_are_apart_ordered_and_above_the_median(median: float, up: float, further: float) -> None:
    found = candidates_of(recommended(median * up * further, median * up, median))
    values = [c.max_norm for c in found]
    assert found[0].name == "gentle"
    assert values[0] == median * up * further
    assert all(a / b > APART for a, b in itertools.pairwise(values))
    assert all(v > median for v in values[1:])
    assert len({c.name for c in found}) == len(found)
    ours = [c.max_norm for c in found if c.name != "default"]
    usual = min(ours) < 1 < max(ours) and all(max(v, 1 / v) > USUAL_APART for v in ours)
    assert (1.0 in [c.max_norm for c in found if c.name == "default"]) is usual


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("factor", [0.003, 0.3, 1.0, 40.0])
def test_candidates_of_a_real_recommendation_are_its_own(seed: int, factor: float) -> None:
    norms = factor * np.exp(np.random.default_rng(seed).normal(0, 0.4, 300))
    norms[15::30] *= 9
    r = recommend(norms)
    found = {c.name: c.max_norm for c in candidates_of(r)}
    assert found["gentle"] == r.candidates.gentle
    assert found.get("firm", r.candidates.firm) == r.candidates.firm
    assert r.corridor is not None
    assert all(r.corridor[0] < v < r.corridor[1] for v in found.values())


# Anything


ends = st.one_of(st.floats(-1e6, 1e6), st.floats(0.9, 1.1), st.sampled_from(["nan", "runaway", math.inf, -math.inf]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(ends, min_size=5, max_size=5), min_size=4, max_size=4),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_any_arms_get_an_answer(table: list[list[End]], seeds: int, candidates: int) -> None:
    field = FIELD[:candidates]
    training = Training(dict(zip((None, *(c.max_norm for c in FIELD)), table, strict=True)), n=40)
    with np.errstate(all="ignore"):
        result = raced(training, seeds, field)
    assert result.chosen in field
    assert seeds <= result.seeds <= seeds + MORE
    assert result.seeds == seeds or seeds > 1, "one seed cannot show that it is open"
    assert len(set(training.asked)) == len(training.asked)
    assert training.seeds_of(None) == training.seeds_of(result.chosen) == list(range(result.seeds))
    standings = {s.candidate: s for s in result.standings}
    mine = standings[result.chosen]
    assert all(mine.lost <= s.lost for s in standings.values() if s.seeds == mine.seeds)
    assert result.reason or candidates == 1
