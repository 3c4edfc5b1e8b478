"""The console of Megatron-LM, and of Megatron-DeepSpeed, NeMo and others that grew from it -> rows."""

from __future__ import annotations

import re
from typing import Any

from clipcal.logs.in_use import TOLD
from clipcal.logs.lines import LineLog
from clipcal.logs.names import NUMBER, value_of

_ITS_OWN = re.compile(r"consumed|elapsed time per|global.batch.size|number of (?:skipped|nan) iterations")
_FIELD = re.compile(rf"\s*([A-Za-z][\w /()-]*?)\s*:\s*({NUMBER})\s*")
_DEEPSPEED = TOLD["megatron"].keys[1]


class _Megatron(LineLog):
    title = "Megatron-LM console"
    framework = "megatron"
    norms = "set --log-interval 1: Megatron prints the grad norm by itself, except under optimizers that compute none"
    words = ("iteration", "> global batch")
    trained = re.compile(r"(?:\biteration|> global batch)\s+(?P<step>\d+)\s*/\s*\d+\s*\|(?P<values>.*)")
    # "  clip_grad ....................................... 1.0"
    clip = re.compile(rf"\b(?P<key>{TOLD['megatron'].words})\s\.{{3,}}\s*(?P<value>{NUMBER})\s*$")
    start = re.compile(r"-{8,} arguments -{8,}")
    window = "last"
    after = False

    skipped_says = "iterations were skipped for overflowing fp16 gradients"
    _deepspeed = False  # whether it told the threshold

    @classmethod
    def is_own(cls, line: str) -> Any:
        return cls.found(line) and _ITS_OWN.search(line)

    @classmethod
    def found(cls, line: str) -> re.Match[str] | None:
        found = cls.trained.search(line[:4_000])
        return None if found and "alidation" in line[: found.start()] else found

    def row(self, found: re.Match[str]) -> tuple[dict[str, Any], float | None]:
        parts = found["values"].split("|")
        if "consumed" in found.string:  # Megatron ends each value by a bar, NeMo does not: the last was cut off
            parts.pop()
        fields = (_FIELD.fullmatch(part[:200]) for part in parts)
        row: dict[str, Any] = {field[1]: field[2] for field in fields if field}
        self.skipped += value_of(row.get("number of skipped iterations")) or 0.0
        # NeMo 2 numbers iterations within an epoch, and gives the step beside them
        return row, value_of(row.pop("global_step", found["step"]))

    def other(self, line: str) -> None:
        if not (self._deepspeed and TOLD["megatron"].keys[0] in line):
            super().other(line)
        self._deepspeed = self._deepspeed or (_DEEPSPEED in line and bool(self.clip.search(line[:1_000])))

    def launched(self) -> None:
        super().launched()
        self._deepspeed = False


READER = _Megatron.reader()
