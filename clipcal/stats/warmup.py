"""Log norms -> how many leading steps are warm-up."""

from __future__ import annotations

import numpy as np

from clipcal.stats.arrays import Array, block_medians, line, running_median, scatter

LONGEST = 0.35  # of the trace: what lasts longer is drift, not warm-up
POINTS = 64
IN_A_ROW = 5
CLEAR = 3.0  # standard deviations of the later course


def warmup_length(x: Array) -> int:
    """Leading steps of log norms (n,) that lie above the line that the rest of the run follows."""
    n = x.size
    if n < 2 * IN_A_ROW:
        return 0
    width = max(1, n // POINTS)
    course = running_median(block_medians(x, width), 3)
    t = np.arange(course.size, dtype=np.float64)
    start = 0
    while start < int(LONGEST * course.size):
        rest = slice(start + 1, None)
        slope, offset = line(t[rest], course[rest])
        tolerance = CLEAR * scatter(course[rest] - slope * t[rest]) + 0.05
        if course[start] <= offset + slope * start + tolerance:
            break
        start += 1
    return min(_until_settled(x, start * width, width), int(LONGEST * n))


def _until_settled(x: Array, first: int, width: int) -> int:
    """The first step from ``first`` on that begins five in a row among those of the steps that follow."""
    later = x[first + width : first + width + max(4 * width, 20)]
    fence = float(np.median(later)) + CLEAR * scatter(later) + 0.05
    head = x[first : first + 2 * width + 10]
    inside = np.lib.stride_tricks.sliding_window_view(head, IN_A_ROW).max(axis=1) <= fence
    return first + (int(np.argmax(inside)) if inside.any() else 0)
