"""Log norms -> how many leading steps are warm-up."""

from __future__ import annotations

import numpy as np

from clipcal.stats.arrays import Array, block_medians, running_median

LONGEST = 0.35  # of the trace: what lasts longer is drift, not warm-up
MAX_BLOCKS, MIN_BLOCK = 96, 16


def warmup_length(x: Array) -> int:
    """Leading steps of log norms (n,) that lie above everything that the second half settles to."""
    n = x.size
    longest = int(LONGEST * n)
    start = 0
    width = max(MIN_BLOCK, n // MAX_BLOCKS)
    if n >= 4 * width:
        level = block_medians(x, width)
        ceiling = float(np.max(running_median(level[level.size // 2 :], 3)))
        above = level > ceiling
        start = min(int(np.argmin(above)) * width, longest)
    # Inside the first block the norms may still fall: go on until five neighbours sit in the later bulk.
    later = x[max(start, n // 3) :]
    centre = float(np.median(later))
    fence = centre + 1.6 * max(float(np.quantile(later, 0.8413)) - centre, 1e-3)
    local = running_median(x[start : start + max(4 * width, 32)], 5)[: max(longest - start, 0)]
    inside = np.flatnonzero(local <= fence)
    return start + (int(inside[0]) if inside.size else local.size)
