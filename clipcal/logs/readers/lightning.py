"""``metrics.csv`` of Lightning's CSVLogger -> rows.

A row per logging call: norm and loss of a step may stand in different rows. ``self.log`` in the training step writes the value
of the step at hand, one in ``log_every_n_steps`` (50 by default), and with ``on_epoch=True`` a mean over the epoch too.
"""

from __future__ import annotations

import re
from typing import Any

from clipcal.logs.lines import tell_beside
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of
from clipcal.logs.readers.tensorboard import LIGHTNING, facts_of, is_mean_of
from clipcal.logs.rows import Rows
from clipcal.logs.sheet import Sheet, records, sheet_of
from clipcal.logs.source import Source

TITLE = "Lightning metrics.csv"
_RATE = re.compile(r"lr-[\w.-]+(/pg1)?")  # LearningRateMonitor's name of the optimizer's only, or first, rate


def _recognises(source: Source) -> bool:
    sheet = sheet_of(source)
    if sheet is None or sheet.delimiter != "," or not {"epoch", "step"} <= set(sheet.header):
        return False
    names = [name for name in sheet.header if name not in ("step", "epoch")]
    return (
        sheet.gaps
        or list(sheet.header) == sorted(sheet.header)  # as CSVLogger writes it since 2.1
        or any(name.endswith(("_step", "_epoch")) or LIGHTNING.fullmatch(name) for name in names)
    )


def _read(source: Source) -> Log:
    sheet = sheet_of(source)
    assert sheet is not None
    names = _names(sheet)
    rows = Rows()
    for line, cells in records(source, sheet):
        if cells is None:
            rows.start_run()
        else:
            row = {name: cells[i] for i, name in names.items() if cells[i]}
            rows.add(row, line=line)
    tell_beside(rows, source, "lightning")
    norms = [name for name in names.values() if kind_of(name) == "norm"]
    facts: dict[str, Any] = {"window": "last"} | facts_of(norms, ()) | {"unit": "step"}
    return rows.log(TITLE, **facts)


def _names(sheet: Sheet) -> dict[int, str]:
    """The columns to read, by place. Means over epochs are left out where the values of steps stand beside them."""
    names = {}
    rate = False
    for i, name in enumerate(sheet.header):
        if is_mean_of(name, sheet.header):
            continue
        if _RATE.fullmatch(name) and not rate:
            rate, name = True, "lr"
        names[i] = name
    return names


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="call self.log_dict(lightning.pytorch.utilities.grad_norm(self, norm_type=2)) in on_before_optimizer_step, "
    "and train with Trainer(log_every_n_steps=1, gradient_clip_val=None)",
)
