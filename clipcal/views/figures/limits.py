"""Values -> the ends of an axis that shows them, and round numbers along it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from clipcal.run.trace import Floats

LARGEST = 1e300
"""Beyond it the arithmetic of axes overflows."""


class Limits(NamedTuple):
    """The ends of an axis, and whether it goes in equal steps of the log."""

    ends: tuple[float, float]
    is_log: bool


def log_limits(values: Iterable[float], *, below: float = 0.05, above: float = 0.05) -> tuple[float, float]:
    """Limits around positive values with room, in shares of the height, and never less than a factor of 1.5 in all."""
    logs = [math.log10(v) for v in values if 0 < v < math.inf]
    low, high = (min(logs), max(logs)) if logs else (-1.0, 1.0)
    if high - low < 0.18:
        low, high = (low + high) / 2 - 0.09, (low + high) / 2 + 0.09
    room = high - low
    low, high = low - below * room, high + above * room
    return within(10.0 ** max(low, -307.0), 10.0 ** min(high, 307.0))


def within(low: float, high: float) -> tuple[float, float]:
    """Limits that a log axis can have, of a range that may reach beyond the floats."""
    low, high = max(low, 1e-307), min(high, 1e307)
    return (low, high) if high > 1.01 * low else (low / 2, 2 * low)


def linear_limits(values: Iterable[float], *, room: float = 0.06) -> tuple[float, float]:
    finite = [v for v in values if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    low, high = max(low, -LARGEST), min(high, LARGEST)
    extra = room * high - room * low
    return low - extra, high + extra


def step_limits(steps: Floats) -> tuple[float, float]:
    first, last = float(steps[0]), float(steps[-1])
    room = max(0.01 * (last - first), 0.5)
    return first - room, last + room


def loss_limits(losses: Floats, *, usual: float = 0.998, room: float = 1.5) -> Limits:
    """For (n,) losses: a log axis where all are positive and far apart; a few far beyond the others do not stretch it: those above the quantile
    ``usual`` by more than ``room`` times the range below."""
    known = losses[np.isfinite(losses)]
    if not known.size:
        return Limits((0.0, 1.0), False)
    least, most = float(known.min()), float(known.max())
    low, high = (float(q) for q in np.quantile(known, [0.002, usual]))
    is_log = least > 0 and high > 30 * low
    if is_log:
        top = min(most, high * min(high / low, LARGEST) ** (room / 1.5))
        ends = log_limits([max(least, low / math.sqrt(min(high / low, LARGEST))), top])
    else:
        far = room * (high - low)
        ends = linear_limits([max(least, low - far), min(most, high + far)])
    return Limits(ends, is_log)


def change_limits(changes: Floats, marks: Iterable[float]) -> tuple[float, float]:
    """For (n,) changes and the ``marks`` among them: what lies far beyond the middle 99% is left out."""
    low, high = (float(q) for q in np.quantile(changes, [0.005, 0.995]))
    far = 0.6 * (high - low)
    ends = [min(float(changes.max()), high + far), max(float(changes.min()), low - far), *marks]
    room = 0.06 * (max(ends) - min(ends)) or 0.5
    return min(ends) - room, max(ends) + room


def log_ticks(low: float, high: float, most: int) -> Sequence[float]:
    """At most ``most`` round numbers between two positive ones, as dense as they may be: 0.1, 0.2, 0.5, 1, 2."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [d * 10.0**e for e in range(first, last + 1) for d in digits if low <= d * 10.0**e <= high]
        if len(found) <= most and len(found) >= 3:
            return found
        if len(found) < 3:
            break
    every = 1
    while True:
        powers = [10.0**e for e in range(first, last + 1) if e % every == 0 and low <= 10.0**e <= high]
        if len(powers) <= most:
            break
        every += 1
    return powers if len(powers) >= 3 or high / low > 100 else _between(low, high, most)


def _between(low: float, high: float, most: int) -> Sequence[float]:
    """Evenly spaced round numbers, for a range of less than a few times its lower end."""
    exponent = math.floor(math.log10((high - low) / most))
    for width in (d * 10.0 ** (exponent + e) for e in (0, 1) for d in (1, 2, 5)):
        start = math.ceil(low / width)
        found = [float(f"{i * width:.12g}") for i in range(start, math.floor(high / width) + 1)]
        if len(found) <= most:
            return found
    return [low, high]
