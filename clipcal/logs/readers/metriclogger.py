"""The console of DeiT's and DETR's MetricLogger -> rows. BEiT, MAE, EVA, DINO, BLIP and many others print by it."""

from __future__ import annotations

import re

from clipcal.logs.early import early_line
from clipcal.logs.launches import Launches
from clipcal.logs.log import Log
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import NUMBER, value_of

TITLE = "MetricLogger console (DeiT, BEiT, MAE, DINO and others)"

_LINE = re.compile(
    r"(?:Epoch:?\s*\[(?P<epoch>\d+)(?:/\d+)?\]:?\s*)?\[\s*(?P<it>\d+)/(?P<its>\d+)\]\s+eta: (?:\d+ days?, )?[\d:]+\s(?P<values>.*\btime: .*)"
)
_HELD_OUT = re.compile(r"(?i)\b(?:test|val|valid|validation|eval|evaluation)\b")
# "grad_norm: 1.21 (1.35)": the median of the last steps, and in brackets the mean of all
_VALUE = re.compile(rf"(?<![\w/.-])([A-Za-z][\w/.-]*): ({NUMBER})(?: \({NUMBER}\))?(?=\s|$)")
_CLIP = re.compile(rf"\b(clip_grad|clip_grad_norm|clip_max_norm)=({NUMBER}|None)(?=[,)\s]|$)")
_START = re.compile(r"^Namespace\(|\bStart training for \d+ epochs")


def _trained(text: str) -> re.Match[str] | None:
    found = _LINE.search(text[:4_000])
    return None if found is None or _HELD_OUT.search(text[: found.start()][-80:]) else found


def _recognises(source: Source) -> bool:
    return early_line(source, b"eta: ", _trained)


def _read(source: Source) -> Log:
    rows = Rows()
    launches = Launches(rows)
    for text in source.lines():
        found = _trained(text) if "eta: " in text else None
        if found:
            step = int(found["epoch"] or 0) * int(found["its"]) + int(found["it"])
            launches.add(dict(_VALUE.findall(found["values"])), step=step)
            continue
        if _START.search(text[:200]):
            launches.launched()
        if "clip" in text and (clip := _CLIP.search(text[:20_000])):
            rows.threshold(clip[1], value_of(clip[2]) or 0.0)
    return rows.log(
        TITLE,
        window="mean",
        # util/misc.py, SmoothedValue: window_size=20, fmt="{median:.4f} ({global_avg:.4f})"
        notes=(
            "Its lines show the median of the last 20 steps, so a single spike does not show at all: have your training "
            "script print the norm of each step.",
        ),
    )


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="call metric_logger.update(grad_norm=...) after each step, and print with print_freq=1",
)
