"""``log.txt`` with one JSON object per epoch, as BEiT, EVA, ConvNeXt, DETR and MAE write it -> rows.

Their MetricLogger gives the mean over the epoch of what ``clip_grad_norm_`` returned, as ``train_grad_norm``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from clipcal.logs.jsonlines import Objects, told
from clipcal.logs.log import Log
from clipcal.logs.names import kind_of
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import value_of

_STATS = "train_"


def _recognises(source: Source) -> bool:
    epochs = list(_epochs(told(source)))
    return bool(epochs) and None not in epochs and all(a != b for a, b in pairwise(epochs))


def _epochs(rows: Iterator[dict[str, Any]]) -> Iterator[float | None]:
    """The epochs of rows with training statistics; None for a row that has a step too."""
    for row in rows:
        kinds = {kind_of(name) for name in row}
        if kinds & {"norm", "loss"}:
            yield None if "step" in kinds else _epoch(row)


def _epoch(row: Mapping[str, Any]) -> float | None:
    """A whole number; Trainer and others have fractions of an epoch."""
    epoch = value_of(row.get("epoch"))
    return epoch if epoch is not None and epoch.is_integer() else None


def _read(source: Source) -> Log:
    rows, objects = Rows(), Objects(source)
    of_beit = False
    for row in objects:
        of_beit = of_beit or any(name.startswith(_STATS) for name in row)
        rows.add(row, step=_epoch(row))
    facts: dict[str, Any] = {"window": "mean", "after": False} if of_beit else {}
    return rows.log("log of one JSON object per epoch", unit="epoch", notes=objects.notes, **facts)


READER = Reader(
    title="log of one JSON object per epoch",
    recognises=_recognises,
    read=_read,
    norms="call metric_logger.update(grad_norm=...) at every step; better, write the norm of every step, not of every epoch",
)
