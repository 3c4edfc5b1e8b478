"""Every sentence of an answer, by its code: the condition under which it is true, and where its numbers are from.

Checked on answers to made traces and made arms. `CLIPCAL_EXAMPLES=1000` looks longer.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

from clipcal.arms.pool import Arm, arm_name
from clipcal.checking import check
from clipcal.recommendation.answer import Choice
from clipcal.recommendation.calibration import recommend
from clipcal.recommendation.evidence import Evidence
from clipcal.recommendation.guarding import guard_of
from clipcal.run.trace import Floats, Trace
from clipcal.verification.judging import judge

EXAMPLES = int(os.environ.get("CLIPCAL_EXAMPLES", "150"))
Answer = dict[str, Any]
True_ = Callable[[Answer, str], bool]


def number(value: Any) -> float:
    return math.nan if value is None else float(value)


RECOMMEND: dict[str, True_] = {
    "choice": lambda a, t: "side by side" in t,
    "guarded": lambda a, t: a["verdict"] == "diverging",
    "diverges": lambda a, t: a["verdict"] == "diverging" and a["stable"] is not None,
    "diverges_too_early": lambda a, t: a["verdict"] == "diverging" and a["max_norm"] is None,
    "spikes": lambda a, t: a["spikes"]["count"] > 0 and a["corridor"][1] != "Infinity",
    "tail": lambda a, t: a["verdict"] in ("heavy_tail", "diverging") and a["spikes"]["count"] == 0,
    "no_spikes": lambda a, t: a["spikes"]["count"] == 0 and a["corridor"][1] == "Infinity",
    "losses_harm": lambda a, t: a["harm"]["effect"] == "harm" and a["harm"]["p"] < 0.05,
    "losses_hint": lambda a, t: (
        a["harm"]["effect"] == "hint" and ("leans" not in t or a["max_norm"] < a["candidates"]["gentle"])
    ),
    "losses_unclear": lambda a, t: a["harm"]["effect"] == "unclear" and a["max_norm"] <= a["candidates"]["gentle"],
    "losses_none": lambda a, t: (
        a["harm"]["effect"] == "none" and ("left alone" not in t or a["max_norm"] == a["candidates"]["gentle"])
    ),
    "level_leapt": lambda a, t: a["drift"]["leap"] is not None,
    "level_rose": lambda a, t: a["drift"]["direction"] == "up" and a["drift"]["ratio"] > 1,
    "level_fell": lambda a, t: a["drift"]["direction"] == "down" and a["drift"]["ratio"] < 1,
    "vanishes": lambda a, t: a["verdict"] == "vanishing" and a["max_norm"] is None,
    "after_clipping": lambda a, t: a["verdict"] == "clipped" and a["max_norm"] is None,
    "empty": lambda a, t: a["steps"] == 0,
    "none_finite": lambda a, t: a["nonfinite"]["count"] == a["steps"],
    "all_zero": lambda a, t: a["zeros"] == a["steps"] - a["nonfinite"]["count"],
    "too_few": lambda a, t: a["verdict"] in ("insufficient", "diverging") and a["max_norm"] is None,
    "few_healthy": lambda a, t: a["verdict"] == "diverging" and (a["stable"] is None or a["stable"]["steps"] < 50),
    "learning_rate": lambda a, t: "learning rate" in t,
    "if_it_diverges": lambda a, t: a["verdict"] == "diverging",
    "few_stable": lambda a, t: a["stable"]["steps"] < 50,
    "few_spikes": lambda a, t: 0 < a["spikes"]["count"] < 10,
    "rising": lambda a, t: a["drift"]["direction"] == "up",
    "nonfinite": lambda a, t: a["nonfinite"]["count"] > 0,
    "negative": lambda a, t: "negative" in t,
    "epsilon": lambda a, t: a["max_norm"] <= 1e-4,
    "loss_exploded": lambda a, t: a["loss"]["way"] == "exploded" and a["loss"]["end"] > 10 * a["loss"]["start"],
    "rows_apart": lambda a, t: a["harm"] is None,
    "joined": lambda a, t: "share this log" in t,
    "source": lambda a, t: True,
}
VERIFY: dict[str, True_] = {
    "lost_clipped": lambda a, t: any(x["diverged_at"] is not None for x in clipped(a)) and a["verdict"] == "fails",
    "learns_nothing": lambda a, t: a["verdict"] == "fails",
    "lost_unclipped": lambda a, t: (
        all(x["diverged_at"] is None for x in clipped(a)) and a["comparison"]["loss_difference"] is None
    ),
    "no_step_clipped": lambda a, t: all(x["clip_fraction"] == 0 for x in clipped(a)),
    "ends_lower": lambda a, t: a["comparison"]["interval"][1] < 0 and a["verdict"] == "holds",
    "ends_higher": lambda a, t: a["comparison"]["interval"][0] > 0 and a["verdict"] == "costs",
    "fewer_jumps": lambda a, t: a["verdict"] == "holds",
    "ends_alike": lambda a, t: a["verdict"] == "no_difference" and a["comparison"]["interval"] is not None,
    "one_seed": lambda a, t: a["verdict"] == "undecided" and a["comparison"]["seeds"] == 1,
    "seeds_disagree": lambda a, t: a["verdict"] == "undecided" and a["comparison"]["seeds"] > 1,
    "no_final_loss": lambda a, t: a["verdict"] == "undecided" and a["comparison"]["loss_difference"] is None,
    "smaller_rate_as_well": lambda a, t: a["helped"] == "both",
    "clips": lambda a, t: any(x["clip_fraction"] > 0 for x in clipped(a)),
    "acts_always": lambda a, t: a["helped"] == "both",
    "beside": lambda a, t: "max_norm=" in t,
    "helped_clipping": lambda a, t: a["helped"] == "clipping",
    "helped_smaller_rate": lambda a, t: a["helped"] == "smaller_rate",
    "helped_both": lambda a, t: a["helped"] == "both",
    "helped_together": lambda a, t: a["helped"] == "together",
    "helped_neither": lambda a, t: a["helped"] == "neither",
}
CHECK: dict[str, True_] = {
    "acts": lambda a, t: a["verdict"] is not None or "No norm is finite" in t,
    "cannot_be_told": lambda a, t: a["fits"] is None,
    "is_recommended": lambda a, t: (
        a["fits"] is True and math.isclose(a["max_norm"], a["recommended"]["max_norm"], rel_tol=0.005)
    ),
    "is_chosen": lambda a, t: (
        a["fits"] is True and math.isclose(a["max_norm"], a["recommended"]["max_norm"], rel_tol=0.005)
    ),
    "recommended": lambda a, t: ("instead" in t) is (a["fits"] is False),
    "borderline": lambda a, t: a["fits"] == "borderline",
    "no_longer": lambda a, t: (
        a["max_norm"] < a["fitting"]["low"] and number(a["quarters"][-1]["mean_scale"]) < a["acts"]["stable_scale"]
    ),
    "takes_much": lambda a, t: a["fitting"]["too_low"] <= a["max_norm"] < a["fitting"]["low"],
    "takes_too_much": lambda a, t: a["max_norm"] < a["fitting"]["too_low"] and a["fits"] is False,
    "runs_away": lambda a, t: a["recommended"]["verdict"] == "diverging" and a["fits"] is False,
    "diverged_clipped": lambda a, t: a["recommended"]["verdict"] == "diverging",
    "clipping_did_not_help": lambda a, t: (
        a["recommended"]["verdict"] == "diverging"
        and a["recommended"]["max_norm"] >= a["max_norm"]
        and a["fits"] is not True
    ),
    "acts_too_late": lambda a, t: a["recommended"]["verdict"] == "diverging" and a["max_norm"] > a["fitting"]["high"],
    "lets_pass": lambda a, t: a["acts"]["spikes"] < 1 and a["max_norm"] > a["fitting"]["high"],
    "guards_nothing": lambda a, t: a["acts"]["spikes"] is None and a["max_norm"] > a["fitting"]["high"],
    "after_clipping": lambda a, t: a["recommended"]["verdict"] == "clipped",
    "acts_always": lambda a, t: a["recommended"]["verdict"] == "clipped" and a["fits"] is False,
    "cost": lambda a, t: a["verdict"] in ("limiter", "brake"),
    "acts_more": lambda a, t: a["quarters"][-1]["clipped"] > a["quarters"][0]["clipped"],
    "acts_less": lambda a, t: a["quarters"][-1]["clipped"] <= a["quarters"][0]["clipped"],
}


def clipped(a: Answer) -> list[Answer]:
    return [arm for arm in a["arms"] if arm["max_norm"] == a["max_norm"] and "lr=" not in arm["name"]]


# Numbers


def leaves(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for v in value.values():
            yield from leaves(v)
    elif isinstance(value, list):
        for v in value:
            yield from leaves(v)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


NUMBERS = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
SAID_OF_THE_RULE = {0, 1, 2, 10, 15, 50, 90, 99, 100, 200, 1e-6, 0.1, 5, 30}
"""Constants of the rules: rows that are needed, percentiles, the learning rate that is lowered about 10x."""


def digits_of(token: str) -> float:
    """Half a unit in the last place of a printed number."""
    mantissa, _, power = token.replace(",", "").partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.5 * 10.0 ** (int(power or 0) - decimals)


def foreign_numbers(text: str, known: list[float]) -> list[str]:
    """The numbers of a sentence that are none of the answer's, to the digits that are printed."""
    values = np.array([*known, *(100 * v for v in known), *(100 * (1 - v) for v in known)])
    found = []
    for token in NUMBERS.findall(text.replace("+/-", "")):
        x = float(token.replace(",", ""))
        if abs(x) in SAID_OF_THE_RULE:
            continue
        slack = digits_of(token) * 1.02
        if (
            x == int(x) and "." not in token and "e" not in token
        ):  # 3 significant digits: 12345 is printed as 1.23e+04, 900 may be 899.6
            slack = max(slack, 0.006 * abs(x)) if abs(x) >= 100 else slack
        if not np.any(np.abs(np.abs(values) - abs(x)) <= slack):
            found.append(token)
    return found


