"""Log norms -> their local level, its drift, and the level to expect next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipcal.stats.arrays import Array, block_medians, running_median

MIN_BLOCK, MAX_BLOCKS = 16, 96
DRIFT = np.log(1.6)  # a smaller change does not move a threshold out of its corridor
AHEAD = 0.2  # of the trace: how far a drift is continued


@dataclass(frozen=True, kw_only=True)
class Level:
    """The course of the stable log norm.

    ``local`` has one value per step, ``blocks`` one per block of steps; ``ahead`` holds the levels to expect next.
    ``change`` is the fitted log change over the trace; ``direction`` names it.
    """

    local: Array
    blocks: Array
    ahead: Array
    change: float
    direction: Literal["up", "down", "cycle", "flat"]


def find_level(x: Array) -> Level:
    """The level of log norms (n,), n >= 1, by running medians of block medians."""
    n = x.size
    width = max(MIN_BLOCK if n >= 96 else 8, n // MAX_BLOCKS)
    medians = block_medians(x, width)
    count = medians.size
    blocks = running_median(medians, 5 if count >= 20 else 3) if count >= 3 else np.full(count, np.median(x))
    centres = (np.arange(count) + 0.5) * width
    centres[-1] = ((count - 1) * width + n) / 2
    local = np.interp(np.arange(n) + 0.5, centres, blocks)
    change, direction = _drift(medians)
    if direction in ("up", "down"):
        late = blocks[-max(count // 6, 2) :]
        slope = _slope(blocks[count // 2 :]) * count
        factor = AHEAD if direction == "up" else AHEAD / 2
        step = np.clip(slope * factor, *((0.0, 1.5) if direction == "up" else (-1.5, 0.0)))
        ahead = late + step
    elif direction == "cycle":
        ahead = blocks
    else:
        ahead = blocks[-max(count // 3, min(count, 2)) :]
    return Level(local=local, blocks=blocks, ahead=ahead, change=change, direction=direction)


def _slope(y: Array) -> float:
    """Theil-Sen slope per block: the median of the slopes between all pairs."""
    if y.size < 2:
        return 0.0
    i, j = np.triu_indices(y.size, 1)
    return float(np.median((y[j] - y[i]) / (j - i)))


def _drift(y: Array) -> tuple[float, Literal["up", "down", "cycle", "flat"]]:
    """The change of block medians (k,) over the trace, and its name."""
    k = y.size
    if k < 4:
        half = max(k // 2, 1)
        change = float(np.mean(y[-half:]) - np.mean(y[:half])) if k > 1 else 0.0
        return change, "flat" if abs(change) < DRIFT else "up" if change > 0 else "down"
    i, j = np.triu_indices(k, 1)
    signs = np.sign(y[j] - y[i])
    tau = float(np.mean(signs))
    # Kendall's tau of pure noise has this standard deviation.
    clear = abs(tau) > 3.0 * np.sqrt(2 * (2 * k + 5) / (9 * k * (k - 1))) or abs(tau) > 0.6
    slope = _slope(y)
    change = slope * (k - 1)
    scatter = float(np.median(np.abs(y - np.median(y) - slope * (np.arange(k) - (k - 1) / 2)))) * 1.48
    smooth = running_median(y, 3)
    span = float(np.ptp(smooth))
    up = float(np.max(smooth - np.minimum.accumulate(smooth)))
    down = float(np.max(np.maximum.accumulate(smooth) - smooth))
    if span > DRIFT and min(up, down) > 0.5 * span and min(up, down) > 3 * scatter:
        return change, "cycle"
    if abs(change) > DRIFT and clear and abs(change) > 2 * scatter:
        return change, "up" if change > 0 else "down"
    return change, "flat"
