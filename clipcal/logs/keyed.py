"""Any text log whose lines name their values (``step: 10  loss: 7.1  grad_norm: 1.23``) -> rows. The last resort."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from clipcal.logs.early import early_line
from clipcal.logs.log import Log
from clipcal.logs.names import kind_of, squashed
from clipcal.logs.places import Place, Steps, guessed_place, place_of
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import NUMBER, value_of

TITLE = "text log of named values"
ENOUGH = 3
"""Lines with a gradient norm that make a file a log: fewer may be prose."""
_BLOCK = 100
"""Lines for which a step number holds that stood above them, in blocks of one value a line."""

_WORD = r"(?!(?:nan|inf|infinity|none|null|info|debug|warning|warn|error)\b)[a-z](?:[\w/@-]|\.(?=\w))*"
_VALUE = rf"(?:\d{{1,3}}(?:,\d{{3}})+(?![\d,])|(?:tensor|np\.\w+|array)\([^()]{{1,60}}\)|{NUMBER})"
_PAIR = re.compile(
    rf"""(?i)(?<![\w./@-])['"]?(?P<name>{_WORD}(?: {_WORD}){{0,4}}?)(?: ?\([\w ]{{1,20}}\))?['"]?"""  # "LR (group 0)"
    r"""(?:(?P<sign>\s*[:=]\s*)|\s{1,12})(?:\{['"]\w+['"]:\s*|\[|['"])?"""  # "={'0_default': 1.2}", "=[0.001]"
    rf"""(?P<value>{_VALUE})(?!\w|\.\w| ?%)"""
)
_BOX = re.compile(rf"\s*[|│]\s*([\w/ .-]{{1,60}}?)\s*[|│]\s*({_VALUE})\s*[|│]\s*")
_INTEREST = re.compile(
    r"[Nn][Oo][Rr][Mm]|[Ll][Oo][Ss][Ss]|gnrm|[Ss]tep|[Ii]ter|STEP|ITER|clip|[Uu]pdate|[Ll][Rr]|[Ll]earning|[Ee]poch"
)
_PROSE = re.compile(r"(?i)(?:^|_)(?:to|at|of|the|than|above|over|by|with|exceeds?|if|when|threshold|max(?:imum)?)_")
_HELD_OUT = re.compile(r"(?i)\b(?:val|valid|validation|validating|eval|evaluation|evaluating|test|testing)\b")
_OF_A_LAYER = re.compile(r"\.\d+\.|\.(?:weight|bias)\b|\blayer")
# not the LayerNorm((768,)) of a model's dump
_NORM = re.compile(r"(?i)grad|g_?norm|gnrm|total_norm|(?<![a-z])norm[\s:='\"|]")
_JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\{\s*["}]|\[\s*[\[{"])')
_EPOCH = re.compile(r"[\s=*#-]*(?:Training )?[Ee]poch\W{0,3}(\d+)(?:\s*/\s*\d+)?[\s:=*#-]*")
_RANK = re.compile(r"\s*\[(?:rank|default)\s?(\d+)\]:?|\(\w+ pid=(\d+)[^)]*\)", re.IGNORECASE)


def pairs_of(line: str) -> list[tuple[str, str]]:
    """The names and values in a line, as they stand there, without thousands separators."""
    box = _BOX.fullmatch(line)
    if box:
        return [(box[1].strip(), _plain(box[2]))]
    return [
        (found["name"], _plain(found["value"]))
        for found in _PAIR.finditer(line)
        if found["sign"] or found["name"].count(" ") < 3  # four words and a number are a sentence
    ]


def _plain(value: str) -> str:
    return value.replace(",", "") if value[:1].isdigit() else value


def _norms(pairs: list[tuple[str, str]]) -> set[str]:
    """The names among the pairs that are those of a gradient norm."""
    found = {name for name, _ in pairs if _is_norm(name)}
    if found and all(name.lower() == "norm" for name in found):  # the bare word needs company
        return found if any(kind_of(name) in ("loss", "step") for name, _ in pairs) else set()
    return found


@lru_cache(maxsize=4096)
def _is_norm(name: str) -> bool:
    """Whether a name is that of a gradient norm, not of a layer's, nor words of a sentence."""
    return kind_of(name) == "norm" and not _PROSE.search(squashed(name)) and not _OF_A_LAYER.search(name)


def _recognises(source: Source) -> bool:
    if _JSON.match(source.head):  # its rows are no lines
        return False
    seen = 0

    def another(line: str) -> bool:
        nonlocal seen
        seen += bool(_NORM.search(line)) and bool(_norms(pairs_of(line)))
        return seen >= ENOUGH

    return early_line(source, b"", another)


