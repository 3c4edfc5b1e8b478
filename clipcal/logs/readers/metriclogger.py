"""The console of DeiT's and DETR's MetricLogger -> rows. BEiT, MAE, EVA, DINO, BLIP and many others print by it."""

from __future__ import annotations

import re

from clipcal.logs.in_use import TOLD
from clipcal.logs.lines import LineLog
from clipcal.logs.names import NUMBER

_HELD_OUT = re.compile(r"(?i)\b(?:test|val|valid|validation|eval|evaluation)\b")


class _MetricLogger(LineLog):
    title = "MetricLogger console (DeiT, BEiT, MAE, DINO and others)"
    norms = "call metric_logger.update(grad_norm=...) after each step, and print with print_freq=1"
    words = ("eta: ",)
    trained = re.compile(
        r"(?:Epoch:?\s*\[(?P<epoch>\d+)(?:/\d+)?\]:?\s*)?\[\s*(?P<it>\d+)/(?P<its>\d+)\]\s+"
        r"eta: (?:\d+ days?, )?[\d:]+\s(?P<values>.*\btime: .*)"
    )
    # "grad_norm: 1.21 (1.35)": the median of the last steps, and in brackets the mean of all
    value = re.compile(rf"(?<![\w/.-])([A-Za-z][\w/.-]*): ({NUMBER})(?: \({NUMBER}\))?(?=\s|$)")
    clip = re.compile(rf"\b(?P<key>{TOLD['metriclogger'].words})=(?P<value>{NUMBER}|None)(?=[,)\s]|$)")
    start = re.compile(r"^Namespace\(|\bStart training for \d+ epochs")
    window = "mean"
    # util/misc.py, SmoothedValue: window_size=20, fmt="{median:.4f} ({global_avg:.4f})"
    notes = (
        "Its lines show the median of the last 20 steps, so a single spike does not show at all: have your training "
        "script print the norm of each step.",
    )

    @classmethod
    def found(cls, line: str) -> re.Match[str] | None:
        found = cls.trained.search(line[:4_000])
        return None if found is None or _HELD_OUT.search(line[: found.start()][-80:]) else found


READER = _MetricLogger.reader()
