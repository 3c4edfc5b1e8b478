"""Coqui TTS's ``trainer_0_log.txt`` -> rows: one for each block of values that it prints in training."""

from __future__ import annotations

import json
import re

from clipcal.logs.beside import text_beside
from clipcal.logs.early import early_line
from clipcal.logs.launches import Launches
from clipcal.logs.log import Log
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import value_of

TITLE = "Coqui TTS trainer log"

_STEP = re.compile(r"-->\s+(?:TIME: .*?-- )?STEP: \d+/-?\d+ -- GLOBAL_STEP: (\d+)")
# "     | > grad_norm_0: 4.31234  (4.22535)": the value of this step, and the mean since the epoch began
_VALUE = re.compile(r"\s*\| > ([\w./ -]{1,100}?):\s*(\S.*?)\s*(?:\s\([^()]*\)?)?\s*")
_START = re.compile(r"\s*> Training Environment\s*:")


def _recognises(source: Source) -> bool:
    return early_line(source, b"GLOBAL_STEP:", _STEP.search)


def _read(source: Source) -> Log:
    rows = Rows()
    launches = Launches(rows)
    block: dict[str, str] = {}
    step: float | None = None
    for line in source.lines():
        found = _STEP.search(line[:1_000])
        value = None if found or step is None else _VALUE.fullmatch(line[:1_000])
        if value:
            block[value[1]] = value[2]
            continue
        # Any other line ends a block; a blank one may stand inside it, where a launcher put it
        if step is not None and (line.strip() or found):
            launches.add(block, step=step)
            block, step = {}, None
        if found:
            step = float(found[1])
        elif _START.match(line):
            launches.launched()
    if step is not None:
        launches.add(block, step=step)
    _threshold(rows, text_beside(source, "config.json"))
    return rows.log(TITLE, window="last", after=False)


def _threshold(rows: Rows, config: str) -> None:
    """``grad_clip`` of the config that the trainer copies beside its log: a number, or one for each optimizer."""
    try:
        found = json.loads(config)
    except (ValueError, RecursionError):
        return
    clip = found.get("grad_clip") if isinstance(found, dict) else None
    each = [value_of(v) for v in clip] if isinstance(clip, list) else [value_of(clip)]
    known = {v for v in each if v is not None}
    if len(known) == 1:
        rows.threshold("grad_clip in config.json", known.pop())
    elif known:
        rows.notes.append(
            f"Its config.json clips each optimizer at a threshold of its own, grad_clip: {each}; "
            "they belong to grad_norm_0, grad_norm_1 and so on."
        )


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="set grad_clip in its config.json, high enough never to clip (with 0 its trainer computes no norm), and print_step to 1",
)