def holds(
    table: dict[str, True_], answer: Answer, sentences: list[str], codes: list[str], *, derived: list[float]
) -> None:
    assert len(sentences) == len(codes)
    known = [*leaves(answer), *derived]
    for code, text in zip(codes, sentences, strict=True):
        assert code in table, f"{code} is in no table: {text}"
        assert table[code](answer, text), f"{code} is not true here: {text}"
        if code not in ("source", "choice", "joined"):
            assert foreign_numbers(text, known) == [], (code, text)
    assert "headline" in answer
    assert foreign_numbers(answer["headline"], known) == []


# Answers


FIXED: list[Floats] = [
    np.full(20, np.nan),
    np.concatenate([np.full(3, 2.0), np.full(20, np.inf)]),
    np.concatenate([[-1.0], np.linspace(1, 2, 30)]),
    np.empty(0),
]


def made(seed: int) -> tuple[Floats, Floats | None]:
    if seed < len(FIXED):
        return FIXED[seed], None
    rng = np.random.default_rng(seed)
    n = int(rng.choice([3, 12, 20, 60, 200, 400]))
    t = np.linspace(0, 1, n)
    course = rng.choice([0.0, 0.0, 2.0, -2.0]) * t + (
        9 * np.maximum(t - 0.8, 0) * rng.integers(0, 10) if rng.random() < 0.3 else 0
    )
    norms = np.exp(course + rng.choice([0.05, 0.3, 0.9]) * rng.standard_normal(n)) * rng.choice([1.0, 1e-5, 300.0])
    if rng.random() < 0.1:
        norms[int(0.85 * n) :] *= rng.choice([0.3, 4.0])
    if rng.random() < 0.5:
        norms[rng.random(n) < 0.03] *= rng.choice([4.0, 30.0])
    kind = rng.integers(12)
    if kind == 0:
        norms[:] = 0.0
    elif kind == 1:
        norms = np.minimum(norms, np.median(norms))
    elif kind == 2:
        norms[-(n // 4) - 1 :] = np.nan
    elif kind == 3:
        norms[rng.random(n) < 0.1] = np.nan
    elif kind == 4:
        norms[-(n // 3) :] = 0.0
    if rng.random() < 0.3:
        return norms, None
    log = rng.normal(0, rng.choice([0.02, 0.2]), n) - rng.choice([0.0, 2.0, -5.0]) * t
    for row in (
        np.flatnonzero(norms > 1.7 * np.nanmedian(norms)) if rng.random() < 0.5 and np.isfinite(norms).any() else []
    ):
        log[row + 1 : row + 4] += rng.choice([0.3, -0.1])
    return norms, np.exp(log) - rng.choice([0.0, 0.0, 0.0, 1.5])


def as_json(value: Any) -> Answer:
    found: Answer = json.loads(json.dumps(value.as_dict(), allow_nan=False))
    return found


SEEN: dict[str, set[str]] = {"recommend": set(), "check": set(), "verify": set()}


@pytest.mark.parametrize("part", range(5))
def test_of_recommend_and_check(part: int) -> None:
    for seed in range(part * EXAMPLES, (part + 1) * EXAMPLES):
        norms, losses = made(seed)
        kinds = np.random.default_rng(seed).integers(0, 10, 4)
        options: dict[str, Any] = {"guard": 0.3} if kinds[0] == 0 else {}
        if kinds[1] == 0:
            options["steps"] = np.arange(norms.size) * 10
        r = recommend(norms, losses, **options)
        if kinds[2] == 0 and r.candidates.firm is not None:
            choice = Choice(
                name="firm",
                max_norm=r.candidates.firm,
                reason="Trained side by side on 3 seeds.",
                alike=(r.candidates.gentle or 1.0,),
            )
            r = recommend(norms, losses, choice=choice, **options)
        answer = as_json(r)
        counts = r.reading.stats.counts
        stable = 0 if r.stable is None else r.stable.steps
        seen = stable + r.spikes.count
        usable = r.reading.norms[r.reading.usable]
        derived = [
            seen,
            300 / max(seen, 1),
            r.reading.stats.healthy_rows,
            counts.usable,
            counts.negative,
            norms.size,
            r.reading.stats.pile or 0,
        ]
        derived += [float(f(usable)) for f in (np.min, np.max, np.median) if usable.size] + list(
            usable[[0, -1]] if usable.size else []
        )
        derived += [
            0 if r.reading.stats.steady is None else r.reading.stats.steady.num_far,
            r.spikes.count + 1,
            0.3,
            1 / (r.drift.ratio or 1),
        ]
        derived += (
            [
                0
                if r.reading.step(min(r.reading.stats.healthy_rows, norms.size - 1)) is None or not norms.size
                else int(r.reading.steps[min(r.reading.stats.healthy_rows, norms.size - 1)])
            ]
            if norms.size
            else []
        )
        if usable.size > 1:
            derived.append(float(np.exp((np.log(usable[-1]) - np.log(usable[0])) / (usable.size - 1))))
        if r.harm is not None:
            derived += [
                math.expm1(min(v, 50.0)) for v in (r.harm.loss_change_above, r.harm.loss_change_below, *r.harm.interval)
            ]
        guard = guard_of(r.reading.norms[: max(r.reading.stats.healthy_rows, 1)])
        derived += [guard or 0.0, round((r.clipped.spikes or 0.0) * r.spikes.count)]
        derived.append(0.0 if r.reading.stats.steady is None else r.reading.stats.steady.median)
        holds(RECOMMEND, answer, [*answer["reasons"], *answer["caveats"]], answer["codes"], derived=derived)
        SEEN["recommend"].update(answer["codes"])
        evidence = evidence_of(norms, losses)
        at = [
            r.max_norm,
            r.reading.stats.pile,
            *(np.exp(np.random.default_rng(seed).uniform(-3, 4, 2)) * (r.max_norm or 1.0)),
        ]
        for threshold in (x for x in at if x is not None):
            c = check(evidence, float(threshold))
            found = as_json(c)
            own = c.recommendation
            more = [*derived, *leaves(as_json(own)), found["max_norm"] / (own.stable.p99 if own.stable else 1.0)]
            more += [round((1 - (c.acts.spikes or 0.0)) * own.spikes.count)]
            holds(CHECK, found, found["reasons"], found["codes"], derived=more)
            SEEN["check"].update(found["codes"])


def evidence_of(norms: Floats, losses: Floats | None) -> Evidence:
    n = norms.size
    nan = np.full(n, np.nan)
    trace = Trace(
        step=np.arange(n), loss=nan if losses is None else losses, grad_norm=norms, grad_max=nan, lr=nan, seconds=nan, scale=nan,
        skipped=np.zeros(n, dtype=np.bool_),
    )  # fmt: skip
    return Evidence(source="x.jsonl", trace=trace, norms=norms)


def an_arm(max_norm: float | None, seed: int, loss: Floats, scale: Floats, rate: float = 1.0) -> tuple[Arm, Trace]:
    n = loss.size
    nan = np.full(n, np.nan)
    a = Arm(name=arm_name(max_norm, rate), max_norm=max_norm, seed=seed, lr_scale=rate)
    return a, Trace(
        step=np.arange(n),
        loss=loss,
        grad_norm=np.ones(n),
        grad_max=nan,
        lr=nan,
        seconds=nan,
        scale=scale,
        skipped=np.zeros(n, dtype=np.bool_),
    )


def a_loss(kind: str, rng: np.random.Generator, n: int = 120) -> Floats:
    t = np.arange(n)
    loss = 1 + 2 * np.exp(-t / 20) + rng.normal(0, 0.02, n)
    match kind:
        case "lost":
            loss[80:] *= np.exp(np.arange(n - 80) / 6)
        case "nan":
            loss[90:] = np.nan
        case "worse":
            loss += 0.4 * (t > 20)
        case "noisy":
            loss += rng.normal(0, 0.4)
        case "spiky":
            loss[[30, 50, 70, 90, 110]] += 1.5
        case "flat":
            loss = 3 + rng.normal(0, 0.02, n)
    return np.asarray(loss)


KINDS = ("good", "lost", "nan", "worse", "noisy", "spiky", "flat")


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_of_verify(seeds: int) -> None:
    for i, (unclipped, clipped_, smaller) in enumerate(product(KINDS, KINDS, ("", "good", "worse", "lost"))):
        rng = np.random.default_rng(i)
        arms, roles = [], {"unclipped": "unclipped", "clipped": "max_norm=2"}
        for seed in range(seeds):
            scale = np.where(rng.random(120) < rng.choice([0.0, 0.1, 0.95]), 0.5, 1.0)
            first = unclipped if seed == 0 or rng.random() < 0.7 else "good"
            arms += [
                an_arm(None, seed, a_loss(first, rng), np.ones(120)),
                an_arm(2.0, seed, a_loss(clipped_, rng), scale),
            ]
            if i % 3 == 0:
                arms.append(an_arm(1.0, seed, a_loss("good", rng), scale))
            if smaller:
                arms.append(an_arm(None, seed, a_loss(smaller, rng), np.ones(120), rate=0.1))
        if smaller:
            roles["smaller_rate"] = "lr=0.1x"
        v = judge(2.0, arms, roles=roles)
        answer = as_json(v)
        by = {
            name: [x for x in v.arms if x.name == name] for name in ("unclipped", "max_norm=2", "max_norm=1", "lr=0.1x")
        }
        finals = [float(np.mean([x.final_loss for x in part])) for part in by.values() if part]
        means = [float(np.mean([getattr(x, k) for x in by["max_norm=2"]])) for k in ("clip_fraction", "mean_scale")]
        jumps = [float(sum(x.loss_spikes for x in part)) for part in by.values()]
        lost = [float(sum(x.diverged_at is not None for x in part)) for part in by.values()]
        start = float(np.median([np.median(t.loss[:5]) for _, t in arms]))
        if v.codes[0] in ("ends_alike", "one_seed"):  # the margin that it names is the one that it was judged by
            margin = float(NUMBERS.findall(v.reasons[0].rpartition("than ")[2])[0])
            assert v.comparison.interval is not None
            assert bool(max(-v.comparison.interval[0], v.comparison.interval[1]) <= margin * 1.05) is (
                v.codes[0] == "ends_alike"
            )
            finals.append(margin)
        holds(
            VERIFY,
            answer,
            answer["reasons"],
            answer["codes"],
            derived=[*finals, *means, *jumps, *lost, start, 2 * max(seeds, 2), seeds],
        )
        SEEN["verify"].update(answer["codes"])


def test_every_sentence_is_seen() -> None:
    """Of the tables above; in a worker that did not run all of the tests above, they are run here."""
    for part in range(5):
        test_of_recommend_and_check(part)
    for seeds in (1, 2, 3):
        test_of_verify(seeds)
    rare = {"joined", "source", "helped_together", "epsilon", "diverged_clipped", "no_final_loss", "is_chosen"}
    rare.add("clipping_did_not_help")  # beside diverged_clipped; a log in test_log_commands.py has both
    for table, seen in ((RECOMMEND, "recommend"), (CHECK, "check"), (VERIFY, "verify")):
        assert set(table) - SEEN[seen] - rare == set(), seen
