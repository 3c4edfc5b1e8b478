"""A log -> the one norm of the one run that a threshold is read from, with what has to be known of it.

Several norms are never guessed among: the user picks. Of several runs the last one that is long enough is taken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipcal.errors import InputError, nearest
from clipcal.logs.choice import NO_CHOICE, LogChoice, listed
from clipcal.logs.log import Floats, Log, Series
from clipcal.logs.names import after_clipping, squashed
from clipcal.logs.runs import Numbered, Part, numbered, runs_of
from clipcal.logs.unscaling import unscaled

# "grad_norm_max" beside "grad_norm" or "grad_norm_last": of one gradient, over the steps that a line stands for
_STATISTIC = re.compile(r"_(?:max|mean|avg|median)$")
_LARGEST = "_max"
LONG_ENOUGH = 50
"""Rows of a run, for it to be judged though a longer one stands before it."""
SHOWN = 20
_MARKS = re.compile(r"(?:^|_)(?:raw|orig(?:inal)?|before|pre|un|after|post)?_?(?:clip(?:ped|ping)?)?(?=_|$)")
_MICRO = re.compile(r"micro|accum|sub_?batch")
"""Of a batch's parts, beside the norm of the step that they make together."""
_UNEVEN = 0.6
"""The share of equal distances between rows, below which steps are counted unevenly, as frames and tokens are."""
_HUGE = 100_000
"""Steps between two rows that nobody trains without a word: they count frames, samples or tokens."""
_PARTS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 10: "a tenth", 20: "a twentieth"}


@dataclass(frozen=True, kw_only=True)
class Picked:
    """1-D arrays of equal length, one value per row, steps growing; ``single_steps`` says whether each row is known to be one
    step, next to the one before; ``run`` counts from 1."""

    tag: str
    step: Floats
    grad_norm: Floats
    loss: Floats
    lr: Floats
    single_steps: bool
    run: int
    runs: int
    caveats: tuple[str, ...]


def pick(log: Log, source: str, choice: LogChoice = NO_CHOICE) -> Picked:
    """Raises InputError, with what there is to choose from."""
    series = _series(log, source, choice.tag)
    parts = runs_of(series)
    at, why = _run(parts, source, choice.run)
    part = parts[at]
    found = numbered(series.step[part.rows], series.grad_norm[part.rows], series.loss[part.rows])
    rows = part.rows[found.keep]
    every = float(np.median(np.diff(found.step))) if rows.size > 2 else None
    norms, scaled = unscaled(series.grad_norm[rows], None if series.scale is None else series.scale[rows])
    caveats = [
        *why,
        *([_resumed(part)] if part.resumed else []),
        *([scaled] if scaled else []),
        *([found.note] if found.note else []),
        *_cadence(log, series, found, every),
        *_holes(found),
        *_clipping(log, series.tag, norms),
        *_largest(log, series.tag),
        *log.says,
    ]
    return Picked(
        tag=series.tag,
        step=found.step,
        grad_norm=norms,
        loss=series.loss[rows],
        lr=series.lr[rows],
        single_steps=found.is_own and log.unit == "step" and every is not None and every < 1.5,
        run=at + 1,
        runs=len(parts),
        caveats=tuple(caveats),
    )


def _series(log: Log, source: str, tag: str | None) -> Series:
    named = [s for s in log.series if len(s)]
    if tag is not None:
        for same in (lambda s: s.tag == tag, lambda s: squashed(s.tag) == squashed(tag), lambda s: tag in s.tag):
            found = [s for s in named if same(s)]
            if len(found) == 1:
                return found[0]
        hint = nearest(tag, [s.tag for s in named]) if len(named) <= SHOWN else f" Known here: {_listed(named)}."
        raise InputError(f"{source}: has no gradient norm named {tag!r}.{hint}")
    if len(named) > 1:
        named = _obvious(named)
    if len(named) > 1:
        raise InputError(
            f"{source}: holds {len(named)} gradient norms, and each needs a threshold of its own. Choose one with --tag: "
            f"{_listed(named)}."
        )
    return named[0]


