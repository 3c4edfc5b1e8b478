"""TensorBoard's JSON export ``[[wall time, step, value], ...]`` -> the series of one tag. Its CSV export follows the same rules.

An export holds one tag, which stands in the file's name alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from clipcal.errors import InputError
from clipcal.logs.log import Floats, Log, Reader, Series
from clipcal.logs.names import after_clipping, kind_of, value_of
from clipcal.logs.source import Source

RESERVOIR = 1000
"""Points of a tag that TensorBoard keeps and exports, drawn at random (``--samples_per_plugin scalars=1000``)."""
NORMS = "export the tag of the gradient norm; better, name the event file itself, which has all steps"
_FEW = 20


def exported(path: Path, format: str, points: Iterable[tuple[Any, Any]]) -> Log:
    """The log of (step, value) pairs that were exported to ``path``."""
    # "run-NAME-tag-train_grad_norm.csv" is of train_grad_norm; the whole name counts where TensorBoard did not choose it
    tag = path.name.removesuffix(".gz").rsplit(".", 1)[0].rpartition("-tag-")[2] or path.name
    if kind_of(tag) in ("loss", "lr"):
        raise InputError(
            f"{path}: is a {format} of {tag!r} by its name, and that is no gradient norm. Export the tag of the norm; better, "
            "name the event file itself. If it is the norm, rename the file to grad_norm" + path.suffix + "."
        )
    read = [
        (s, v) for step, value in points if (s := value_of(step)) is not None and (v := value_of(value)) is not None
    ]
    if not read:
        return Log(format=format, series=())
    step, norm = np.array(read).T
    unknown = np.full(len(step), np.nan)
    series = Series(tag=tag, step=step, grad_norm=norm, loss=unknown, lr=unknown.copy())
    return Log(format=format, series=(series,), window="sample" if _thinned(step) else None, after=after_clipping(tag))


def _thinned(step: Floats) -> bool:
    """Whether points were left out at random: the gaps are uneven, where a training loop writes at even steps."""
    gaps = np.diff(step)
    gaps = gaps[gaps > 0]
    if not gaps.size:
        return False
    _, counts = np.unique(gaps, return_counts=True)
    odd = len(gaps) - int(counts.max())
    # restarts and the end of an epoch make a few odd gaps
    return odd > 0 if len(step) == RESERVOIR else len(step) >= _FEW and odd > len(gaps) // 5


def _recognises(source: Source) -> bool:
    document = source.known_document if source.opening == b"[" else None
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(p, list) and len(p) == 3 and value_of(p[1]) is not None for p in document[:100])
    )


def _read(source: Source) -> Log:
    points = ((p[1], p[2]) for p in source.document if isinstance(p, list) and len(p) == 3)
    return exported(source.path, "TensorBoard JSON export", points)


READER = Reader(title="TensorBoard JSON export", recognises=_recognises, read=_read, norms=NORMS)
