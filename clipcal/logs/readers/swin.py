"""Swin Transformer's ``log_rank0.txt`` -> rows. SimMIM, Swin V2, VMamba, InternImage and many others write it too."""

from __future__ import annotations

import re
from typing import Any

from clipcal.logs.in_use import TOLD
from clipcal.logs.lines import LineLog
from clipcal.logs.names import NUMBER, value_of
from clipcal.logs.source import Source

_MICRO = re.compile(r"\s*(?:ACCUMULATION_STEPS|ACCUMULATE_STEPS|ACCUM_ITER)\s*:\s*(\d+)\s*")


class _Swin(LineLog):
    title = "Swin Transformer log"
    framework = "swin"
    norms = "take main.py of the repository's release from 2021-04 or later, which prints grad_norm, and set PRINT_FREQ to 1"
    words = ("Train: [",)
    trained = re.compile(r"Train: \[\s*(?P<epoch>\d+)/\d+\]\s*\[\s*(?P<it>\d+)/(?P<its>\d+)\](?P<values>.*)")
    # "loss 6.9 (7.0)", "lr 0.001", and in forks "l1 loss 0.1 (0.2)", "grad_norm: 1.2 (1.3/0.1)"; not "eta 0:00:03", "mem 9MB".
    # None is the last word of a line: a number there was cut off.
    value = re.compile(rf"(?<![\w/.])([A-Za-z][\w@/-]*(?: [A-Za-z][\w@/-]*){{0,3}}):?\s+({NUMBER})(?=[\s(,|])")
    clip = re.compile(rf"^\s*(?P<key>{TOLD['swin'].words})\s*:\s*(?P<value>{NUMBER}|null|None)\s*$")
    # yacs prints its tree sorted, so the first line of a dump is one of these, behind the logger's prefix
    start = re.compile(r"INFO\s+(?:AMP(?:_ENABLE|_OPT_LEVEL)?|AUG|BASE|DATA):")
    window = "last"
    after = False

    def __init__(self) -> None:
        super().__init__()
        self._micro: set[int] = set()
        self._accumulate = 1
        self._computed = False

    def row(self, found: re.Match[str]) -> tuple[dict[str, Any], float | None]:
        values, step = super().row(found)
        norms = [value for name, value in values.items() if "norm" in name.lower()]
        if norms:
            self._micro.add(self._accumulate)
            self._computed = self._computed or any(value_of(norm) != 0 for norm in norms)
        return values if norms else {}, step

    def other(self, line: str) -> None:
        if len(line) > 200:
            return
        super().other(line)
        if steps := _MICRO.fullmatch(line):
            self._accumulate = int(steps[1])

    def launched(self) -> None:
        super().launched()
        self._accumulate = 1

    def ended(self, source: Source) -> None:
        if self._micro and not self._computed:
            self.rows.notes.append(
                "Every grad_norm in it is 0: its scaler printed a norm that it did not compute, as forks without AMP do."
            )
        if max(self._micro, default=1) > 1:
            self.rows.notes.append(
                f"Its steps count micro-batches: the run accumulated {max(self._micro)} of them per optimizer step, "
                "and a line shows the norm of the latest optimizer step."
            )


READER = _Swin.reader()
