"""llm.c: its ``main.log`` and its console -> rows."""

from __future__ import annotations

import re

from clipcal.logs.log import Log
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import NUMBER

_MAIN = re.compile(rf"s:(?P<step>\d+)\s+trl:(?P<loss>{NUMBER})\s+lr:(?P<lr>{NUMBER})\s+norm:(?P<norm>{NUMBER})\s*")
_CONSOLE = re.compile(
    rf"step\s+(?P<step>\d+)/\d+ \| loss (?P<loss>{NUMBER}) \([^)]*\)\s*\| norm (?P<norm>{NUMBER}) \([^)]*\)\s*\| lr (?P<lr>{NUMBER}) \|"
)
# before June 2024: "s:0 tel:10.968871", "s:0 trl:10.965596"
_WITHOUT = re.compile(rf"s:\d+\s+t[re]l:{NUMBER}\s*")


def _recognises(source: Source) -> bool:
    return any(_MAIN.fullmatch(line) or _CONSOLE.match(line) for line in source.telling) or (
        len(source.telling) > 1 and all(_WITHOUT.fullmatch(line) for line in source.telling[:10])
    )


def _read(source: Source) -> Log:
    rows = Rows()
    for line in source.lines():
        if "norm" not in line:
            continue
        found = _MAIN.fullmatch(line) or _CONSOLE.match(line)
        if found:
            rows.add({"loss": found["loss"], "lr": found["lr"], "norm": found["norm"]}, step=float(found["step"]))
    rows.threshold("train_gpt2.cu, which clips at 1.0 whatever the options", 1.0)
    return rows.log("llm.c log", after=False)


READER = Reader(
    title="llm.c log",
    recognises=_recognises,
    read=_read,
    norms="take llm.c of June 2024 or newer, whose train_gpt2cu writes one at every step",
)