def _read(source: Source) -> Log:
    found = _Reading(guesses=_steps_can_be_guessed(source))
    for line in source.lines():
        found.line(line[:20_000])
    found.flush()
    rows, steps = found.rows, found.steps
    if steps.guessed:
        rows.notes.append(
            "Its lines name no step; the number at their start was taken for it. Say which it is with --pattern."
        )
    if steps.joined:
        rows.notes.append("It counts steps anew in each epoch; they were joined to one count.")
    if found.other_ranks:
        rows.notes.append(f"Several ranks wrote to it; only the lines of rank {found.rank} were read.")
    return rows.log(TITLE, window="mean" if found.mean else None)


class _Reading:
    """The state of reading one log, line by line."""

    def __init__(self, *, guesses: bool) -> None:
        self.rows = Rows()
        self.steps = Steps()
        self.rank: str | None = None
        self.other_ranks = self.mean = False
        self._guesses = guesses
        self._epoch: float | None = None  # as a line of its own told it
        self._above: float | None = None  # the latest step number, and for how many lines it still holds
        self._holds = 0
        self._bar: tuple[float | None, dict[str, str]] | None = None
        self._latest: tuple[float | None, dict[str, str]] | None = None

    def line(self, line: str) -> None:
        self._holds -= 1
        if not _INTEREST.search(line):
            return
        pairs = pairs_of(line)
        norms = _norms(pairs)
        if self._is_of_another_rank(line, bool(norms)) or (not norms and _HELD_OUT.search(line[:100])):
            return
        row = {name: value for name, value in pairs if name in norms or kind_of(name) in ("loss", "lr")}
        self._threshold(line, pairs)
        if not row and not _BOX.fullmatch(line):  # what is said of "steps" elsewhere is a setting
            pairs = [(name, value) for name, value in pairs if not squashed(name).endswith("s")]
        if header := _EPOCH.fullmatch(line):
            self._epoch = float(header[1])
        place = place_of(line, pairs)
        if place is None and norms and self._guesses:
            place = guessed_place(line)
        step = self._step(place)
        if norms:
            self.mean = self.mean or (place is not None and place.mean)
            self._add(step, row, bar=place is not None and place.bar)
        elif row and step is not None:
            self._add(step, row, bar=False)

    def flush(self) -> None:
        """Add what the latest progress bar showed."""
        if self._bar is not None:
            step, row = self._bar
            self._bar = None
            self.rows.add(row, step=step)

    def _add(self, step: float | None, row: dict[str, str], *, bar: bool) -> None:
        if not bar:
            self.flush()
            # loggers that are set up twice, and launchers, print a line twice
            if step is None or (step, row) != self._latest:
                self.rows.add(row, step=step)
            self._latest = (step, row)
            return
        # A bar is drawn anew when its count changes, and again when its values do: the last ones of a count are its own.
        # NaN stays as it is from step to step, and counts each time.
        if self._bar is not None and self._bar[1] == row and not any("n" in value.lower() for value in row.values()):
            return
        if self._bar is not None and self._bar[0] != step:
            self.flush()
        self._bar = (step, row)

    def _step(self, place: Place | None) -> float | None:
        if place is None:
            return self._above if self._holds > 0 else None
        if place.epoch is None and self._epoch is not None:
            place = replace(place, epoch=self._epoch)
        number = self.steps.number(place)
        if not place.guess and not place.bar:
            self._above, self._holds = number, _BLOCK
        return number

    def _is_of_another_rank(self, line: str, has_norm: bool) -> bool:
        found = _RANK.match(line)
        if found is None:
            return False
        rank = found[1] or found[2]
        if self.rank is None and has_norm:
            self.rank = rank
        if self.rank is None or rank == self.rank:
            return False
        self.other_ranks = self.other_ranks or has_norm
        return True

    def _threshold(self, line: str, pairs: list[tuple[str, str]]) -> None:
        for name, value in pairs:
            # max_norm is an argument of embeddings and constraints too
            if kind_of(name) == "threshold" and (squashed(name) != "max_norm" or re.search(r"(?i)clip|grad", line)):
                self.rows.threshold(name, value_of(value))


def _steps_can_be_guessed(source: Source) -> bool:
    """Whether the numbers that lines start with grow: what stays the same is the number of a rank or of a file."""
    grown = compared = 0
    last: Place | None = None
    norms = 0
    for line in source.lines():
        line = line[:20_000]
        if not _NORM.search(line) or not _norms(pairs_of(line)):
            continue
        norms += 1
        place = guessed_place(line)
        if place is not None and last is not None:
            compared += 1
            grown += (place.epoch or 0, place.it) > (last.epoch or 0, last.it)
        last = place or last
        if norms > 100:
            break
    return compared > 0 and grown >= 0.8 * compared


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="print it in the line of each step, as in `step 10 loss 2.31 grad_norm 1.87`",
)
