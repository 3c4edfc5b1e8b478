"""Per-tensor gradient norms <-> layers.f32: a JSON header line, then one row of little-endian float32 per step. ranks.f32 is the same of
the norms of the ranks' own gradients.

Why not JSON lines: a model has hundreds of tensors, and formatting them would cost more than measuring them.
A row of fixed length needs no parser, appends in one write, and a cut last row shows by its length.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipcal.errors import InputError
from clipcal.run.records import ROWS_HEADER, wrong
from clipcal.run.trace import AppendOnly

FORMAT = "clipcal.layers/1"


@dataclass(frozen=True, kw_only=True)
class Layers:
    """``norms`` has shape (steps, tensors); a tensor without a gradient in a step has norm 0 there."""

    names: tuple[str, ...]
    norm_type: float
    norms: NDArray[np.float32]


class LayersWriter:
    """Appends rows of per-tensor norms, in the order of ``names``."""

    def __init__(self, path: Path, names: Sequence[str], norm_type: float) -> None:
        fresh = not path.exists() or path.stat().st_size == 0
        self._file = AppendOnly(path)
        if fresh:
            header = {"format": FORMAT, "norm_type": str(norm_type), "names": list(names)}
            self._file.append(json.dumps(header, ensure_ascii=False).encode() + b"\n")

    def append(self, rows: NDArray[np.float32]) -> None:
        self._file.append(np.ascontiguousarray(rows, dtype="<f4").tobytes())

    def close(self) -> None:
        self._file.close()


def read_layers(path: Path) -> Layers:
    """Read a layers file, whole or cut off. Raises InputError where it is no such file.

    ``norms`` is the file itself, mapped and read-only: only the rows that are looked at are read, so that hundreds of
    megabytes of a long run need not fit into memory.
    """
    why = "it does not begin with a line of JSON"
    try:
        with path.open("rb") as f:
            header_bytes = f.readline()
            size = f.seek(0, 2) - len(header_bytes)
        header = json.loads(header_bytes)
        why = (wrong(header, ROWS_HEADER) if isinstance(header, dict) else None) or f"its 'format' is not {FORMAT}"
        if header["format"] != FORMAT or wrong(header, ROWS_HEADER) is not None:
            raise ValueError
        names, norm_type = tuple(header["names"]), float(header["norm_type"])
        shape = (size // (4 * max(len(names), 1)), max(len(names), 1))
        rows = (
            np.memmap(path, dtype="<f4", mode="r", offset=len(header_bytes), shape=shape)
            if shape[0]
            else np.empty(shape, "<f4")
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"{path}: not a layers file of clipcal: {why}. `clipcal profile` writes one beside the trace."
        ) from None
    return Layers(names=names, norm_type=norm_type, norms=np.asarray(rows))


def holds(path: Path, names: Sequence[str], norm_type: float, rows: int) -> bool:
    """Whether a layers file is there that has at least so many rows, of these tensors and in this norm."""
    try:
        layers = read_layers(path)
    except InputError:
        return False
    return layers.names == tuple(names) and layers.norm_type == norm_type and len(layers.norms) >= rows


class RowsFile:
    """The rows that a run keeps beside its trace, whose first ``known`` steps are there and trained again: where the file lacks their
    rows, it is written anew beside the old one, which it takes the place of when there is more to write."""

    def __init__(self, path: Path, names: Sequence[str], norm_type: float, *, known: int) -> None:
        self.path, self.names, self.norm_type, self._known = path, names, norm_type, known
        self._rebuilt: Path | None = None
        if known and not holds(path, names, norm_type, known):
            self._rebuilt = path.with_name(path.name + ".partial")
        self._writer: LayersWriter | None = None

    def repeat(self, rows: NDArray[np.float32]) -> None:
        """The rows of steps that are known."""
        if self._rebuilt is not None and len(rows):
            if self._writer is None:
                self._rebuilt.unlink(missing_ok=True)
            self._write(self._rebuilt, rows)

    def cut(self) -> None:
        """Make the file ready for what comes after the known steps. Raises OSError."""
        self._let_go()
        if self._rebuilt is not None:
            os.replace(self._rebuilt, self.path)
        elif self._known:
            keep_rows(self.path, self._known)
        else:
            self.path.unlink(missing_ok=True)

    def append(self, rows: NDArray[np.float32]) -> None:
        """The rows of steps that are new."""
        self._write(self.path, rows)

    def _write(self, path: Path, rows: NDArray[np.float32]) -> None:
        if self._writer is None:
            self._writer = LayersWriter(path, self.names, self.norm_type)
        self._writer.append(rows)

    def close(self) -> None:
        self._let_go()
        if self._rebuilt is not None:
            self._rebuilt.unlink(missing_ok=True)  # of a resume that came to nothing new

    def _let_go(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def rank_names(num_ranks: int) -> list[str]:
    """What the columns of ranks.f32 are called."""
    return [f"rank {i}" for i in range(num_ranks)]


def keep_rows(path: Path, rows: int) -> None:
    """Cut the file back to its first ``rows`` rows: what is left of a killed run may hold a row more than its trace."""
    num_tensors = len(read_layers(path).names)
    with path.open("r+b") as f:
        header = f.readline()
        f.truncate(len(header) + 4 * num_tensors * rows)
