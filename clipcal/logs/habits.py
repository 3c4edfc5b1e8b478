"""The first lines of a text log that hold a norm -> the habits of whoever printed them: what numbers their rows, where a block begins,
and which of several processes wrote what. A habit that a line alone does not show is told by many of them."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from clipcal.logs.names import NUMBER, kind_of
from clipcal.logs.pairs import is_norm_line, norms_of, pairs_of, parts_of
from clipcal.logs.places import Place, guessed_place, place_of
from clipcal.logs.shapes import Parts
from clipcal.logs.source import Source

_LOOK = 100
"""Lines with a norm that are looked at."""
_MOST = 0.8
"""Their share that has to follow a habit."""
_LINE = 20_000
_INTEGER = re.compile(r"(?<![\w.:/+,-])\d{1,12}(?![\w:/%]|\.\d|-\d|,\d)")
_NEXT = re.compile(rf"\s+({NUMBER})(?![\w.])")
_PLACE = re.compile("(?i)step|iter|update|epoch|batch")
_RULE = re.compile(r"[\s\-=_*+|#─━│]*")
_RANK = re.compile(r"\s*\[(?:rank|default):?\s{0,2}(\d+)\]:?|\(\w+ pid=(\d+)[^)]*\)", re.IGNORECASE)
_LABEL = re.compile(r"\s*\[?(\d{1,4})\]?:\s")
_RANK_LAST = re.compile(r" rank (\d{1,6})\s*$")  # WeNet's


@dataclass(frozen=True, kw_only=True)
class Habits:
    """``leading``: a number at the start of a line, or like [12/300], is its step. ``ordinal``: which of the integers of a line, from 0,
    counts up, where nothing else does. ``step_last``: rows are blocks whose step stands below the norm. ``labels``: lines start
    with the number of a rank. ``left_out`` are the ranks and processes that wrote beside the ``kept``."""

    leading: bool = False
    ordinal: int | None = None
    step_last: bool = False
    labels: bool = False
    kept: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()

    def counted(self, line: str) -> Place | None:
        """The place of a line that names no step, by what counts up in such lines."""
        if self.leading:
            return guessed_place(line)
        if self.ordinal is None:
            return None
        found = _at(line, self.ordinal)
        return None if found is None else Place(it=float(found[0]), epoch=_epoch(line), guess=True)

    def parts_of(self, line: str) -> Parts:
        """The names and values of a line. Of two numbers behind a name the one that counts up is the step, the other one the value."""
        parts = parts_of(line)
        found = None if self.ordinal is None else _at(line, self.ordinal)
        if found is None:
            return parts
        behind = _NEXT.match(line, found.end())
        if behind is None:
            return parts
        return [(name, at, behind.span(1) if value == found.span() else value) for name, at, value in parts]

    def label_of(self, line: str) -> str | None:
        """Which rank or process wrote a line, where it says so."""
        found = (_LABEL if self.labels else _RANK).match(line)
        if found is None and " rank " in line:
            found = _RANK_LAST.search(line[-30:])
        return None if found is None else next(group for group in found.groups() if group)


def habits_of(source: Source) -> Habits:
    """By a first look at the lines. The whole file is looked at where its lines name processes."""
    lines: list[str] = []  # with a norm
    events: list[str] = []  # n: a norm without a place, p: a place alone, b: both, r: a rule or a blank line
    for line in source.lines():
        line = line[:_LINE]
        if _RULE.fullmatch(line):
            events.append("r")
        elif (has_norm := is_norm_line(line)) or _PLACE.search(line):
            pairs = pairs_of(line)
            has_norm = has_norm and bool(norms_of(pairs))
            has_place = place_of(line, pairs) is not None
            if has_norm or has_place:
                events.append("b" if has_norm and has_place else "n" if has_norm else "p")
            if has_norm:
                lines.append(line)
        if len(lines) > _LOOK:
            break
    leading, labels = _leading(lines)
    habits = Habits(leading=leading, labels=labels, step_last=_is_step_last(events))
    if not leading and not habits.step_last and "b" not in events:
        habits = Habits(labels=labels, ordinal=_ordinal(lines))
    if any(habits.label_of(line) is not None for line in lines):
        kept, left_out = _processes(habits, source.lines())
        habits = Habits(**{**vars(habits), "kept": kept, "left_out": left_out})
    return habits


def _processes(habits: Habits, lines: Iterable[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The processes whose lines are rows, and the others. Those that write in turn are ranks, of which the first counts; one that
    begins where another ends is the same training, started again."""
    spans: dict[str, array[int]] = {}
    for number, line in enumerate(lines):
        label = habits.label_of(line[:_LINE]) if is_norm_line(line) else None
        if label is not None and len(spans) < 10_000:
            spans.setdefault(label, array("q", [number, number]))[1] = number
    kept: list[str] = []
    end = -1
    for label, (first, last) in sorted(spans.items(), key=lambda item: item[1][0]):
        if first > end:
            kept.append(label)
            end = last
    return tuple(kept), frozenset(spans.keys() - set(kept))


