"""What a threshold in use is to a training, against counts made here."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_trace

from clipcal.checking import Check, check
from clipcal.errors import InputError
from clipcal.recommendation.evidence import Evidence, load
from clipcal.run.directory import Run, RunInfo, now
from clipcal.run.source import source_of
from clipcal.run.trace import Floats
from clipcal.views.figures.course import course
from clipcal.views.terminal import answers

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
        (SPIKY, 1.15, "limiter", True),  # which takes 3% of the learning rate
        (SPIKY, 1.05, "limiter", "borderline"),
        (STABLE, 2.5, "inactive", True),  # a net above stable training
        (STABLE, 1000.0, "inactive", False),  # a net that nothing ever falls into
        (STABLE, 0.9, "brake", False),
    ],
)
def test_what_a_threshold_is(tmp_path: Path, norms: Floats, max_norm: float, verdict: str, fits: bool | str) -> None:
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
    answer = checked(tmp_path, STABLE * np.geomspace(3.0, 1.0, 600), 1.5)
    first, last = answer.quarters[0], answer.quarters[-1]
    assert first.verdict == "brake"
    assert last.verdict != "brake"
    assert any("less as training goes" in reason for reason in answer.reasons)


# The border


KINDS: dict[str, Floats] = {
    "quiet": STABLE,
    "spiky": SPIKY,
    "one spike": with_spikes(STABLE, [300], 40.0),
    "wide": np.exp(np.random.default_rng(1).normal(0.0, 0.9, 500)),
    "heavy tail": np.exp(np.random.default_rng(2).exponential(0.5, 500)),
    "rising": STABLE * np.linspace(1.0, 5.0, 600),
    "falling": STABLE * np.geomspace(9.0, 1.0, 600),
    "warm-up": STABLE * np.concatenate([np.geomspace(40.0, 1.0, 60), np.ones(540)]),
    "diverging": np.concatenate([STABLE[:300], np.geomspace(10, 1e6, 30)]),
    "short": STABLE[:40],
    "rounded": np.round(0.3 * STABLE, 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_along_all_thresholds_the_fit_changes_twice_and_through_the_border(tmp_path: Path, kind: str) -> None:
    evidence = recorded(tmp_path / "run", KINDS[kind])
    norms = KINDS[kind]
    grid = np.geomspace(np.min(norms[norms > 0]) / 3, 50 * np.max(norms), 200)
    fits = [check(evidence, float(x)).fits for x in grid]
    changes = [fits[0], *(b for a, b in pairwise(fits) if a != b)]
    assert changes in ([False, "borderline", True, "borderline", False], [False, "borderline", True, "borderline"])
    own = evidence.recommend().max_norm
    assert own is not None
    assert check(evidence, own).fits is True
    at = check(evidence, own).fitting
    assert at is not None
    assert at.too_low * 1.1 < at.low <= own <= at.high < at.too_high / 1.1
    for x, answer in zip(grid, fits, strict=True):
        assert (answer is True) is bool(at.low <= x <= at.high)


def test_what_is_borderline_says_where_the_border_is(tmp_path: Path) -> None:
    answer = checked(tmp_path, SPIKY, 1.05)
    assert answer.fits == "borderline"
    assert answer.fitting is not None
    text = next(r for r, code in zip(answer.reasons, answer.codes, strict=True) if code == "borderline")
    assert f"from {answer.fitting.low:.3g} it would fit, and below {answer.fitting.too_low:.3g} it would not" in text
    assert answer.headline.startswith("max_norm 1.05 is borderline: it clips 4")


def test_what_a_threshold_takes_is_told_by_the_optimizer(tmp_path: Path) -> None:
    """Adam divides a steady factor out again: what brakes SGD hardly touches it."""
    text = "optimizer: {{_target_: torch.optim.{}, lr: 0.1}}"
    answers_ = {}
    for name in ("SGD", "AdamW"):
        folder = tmp_path / name
        evidence = recorded(folder, STABLE)
        spec = {
            "kind": "spec",
            "path": "x.yaml",
            "folder": str(folder),
            "cwd": "",
            "text": text.format(name),
            "overrides": {},
        }
        evidence = dataclasses.replace(evidence, optimizer=source_of(spec).optimizer_class)
        assert evidence.optimizer == name
        answers_[name] = check(evidence, 0.6)
    assert (answers_["SGD"].fits, answers_["AdamW"].fits) == (False, True)
    assert "Under AdamW that costs little" in " ".join(answers_["AdamW"].reasons)
    takes = 1 - float(np.mean(np.minimum(1.0, 0.6 / STABLE)))
    assert f"takes {100 * takes:.0f}% of the learning rate" in answers_["SGD"].reasons[0]


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
    assert {(q.clipped, q.verdict) for q in other.quarters} == {(None, None)}


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


# A threshold that is the recommended one


def recorded(folder: Path, norms: Any, *, chosen: float | None = None, **info: Any) -> Evidence:
    """A run of clipcal's own, as `calibrate` leaves it."""
    made = RunInfo(
        name="run", source=source_of({"kind": "script"}), fingerprint="", steps=len(norms), seeds=[0], device="cpu", threads=1,
        started=now(), status="complete", **info,
    )  # fmt: skip
    folder.mkdir()
    Run(folder, made).save()
    write_trace(folder / "trace.jsonl", [float(v) for v in norms])
    if chosen is not None:
        reason = f"Trained side by side on 3 seeds: snug {chosen:g} ends lowest."
        (folder / "choice.json").write_text(json.dumps({"name": "snug", "max_norm": chosen, "reason": reason}))
    return load(folder)


