"""Steps in the dots of a grid -> the characters of the curve that joins them: in braille, eight dots each, or a colon a cell."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipcal.views.figures.cells import Ints
from clipcal.views.figures.points import Bools
from clipcal.views.terminal.canvas import Glyphs

# Which dot of a braille character is which bit, by row and column.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def dots_per_cell(glyphs: Glyphs) -> tuple[int, int]:
    """Down and across."""
    return _DOTS.shape if glyphs.braille else (1, 1)


def curve(
    columns: Ints, rows: Ints, index: Ints, *, height: int, width: int, glyphs: Glyphs
) -> Iterator[tuple[int, int, str]]:
    """(row, column, character) of each cell that the curve goes through, rows from the top.

    ``columns`` and ``rows``, shape (k,), are dots, the columns in order. ``index`` says which steps these are: steps that are no neighbours
    are not joined. ``height`` and ``width`` are in cells.
    """
    down, across = dots_per_cell(glyphs)
    grid = _joined(columns, rows, index, (height * down, width * across))
    if not glyphs.braille:
        for row, column in np.argwhere(grid).tolist():
            yield row, column, ":"
        return
    cells = (grid.reshape(height, down, width, across) * _DOTS[None, :, None, :]).sum(axis=(1, 3))
    for row, column in np.argwhere(cells > 0).tolist():
        yield row, column, chr(ord(glyphs.braille) + int(cells[row, column]))


def _joined(columns: Ints, rows: Ints, index: Ints, shape: tuple[int, int]) -> Bools:
    grid = np.zeros(shape, dtype=bool)
    if index.size == 0:
        return grid
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    stops = np.append(starts[1:], index.size) - 1
    highest, lowest = np.minimum.reduceat(rows, starts), np.maximum.reduceat(rows, starts)
    for k, column in enumerate(columns[starts].tolist()):
        grid[highest[k] : lowest[k] + 1, column] = True
        if k == 0 or index[starts[k]] - index[stops[k - 1]] > 1:
            continue
        # A line from the last step of the column before. Its steep part belongs to the higher end: a spike is one stem.
        before, row_before, row = int(columns[starts[k - 1]]), int(rows[stops[k - 1]]), int(rows[starts[k]])
        path = np.rint(np.linspace(row_before, row, column - before + 1)).astype(int).tolist()
        for i in range(1, len(path)):
            a, b = path[i - 1], path[i]
            grid[min(a, b) : max(a, b) + 1, before + (i if b <= a else i - 1)] = True
            grid[b, before + i] = True
    return grid
