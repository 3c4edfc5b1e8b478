"""Marian NMT's ``train.log`` -> rows."""

from __future__ import annotations

import re

from clipcal.logs.early import early_line
from clipcal.logs.launches import Launches
from clipcal.logs.log import Log
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import NUMBER, value_of

TITLE = "Marian train.log"

_UPDATE = re.compile(r"\bEp\. (?P<epoch>[\d.,]+) : Up\. (?P<step>[\d,]+) : Sen\. [\d,.]+ : (?P<values>.*)")
# "Cost 3.75", "Cost 3.75 * 7,000 @ 12 after 1,234,567": --disp-label-counts puts the labels behind the cost. The norm has four
# decimals; at the end of a line, fewer were cut off.
_FIELD = re.compile(
    rf"(?:^| : )(?:(?P<name>Cost|L\.r\.) (?P<value>{NUMBER})(?=\s|$)"
    rf"|gNorm (?P<norm>{NUMBER}(?= :)|(?:\d+\.\d{{4}}|[+-]?(?:nan|inf))(?=\s|$)))"
)
_NAMES = {"Cost": "Cost", None: "gNorm", "L.r.": "learning_rate"}
_CLIP = re.compile(rf"\[config\] clip-norm:\s*({NUMBER})\s*$")
_START = re.compile(r"\[marian\] Marian v\d")


def _recognises(source: Source) -> bool:
    return early_line(source, b" : Up. ", _UPDATE.search)


def _read(source: Source) -> Log:
    rows = Rows()
    launches = Launches(rows)
    for line in source.lines():
        found = _UPDATE.search(line[:2_000])
        if found:
            row = {_NAMES[f["name"]]: f["value"] or f["norm"] for f in _FIELD.finditer(found["values"])}
            launches.add(row, step=float(found["step"].replace(",", "")))
        elif clip := _CLIP.search(line[:1_000]):
            rows.threshold("clip-norm in its [config]", value_of(clip[1]))
        elif _START.search(line[:200]):
            launches.launched()
    return rows.log(
        TITLE,
        after=False,
        # src/training/scheduler.h, Scheduler::update: gradientNormAvg, with a window of 100 and alpha = 2 / (window + 1)
        notes=(
            "Marian's gNorm is an exponential average over about the last 100 updates, so a spike of one update shows at "
            "a fiftieth of its height: a threshold read from it sees long excursions alone.",
        ),
    )


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="take Marian 1.10 or newer, which shows gNorm in every line, with --disp-freq 1",
)
