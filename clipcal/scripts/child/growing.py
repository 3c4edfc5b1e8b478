"""Rows of one length -> a file that another process reads while it grows; and what stands in the row of a script's step.

The file is mapped into memory: a row costs a copy and no call of the system, and is there for the reader however this process ends.
It begins with the number of its rows.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Any

COUNT = struct.Struct("q")
"""In the order of this machine, as a view stores it: at once. ``pack_into`` clears its bytes first, and a reader would see that."""
NUMBERS = {"step": "q", "loss": "d", "grad_norm": "d", "grad_max": "d", "lr": "d", "seconds": "d", "skipped": "?"}
"""How a row begins: the fields of a step, and their kinds, as ``struct`` and numpy call them. The norm of every tensor follows."""
NORM = "f"
_FIRST = 1 << 16


def row_of(num_tensors: int) -> struct.Struct:
    """A step's row, little-endian and without gaps."""
    return struct.Struct(f"<{''.join(NUMBERS.values())}{num_tensors}{NORM}")


class GrowingRows:
    """``append`` takes the values of one ``row``. Raises OSError where the disk is full."""

    def __init__(self, path: Path, row: struct.Struct) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._pack_into, self._width, self._count = row.pack_into, row.size, 0
        self._map: mmap.mmap | None = None
        self._counted: memoryview | None = None
        self._size = 0

    def append(self, *values: Any) -> None:
        begin = COUNT.size + self._count * self._width
        if begin + self._width > self._size:
            self._grow(begin + self._width)
        assert self._map is not None
        assert self._counted is not None
        self._pack_into(self._map, begin, *values)
        self._count += 1
        self._counted[0] = self._count  # last: what is counted is there

    def _grow(self, least: int) -> None:
        size = max(_FIRST, 2 * self._size, 2 * least)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, 0, size)  # a full disk must show here: in a mapping it ends the process
        else:
            os.ftruncate(self._fd, size)
        if self._map is not None and self._counted is not None:
            self._counted.release()
            self._map.close()
        self._map, self._size = mmap.mmap(self._fd, size), size
        self._counted = memoryview(self._map)[: COUNT.size].cast("q")
