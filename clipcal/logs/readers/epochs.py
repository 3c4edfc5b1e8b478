"""``log.txt`` with one JSON object per epoch, as BEiT, EVA, ConvNeXt, DETR and MAE write it -> rows.

Their MetricLogger gives the mean over the epoch of what ``clip_grad_norm_`` returned, as ``train_grad_norm``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of
from clipcal.logs.readers.jsonlines import Objects, counts_epochs, told, whole_epoch
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source

_STATS = "train_"
OVERFLOWN = (
    "One step whose gradients overflow makes the mean of its epoch infinite; in half precision such a step is skipped."
)


def _read(source: Source) -> Log:
    rows, objects = Rows(), Objects(source)
    for row in objects:
        rows.add(row, step=whole_epoch(row))
    of_beit = any(name.startswith(_STATS) for name in rows.names)
    facts: dict[str, Any] = {"window": "mean", "after": False} if of_beit else {}
    log = rows.log("log of one JSON object per epoch", unit="epoch", notes=objects.notes, **facts)
    if any(np.isinf(series.grad_norm).any() for series in log.series):
        log = replace(log, notes=(*log.notes, OVERFLOWN))
    return log


READER = Reader(
    title="log of one JSON object per epoch",
    recognises=lambda source: counts_epochs(row for row in told(source) if {"norm", "loss"} & set(map(kind_of, row))),
    read=_read,
    norms="call metric_logger.update(grad_norm=...) at every step; better, write the norm of every step, not of every epoch",
)