def _obvious(named: Sequence[Series]) -> list[Series]:
    """Without what the names themselves rule out: norms after clipping beside those before, means over an epoch or a line
    beside the steps' own, a name twice."""
    raw = {_unmarked(s.tag) for s in named if after_clipping(s.tag) is False}
    first = [s for s in named if after_clipping(s.tag) is False or _unmarked(s.tag) not in raw]
    before = [s for s in first if not after_clipping(s.tag)] or first
    before = [s for s in before if not _MICRO.search(squashed(s.tag))] or before
    before = [s for s in before if not any(_is_clipped(s, of) for of in before)] if len(before) <= SHOWN else before
    stepwise = [s for s in before if squashed(s.tag).endswith("_step")]
    epochs = {squashed(s.tag).removesuffix("_step") + "_epoch" for s in stepwise}
    left = [s for s in before if squashed(s.tag) not in epochs]
    steps = {squashed(s.tag).removesuffix("_last") for s in left}
    left = [s for s in left if _STATISTIC.sub("", squashed(s.tag)) not in steps - {squashed(s.tag)}]
    alive = [s for s in left if np.isfinite(s.grad_norm).any()]
    return alive or left


def _unmarked(tag: str) -> str:
    """A name without what says that it was taken before or after clipping."""
    return _MARKS.sub("", squashed(tag)).strip("_")


def _is_clipped(series: Series, of: Series) -> bool:
    """Whether a norm is the smaller of another one and a constant, row for row: that other norm after clipping."""
    if series is of or len(series) != len(of) or len(of) < LONG_ENOUGH // 5:
        return False
    both = np.isfinite(series.grad_norm) & np.isfinite(of.grad_norm)
    norms, raw = series.grad_norm[both], of.grad_norm[both]
    limit = float(norms.max()) if norms.size else math.inf
    if (
        not np.any(raw > 1.001 * limit) or np.sum(raw < 0.999 * limit) < 3
    ):  # a constant is the smaller of anything above
        return False
    return bool(np.mean(np.isclose(norms, np.minimum(raw, limit), rtol=5e-3)) > 0.99)


def _largest(log: Log, tag: str) -> list[str]:
    wanted = squashed(tag).removesuffix("_last") + _LARGEST
    beside = [s.tag for s in log.series if squashed(s.tag) == wanted]
    return [
        f"{name!r} beside it has the largest norm behind each line: see the spikes with --tag." for name in beside[:1]
    ]


def _listed(named: Sequence[Series]) -> str:
    return listed([f"{s.tag[:80]!r} ({len(s)} rows)" for s in named], most=SHOWN)


def _run(parts: Sequence[Part], source: str, run: int | None) -> tuple[int, list[str]]:
    sizes = [len(p.rows) for p in parts]
    count = len(parts)
    if run is not None:
        if run == 0 or abs(run) > count:
            has = "one run" if count == 1 else f"{count} runs, of {_sizes(sizes)} rows"
            raise InputError(
                f"{source}: holds {has}; --run counts from 1, or from -1 backwards, so {run} is none of them."
            )
        at = run - 1 if run > 0 else count + run
        return at, [f"The log holds {count} runs; run {at + 1} is judged, as asked."] if count > 1 else []
    if count == 1:
        return 0, []
    longest = max(range(count), key=lambda i: (sizes[i], i))
    at = next((i for i in reversed(range(count)) if sizes[i] >= LONG_ENOUGH), longest)
    what = "the last" if at == count - 1 else f"run {at + 1}, the last long enough to tell,"
    return at, [f"The log holds {count} runs, of {_sizes(sizes)} rows: {what} is judged; --run picks another."]


def _sizes(sizes: Sequence[int]) -> str:
    if len(sizes) <= 10:
        return ", ".join(map(str, sizes[:-1])) + f" and {sizes[-1]}"
    return f"{', '.join(map(str, sizes[:3]))}, ..., {sizes[-2]} and {sizes[-1]}"


