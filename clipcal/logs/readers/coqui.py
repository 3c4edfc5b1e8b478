"""Coqui TTS's ``trainer_0_log.txt`` -> rows: one for each block of values that it prints in training."""

from __future__ import annotations

import json
import re

from clipcal.logs.in_use import TOLD, text_beside
from clipcal.logs.lines import LineLog
from clipcal.logs.names import value_of
from clipcal.logs.source import Source


class _Coqui(LineLog):
    title = "Coqui TTS trainer log"
    norms = "set grad_clip in its config.json, high enough never to clip (with 0 its trainer computes no norm), and print_step to 1"
    words = ("GLOBAL_STEP:",)
    trained = re.compile(r"-->\s+(?:TIME: .*?-- )?STEP: \d+/-?\d+ -- GLOBAL_STEP: (\d+)")
    # "     | > grad_norm_0: 4.31234  (4.22535)": the value of this step, and the mean since the epoch began
    value = re.compile(r"\s*\| > ([\w./ -]{1,100}?):\s*(\S.*?)\s*(?:\s\([^()]*\)?)?\s*")
    start = re.compile(r"^\s*> Training Environment\s*:")
    window = "last"
    after = False

    def __init__(self) -> None:
        super().__init__()
        self._block: dict[str, str] = {}
        self._step: float | None = None

    def line(self, line: str) -> None:
        found = self.found(line) if self.words[0] in line else None
        value = None if found or self._step is None else self.value.fullmatch(line[:1_000])
        if value:
            self._block[value[1]] = value[2]
            return
        if line.strip():  # a blank line may stand inside a block, where a launcher put it; any other ends it
            self._flush()
        if found:
            self._step = float(found[1])
        else:
            self.other(line)

    def _flush(self) -> None:
        if self._step is not None:
            self.rows.add(self._block, step=self._step)
            self._block, self._step = {}, None

    def ended(self, source: Source) -> None:
        """The trainer copies its config beside its log; ``grad_clip`` is a number, or one for each optimizer."""
        self._flush()
        told = TOLD["coqui"]
        try:
            found = json.loads(text_beside(source, told.files[0]))
        except (ValueError, RecursionError):
            return
        clip = found.get(told.keys[0]) if isinstance(found, dict) else None
        each = [value_of(v) for v in clip] if isinstance(clip, list) else [value_of(clip)]
        known = {v for v in each if v is not None}
        if len(known) == 1:
            self.rows.threshold("grad_clip in config.json", known.pop())
        elif known:
            self.rows.notes.append(
                f"Its config.json clips each optimizer at a threshold of its own, grad_clip: {each}; "
                "they belong to grad_norm_0, grad_norm_1 and so on."
            )


READER = _Coqui.reader()