@pytest.mark.parametrize("chosen", [0.9, 1.05, 1.2, 2.0])
def test_what_training_chose_fits_however_often_it_acts(tmp_path: Path, chosen: float) -> None:
    evidence = recorded(tmp_path / "run", STABLE, chosen=chosen)
    assert evidence.recommend().max_norm == chosen, "the premise"
    for in_use in (chosen, chosen * 1.0001):
        answer = check(evidence, in_use)
        assert answer.fits is True
        text = " ".join(answer.reasons)
        assert "training side by side chose it" in answer.reasons[0]
        assert "nstead" not in text
        assert "second, lower learning rate" not in text
        often = f"although it acts on {100 * float(np.mean(in_use < STABLE)):.0f}% of the stable steps"
        assert (often in text) is bool(chosen < STABLE.max())


def test_a_threshold_above_one_that_acts_often_by_choice_does_not_act_too_often(tmp_path: Path) -> None:
    """Where the recommended one acts on most steps, a higher one is not told to be lower."""
    evidence = recorded(tmp_path / "run", STABLE, chosen=0.9)
    assert check(evidence, 0.95).fits is True
    assert check(evidence, 0.7).fits is False


def test_the_threshold_that_a_log_recommends_fits_it(tmp_path: Path) -> None:
    """Norms that have fallen: what is right for the level ahead acted on most of the steps that lie behind."""
    for norms in (SPIKY, STABLE, STABLE * np.geomspace(30.0, 1.0, 600), STABLE * np.linspace(1.0, 4.0, 600)):
        path = tmp_path / "log.jsonl"
        path.write_text("".join(json.dumps({"step": i, "grad_norm": float(v)}) + "\n" for i, v in enumerate(norms)))
        evidence = load(path)
        answer = check(evidence, evidence.recommend().max_norm)
        assert answer.fits is True
        assert "It is the recommended threshold" in answer.reasons[0]
        assert "nstead" not in " ".join(answer.reasons)


def test_a_run_that_diverged_at_the_recommended_threshold_is_not_told_to_use_it(tmp_path: Path) -> None:
    lost = np.concatenate([STABLE[:300], np.geomspace(10, 1e6, 30)])
    own = checked(tmp_path, lost, 3.0).recommendation.max_norm
    assert own is not None
    answer = checked(tmp_path, lost, max_grad_norm=own)
    assert answer.fits is False
    assert f"diverges although it was clipped at {own:g}" in answer.reasons[0]
    assert "nstead" not in " ".join(answer.reasons)


def test_a_run_recorded_without_clipping_is_told_what_to_judge(tmp_path: Path) -> None:
    evidence = recorded(tmp_path / "run", STABLE)
    with pytest.raises(InputError, match=r"recorded with clipping off.*--max-norm") as refused:
        check(evidence)
    assert f"clipcal check {tmp_path / 'run'} --max-norm {evidence.recommend().max_norm:g}" in str(refused.value)
    assert "Trainer" not in str(refused.value)
    short = recorded(tmp_path / "short", STABLE[:3])
    with pytest.raises(InputError, match=r"recorded with clipping off.*--max-norm"):
        check(short)


# The warm-up


WARM = STABLE * np.concatenate([np.geomspace(40.0, 1.0, 60), np.ones(540)])


