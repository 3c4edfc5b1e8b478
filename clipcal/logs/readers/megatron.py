"""The console of Megatron-LM, and of Megatron-DeepSpeed, NeMo and others that grew from it -> rows."""

from __future__ import annotations

import re

from clipcal.logs.early import early_line
from clipcal.logs.launches import Launches
from clipcal.logs.log import Log
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import NUMBER, value_of

TITLE = "Megatron-LM console"

_ITERATION = re.compile(r"(?:\biteration|> global batch)\s+(?P<step>\d+)\s*/\s*\d+\s*\|(?P<values>.*)")
_ITS_OWN = re.compile(r"consumed|elapsed time per|global.batch.size|number of (?:skipped|nan) iterations")
_FIELD = re.compile(rf"\s*([A-Za-z][\w /()-]*?)\s*:\s*({NUMBER})\s*")
# "  clip_grad ....................................... 1.0"; the second is DeepSpeed's, which then does the clipping
_CLIP = re.compile(rf"\b(clip_grad|gradient_clipping)\s\.{{3,}}\s*({NUMBER})\s*$")
_START = re.compile(r"-{8,} arguments -{8,}")


def _recognises(source: Source) -> bool:
    return early_line(
        source,
        (b"iteration", b"> global batch"),
        lambda line: _ITERATION.search(line[:4_000]) and _ITS_OWN.search(line),
    )


def _read(source: Source) -> Log:
    rows = Rows()
    launches = Launches(rows)
    skipped = 0.0
    deepspeed = False
    for line in source.lines():
        found = _ITERATION.search(line[:4_000])
        if found and "alidation" not in line[: found.start()]:
            parts = found["values"].split("|")
            if "consumed" in line:  # Megatron ends each value by a bar, NeMo does not: the last was cut off
                parts.pop()
            fields = (_FIELD.fullmatch(part[:200]) for part in parts)
            row = {field[1]: field[2] for field in fields if field}
            # NeMo 2 numbers iterations within an epoch, and gives the step beside them
            step = value_of(row.pop("global_step", found["step"]))
            skipped += value_of(row.get("number of skipped iterations")) or 0.0
            launches.add(row, step=step)
        elif "clip" in line and (clip := _CLIP.search(line[:1_000])):
            if clip[1] == "gradient_clipping" or not deepspeed:
                rows.threshold(clip[1], value_of(clip[2]))
            deepspeed = deepspeed or clip[1] == "gradient_clipping"
        elif _START.search(line[:1_000]):
            launches.launched()
            deepspeed = False
    if skipped:
        rows.notes.append(
            f"{skipped:.0f} iterations were skipped for overflowing fp16 gradients; those have no norm in it."
        )
    return rows.log(TITLE, window="last", after=False)


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="set --log-interval 1: Megatron prints the grad norm by itself, except under optimizers that compute none",
)
