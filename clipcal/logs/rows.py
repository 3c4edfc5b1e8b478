"""Rows of named values -> the series of every gradient norm among them. Keeps of a row only what a series needs."""

from __future__ import annotations

import bisect
import math
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipcal.logs.log import Floats, Log, Series
from clipcal.logs.names import EMPTY, STEPS, kind_of, squashed, value_of

MAX_NAMES = 2_000
"""Norms, losses and rates that one log may name: what has more has made them up."""
_RANK = {name: i for i, name in enumerate(STEPS)}
_USUAL_LOSSES = [
    "loss",
    "train_loss",
    "training_loss",
    "total_loss",
    "loss_total",
    "lm_loss",
    "trl",
    "cost",
    "nll_loss",
    "loss_avg",
    "avg_loss",
    "global_avg_loss",
    "mean_loss",
]
_STEM = {
    "norm": re.compile(r"grad(ient)?s?_?(l2_?|total_?|global_?)?norms?|g_?norm|total_norm|norm"),
    "loss": re.compile(r"loss|cost"),
    "lr": re.compile(r"(current_)?(lr|learning_?rate)s?"),
}


_Column = tuple["array[int]", "array[float]"]
"""The rows that the values of one name stand in, and the values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Which names of a row to take, and where to put their values; ``steps`` has the most telling name first."""

    columns: tuple[tuple[str, array[int], array[float]], ...]
    steps: tuple[str, ...]
    thresholds: tuple[str, ...]


class Rows:
    """Collects rows; ``log`` gives what they come to.

    ``add`` takes a row as the log has it: its names decide what is a norm, a loss, a learning rate, a step number or the
    threshold in use. Give ``step`` where it stands elsewhere in the line or has to be computed: the row's own is ignored.
    """

    def __init__(self) -> None:
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._columns: dict[str, dict[str, _Column]] = {"norm": {}, "loss": {}, "lr": {}}
        self._steps = array("d")
        self._starts: list[int] = []
        self._launched = False
        self._lowest, self._compared = math.inf, 0  # of the first so many steps
        self._threshold: tuple[str, float] | None = None
        self._num_odd = 0
        self._first_odd = ""  # as a note shows it
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def names(self) -> set[str]:
        """The names of all rows, as far as they are bounded."""
        return {name for names in self._plans for name in names}

    def add(self, row: Mapping[str, Any], *, step: float | None = None, line: int | None = None) -> None:
        """One row: names -> values in any spelling. Values that are no number are left out, and said where they are norms;
        ``line`` is where the row stands in its file."""
        names = tuple(row)
        plan = self._plans.get(names)
        if plan is None:
            plan = self._plan(names)
        at = len(self._steps)
        kept = False
        for name, rows, values in plan.columns:
            raw = row[name]
            value = raw if raw.__class__ is float else value_of(raw)
            if value is not None:
                rows.append(at)
                values.append(value)
                kept = True
            elif raw.__class__ is str and name in self._columns["norm"] and raw.strip().lower() not in EMPTY:
                where = "" if line is None else f", in line {line}"
                self._first_odd = self._first_odd or f"{raw.strip()[:40]!r}{where} ({name[:60]})"
                self._num_odd += 1
        for name in plan.thresholds:
            value = value_of(row[name])
            if value is not None:
                self._threshold = (name, value)
        if not kept:
            return
        for name in plan.steps if step is None else ():
            raw = row[name]
            value = float(raw) if raw.__class__ is int and -(2**53) < raw < 2**53 else value_of(raw)
            if value is not None and math.isfinite(value):
                step = value
                break
        if self._launched:
            self._launch(step)
        self._steps.append(math.nan if step is None else step)

    def add_alike(self, rows: Sequence[dict[str, Any]], *, but: Sequence[str] = ()) -> bool:
        """Many rows at once, in a third of the time, where all have the same names, none of those in ``but``, and plain numbers
        as values; where not, False, and nothing is added."""
        if not rows:
            return True
        names = tuple(rows[0])
        if any(name in names for name in but) or any(tuple(row) != names for row in rows):
            return False
        plan = self._plans.get(names) or self._plan(names)
        taken = [[row[name] for row in rows] for name, _, _ in plan.columns]
        steps = [row[plan.steps[0]] for row in rows] if plan.steps else [math.nan] * len(rows)
        numbers = all({v.__class__ for v in values} <= {float} for values in taken)
        if plan.thresholds or not taken or not numbers or not {v.__class__ for v in steps} <= {int, float}:
            return False
        if plan.steps and not all(-(2**53) < v < 2**53 for v in steps):
            return False
        at = range(len(self._steps), len(self._steps) + len(rows))
        for (_, kept, values), column in zip(plan.columns, taken, strict=True):
            kept.extend(at)
            values.extend(column)
        self._steps.extend(steps)
        return True

    def launched(self) -> None:
        """The header stands here that a script writes whenever it is launched.

        A launch whose first row stands at or below all steps before it started anew. Any other may have loaded a checkpoint:
        the steps themselves tell, to whoever splits the series.
        """
        self._launched = True

    def _launch(self, step: float | None) -> None:
        later = (s for s in self._steps[self._compared :] if not math.isnan(s))
        self._lowest = min(self._lowest, min(later, default=math.inf))
        self._compared, self._launched = len(self._steps), False
        if step is not None and step <= self._lowest < math.inf:
            self.start_run()

    def start_run(self) -> None:
        """The log itself says that a run starts here."""
        self._starts.append(len(self._steps))

    def threshold(self, name: str, value: float | None) -> None:
        """The threshold that the run was clipped at, as the log or a config tells; 0 and less mean that it was not."""
        if value is not None and not math.isnan(value):
            self._threshold = (name, value)

    def log(self, format: str, **facts: Any) -> Log:
        """What the rows come to. ``facts`` are Log's other fields."""
        steps = np.array(self._steps)
        # names whose values were never numbers have made a column all the same
        held = {kind: {n: c for n, c in columns.items() if c[0]} for kind, columns in self._columns.items()}
        norms = held["norm"]
        losses = _paired(norms, held["loss"], "loss")
        rates = _paired(norms, held["lr"], "lr")
        known: dict[str, Any] = {}
        if self._threshold is not None:
            name, value = self._threshold
            known = {"max_norm": value if value > 0 else math.inf, "max_norm_from": name}
        several = f"{self._num_odd} norms are no numbers, and their rows were left out: the first is {self._first_odd}."
        one = f"1 norm is no number, and its row was left out: it is {self._first_odd}."
        odd = [several if self._num_odd > 1 else one] if self._num_odd else []
        facts["notes"] = (*self.notes, *odd, *facts.get("notes", ()))
        return Log(
            format=format,
            series=tuple(self._series(tag, steps, losses.get(tag), rates.get(tag)) for tag in norms),
            **(known | facts),
        )

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        """What to take of rows with these names: most of a log's rows have the same few."""
        steps: list[str] = []
        thresholds: list[str] = []
        columns: list[tuple[str, array[int], array[float]]] = []
        for name in names:
            kind = kind_of(name) if isinstance(name, str) else "other"
            if kind == "step":
                steps.append(name)
            elif kind == "threshold":
                thresholds.append(name)
            elif kind != "other" and (name in self._columns[kind] or len(self._columns[kind]) < MAX_NAMES):
                columns.append((name, *self._columns[kind].setdefault(name, (array("q"), array("d")))))
        plan = _Plan(
            columns=tuple(columns),
            steps=tuple(sorted(steps, key=lambda name: _RANK[squashed(name)])),
            thresholds=tuple(thresholds),
        )
        if len(self._plans) < MAX_NAMES:
            self._plans[names] = plan
        return plan

    def _series(self, tag: str, steps: Floats, loss: str | None, lr: str | None) -> Series:
        at, norms = self._columns["norm"][tag]
        rows = np.array(at, dtype=np.int64)
        runs = np.searchsorted(np.unique(self._starts), np.arange(len(steps)), side="right")
        return Series(
            tag=tag,
            step=steps[rows],
            grad_norm=np.array(norms),
            loss=_beside(rows, steps, runs, self._columns["loss"].get(loss or "")),
            lr=_beside(rows, steps, runs, self._columns["lr"].get(lr or "")),
            starts=tuple(sorted({int(np.searchsorted(rows, s)) for s in self._starts} - {0, len(rows)})),
        )


