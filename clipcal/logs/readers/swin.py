"""Swin Transformer's ``log_rank0.txt`` -> rows. SimMIM, Swin V2, VMamba, InternImage and many others write it too."""

from __future__ import annotations

import re

from clipcal.logs.early import early_line
from clipcal.logs.launches import Launches
from clipcal.logs.log import Log
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import NUMBER, value_of

TITLE = "Swin Transformer log"

_TRAIN = re.compile(r"Train: \[\s*(?P<epoch>\d+)/\d+\]\s*\[\s*(?P<it>\d+)/(?P<its>\d+)\](?P<values>.*)")
# "loss 6.9 (7.0)", "lr 0.001", and in forks "l1 loss 0.1 (0.2)", "grad_norm: 1.2 (1.3/0.1)"; not "eta 0:00:03", "mem 9MB".
# None is the last word of a line: a number there was cut off.
_VALUE = re.compile(rf"(?<![\w/.])([A-Za-z][\w@/-]*(?: [A-Za-z][\w@/-]*){{0,3}}):?\s+({NUMBER})(?=[\s(,|])")
# yacs prints its tree sorted, so the first line of a dump is one of these, behind the logger's prefix
_DUMP = re.compile(r"INFO\s+(?:AMP(?:_ENABLE|_OPT_LEVEL)?|AUG|BASE|DATA):")
_CLIP = re.compile(rf"\s*(CLIP_GRAD|CLIP_GRAD_NORM)\s*:\s*({NUMBER}|null|None)\s*")
_MICRO = re.compile(r"\s*(?:ACCUMULATION_STEPS|ACCUMULATE_STEPS|ACCUM_ITER)\s*:\s*(\d+)\s*")


def _recognises(source: Source) -> bool:
    return early_line(source, b"Train: [", _TRAIN.search)


def _read(source: Source) -> Log:
    rows = Rows()
    launches = Launches(rows)
    micro: set[int] = set()
    accumulate = 1
    computed = False
    for line in source.lines():
        found = _TRAIN.search(line[:4_000])
        if found:
            values = dict(_VALUE.findall(found["values"]))
            if any("norm" in name.lower() for name in values):
                launches.add(values, step=int(found["epoch"]) * int(found["its"]) + int(found["it"]))
                micro.add(accumulate)
                computed = computed or any(value_of(values[name]) != 0 for name in values if "norm" in name.lower())
        elif len(line) > 200:
            continue
        elif clip := _CLIP.fullmatch(line):
            rows.threshold(clip[1], value_of(clip[2]) or 0.0)
        elif steps := _MICRO.fullmatch(line):
            accumulate = int(steps[1])
        elif _DUMP.search(line):
            launches.launched()
            accumulate = 1
    if micro and not computed:
        rows.notes.append(
            "Every grad_norm in it is 0: its scaler printed a norm that it did not compute, as forks without AMP do."
        )
    if max(micro, default=1) > 1:
        rows.notes.append(
            f"Its steps count micro-batches: the run accumulated {max(micro)} of them per optimizer step, "
            "and a line shows the norm of the latest optimizer step."
        )
    return rows.log(TITLE, window="last", after=False)


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="take main.py of the repository's release from 2021-04 or later, which prints grad_norm, and set PRINT_FREQ to 1",
)