def test_the_warm_up_is_no_part_of_the_quarters_and_makes_no_trend(tmp_path: Path) -> None:
    answer = checked(tmp_path, WARM, 3.0)
    assert answer.recommendation.stable is not None
    first = answer.recommendation.stable.first_step
    assert first > 20, "the premise"
    assert answer.warm_up is not None
    assert (answer.warm_up.first_step, answer.warm_up.last_step, answer.warm_up.rows) == (0, first - 1, first)
    assert answer.warm_up.clipped == pytest.approx(np.mean(WARM[:first] > 3.0))
    assert answer.quarters[0].first_step == first
    assert answer.quarters[-1].last_step == 599
    assert sum(q.rows for q in answer.quarters) == 600 - first
    assert not any("as training goes" in reason for reason in answer.reasons)
    assert checked(tmp_path, SPIKY, 3.0).warm_up is None


def test_what_it_leaves_is_told_of_the_stable_steps(tmp_path: Path) -> None:
    """The headline speaks of what lies ahead: the warm-up is over."""
    answer = checked(tmp_path, WARM, 1.2)
    stable, _ = answer.recommendation.judged_rows()
    assert answer.acts.stable == pytest.approx(np.mean(WARM[stable] > 1.2))
    assert answer.acts.stable_scale == pytest.approx(np.mean(np.minimum(1.0, 1.2 / WARM[stable])))
    head = answers.check_head(answer)[0].plain
    assert f"acts on {answer.acts.stable:.0%} of the stable steps" in head
    assert f"leaves {answer.acts.stable_scale:.1%} of the learning rate" in head
    table = [line.plain.strip() for line in answers.quarters(answer)]
    assert table[1].endswith("warm-up")
    assert len(table) == 6


def test_only_in_the_warm_up(tmp_path: Path) -> None:
    answer = checked(tmp_path, WARM, 3.0)
    assert answer.verdict == "guard"
    assert "max_norm 3 acts in the warm-up alone" in " ".join(answer.reasons)
    assert "acts in the warm-up alone" in answers.check_head(answer)[1].plain


@pytest.mark.parametrize(
    ("norms", "max_norm", "meaning"),
    [
        (SPIKY, 3.0, "acts on spikes, and leaves stable steps alone"),
        (SPIKY, 1.5, "acts on spikes, and on few of the stable steps"),
        (with_spikes(STABLE, np.arange(5, 595, 20), 3.5), 3.3, "acts on spikes, and leaves stable steps alone"),
        (STABLE, 1.5, "acts on few of the stable steps"),
        (STABLE, 1.1, "acts often, and takes 3.6% of the learning rate"),
        (STABLE, 0.9, "acts on half of the stable steps or more, and takes 12% of the learning rate"),
        (STABLE, 9.0, "never acts"),
    ],
)
def test_what_the_headline_says_is_so(tmp_path: Path, norms: Floats, max_norm: float, meaning: str) -> None:
    answer = checked(tmp_path, norms, max_norm)
    assert answers.check_head(answer)[1].plain.partition(";")[0] == meaning
    assert f"max_norm {max_norm:g} " in " ".join(answer.reasons) or answer.fits is False


def test_a_threshold_on_elements_is_called_clip_value(tmp_path: Path) -> None:
    answer = check(recorded(tmp_path / "run", 2 * STABLE, method="value"), 3.0)
    assert answers.check_head(answer)[0].plain.startswith("clip_value 3 fits")
    assert any(reason.startswith("clip_value 3 ") for reason in answer.reasons)


def test_a_handful_of_steps_is_not_drawn(tmp_path: Path) -> None:
    for n, drawn in ((2, False), (9, False), (10, True)):
        path = tmp_path / "log.jsonl"
        path.write_text("".join(json.dumps({"step": i, "grad_norm": 1.0 + i / 9}) + "\n" for i in range(n)))
        evidence = load(path)
        found = check(evidence, 1.5)
        lines = answers.check(found, course(found.recommendation), width=80, ascii=True)
        assert any("T threshold" in line.plain for line in lines) is drawn
        assert any(line.plain == "Why" for line in lines)


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
        "fitting",
        "acts",
        "mean_scale",
        "scale_when_clipped",
        "quarters",
        "warm_up",
        "reasons",
        "codes",
        "headline",
        "drift",
        "recommended",
        "caveats",
    ]
    assert found["schema"] == "clipcal.check/1"
    assert found["recommended"]["max_norm"] == load(tmp_path / "log.jsonl").recommend().max_norm
    json.dumps(found, allow_nan=False)
