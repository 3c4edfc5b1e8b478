"""llm.c: its ``main.log`` and its console -> rows."""

from __future__ import annotations

import re
from typing import Any

from clipcal.logs.lines import LineLog
from clipcal.logs.names import NUMBER
from clipcal.logs.source import Source

_CONSOLE = re.compile(
    rf"step\s+(?P<step>\d+)/\d+ \| loss\s+(?P<loss>{NUMBER}) \([^)]*\)\s*\| norm\s+(?P<norm>{NUMBER}) \([^)]*\)\s*\| lr\s+(?P<lr>{NUMBER}) \|"
)
# before June 2024: "s:0 tel:10.968871", "s:0 trl:10.965596"
_WITHOUT = re.compile(rf"s:\d+\s+t[re]l:{NUMBER}\s*")


class _LlmC(LineLog):
    title = "llm.c log"
    norms = "take llm.c of June 2024 or newer, whose train_gpt2cu writes one at every step"
    words = ("norm",)
    trained = re.compile(
        rf"s:(?P<step>\d+)\s+trl:\s*(?P<loss>{NUMBER})\s+lr:\s*(?P<lr>{NUMBER})\s+norm:\s*(?P<norm>{NUMBER})\s*"
    )
    after = False

    @classmethod
    def found(cls, line: str) -> re.Match[str] | None:
        return cls.trained.fullmatch(line) or _CONSOLE.match(line)

    @classmethod
    def recognises(cls, source: Source) -> bool:
        lines = source.telling
        return any(cls.found(line) for line in lines) or (
            len(lines) > 1 and all(_WITHOUT.fullmatch(line) for line in lines[:10])
        )

    def row(self, found: re.Match[str]) -> tuple[dict[str, Any], float | None]:
        return {"loss": found["loss"], "lr": found["lr"], "norm": found["norm"]}, float(found["step"])

    def ended(self, source: Source) -> None:
        self.rows.threshold("train_gpt2.cu, which clips at 1.0 whatever the options", 1.0)


READER = _LlmC.reader()
