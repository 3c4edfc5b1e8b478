"""Any text log whose lines name their values (``step: 10  loss: 7.1  grad_norm: 1.23``) -> rows. The last resort."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from clipcal.errors import InputError
from clipcal.logs.habits import Habits, habits_of
from clipcal.logs.lines import early_line
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import squashed, value_of
from clipcal.logs.pairs import BOX, is_norm_line, is_told, norms_of, pairs_of, parts_of, plain, plan_of, unread_norm
from clipcal.logs.places import EPOCH_RANK, Place, Steps, place_of, rank_of
from clipcal.logs.rows import Rows
from clipcal.logs.shapes import Shapes
from clipcal.logs.source import Source

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
    for line in _unwrapped(source.lines()):
        found.line(line[:20_000])
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


def _unwrapped(lines: Iterator[str]) -> Iterator[str]:
    """The lines, with a norm's name that ends one put before its value in the next."""
    held = ""
    for line in lines:
        if held:
            line, held = f"{held} {line.lstrip()}", ""
        if line.endswith(_AWAITED) and _awaits(line):
            held = line
        else:
            yield line
    if held:
        yield held


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
