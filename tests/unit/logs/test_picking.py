"""Which norm and which run of a log is judged, and what is said of how the log was written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from clipcal.errors import InputError
from clipcal.logs.choice import LogChoice
from clipcal.logs.log import Floats, Log, Series
from clipcal.logs.picking import Picked, pick


def series(steps: list[float] | Floats, norms: list[float] | Floats | None = None, tag: str = "grad_norm") -> Series:
    step = np.asarray(steps, dtype=np.float64)
    values = 1.0 + np.arange(step.size) / 1000 if norms is None else np.asarray(norms, dtype=np.float64)
    return Series(tag=tag, step=step, grad_norm=values, loss=-values, lr=np.full(step.size, 0.1))


def picked(*found: Series, tag: str | None = None, run: int | None = None, **facts: Any) -> Picked:
    return pick(Log(format="test", series=found, **facts), "log", LogChoice(tag=tag, run=run))


def test_the_only_norm_of_the_only_run_is_taken_as_it_is() -> None:
    answer = picked(series([1, 2, 3, 4]))
    assert answer.step.tolist() == [1, 2, 3, 4]
    assert answer.grad_norm.tolist() == [1.0, 1.001, 1.002, 1.003]
    assert (-answer.loss).tolist() == answer.grad_norm.tolist()
    assert answer.caveats == ()
    assert (answer.run, answer.runs, answer.single_steps) == (1, 1, True)


# Several norms


def test_several_norms_are_not_guessed_among() -> None:
    with pytest.raises(
        InputError, match=r"2 gradient norms.*--tag.*'actor_grad_norm' \(3 rows\).*'critic_grad_norm' \(3 rows\)"
    ):
        picked(series([1, 2, 3], tag="actor_grad_norm"), series([1, 2, 3], tag="critic_grad_norm"))


@pytest.mark.parametrize("tag", ["critic_grad_norm", "Critic Grad-Norm", "critic"])
def test_the_user_picks_a_norm_by_its_name_or_a_part_of_it(tag: str) -> None:
    answer = picked(series([1, 2], tag="actor_grad_norm"), series([1, 2, 3], tag="critic_grad_norm"), tag=tag)
    assert answer.tag == "critic_grad_norm"


def test_a_part_of_two_names_and_a_typo_are_refused() -> None:
    two = [series([1, 2], tag="actor_grad_norm"), series([1, 2, 3], tag="critic_grad_norm")]
    with pytest.raises(InputError, match="no gradient norm named 'grad'"):
        picked(*two, tag="grad")
    with pytest.raises(InputError, match="Did you mean 'critic_grad_norm'"):
        picked(*two, tag="critik_grad_norm")


@pytest.mark.parametrize(
    ("tags", "obvious"),
    [
        (["grad_norm_clipped", "grad_norm"], "grad_norm"),
        (["train/grad_norm_after_clip", "train/grad_norm_before_clip"], "train/grad_norm_before_clip"),
        (["grad_norm_epoch", "grad_norm_step"], "grad_norm_step"),
    ],
)
def test_what_the_names_rule_out_is_no_choice(tags: list[str], obvious: str) -> None:
    assert picked(*(series([1, 2, 3], tag=tag) for tag in tags)).tag == obvious


def test_a_norm_that_was_never_computed_is_no_choice() -> None:
    nothing = series([1, 2, 3], [math.nan] * 3, tag="other_grad_norm")
    assert picked(nothing, series([1, 2, 3])).tag == "grad_norm"


# Several runs


def test_of_several_runs_the_last_is_taken_and_run_picks_another() -> None:
    appended = series([*range(60), *range(70), *range(80)], np.arange(210.0))
    answer = picked(appended)
    assert answer.grad_norm.tolist() == list(range(130, 210))
    assert (answer.run, answer.runs) == (3, 3)
    assert "3 runs, of 60, 70 and 80 rows: the last is judged" in answer.caveats[0]
    assert "--run" in answer.caveats[0]
    assert picked(appended, run=1).grad_norm.tolist() == list(range(60))
    assert picked(appended, run=-2).grad_norm.tolist() == list(range(60, 130))
    for outside in (0, 4, -4):
        with pytest.raises(InputError, match="3 runs, of 60, 70 and 80 rows; --run counts from 1"):
            picked(appended, run=outside)


def test_a_last_run_that_just_began_is_passed_over() -> None:
    answer = picked(series([*range(200), *range(90), 0, 1, 2]))
    assert (answer.run, len(answer.step)) == (2, 90)
    assert "run 2, the last long enough to tell, is judged" in answer.caveats[0]
    assert picked(series([0, 1, 2, 0, 1, 2, 3, 0])).run == 2


def test_the_log_may_say_itself_that_a_run_starts() -> None:
    whole = series(list(range(100)))
    cut = Series(
        tag="grad_norm", step=whole.step, grad_norm=whole.grad_norm, loss=whole.loss, lr=whole.lr, starts=(40,)
    )
    assert len(picked(cut).step) == 60


def test_a_run_taken_up_from_a_checkpoint_is_one_run_as_it_was_trained_last() -> None:
    steps = [*range(0, 1000, 10), *range(900, 1500, 10)]
    norms = np.arange(float(len(steps)))
    answer = picked(series(steps, norms))
    assert answer.step.tolist() == list(range(0, 1500, 10))
    assert answer.grad_norm.tolist() == [*range(90), *range(100, 160)]
    assert answer.runs == 1
    assert "The steps go back once" in answer.caveats[0]
    assert "10 rows that it trained again" in answer.caveats[0]


def test_taken_up_twice_the_last_training_counts() -> None:
    steps = [*range(100), *range(80, 120), *range(60, 130)]
    answer = picked(series(steps, np.arange(float(len(steps)))))
    assert answer.step.tolist() == list(range(130))
    assert answer.grad_norm[60:].tolist() == list(range(140, 210))


def test_what_is_logged_twice_counts_once() -> None:
    answer = picked(series([1, 2, 2, 3, 3, 4, 5, 6], [1, 2, 2, math.nan, math.nan, 4, 5, 6]))
    assert answer.step.tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(answer.grad_norm, [1, 2, math.nan, 4, 5, 6])
    assert answer.caveats == ("2 of 8 rows repeat the row before them, value for value, and count once.",)


def test_one_step_with_other_values_is_another_row() -> None:
    rounded = picked(series([10100, 10100, 10200, 10200, 10300, 10300], [1, 9, 1, 9, 1, 9]))
    assert rounded.step.tolist() == [10100, 10150, 10200, 10250, 10300, 10350]
    assert rounded.grad_norm.tolist() == [1, 9, 1, 9, 1, 9]
    assert "3 rows have the step of the row before them and other values" in rounded.caveats[0]
    micro = picked(series([1, 1, 1, 2, 2, 2], [1, 2, 3, 4, 5, 6]))
    assert micro.step.tolist() == [1, 2, 3, 4, 5, 6]
    assert not micro.single_steps
    assert "Several rows have one step" in micro.caveats[0]


def test_a_few_steps_that_are_written_again_count_as_written_last() -> None:
    answer = picked(series([*range(50), 49, *range(50, 100)], [*range(50), 490, *range(50, 100)]))
    assert answer.step.tolist() == list(range(100))
    assert answer.grad_norm[49] == 490
    assert "1 row has the step of the row behind" in answer.caveats[0]


def test_steps_that_number_nothing_are_counted() -> None:
    assert picked(series([0] * 60)).step.tolist() == list(range(1, 61))
    nameless = picked(series([math.nan] * 60))
    assert nameless.step.tolist() == list(range(1, 61))
    assert any("does not number its steps" in c for c in nameless.caveats)


# What is said


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ["one line in 50 steps", "has not seen 98% of the steps", "spikes"]),
        ({"window": "last"}, ["one line in 50 steps", "98%"]),
        ({"window": "mean"}, ["mean over about 50 steps", "1/50 of its height"]),
        ({"window": "sample"}, ["one line in 50 steps", "thinned at random"]),
        ({"unit": "epoch"}, ["one line per epoch"]),
    ],
)
def test_how_little_a_log_has_seen(facts: dict[str, Any], words: list[str]) -> None:
    (caveat,) = picked(series(list(range(0, 5000, 50))), **facts).caveats
    for word in words:
        assert word in caveat


def test_the_share_that_was_not_seen_is_never_rounded_to_all() -> None:
    (caveat,) = picked(series(list(range(0, 10**6, 10**4)))).caveats
    assert "has not seen 99.9% of the steps" in caveat


def test_the_threshold_that_was_in_use_and_what_it_did() -> None:
    norms = [0.5] * 90 + [2.0] * 10
    (caveat,) = picked(series(list(range(100)), norms), max_norm=1.0, max_norm_from="CLIP_GRAD").caveats
    assert "clipped at 1 (CLIP_GRAD): it acted on 10.0% of these lines" in caveat
    (caveat,) = picked(series(list(range(100)), norms), max_norm=5.0, max_norm_from="CLIP_GRAD").caveats
    assert "it acted on none of these lines" in caveat
    assert picked(series(list(range(100)), norms), max_norm=math.inf, max_norm_from="CLIP_GRAD").caveats == ()


def test_norms_after_clipping_are_said_to_be() -> None:
    for answer in (
        picked(series([1, 2, 3]), after=True, max_norm=1.0),
        picked(series([1, 2, 3], tag="grad_norm_clipped"), max_norm=1.0),
    ):
        (caveat,) = answer.caveats
        assert "taken after clipping" in caveat


def test_what_the_reader_notes_is_passed_on() -> None:
    assert picked(series([1, 2, 3]), notes=("The file is cut off.",)).caveats == ("The file is cut off.",)
