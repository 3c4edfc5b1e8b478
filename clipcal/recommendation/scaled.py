"""Norms from a log -> whether they are of gradients that a GradScaler had scaled: powers of two too large.

A GradScaler (torch.amp, Micikevicius et al. 2018, arXiv:1710.03740) begins at 2^16, halves its scale after a step that overflowed, and
doubles it after 2,000 steps that did not. Norms that are logged before ``scaler.unscale_`` move with it: after a step whose norm is
not finite their level is half of what it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipcal.run.trace import Floats

LARGE = 2.0**10  # a stable norm below that is none of 2^16 times another, but of a gradient that vanishes
AROUND = 12  # steps before and after an overflow from which the level is read
HALF = (0.38, 0.66)
FEWEST, MOSTLY = 2, 0.75  # overflows, and the share of them that a halving follows

SENTENCE = (
    "After {halved} of {events} steps without a finite norm the level is half of what it was, as the scale of a GradScaler is: these look "
    "like norms of scaled gradients, powers of two too large. Log them after scaler.unscale_(optimizer), or divide them by scaler.get_scale()."
)


def scaled_caveat(norms: Floats) -> str | None:
    """A sentence where the norms (n,) move as a GradScaler does, None otherwise."""
    finite = np.isfinite(norms) & (norms > 0)
    if not finite.any() or float(np.median(norms[finite])) < LARGE:
        return None
    ratios = _ratios(norms, finite)
    halved = int(np.count_nonzero((ratios > HALF[0]) & (ratios < HALF[1])))
    if halved < FEWEST or halved < MOSTLY * ratios.size:
        return None
    return SENTENCE.format(halved=halved, events=ratios.size)


def _ratios(norms: Floats, finite: NDArray[np.bool_]) -> Floats:
    """Per overflow, the factor that a single halving would be: the level after it over that before, to the power of one over their
    number, since each of several overflows in a row halves the scale. Those too near the ends or to each other are left out."""
    rows = np.flatnonzero(finite)
    logs = np.log2(norms[rows])
    edges = np.flatnonzero(np.diff(np.concatenate([[True], finite, [True]])))
    places = np.searchsorted(rows, edges[::2])
    found = []
    for i, (place, times) in enumerate(zip(places.tolist(), (edges[1::2] - edges[::2]).tolist(), strict=True)):
        since = places[i - 1] if i else 0
        until = places[i + 1] if i + 1 < places.size else logs.size
        before, after = logs[max(since, place - AROUND) : place], logs[place : min(until, place + AROUND)]
        if min(before.size, after.size) >= AROUND // 2:
            found.append(2.0 ** ((float(np.median(after)) - float(np.median(before))) / times))
    return np.array(found)
