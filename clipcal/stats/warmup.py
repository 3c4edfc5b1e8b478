"""Log norms -> how many leading steps are warm-up."""

from __future__ import annotations

import numpy as np

from clipcal.stats.arrays import Array, block_medians, line, running_median, scatter

LONGEST = 0.35  # of the trace: what lasts longer is drift, not warm-up
POINTS = 64
CLEAR = 3.0  # standard deviations of the later course


def warmup_length(x: Array) -> int:
    """Leading steps of log norms (n,) that lie above the line that the rest of the run follows."""
    n = x.size
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
    first = start * width
    if width == 1:
        return first
    # Inside the first block the norms may still fall: go on until five neighbours sit with the steps that follow.
    longest = int(LONGEST * n)
    later = x[first + width : first + 5 * width]
    fence = float(np.median(later)) + 2.0 * scatter(later) + 0.05
    inside = np.flatnonzero(running_median(x[first : first + 2 * width], 5) <= fence)
    return min(first + (int(inside[0]) if inside.size else 0), longest)
