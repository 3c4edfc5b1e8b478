"""A log -> the one norm of the one run that a threshold is read from, with what has to be known of it.

Several norms are never guessed among: the user picks. Of several runs the last one that is long enough is taken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from clipcal.errors import InputError, nearest
from clipcal.logs.choice import NO_CHOICE, LogChoice, listed
from clipcal.logs.log import Floats, Log, Series
from clipcal.logs.names import after_clipping, squashed

# "grad_norm_max" beside "grad_norm" or "grad_norm_last": of one gradient, over the steps that a line stands for
_STATISTIC = re.compile(r"_(?:max|mean|avg|median)$")
_LARGEST = "_max"
LONG_ENOUGH = 50
"""Rows of a run, for it to be judged though a longer one stands before it."""
RESTART = 0.1
"""Steps that go back into the first tenth of a run start another one; further up, training was taken up from a checkpoint."""
SHOWN = 20
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


@dataclass(frozen=True, kw_only=True)
class Part:
    """One run: the rows of its series that count, in order, with ``redone`` rows left out that were trained once more
    after a checkpoint was loaded, ``resumed`` times."""

    rows: NDArray[np.int64]
    resumed: int = 0
    redone: int = 0


def pick(log: Log, source: str, choice: LogChoice = NO_CHOICE) -> Picked:
    """Raises InputError, with what there is to choose from."""
    series = _series(log, source, choice.tag)
    parts = runs_of(series)
    at, why = _run(parts, source, choice.run)
    part = parts[at]
    step, duplicates = _steps(series.step[part.rows])
    keep = ~duplicates
    norms = series.grad_norm[part.rows][keep]
    every = float(np.median(np.diff(step[keep]))) if keep.sum() > 2 else None
    numbered = bool(np.isfinite(series.step[part.rows]).all())
    caveats = [
        *why,
        *([_resumed(part)] if part.resumed else []),
        *_cadence(log, every, numbered=numbered),
        *_clipping(log, series.tag, norms),
        *_largest(log, series.tag),
        *log.notes,
    ]
    return Picked(
        tag=series.tag,
        step=step[keep],
        grad_norm=norms,
        loss=series.loss[part.rows][keep],
        lr=series.lr[part.rows][keep],
        single_steps=numbered and log.unit != "epoch" and every is not None and every < 1.5,
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
    before = [s for s in named if not after_clipping(s.tag)] or list(named)
    stepwise = [s for s in before if squashed(s.tag).endswith("_step")]
    epochs = {squashed(s.tag).removesuffix("_step") + "_epoch" for s in stepwise}
    left = [s for s in before if squashed(s.tag) not in epochs]
    steps = {squashed(s.tag).removesuffix("_last") for s in left}
    left = [s for s in left if _STATISTIC.sub("", squashed(s.tag)) not in steps - {squashed(s.tag)}]
    alive = [s for s in left if np.isfinite(s.grad_norm).any()]
    return alive or left


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


def _steps(step: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Steps that grow strictly, and which rows repeat the step of the row after them and are left out. Rows are counted
    where the log does not number them, or numbers most of them alike."""
    size = len(step)
    none = np.zeros(size, dtype=bool)
    if not np.isfinite(step).all():
        return np.arange(1.0, size + 1), none
    repeated = np.append(np.diff(step) <= 0, [False] * bool(size))
    return (np.arange(1.0, size + 1), none) if 2 * repeated.sum() > size else (step, repeated)


def _resumed(part: Part) -> str:
    times = "once" if part.resumed == 1 else f"{part.resumed} times"
    left = f"; the {part.redone} rows that it trained again count as trained last" if part.redone else ""
    return f"The steps go back {times}, as where a run is taken up from a checkpoint{left}."


def _cadence(log: Log, every: float | None, *, numbered: bool) -> list[str]:
    if log.unit == "epoch":
        return ["The log has one line per epoch, a mean over its steps: spikes are not seen in it, only the level."]
    if not numbered:
        return ["The log does not number its steps, so each line is taken for one step."]
    if every is None or every < 1.5:
        return []
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


def runs_of(series: Series) -> list[Part]:
    """The runs of a series with at least one row; a run starts where the log says so, or where its steps go back."""
    cuts = [0, *series.starts, len(series)]
    found: list[Part] = []
    for first, end in pairwise(cuts):
        if end > first:
            found += _by_steps(np.arange(first, end), series.step)
    return found


def _by_steps(rows: NDArray[np.int64], all_steps: NDArray[np.float64]) -> Iterator[Part]:
    steps = all_steps[rows]
    if not np.isfinite(steps).all():
        yield Part(rows=rows)
        return
    start, resumes = 0, 0
    keep = np.ones(len(rows), dtype=bool)
    for back in [*(np.flatnonzero(np.diff(steps) < 0) + 1).tolist(), len(rows)]:
        if back < len(rows):
            low, high = steps[start], float(np.max(steps[start:back]))
            if steps[back] > low + RESTART * (
                high - low
            ):  # taken up again: what was trained twice counts as it was trained last
                keep[start:back] &= steps[start:back] < steps[back]
                resumes += 1
                continue
        kept = keep[start:back]
        yield Part(rows=rows[start:back][kept], resumed=resumes, redone=int((~kept).sum()))
        start, resumes = back, 0
