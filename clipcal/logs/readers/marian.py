"""Marian NMT's ``train.log`` -> rows."""

from __future__ import annotations

import re
from typing import Any

from clipcal.logs.in_use import TOLD
from clipcal.logs.lines import LineLog
from clipcal.logs.names import NUMBER

# "Cost 3.75", "Cost 3.75 * 7,000 @ 12 after 1,234,567": --disp-label-counts puts the labels behind the cost. The norm has four
# decimals; at the end of a line, fewer were cut off.
_FIELD = re.compile(
    rf"(?:^| : )(?:(?P<name>Cost|L\.r\.) (?P<value>{NUMBER})(?=\s|$)"
    rf"|gNorm (?P<norm>{NUMBER}(?= :)|(?:\d+\.\d{{4}}|[+-]?(?:nan|inf))(?=\s|$)))"
)
_NAMES = {"Cost": "Cost", None: "gNorm", "L.r.": "learning_rate"}


class _Marian(LineLog):
    title = "Marian train.log"
    norms = "take Marian 1.10 or newer, which shows gNorm in every line, with --disp-freq 1"
    words = (" : Up. ",)
    trained = re.compile(r"\bEp\. (?P<epoch>[\d.,]+) : Up\. (?P<step>[\d,]+) : Sen\. [\d,.]+ : (?P<values>.*)")
    clip = re.compile(rf"\[config\] (?P<key>{TOLD['marian'].words}):\s*(?P<value>{NUMBER})\s*$")
    clip_says = " in its [config]"
    start = re.compile(r"\[marian\] Marian v\d")
    after = False
    # src/training/scheduler.h, Scheduler::update: gradientNormAvg, with a window of 100 and alpha = 2 / (window + 1)
    notes = (
        "Marian's gNorm is an exponential average over about the last 100 updates, so a spike of one update shows at "
        "a fiftieth of its height: a threshold read from it sees long excursions alone.",
    )

    def row(self, found: re.Match[str]) -> tuple[dict[str, Any], float | None]:
        values = {_NAMES[f["name"]]: f["value"] or f["norm"] for f in _FIELD.finditer(found["values"])}
        return values, float(found["step"].replace(",", ""))


READER = _Marian.reader()