def _resumed(part: Part) -> str:
    times = "once" if part.resumed == 1 else f"{part.resumed} times"
    left = f"; the {part.redone} rows that it trained again count as trained last" if part.redone else ""
    return f"The steps go back {times}, as where a run is taken up from a checkpoint{left}."


def _cadence(log: Log, series: Series, found: Numbered, every: float | None) -> list[str]:
    if log.unit == "epoch":
        return ["The log has one line per epoch, a mean over its steps: spikes are not seen in it, only the level."]
    if log.unit == "iteration":
        return [
            "Each line is an iteration of RLlib, and holds the norm of its last minibatch: the updates between were not seen, nor the spikes "
            "among them."
        ]
    if not found.is_own:
        if series.place_from:
            return [f"The log numbers its rows by {series.place_from[:60]!r} alone, so each row is taken for one step."]
        return ["The log does not number its steps, so each line is taken for one step."]
    if every is None or every < 1.5:
        return []
    if every >= _HUGE or _is_uneven(found.step):
        how = "unevenly" if every < _HUGE else "and more than training steps do"
        return [
            f"The step numbers grow by about {every:.0f} from row to row, {how}, as frames, samples or tokens are counted: how many "
            "optimizer steps lie between two rows is not known."
        ]
    n = f"{every:.0f}"
    unseen = 100 * (1 - 1 / every)
    share = f"{unseen:.0f}" if unseen < 99 else f"{math.floor(unseen * 10) / 10:g}"
    if log.window == "mean":
        part = _PARTS.get(round(every), f"1/{round(every)}")
        return [
            f"Each line is the mean over about {n} steps: a spike shows at {part} of its height, and single steps spread more "
            "widely than these means."
        ]
    thinned = ", thinned at random by the export" if log.window == "sample" else ""
    return [
        f"The log has one line in {n} steps{thinned}: it has not seen {share}% of the steps, nor the spikes among them. "
        "Log every step for a while to see them."
    ]


def _is_uneven(step: Floats) -> bool:
    """Whether the distances differ without being multiples of one, which holes and thinning would leave."""
    gaps = np.diff(step)
    if gaps.size < 5:
        return False
    values, counts = np.unique(gaps, return_counts=True)
    usual = float(values[np.argmax(counts)])
    return bool(counts.max() < _UNEVEN * gaps.size and np.mean(gaps % usual != 0) > 1 - _UNEVEN)


def _holes(found: Numbered) -> list[str]:
    """Where rows are missing among steps that are evenly logged."""
    gaps = np.diff(found.step)
    if not found.is_own or gaps.size < 5:
        return []
    values, counts = np.unique(gaps, return_counts=True)
    usual = float(values[np.argmax(counts)])
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if not wide.size or counts.max() < 0.8 * gaps.size:
        return []
    missing = int(np.sum(np.round(gaps[wide] / usual) - 1))
    places = "1 place" if wide.size == 1 else f"{wide.size} places"
    rows = "1 row is" if missing == 1 else f"{missing:,} rows are"
    return [f"{rows} missing in {places}: the first behind step {found.step[wide[0]]:.0f}."]


def _clipping(log: Log, tag: str, norms: Floats) -> list[str]:
    after = after_clipping(tag)
    if after is None:
        after = log.after
    if after:
        return ["These norms were taken after clipping, so what lies above the threshold in use is not seen."]
    if log.max_norm is None or not math.isfinite(log.max_norm):
        return []
    finite = norms[np.isfinite(norms)]
    share = float(np.mean(finite > log.max_norm)) if finite.size else 0.0
    acted = f"it acted on {share:.1%} of these lines" if share else "it acted on none of these lines"
    more = "; without it, norms may be larger" if share else ""
    return [f"The run was clipped at {log.max_norm:g} ({log.max_norm_from}): {acted}{more}."]
