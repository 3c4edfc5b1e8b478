"""ESPnet2's ``train.log`` -> rows: one for each window of batches that its trainer reports."""

from __future__ import annotations

import re
from typing import Any

from clipcal.logs.lines import LineLog, tell_beside
from clipcal.logs.names import NUMBER
from clipcal.logs.source import Source

# "8epoch results: [train] iter_time=..., total_count=24000, [valid] ...": the batches of all epochs so far
_EPOCH = re.compile(r"\b(\d+)epoch results: \[train\][^\[]*?\btotal_count=(\d+)")
_SKIPPED = re.compile(r"The grad norm is \S+\. Skipping updating the model")


class _Espnet(LineLog):
    title = "ESPnet2 train.log"
    framework = "espnet"
    norms = "take ESPnet 202304 or newer, whose trainer reports grad_norm, with log_interval: 1"
    words = ("epoch:train:",)
    # "8epoch:train:2901-3000batch: loss=9.5, grad_norm=37.4, clip=100.000, optim0_lr0=3.765e-04, train_time=1.137"
    trained = re.compile(r"(?:^|[\s:])(?P<epoch>\d+)epoch:train:\d+-(?P<last>\d+)batch:(?P<values>.*)")
    value = re.compile(rf"(?<![\w.])([A-Za-z]\w*)=({NUMBER})(?=,|\s*$)")
    start = re.compile(r"INFO: Model structure:|\bespnet2/bin/\w+_train\.py\b")
    skipped_says = "updates were skipped for gradients that are not finite"
    window = "mean"
    after = False

    def __init__(self) -> None:
        super().__init__()
        self._batches: dict[int, int] = {}  # before each epoch
        self._latest: tuple[int, int] | None = None

    def row(self, found: re.Match[str]) -> tuple[dict[str, Any], float | None]:
        epoch, last, before = int(found["epoch"]), int(found["last"]), self._batches
        if self._latest is not None and epoch == self._latest[0] + 1 and epoch not in before:
            before[epoch] = before.get(self._latest[0], 0) + self._latest[1]
        self._latest = (epoch, last)
        values = {"lr" if n == "optim0_lr0" else n: v for n, v in self.value.findall(found["values"])}
        return values, before.get(epoch, 0 if before else (epoch - 1) * last) + last

    def other(self, line: str) -> None:
        if "epoch results:" in line and (whole := _EPOCH.search(line[:20_000])):
            self._batches[int(whole[1]) + 1] = int(whole[2])
        elif "grad norm" in line:
            self.skipped += bool(_SKIPPED.search(line))
        else:
            super().other(line)

    def launched(self) -> None:
        super().launched()
        self._batches, self._latest = {}, None

    def ended(self, source: Source) -> None:
        tell_beside(self.rows, source, "espnet")


READER = _Espnet.reader()
