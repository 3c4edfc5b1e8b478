"""Log norms -> their local level, its drift, and the levels to expect next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.stats.arrays import Array, block_medians, line, running_median, scatter

MAX_BLOCKS = 96
DRIFT = np.log(1.6)  # a smaller change does not move a threshold out of its corridor
CLEAR_TREND = 0.75  # Kendall's tau that speaks for itself where few blocks leave its noise wide
RISEN = np.log(1.15)  # a rise at the very end that is too late for a trend, and too large for a threshold to ignore
DIP = np.log(1.5)  # below its wider surroundings: less than sets a step apart, so that a dip alone makes no spike
LATE = 0.75  # of the trace: a leap before that has blocks enough on both sides for the level to follow by itself
LEAP = np.log(1.4)
SINCE = 16  # steps after a leap, at least: fewer may be a burst
STAYS, CAME_FROM, REVISITED = (
    0.85,
    0.9,
    0.05,
)  # shares of the steps after, before and long before a leap on their side of its middle
NEXT_TO, AT_ONCE = 8, 0.75  # steps on either side of a leap, and how much of it lies between their medians
LOOKED_AT = 400  # steps on either side, and places where it may be
AHEAD = 0.3  # of the trace: how far a rise is continued
Direction = Literal["up", "down", "cycle", "flat"]


@dataclass(frozen=True, kw_only=True)
class Level:
    """The course of the stable log norm.

    ``local`` has one value per step, ``leap`` is the step from which on it is another one for good, None where it is not; ``ahead`` holds the levels to expect next, ``seen`` those to leave alone where no
    spike speaks against it. ``change`` is the fitted log change over the trace; ``direction`` names it.
    """

    local: Array
    ahead: Array
    seen: Array
    change: float
    direction: Direction
    leap: int | None = None


def find_level(x: Array, usual: NDArray[np.bool_] | None = None) -> Level:
    """The level of log norms (n,), n >= 1, with a leap late in the trace taken out, and put in again. ``usual`` as below."""
    leap = find_leap(x)
    if leap is None:
        return _smooth_level(x, usual)
    at, by = leap
    shifted = x.copy()
    shifted[at:] -= by
    level = _smooth_level(shifted, usual)
    local = level.local.copy()
    local[at:] += by
    change = level.change + by
    against = change < 0 if level.direction == "up" else change > 0 if level.direction == "down" else False
    return Level(
        local=local,
        ahead=level.ahead + by,
        seen=level.seen + by,
        change=change,
        direction="flat" if against else level.direction,
        leap=at,
    )


def _smooth_level(x: Array, usual: NDArray[np.bool_] | None) -> Level:
    """The level of log norms (n,), n >= 1: a robust line, and what running medians of block medians add to it.

    ``usual`` (n,): the steps to go by, once a first look has told them from bursts; all by default.
    """
    n = x.size
    width = max(min(max(n // 12, 5), 16), n // MAX_BLOCKS)
    kept = np.arange(n) if usual is None else np.flatnonzero(usual)
    x = x[kept]
    t = block_medians(kept.astype(np.float64) + 0.5, width)
    y = block_medians(x, width)
    slope, offset = line(t, y)
    if y.size < 6:
        trend = slope * (kept + 0.5)
        if abs(slope) * n < 3 * scatter(x - trend):
            slope, offset = 0.0, float(np.median(x))
    rest = y - slope * t - offset
    rest = np.full(y.size, np.median(rest)) if y.size < 6 else running_median(rest, 5 if y.size >= 10 else 3)
    # A second mode near zero can have the majority in some blocks: the level would dip there, and leave "spikes" behind.
    wide = running_median(rest, max(rest.size // 4, 5) | 1)
    rest = np.maximum(rest, wide - max(3 * scatter(rest - wide), DIP))
    blocks = rest + slope * t + offset
    steps = np.arange(n) + 0.5
    local = np.interp(steps, t, rest) + slope * steps + offset
    change, direction = _drift(t, y, slope * n)
    late = seen = blocks[-max(y.size // 3, min(y.size, 2)) :]
    if direction in ("up", "down"):
        pace = _pace(t, blocks, slope)
        recent = slice(-max(y.size // 6, 2), None)
        end = float(np.median(blocks[recent] + pace * (n - t[recent])))
        if direction == "up":
            late = seen = end + pace * np.linspace(0.0, AHEAD * n, 20)
        else:  # a fall is not continued: no level stands below what was seen
            late, seen = np.array([end]), blocks[recent]
    elif direction == "cycle":
        # where it ends high, half of what comes next is likely to be high too
        end = float(np.median(blocks[-max(y.size // 8, 2) :]))
        high = np.full(blocks.size if end > np.median(blocks) else 0, end)
        late = seen = np.concatenate([blocks, high])
    elif (risen := _risen(y, float(np.median(late)))) is not None:
        late = seen = np.array([risen])
    return Level(local=local, ahead=late, seen=seen, change=change, direction=direction)


def find_leap(x: Array) -> tuple[int, float] | None:
    """Where log norms (n,) leap to another level late in the trace, and stay there, and by how much; None where they do not.

    All of the steps since lie beyond the middle between both levels, and hardly one before.
    """
    n = x.size
    best: tuple[float, int, float] | None = None
    for c in range(max(int(LATE * n), 2 * SINCE), n - SINCE + 1, max(n // LOOKED_AT, 1)):
        after, before = x[c:], x[max(c - max(n - c, 2 * SINCE), 0) : c]
        after, before = (part[:: max(part.size // LOOKED_AT, 1)] for part in (after, before))
        low, high = float(np.median(before)), float(np.median(after))
        if abs(high - low) < LEAP:
            continue
        if abs(float(np.median(x[c : c + NEXT_TO])) - float(np.median(x[c - NEXT_TO : c]))) < AT_ONCE * abs(high - low):
            continue  # a drift
        side, middle = np.sign(high - low), 0.5 * (low + high)
        stays, came = np.mean(side * (after - middle) > 0), np.mean(side * (before - middle) < 0)
        if stays >= STAYS and came >= CAME_FROM and (best is None or stays + came > best[0]):
            seldom = np.mean(side * (x[:c] - middle) > 0) <= REVISITED
            best = (float(stays + came), c, high - low) if seldom else best
    return None if best is None else best[1:]


def expected_quantile(r: Array, levels: Array, q: float) -> float:
    """How far the ``q`` quantile of residuals (n,) spread over levels (k,) lies above the residuals' own."""
    sample = np.sort(r)[:: max(r.size // 2000, 1)]
    mixed = np.quantile((sample[:, None] + levels[None, :]).ravel(), q)
    return float(mixed - np.quantile(sample, q))


def _risen(y: Array, usual: float) -> float | None:
    """The level of the last twelfth of the block medians (k,), where it has left the usual one upwards for good."""
    if y.size < 8:
        return None
    last = max(y.size // 12, 2)
    noise = scatter(np.diff(y)) / np.sqrt(2.0)
    end = float(np.median(y[-last:]))
    return end if end - usual > max(4 * noise / np.sqrt(last), RISEN) else None


def _pace(t: Array, blocks: Array, slope: float) -> float:
    """The log change per step to go on with: that of the last half, unless the last third has slowed down or turned."""
    if t.size < 6:
        return slope
    half, third = (line(t[-k:], blocks[-k:])[0] for k in (t.size // 2, max(t.size // 3, 3)))
    return half if abs(third) > 0.5 * abs(half) and third * half > 0 else third if third * slope > 0 else 0.0


def _drift(t: Array, y: Array, fitted: float) -> tuple[float, Direction]:
    """The change of block medians (k,) over the trace, and its name; ``fitted``: the change of the line that was kept."""
    named: Direction = "up" if fitted > 0 else "down"
    if y.size < 6:
        return fitted, named if abs(fitted) > DRIFT else "flat"
    group = -(-y.size // 20)
    t, y = block_medians(t, group), block_medians(y, group)
    k = y.size
    i, j = np.triu_indices(k, 1)
    tau = abs(float(np.mean(np.sign(y[j] - y[i]))))
    # Kendall's tau of pure noise has this standard deviation.
    noise = np.sqrt(2 * (2 * k + 5) / (9 * k * (k - 1)))
    smooth = running_median(y, 3)
    span = float(np.ptp(smooth))
    up = float(np.max(smooth - np.minimum.accumulate(smooth)))
    down = float(np.max(np.maximum.accumulate(smooth) - smooth))
    # Noise from second differences, which a cycle of several groups hardly enters.
    jitter = scatter(np.diff(y, 2)) / np.sqrt(6.0)
    if span > DRIFT and min(up, down) > 0.5 * span and min(up, down) > 3 * jitter:
        return fitted, "cycle"
    if abs(fitted) > DRIFT and tau > min(3 * noise, CLEAR_TREND):
        return fitted, named
    return fitted, "flat"
