"""ESPnet2's ``train.log`` -> rows: one for each window of batches that its trainer reports."""

from __future__ import annotations

import re

from clipcal.logs.beside import threshold_beside
from clipcal.logs.early import early_line
from clipcal.logs.launches import Launches
from clipcal.logs.log import Log
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import NUMBER

TITLE = "ESPnet2 train.log"

# "8epoch:train:2901-3000batch: loss=9.5, grad_norm=37.4, clip=100.000, optim0_lr0=3.765e-04, train_time=1.137"
_WINDOW = re.compile(r"(?:^|[\s:])(?P<epoch>\d+)epoch:train:\d+-(?P<last>\d+)batch:(?P<values>.*)")
# "8epoch results: [train] iter_time=..., total_count=24000, [valid] ...": the batches of all epochs so far
_EPOCH = re.compile(r"\b(\d+)epoch results: \[train\][^\[]*?\btotal_count=(\d+)")
_VALUE = re.compile(rf"(?<![\w.])([A-Za-z]\w*)=({NUMBER})(?=,|\s*$)")
_SKIPPED = re.compile(r"The grad norm is \S+\. Skipping updating the model")
_START = re.compile(r"INFO: Model structure:|\bespnet2/bin/\w+_train\.py\b")


def _recognises(source: Source) -> bool:
    return early_line(source, b"epoch:train:", _WINDOW.search)


def _read(source: Source) -> Log:
    rows = Rows()
    launches = Launches(rows)
    batches: dict[int, int] = {}  # before each epoch
    latest: tuple[int, int] | None = None
    skipped = 0
    for line in source.lines():
        found = _WINDOW.search(line[:4_000]) if "epoch:train:" in line else None
        if found:
            epoch, last = int(found["epoch"]), int(found["last"])
            if latest is not None and epoch == latest[0] + 1 and epoch not in batches:
                batches[epoch] = batches.get(latest[0], 0) + latest[1]
            latest = (epoch, last)
            values = {"lr" if n == "optim0_lr0" else n: v for n, v in _VALUE.findall(found["values"])}
            launches.add(values, step=batches.get(epoch, (epoch - 1) * last if not batches else 0) + last)
        elif "epoch results:" in line and (whole := _EPOCH.search(line[:20_000])):
            batches[int(whole[1]) + 1] = int(whole[2])
        elif "grad norm" in line:
            skipped += bool(_SKIPPED.search(line))
        elif _START.search(line[:400]):
            launches.launched()
            batches, latest = {}, None
    beside = threshold_beside(source, ("config.yaml",), ("grad_clip",))
    if beside:
        rows.threshold(*beside)
    if skipped:
        rows.notes.append(
            f"{skipped} updates were skipped for gradients that are not finite; those have no norm in it."
        )
    return rows.log(TITLE, window="mean", after=False)


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="take ESPnet 202304 or newer, whose trainer reports grad_norm, with log_interval: 1",
)