def _leading(lines: Sequence[str]) -> tuple[bool, bool]:
    """Whether the numbers that lines start with may be steps: those grow, and what stays the same is the number of a rank or
    of a file. And whether they are ranks, as ``srun --label`` writes them: those go back again and again."""
    places = [place for line in lines if (place := guessed_place(line)) is not None]
    labels = [int(label[1]) for line in lines if (label := _LABEL.match(line))]
    grown = sum((b.epoch or 0, b.it) > (a.epoch or 0, a.it) for a, b in pairwise(places))
    falls = sum(b < a for a, b in pairwise(labels))
    ranks = len(labels) == len(lines) and falls >= max(3, len(lines) / (3 * len(set(labels) or {0})))
    return len(places) > 1 and grown >= _MOST * (len(places) - 1) and not ranks, ranks


def _ordinal(lines: Sequence[str]) -> int | None:
    """Which integer counts up from line to line, most evenly where several do: seconds do too."""
    rows = [[int(text) for text, _, _ in _integers(line)] for line in lines]
    if len(rows) < 3:
        return None
    width = Counter(map(len, rows)).most_common(1)[0][0]
    rows = [row for row in rows if len(row) == width]
    best: tuple[float, int] | None = None
    for at in range(width):
        gaps = [b[at] - a[at] for a, b in pairwise(rows)]
        if len(gaps) < 2 or sum(gap > 0 for gap in gaps) < _MOST * len(gaps):
            continue
        even = Counter(gaps).most_common(1)[0][1] / len(gaps)
        if best is None or even > best[0] + 1e-9:
            best = (even, at)
    return None if best is None else best[1]


def _integers(line: str) -> list[tuple[str, int, int]]:
    """The integers of a line that no name claims, and where they stand; one behind the name of a loss counts, if a number follows it."""
    claimed = {}
    for name, _, span in parts_of(line):
        followed = kind_of(name) in ("loss", "norm") and _NEXT.match(line, span[1])
        claimed[span] = not followed
    return [
        (found[0], *found.span())
        for found in _INTEGER.finditer(line[:_LINE])
        if not any(start <= found.start() < end and is_claimed for (start, end), is_claimed in claimed.items())
    ]


def _at(line: str, ordinal: int) -> re.Match[str] | None:
    found = _integers(line)
    if ordinal >= len(found):
        return None
    return _INTEGER.match(line, found[ordinal][1])


def _epoch(line: str) -> float | None:
    found = re.search(r"[Ee]poch\W{0,3}(\d+)", line)
    return None if found is None else float(found[1])


def _is_step_last(events: list[str]) -> bool:
    """Whether norms have no place in their line, and it stands below them: behind no rule that ends their block, or, where there are
    no rules, in turn with them, the norm first."""
    told = [event for event in events if event in "npb"]
    if told.count("n") < 2 or told.count("b") > (1 - _MOST) * len(told) or "p" not in told:
        return False
    above = below = 0
    for i, event in enumerate(events):
        if event == "n":
            above += i > 0 and events[i - 1] == "p"
            below += events[i + 1 : i + 2] == ["p"]
    if "r" in events and above != below:
        return below > above
    return told[0] == "n"
