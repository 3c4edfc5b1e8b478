"""A text log whose script prints a line at a time -> rows: what the readers of such formats have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from clipcal.logs.in_use import TOLD, threshold_beside
from clipcal.logs.log import Log, Reader, Window
from clipcal.logs.names import kind_of, value_of
from clipcal.logs.pairs import named_norm
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source


class LineLog:
    """A format, in the attributes of a subclass, and the state of reading one log of it.

    ``title`` and ``norms`` are those of ``Reader``, ``window``, ``after``, ``framework`` and ``notes`` the fields of ``Log``. ``trained`` is
    found in a line of training, which holds one of ``words``. Its groups are ``values``, of which ``value`` finds names and
    values, and ``epoch``, ``it`` and ``its``, from 0, where ``row`` is not the subclass's own. ``clip`` is found in lines that
    tell the threshold, with groups ``key`` and ``value``; ``clip_says`` is put behind the key. ``start`` is found in the header
    that the script writes whenever it is launched. ``skipped_says`` completes the note on how many steps were ``skipped``.
    """

    title: ClassVar[str]
    norms: ClassVar[str]
    words: ClassVar[tuple[str, ...]]
    trained: ClassVar[re.Pattern[str]]
    value: ClassVar[re.Pattern[str]]
    clip: ClassVar[re.Pattern[str] | None] = None
    clip_says: ClassVar[str] = ""
    start: ClassVar[re.Pattern[str] | None] = None
    window: ClassVar[Window | None] = None
    after: ClassVar[bool | None] = None
    notes: tuple[str, ...] = ()
    framework: ClassVar[str] = ""
    skipped_says: ClassVar[str] = ""
    skipped: float = 0

    def __init__(self) -> None:
        self.rows = Rows()

    @classmethod
    def found(cls, line: str) -> Any:
        """What is found in a line of training; nothing true in any other."""
        return cls.trained.search(line[:4_000])

    @classmethod
    def is_own(cls, line: str) -> Any:
        """Whether a line is of this format and no other."""
        return cls.found(line)

    def line(self, line: str) -> None:
        words = self.words
        looked = words[0] in line or words[-1] in line
        found = self.found(line) if looked else None
        if found:
            values, step = self.row(found)
            if not any(kind_of(name) == "norm" for name in values):
                self._pass_over(line)
            self.rows.add(values, step=step)
        else:
            if looked:
                self._pass_over(line)
            self.other(line)

    def _pass_over(self, line: str) -> None:
        """Count a line that was not taken apart, if it names a norm."""
        if named_norm(line[:4_000]):
            self.rows.counting.pass_over(
                "a norm is named, and the line is not as this format writes it", repr(line.strip())
            )

    def row(self, found: re.Match[str]) -> tuple[dict[str, Any], float | None]:
        """The values in a line of training, and its step."""
        step = int(found["epoch"] or 0) * int(found["its"]) + int(found["it"])
        return dict(self.value.findall(found["values"])), step

    def other(self, line: str) -> None:
        """A line that is none of training."""
        if self.start and self.start.search(line[:1_000]):
            self.launched()
        if self.clip and ("clip" in line or "CLIP" in line) and (clip := self.clip.search(line[:20_000])):
            self.rows.threshold(clip["key"] + self.clip_says, value_of(clip["value"]) or 0.0)  # None is off

    def launched(self) -> None:
        self.rows.launched()

    def ended(self, source: Source) -> None:
        """All lines were read."""

    def log(self) -> Log:
        if self.skipped:
            self.rows.notes.append(f"{self.skipped:.0f} {self.skipped_says}; those have no norm in it.")
        self.rows.framework = self.framework
        return self.rows.log(self.title, window=self.window, after=self.after, notes=self.notes)

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return early_line(source, cls.words, cls.is_own)

    @classmethod
    def read(cls, source: Source) -> Log:
        reading = cls()
        take = reading.line
        for line in source.lines():
            take(line)
        reading.ended(source)
        return reading.log()

    @classmethod
    def reader(cls) -> Reader:
        return Reader(title=cls.title, recognises=cls.recognises, read=cls.read, norms=cls.norms)


def tell_beside(rows: Rows, source: Source, framework: str) -> None:
    """Tell the rows the threshold that stands in a config beside the log, or else the framework's default, if nothing told another."""
    rows.framework = framework
    if beside := threshold_beside(source, TOLD[framework]):
        rows.threshold(*beside)
    elif (default := TOLD[framework].default) and not rows.has_threshold:
        rows.threshold(*default)


def early_line(
    source: Source, words: tuple[str, ...], test: Callable[[str], object], *, any_case: bool = False
) -> bool:
    """Whether ``test`` is true of a line in the first 32 MiB: a log may start with long dumps of a configuration or a model.

    It sees only lines that contain one of ``words``, cut to 20,000 characters. ``any_case``: the words are in small letters,
    and the lines need not be.
    """
    needles = [word.encode() for word in words]
    if not source.is_text:
        return False
    for block in source.early:
        for raw in _lines_with(block, block.lower() if any_case else block, needles):
            parts = raw.decode("utf-8", "replace").split("\r")
            if any(test(part[:20_000]) for part in parts if part):
                return True
    return False


def _lines_with(block: bytes, searched: bytes, needles: Sequence[bytes]) -> Iterator[bytes]:
    """The lines of a block that contain a needle. The block is searched as a whole: that is much faster than line by line."""
    nexts = {needle: at for needle in needles if (at := searched.find(needle)) >= 0}
    while nexts:
        at = min(nexts.values())
        start = searched.rfind(b"\n", 0, at) + 1
        end = searched.find(b"\n", at)
        end = len(block) if end < 0 else end
        yield block[start:end]
        nexts = {n: f for n, found in nexts.items() if (f := found if found > end else searched.find(n, end + 1)) > end}
