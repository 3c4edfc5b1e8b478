"""ParlAI's console -> rows: one for each report of its training, a table of names above values, or a Python dict."""

from __future__ import annotations

import re

from clipcal.logs.early import early_line
from clipcal.logs.launches import Launches
from clipcal.logs.log import Log
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import NUMBER, value_of

TITLE = "ParlAI console"

_STEP = "total_train_updates"
_REPORT = re.compile(r"\btime:[\d.]+s total_exs:\d+ .*?\bepochs:")
_DICT = re.compile(rf"'(\w+)': ({NUMBER})(?=[,}}])")
_WORD = re.compile(r"\S+")
_NAME = re.compile(r"[A-Za-z][\w%/@-]*")
_CLIP = re.compile(rf"\bgradient_clip: ({NUMBER})(?=\s|$)")
_RANK = re.compile(r"\[rank:\s*(\d+)\s*[\]|]")
_START = re.compile(r"\btraining\.\.\.")


def _recognises(source: Source) -> bool:
    return early_line(source, b"gnorm", lambda line: _STEP in line and (_REPORT.search(line) or _table(line)))


def _read(source: Source) -> Log:
    found = _Reading()
    for line in source.lines():
        found.line(line[:4_000])
    found.flush()
    return found.rows.log(TITLE, window="mean", after=False)


class _Reading:
    """The state of reading one log. A wide table may be cut into several, one below another."""

    def __init__(self) -> None:
        self.rows = Rows()
        self._launches = Launches(self.rows)
        self._rank: str | None = None
        self._values: dict[str, str] | None = None  # of the report that lines belong to
        self._heads: dict[int, str] = {}  # where the name of each column ends

    def line(self, line: str) -> None:
        if _REPORT.search(line):
            self.flush()
            if self._is_of_another_rank(line):
                return
            self._values = dict(_DICT.findall(line))
        elif "|" in line:  # every message stands behind its time
            self.flush()
            if clip := _CLIP.search(line):
                self.rows.threshold("gradient_clip", value_of(clip[1]))
            elif _START.search(line):
                self._launches.launched()
        elif self._values is None:
            if clip := _CLIP.search(line):
                self.rows.threshold("gradient_clip", value_of(clip[1]))
        elif heads := _table(line):
            self._heads = heads
        elif self._heads:  # the first row is that of all tasks
            for word in _WORD.finditer(line):
                if word.end() in self._heads:
                    self._values[self._heads[word.end()]] = word[0]
            self._heads = {}

    def flush(self) -> None:
        """Add the report that ended."""
        values, self._values, self._heads = self._values, None, {}
        if values and "gnorm" in values:
            if "mean_loss" in values:  # as rankers call it
                values.setdefault("loss", values.pop("mean_loss"))
            kept: dict[str, str] = {name: values[name] for name in ("gnorm", "loss", "lr") if name in values}
            self._launches.add(kept, step=value_of(values.get(_STEP)))

    def _is_of_another_rank(self, line: str) -> bool:
        found = _RANK.search(line)
        if found is None:
            return False
        self._rank = self._rank or found[1]
        return found[1] != self._rank


def _table(line: str) -> dict[int, str]:
    """The names in a table's head and where they end, as their values do; empty for any other line."""
    words = list(_WORD.finditer(line.rstrip(" \\")))
    if len(words) < 2 or not all(_NAME.fullmatch(word[0]) for word in words):
        return {}
    return {word.end(): word[0] for word in words}


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="train a model of its TorchGeneratorAgent or another TorchAgent: ParlAI reports gnorm by itself, -lstep 1 at every step",
)
