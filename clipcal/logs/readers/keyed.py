"""Any text log whose lines name their values (``step: 10  loss: 7.1  grad_norm: 1.23``) -> rows. The last resort."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from clipcal.errors import InputError
from clipcal.logs.habits import Habits, habits_of
from clipcal.logs.lines import early_line
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of, squashed, value_of
from clipcal.logs.pairs import BOX, is_norm_line, is_told, norms_of, pairs_of, parts_of, plain, plan_of, unread_norm
from clipcal.logs.places import EPOCH_RANK, Place, Steps, place_of, rank_of
from clipcal.logs.rows import Rows
from clipcal.logs.shapes import Shapes
from clipcal.logs.source import ANSI, Source
from clipcal.logs.templates import Template, template_of

TITLE = "text log of named values"
_QUARTILES = "grad-norm quartiles "
"""icefall's, as in "Clipping_scale=2.0, grad-norm quartiles 1.4e+02 1.7e+02 1.9e+02 2.2e+02 3.2e+02, threshold=3.9e+02"."""
ENOUGH = 3
"""Lines with a gradient norm that make a file a log: fewer may be prose."""
_BLOCK = 100
"""Lines for which a step number holds that stood above them, in blocks of one value a line."""

_INTEREST = re.compile(
    "norm|grad|∇|[|‖]g[|‖]|grdn|loss|gnrm|step|iter|clip|update|lr|learning|epoch|batch="
)  # in small letters
_NEEDLES = tuple(
    word.encode()
    for word in [
        "norm",
        "grad",
        "|g|",
        "grdn",
        "loss",
        "gnrm",
        "step",
        "iter",
        "clip",
        "update",
        "lr",
        "learning",
        "epoch",
        "batch",
    ]
)
"""The same, for the letters of many lines at once."""
_SIGNS = ("∇".encode(), "‖".encode())
_NO_LETTERS = bytes(c for c in range(256) if not (c < 128 and (chr(c).isalpha() or chr(c) == "|")))
_LOWER = bytes(c + 32 if chr(c) in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" else c for c in range(256))
_DRAWN = re.compile(r"\d+/(?:\d+|\?) \[\d+:\d\d")
"""A progress bar; one without a value says nothing."""
_VALUED = re.compile("norm|grad|∇|loss|lr|clip")
_LINE = 20_000
_WHOLESALE = 32
"""Lines that are worth taking at once."""
_FIRST = 200
"""Lines that are read singly, and the template taken from the last of them."""
_TRIES = 20
"""Parts of a log that may turn out to be of another form, before the rest is read line by line."""
_HELD_OUT = re.compile(r"(?i)\b(?:val|valid|validation|validating|eval|evaluation|evaluating|test|testing)\b")
_JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\{\s*["}]|\[\s*[\[{"])')
_EPOCH = re.compile(r"[\s=*#-]*(?:Training )?[Ee]poch\W{0,3}(\d+)(?:\s*/\s*\d+)?[\s:=*#-]*")
_AWAITED = (":", "=", ": ", "= ")
"""What a line ends with whose value was wrapped onto the next."""


def _recognises(source: Source) -> bool:
    if _JSON.match(source.head):  # its rows are no lines
        return False
    seen = 0

    def another(line: str) -> bool:
        nonlocal seen
        seen += is_norm_line(line) and (bool(norms_of(pairs_of(line))) or _awaits(line))
        return seen >= ENOUGH or (_QUARTILES in line and "Clipping_scale=" in line)

    return early_line(source, ("grad", "norm", "gnrm", "grdn", "∇", "|g|", "‖g‖"), another, any_case=True)


def _read(source: Source) -> Log:
    found = _Reading(habits_of(source))
    for block in source.blocks(coloured=True):
        found.block(block.replace(b"\r", b"\n") if b"\r" in block else block)
    found.flush()
    notes = (
        (
            found.steps.guessed,
            f"Its lines name no step; {found.guess} was taken for it: a guess. Say which it is with --pattern.",
        ),
        (found.steps.joined, "It counts steps anew in each epoch; they were joined to one count."),
        (found.other_ranks, f"Several ranks wrote to it; only the lines of rank {found.rank} were read."),
    )
    if found.steps.guessed:
        found.rows.step_how = f"a guess: it is {found.guess}"
    window = "mean" if found.mean else None
    log = found.rows.log(TITLE, window=window, notes=tuple(note for holds, note in notes if holds))
    if found.quartiles and not log.series:
        raise InputError(
            f"{source.path}: is an icefall log, and holds no norms that a threshold could be read from. Its ScaledAdam has no "
            "max_norm: it clips by itself, at clipping_scale times the median of its latest norms, and these quartiles are of "
            "norms that are relative to the size of the parameters. For another optimizer, print the norm that "
            "clip_grad_norm_ returns at every step."
        )
    return log


def _says(line: str) -> bool:
    """Whether a line in small letters may say something; a progress bar without a value does not."""
    if not _INTEREST.search(line):
        return False
    return not _DRAWN.search(line) or bool(_VALUED.search(line))


def _ends(block: bytes, key: bytes) -> tuple[bytes, bytes, bytes, int]:
    """The first line with the key, the last two, and how many lines stand below."""
    last = block.rfind(key)
    before = block.rfind(key, 0, block.rfind(b"\n", 0, last))
    first = _line_at(block, block.find(key))
    return first, _line_at(block, before), _line_at(block, last), block.count(b"\n", last)


def _line_at(block: bytes, at: int) -> bytes:
    end = block.find(b"\n", at)
    return block[block.rfind(b"\n", 0, at) + 1 : len(block) if end < 0 else end]


def _text(line: bytes) -> str:
    """A line without colours."""
    return (ANSI.sub(b"", line) if b"\x1b" in line else line).decode("utf-8", "replace")


def _awaits(line: str) -> bool:
    """Whether a line ends with the name of a norm, whose value was wrapped onto the next."""
    return line.endswith(_AWAITED) and bool(norms_of(pairs_of(f"{line.rstrip()} 1")))


class _Reading:
    """The state of reading one log, line by line."""

    def __init__(self, habits: Habits) -> None:
        self._habits = habits
        self._shapes = Shapes(parts_of if habits.ordinal is None else habits.parts_of, is_told)
        self._held: dict[str, str] = {}  # of a block, until its step is known
        self.rows = Rows()
        self.steps = Steps()
        self.rank = ", then of ".join(habits.kept[:5])
        self.guess = "the number at their start" if habits.leading else "the number that counts up in them"
        self.other_ranks = self.mean = self.quartiles = False
        self._epoch: float | None = None  # as a line of its own told it
        self._above: float | None = None  # the latest step number, and for how many lines it still holds
        self._holds = 0
        self._bar: tuple[float | None, dict[str, str]] | None = None
        self._latest: tuple[float | None, dict[str, str]] | None = None
        self._awaiting = ""  # a line whose value was wrapped onto the next
        self._template: Template | None = None
        self._misses = 0

    def block(self, block: bytes) -> None:
        """Whole lines. Those of the statement that prints the norms are taken at once, and what stands between them line by line."""
        if self._template is None:
            lines = block.split(b"\n", _FIRST)
            self._singly(lines[:_FIRST])
            block = lines[_FIRST] if len(lines) > _FIRST else b""
        if self._wholesale(block):
            return
        lines = block.split(b"\n")
        at = 0
        for odd in (*self._odd(lines), len(lines)):
            if not self._wholesale(b"\n".join(lines[at:odd])):
                self._misses += odd - at >= _WHOLESALE
                self._singly(lines[at:odd])
            if odd < len(lines):
                self._one(lines[odd])
            at = odd + 1

    def _odd(self, lines: Sequence[bytes]) -> list[int]:
        """Which of the lines are no rows, and may say something."""
        if self._template is None or not self._is_simple:
            return []
        key = self._template.key
        return [i for i, line in enumerate(lines) if key not in line and _says(_text(line).lower())]

    @property
    def _is_simple(self) -> bool:
        """Whether a row is a line that tells its step by itself, and nothing before it changes how it is read."""
        awaits = self._awaiting or self._held or self._bar is not None
        return self._epoch is None and not (awaits or self._habits.left_out or self._habits.step_last)

    def _wholesale(self, block: bytes) -> bool:
        """Take the rows of whole lines at once. False, and nothing is taken, where another line may say something, or a row is none.

        The first row and the last are taken singly, as they change how other lines are read.
        """
        template = self._template
        if template is None or self._misses >= _TRIES or not self._is_simple:
            return False
        try:
            numbers, others = template.rows(block)
        except ValueError:  # "1.2.3"
            return False
        columns = dict(zip(template.names, numbers, strict=True))
        step = columns.pop(next(name for name in template.names if rank_of(name) is not None))
        if step.size < _WHOLESALE or not np.all(np.isfinite(step) & (step % 1 == 0)):
            return False
        letters = others.translate(_LOWER, _NO_LETTERS)
        if any(word in letters for word in _NEEDLES) or any(sign in others for sign in _SIGNS):
            return False
        first, before, last, below = _ends(block, template.key)
        again = (numbers[:, 1:] == numbers[:, :-1]) | (np.isnan(numbers[:, 1:]) & np.isnan(numbers[:, :-1]))
        new = ~again.all(axis=0)[:-1]  # of the rows between the first and the last
        self._one(first)
        base = self.steps.base
        self.rows.add_columns({name: c[1:-1][new] for name, c in columns.items()}, steps=step[1:-1][new] + base)
        names, values = self._shapes.pairs(_text(before))
        self._latest = (float(step[-2] + base), {names[i]: plain(values[i]) for i in plan_of(names).kept})
        self._one(last)
        self._holds -= below
        return True

    def _singly(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._one(line)
        if self._misses < _TRIES and self._is_simple:
            self._learn(next((line for line in reversed(lines) if is_norm_line(_text(line))), b""))

    def _learn(self, line: bytes) -> None:
        """The template of a line, if it holds a norm and names its step, and nothing else in it says where it stands."""
        text = _text(line)
        parts = parts_of(text)
        plan = plan_of(tuple(name for name, _, _ in parts))
        steps = [(name, text[slice(*span)]) for name, _, span in parts if rank_of(name) is not None]
        if not plan.norms or plan.thresholds or len(steps) != 1 or rank_of(steps[0][0]) == EPOCH_RANK:
            return
        place = place_of(text, steps)
        if (
            place is None
            or place.within
            or place.mean
            or place.bar
            or place.epoch is not None
            or _HELD_OUT.search(text[:100])
        ):
            return
        kept = {parts[i][0] for i in plan.kept} | {steps[0][0]}
        norm = next(name for name, _, _ in parts if kind_of(name) == "norm")
        self._template = template_of(line, parts, kept.__contains__, norm)

    def _one(self, raw: bytes) -> None:
        if not raw:
            return
        line = _text(raw)[:_LINE]
        if self._awaiting:
            line, self._awaiting = f"{self._awaiting} {line.lstrip()}", ""
        if line.endswith(_AWAITED) and _awaits(line):
            self._awaiting = line
        else:
            self.line(line)

    def line(self, line: str) -> None:
        self._holds -= 1
        if not _INTEREST.search(line.lower()):
            return
        names, values = self._shapes.pairs(line)
        plan = plan_of(names)
        self.quartiles = self.quartiles or _QUARTILES in line
        if self._is_of_another_rank(line, plan.norms) or (not plan.norms and _HELD_OUT.search(line[:100])):
            return
        if not plan.norms and len(self.rows) and (unread := unread_norm(line)):
            self.rows.counting.pass_over("the norm is no number", repr(unread))
        row = {names[i]: plain(values[i]) for i in plan.kept}
        for i in plan.thresholds:
            # max_norm is an argument of embeddings and constraints too
            if squashed(names[i]) != "max_norm" or re.search(r"(?i)clip|grad", line):
                self.rows.threshold(names[i], value_of(plain(values[i])))
        pairs = [(names[i], plain(values[i])) for i in plan.places]
        if not row and not BOX.fullmatch(line):  # what is said of "steps" elsewhere is a setting
            pairs = [(name, value) for name, value in pairs if not squashed(name).endswith("s")]
        if "poch" in line and (header := _EPOCH.fullmatch(line)):
            self._epoch = float(header[1])
        place = place_of(line, pairs)
        if self._habits.step_last and not (place is not None and plan.norms):
            self._block(place, row)
            return
        if place is None and plan.norms:
            place = self._habits.counted(line)
        if place is not None and place.bar and not row:
            return
        step = self._step(place)
        if step is None and plan.norms:
            row |= dict([("epoch", value) for name, value in pairs if rank_of(name) == EPOCH_RANK][-1:])
        if plan.norms:
            self.mean = self.mean or (place is not None and place.mean)
            self._add(step, row, bar=place is not None and place.bar)
        elif row and step is not None:
            self._add(step, row, bar=False)

    def _block(self, place: Place | None, row: dict[str, str]) -> None:
        """A line of a block whose step stands last: a name that comes again begins the next one."""
        if row.keys() & self._held.keys():
            self._end_block(None)
        self._held |= row
        if place is not None and not place.bar:
            self._end_block(self._step(place))

    def _end_block(self, step: float | None) -> None:
        row, self._held = self._held, {}
        if row:
            self._add(step, row, bar=False)

    def flush(self) -> None:
        """Add what the latest progress bar showed, and the last block."""
        if self._awaiting:
            line, self._awaiting = self._awaiting, ""
            self.line(line)
        self._end_block(None)
        if self._bar is not None:
            step, row = self._bar
            self._bar = None
            self.rows.add(_numbers(row), step=step)

    def _add(self, step: float | None, row: dict[str, str], *, bar: bool) -> None:
        if not bar:
            self.flush()
            # loggers that are set up twice, and launchers, print a line twice
            if step is None or (step, row) != self._latest:
                self.rows.add(_numbers(row), step=step)
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
        if not self._habits.left_out:
            return False
        if self._habits.label_of(line) not in self._habits.left_out:
            return False
        self.other_ranks = self.other_ranks or has_norm
        return True


def _numbers(row: dict[str, str]) -> dict[str, float | str]:
    """The row with its plain numbers as floats: nearly all are."""
    found: dict[str, float | str] = {}
    for name, text in row.items():
        try:
            found[name] = float(text)
        except ValueError:  # 1.#IND, tensor(1.5)
            found[name] = text
    return found


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="print it in the line of each step, as in `step 10 loss 2.31 grad_norm 1.87`",
)
