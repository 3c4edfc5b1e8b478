"""ParlAI's console -> rows: one for each report of its training, a table of names above values, or a Python dict."""

from __future__ import annotations

import re
from typing import Any

from clipcal.logs.in_use import TOLD
from clipcal.logs.lines import LineLog
from clipcal.logs.names import NUMBER, value_of
from clipcal.logs.source import Source

_STEP = "total_train_updates"
_WORD = re.compile(r"\S+")
_NAME = re.compile(r"[A-Za-z][\w%/@-]*")
_RANK = re.compile(r"\[rank:\s*(\d+)\s*[\]|]")


class _Parlai(LineLog):
    """A wide table may be cut into several, one below another."""

    title = "ParlAI console"
    norms = "train a model of its TorchGeneratorAgent or another TorchAgent: ParlAI reports gnorm by itself, -lstep 1 at every step"
    words = ("gnorm",)
    trained = re.compile(r"\btime:[\d.]+s total_exs:\d+ .*?\bepochs:")
    value = re.compile(rf"'(\w+)': ({NUMBER})(?=[,}}])")
    clip = re.compile(rf"\b(?P<key>{TOLD['parlai'].words}): (?P<value>{NUMBER})(?=\s|$)")
    start = re.compile(r"\|.*\btraining\.\.\.")  # every message stands behind its time
    window = "mean"
    after = False

    def __init__(self) -> None:
        super().__init__()
        self._rank: str | None = None
        self._values: dict[str, str] | None = None  # of the report that lines belong to
        self._heads: dict[int, str] = {}  # where the name of each column ends

    @classmethod
    def is_own(cls, line: str) -> Any:
        return _STEP in line and (cls.trained.search(line) or _table(line))

    def line(self, line: str) -> None:
        line = line[:4_000]
        if self.trained.search(line):
            self._flush()
            rank = _RANK.search(line)
            self._rank = self._rank or (rank[1] if rank else None)
            if rank is None or rank[1] == self._rank:
                self._values = dict(self.value.findall(line))
        elif "|" in line or self._values is None:
            self._flush()
            self.other(line)
        elif heads := _table(line):
            self._heads = heads
        elif self._heads:  # the first row is that of all tasks
            for word in _WORD.finditer(line):
                if word.end() in self._heads:
                    self._values[self._heads[word.end()]] = word[0]
            self._heads = {}

    def _flush(self) -> None:
        """Add the report that ended."""
        values, self._values, self._heads = self._values, None, {}
        if values and "gnorm" in values:
            if "mean_loss" in values:  # as rankers call it
                values.setdefault("loss", values.pop("mean_loss"))
            kept: dict[str, Any] = {name: values[name] for name in ("gnorm", "loss", "lr") if name in values}
            self.rows.add(kept, step=value_of(values.get(_STEP)))

    def ended(self, source: Source) -> None:
        self._flush()


def _table(line: str) -> dict[int, str]:
    """The names in a table's head and where they end, as their values do; empty for any other line."""
    words = list(_WORD.finditer(line.rstrip(" \\")))
    if len(words) < 2 or not all(_NAME.fullmatch(word[0]) for word in words):
        return {}
    return {word.end(): word[0] for word in words}


READER = _Parlai.reader()
