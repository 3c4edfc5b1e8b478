"""Drawings of progress bars, and the rows that were printed between them -> the step of every row.

A row that Hugging Face's Trainer prints has an epoch and no step. The bar that is drawn again after it has the step, as long
as nothing was lost on the way to the file.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from clipcal.logs.log import Floats


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Every drawing of a bar: how far it was, of how many, and how many rows came before it."""

    n: array[int] = field(default_factory=lambda: array("q"))
    total: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("q"))

    def drawn(self, n: int, total: int, *, rows: int) -> None:
        self.n.append(n)
        self.total.append(total)
        self.rows.append(rows)


def steps_of(bars: Bars, epochs: Floats) -> Floats:
    """The step of every row by the bars between the rows, or all NaN where they do not fit one row each, evenly."""
    num_rows = len(epochs)
    unknown = np.full(num_rows, np.nan)
    if not bars.n:
        return unknown
    n, total, at = np.array(bars.n), np.array(bars.total), np.array(bars.rows)
    # evaluation and downloads have bars too; that of training stands between the most rows
    beside = Counter(t for t, _ in {(int(t), int(r)) for t, r in zip(total, at, strict=True)})
    whole = beside.most_common(1)[0][0]
    mine = total == whole
    n, at = n[mine].astype(np.float64), at[mine]
    # the bar is drawn again right after a row is printed; output that lost this has the bar before the row
    after = np.full(num_rows + 1, np.nan)
    after[at[::-1]] = n[::-1]
    before = np.full(num_rows + 1, np.nan)
    before[at] = n
    found = [steps for steps in (after[1:], before[:-1]) if _even(steps) and steps.max() <= whole]
    if len(found) == 2 and _starts_later(found[0], found[1], epochs):
        return found[1]
    return found[0] if found else unknown


def _even(steps: Floats) -> bool:
    """Whether the steps are known and grow evenly, but for one in ten: run starts and a first step logged by itself. Fills
    what is missing."""
    known = np.isfinite(steps)
    both = known[1:] & known[:-1]
    if known.sum() < max(0.9 * len(steps), 1) or (len(steps) > 1 and not both.any()):
        return False
    if len(steps) > 1:
        gaps = np.diff(steps)[both]
        values, counts = np.unique(gaps, return_counts=True)
        stride = float(values[np.argmax(counts)])
        odd = len(gaps) - int(counts.max())
        if stride <= 0 or odd > max(1, len(gaps) // 10):
            return False
        for i in np.flatnonzero(~known):
            steps[i] = steps[i - 1] + stride if i else steps[int(np.flatnonzero(known)[0])] - stride
    return True


def _starts_later(steps: Floats, others: Floats, epochs: Floats) -> bool:
    """Whether ``steps`` are a stride ahead of the epochs, which start at 0 with the steps, and ``others`` are not."""
    whole = np.isfinite(epochs)
    back = np.flatnonzero(np.diff(epochs) < 0)
    whole[int(back[0]) + 1 if back.size else len(epochs) :] = False  # the first run alone
    x = epochs[whole]
    if len(x) < 3 or np.ptp(x) == 0:
        return False
    spread = float(((x - x.mean()) ** 2).sum())

    def ahead(y: Floats) -> tuple[float, float]:
        """The step at epoch 0 by a straight line, and its standard error: epochs are rounded."""
        slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
        start = float(y.mean() - slope * x.mean())
        error = float(np.sqrt(((y - start - slope * x) ** 2).sum() / (len(x) - 2)))
        return start, error * float(np.sqrt(1 / len(x) + x.mean() ** 2 / spread))

    start, _ = ahead(steps[whole])
    other, unsure = ahead(others[whole])
    return abs(other) + 3 * unsure < abs(start)