def _beside(rows: Any, steps: Floats, runs: Any, column: _Column | None) -> Floats:
    """The values of ``column`` in the given rows, or else in the nearest row of the same step and run."""
    if column is None:
        return np.full(len(rows), np.nan)
    own = np.full(len(steps), np.nan)
    at = np.array(column[0], dtype=np.int64)
    own[at] = np.array(column[1])
    found: Floats = own[rows]
    there = np.zeros(len(steps), dtype=bool)
    there[at] = True
    missing = np.flatnonzero(~there[rows] & np.isfinite(steps[rows]))
    if missing.size:
        by_step: dict[tuple[int, float], list[int]] = {}
        for r in at.tolist():
            by_step.setdefault((int(runs[r]), float(steps[r])), []).append(r)
        for i, row in zip(missing, rows[missing].tolist(), strict=True):
            if same := by_step.get((int(runs[row]), float(steps[row]))):
                k = bisect.bisect(same, row)
                found[i] = own[min(same[max(k - 1, 0) : k + 1], key=lambda r: abs(r - row))]
    return found


def _paired(norms: Mapping[str, _Column], others: Mapping[str, _Column], kind: str) -> dict[str, str]:
    """Which loss (or learning rate) belongs to which norm: the one that is named alike, else the usual one, else the only
    one that is left."""
    stems = {name: _stem(name, kind) for name in others}
    found: dict[str, str] = {}
    for tag in norms:
        alike = [name for name, stem in stems.items() if stem == _stem(tag, "norm")]
        if alike:
            found[tag] = alike[0]
    if kind == "loss":
        for tag in norms:
            usual = [n for w in _USUAL_LOSSES for n in others if re.split("[/.]", squashed(n))[-1] == w]
            if tag not in found and usual and usual[0] not in found.values():
                found[tag] = usual[0]
    lone = [tag for tag in norms if tag not in found]
    left = [name for name in others if name not in found.values()] if kind == "loss" else list(others)
    if len(left) == 1 or (kind == "lr" and left):
        found |= dict.fromkeys(lone, left[0]) if kind == "lr" or len(lone) == 1 else {}
    return found


def _stem(name: str, kind: str) -> str:
    return re.sub(r"_+", "_", _STEM[kind].sub("", squashed(name), count=1)).strip("_/.")


def flatten(value: Mapping[str, Any], *, depth: int = 4) -> dict[str, Any]:
    """Nested objects as one row, names joined by ``/``. Lists are left out, and what is nested more deeply."""
    flat: dict[str, Any] = {}
    pending: list[tuple[str, Any, int]] = [("", value, 0)]
    while pending:
        prefix, inner, level = pending.pop()
        for name, v in inner.items():
            if isinstance(v, Mapping) and "value" not in v:
                if level < depth:
                    pending.append((f"{prefix}{name}/", v, level + 1))
            elif not isinstance(v, Sequence) or isinstance(v, str):
                flat[f"{prefix}{name}"] = v
    return flat
