"""Rows of named values -> the series of every gradient norm among them. Keeps of a row only what a series needs."""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipcal.logs.account import Account, Counting
from clipcal.logs.log import Floats, Log, Series
from clipcal.logs.losses import Column, paired, remarks
from clipcal.logs.names import EMPTY, STEPS, is_weak, kind_of, squashed, value_of

MAX_NAMES = 2_000
"""Norms, losses and rates that one log may name: what has more has made them up."""
_RANK = {name: i for i, name in enumerate(STEPS)}
_EPOCHS = ("epoch", "epochs", "current_epoch", "epoch_num", "train_epoch")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Which names of a row to take, and where to put their values; ``steps`` has the most telling name first, and ``places`` are names
    of what is counted in place of steps, epochs before all others."""

    columns: tuple[tuple[str, array[int], array[float]], ...]
    norms: frozenset[str]
    steps: tuple[str, ...]
    places: tuple[str, ...]
    thresholds: tuple[str, ...]


class Rows:
    """Collects rows; ``log`` gives what they come to.

    ``add`` takes a row as the log has it: its names decide what is a norm, a loss, a learning rate, a step number or the
    threshold in use. Give ``step`` where it stands elsewhere in the line or has to be computed: the row's own is ignored.
    A row that names a norm and has none is counted, with the reason: no row is dropped without a word.
    """

    def __init__(self) -> None:
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._columns: dict[str, dict[str, Column]] = {"norm": {}, "loss": {}, "lr": {}, "scale": {}}
        self._steps = array("d")
        self._places = array("d")  # where a row stands that has no step: its epoch, or what else is counted
        self._step_names: dict[str, int] = {}
        self._place_names: dict[str, int] = {}
        self._starts: list[int] = []
        self._launched = False
        self._lowest, self._compared = math.inf, 0  # of the first so many steps
        self._threshold: tuple[str, float] | None = None
        self._nulls: dict[str, int] = {}
        self.counting = Counting()
        self.notes: list[str] = []
        self.framework = ""
        """What wrote the log, by the name that its snippet has."""
        self.step_how = ""
        """How the reader came by the steps that it gives, where neither their name nor the format says it."""

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
            elif name in plan.norms:
                self._no_norm(name, raw, line)
        for name in plan.thresholds:
            value = value_of(row[name])
            if value is not None:
                self._threshold = (name, value)
        if not kept:
            return
        if step is None and plan.steps:
            step = self._named(row, plan.steps, self._step_names)
        place = None if step is not None or not plan.places else self._named(row, plan.places, self._place_names)
        if self._launched:
            self._launch(place if step is None else step)
        self._steps.append(math.nan if step is None else step)
        self._places.append(math.nan if place is None else place)

    @staticmethod
    def _named(row: Mapping[str, Any], names: tuple[str, ...], used: dict[str, int]) -> float | None:
        """The first finite value among the names, which is counted as one more by that name."""
        for name in names:
            raw = row[name]
            if raw.__class__ is str and "/" in raw:  # "5/300"
                raw = raw.partition("/")[0]
            value = float(raw) if raw.__class__ is int and -(2**53) < raw < 2**53 else value_of(raw)
            if value is not None and math.isfinite(value):
                used[name] = used.get(name, 0) + 1
                return value
        return None

    def _no_norm(self, name: str, raw: Any, line: int | None) -> None:
        """Count a norm that is none. A cell that is empty, as where each metric has rows of its own, is none that was lost."""
        where = "" if line is None else f", in line {line}"
        if raw.__class__ is str and raw.strip().lower() not in EMPTY:
            first = f"{raw.strip()[:40]!r}{where} ({name[:60]})"
            self.counting.pass_over("the norm is no number", first)
        elif raw is None and line is None:
            self._nulls[name] = self._nulls.get(name, 0) + 1

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
        if plan.places and not plan.steps:
            return False
        if plan.steps and not all(-(2**53) < v < 2**53 for v in steps):
            return False
        at = range(len(self._steps), len(self._steps) + len(rows))
        for (_, kept, values), column in zip(plan.columns, taken, strict=True):
            kept.extend(at)
            values.extend(column)
        self._steps.extend(steps)
        self._places.extend([math.nan] * len(rows))
        for name in plan.steps[:1]:
            self._step_names[name] = self._step_names.get(name, 0) + len(rows)
        return True

    def add_columns(self, columns: Mapping[str, Floats], *, steps: Floats, named: str = "") -> None:
        """Many rows at once: 1-D arrays of equal length, all of whose values are numbers. ``steps`` are a column of the log, if it is
        ``named``, or were computed by the caller."""
        if named:
            self._step_names[named] = self._step_names.get(named, 0) + len(steps)
        names = tuple(columns)
        plan = self._plans.get(names) or self._plan(names)
        at = np.arange(len(self._steps), len(self._steps) + len(steps), dtype=np.int64).tobytes()
        for name, kept, values in plan.columns:
            kept.frombytes(at)
            values.frombytes(np.ascontiguousarray(columns[name], dtype=np.float64).tobytes())
        self._steps.frombytes(np.ascontiguousarray(steps, dtype=np.float64).tobytes())
        self._places.frombytes(np.full(len(steps), np.nan).tobytes())

    def launched(self) -> None:
        """The header stands here that a script writes whenever it is launched.

        A launch whose first row stands at or below all steps before it started anew. Any other may have loaded a checkpoint:
        the steps themselves tell, to whoever splits the series.
        """
        self._launched = True

    def _launch(self, step: float | None) -> None:
        rows = zip(self._steps[self._compared :], self._places[self._compared :], strict=True)
        later = (at for step, place in rows if not math.isnan(at := place if math.isnan(step) else step))
        self._lowest = min(self._lowest, min(later, default=math.inf))
        self._compared, self._launched = len(self._steps), False
        if step is not None and step <= self._lowest < math.inf:
            self.start_run()

    @property
    def has_threshold(self) -> bool:
        """Whether the log told the threshold that was in use."""
        return self._threshold is not None

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
        norms = self._strong(held["norm"])
        losses = paired(norms, held["loss"], "loss")
        rates = paired(norms, held["lr"], "lr")
        known: dict[str, Any] = {}
        if self._threshold is not None:
            name, value = self._threshold
            known = {"max_norm": value if value > 0 else math.inf, "max_norm_from": name}
        for name, nulls in self._nulls.items():
            # a column that is empty in most rows is one that is logged now and then
            if name in norms and nulls <= len(norms[name][0]):
                self.counting.pass_over(
                    f"there is no number (null) for {name[:60]}: what was not finite may be lost", rows=nulls
                )
        losses_say = remarks(losses, list(held["loss"])) if norms else []
        facts["notes"] = (*self.notes, *losses_say, *facts.get("notes", ()))
        account = Account(rows=len(steps), passed=self.counting.passed)
        return Log(
            format=format,
            account=account,
            framework=facts.pop("framework", self.framework),
            series=tuple(self._series(tag, steps, losses.get(tag), rates.get(tag)) for tag in norms),
            **(known | facts),
        )

    def _strong(self, norms: dict[str, Column]) -> dict[str, Column]:
        """Without the names that say no more than "gradient", if there are others; else these are a guess, and no norm is negative."""
        strong = {name: column for name, column in norms.items() if not is_weak(name)}
        if strong:
            return strong
        found = {name: column for name, column in norms.items() if not min(column[1], default=0.0) < 0}
        self.notes += [
            f"{name!r} was taken for the gradient norm: a guess, as nothing else is named like one." for name in found
        ]
        return found

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        """What to take of rows with these names: most of a log's rows have the same few."""
        steps: list[str] = []
        thresholds: list[str] = []
        places: list[str] = []
        columns: list[tuple[str, array[int], array[float]]] = []
        for name in names:
            kind = kind_of(name) if isinstance(name, str) else "other"
            if kind == "step":
                steps.append(name)
            elif kind == "threshold":
                thresholds.append(name)
            elif kind == "count" or (isinstance(name, str) and squashed(name).rpartition("/")[2] in _EPOCHS):
                places.append(name)
            elif kind != "other" and (name in self._columns[kind] or len(self._columns[kind]) < MAX_NAMES):
                columns.append((name, *self._columns[kind].setdefault(name, (array("q"), array("d")))))
        plan = _Plan(
            columns=tuple(columns),
            norms=frozenset(name for name, *_ in columns if name in self._columns["norm"]),
            places=tuple(sorted(places, key=lambda name: kind_of(name) == "count")),
            steps=tuple(sorted(steps, key=lambda name: _RANK[squashed(name)])),
            thresholds=tuple(thresholds),
        )
        if len(self._plans) < MAX_NAMES:
            self._plans[names] = plan
        return plan

    def _series(self, tag: str, steps: Floats, loss: str | None, lr: str | None) -> Series:
        at, norms = self._columns["norm"][tag]
        rows = np.array(at, dtype=np.int64)
        runs = np.zeros(len(steps), dtype=np.int64)
        if self._starts:
            runs = np.searchsorted(np.unique(self._starts), np.arange(len(steps)), side="right")
        columns = self._columns
        scale = next(iter(columns["scale"].values()), None)
        return Series(
            tag=tag,
            step=steps[rows],
            place=np.array(self._places)[rows],
            grad_norm=np.array(norms),
            loss=_beside(rows, steps, runs, columns["loss"].get(loss or "")),
            lr=_beside(rows, steps, runs, columns["lr"].get(lr or "")),
            scale=_beside(rows, steps, runs, scale) if scale is not None and scale[0] else None,
            step_from=_most(self._step_names),
            step_how=self.step_how or ("its name" if self._step_names else "where the format has it"),
            place_from=_most(self._place_names),
            loss_from=loss or "",
            lr_from=lr or "",
            starts=tuple(sorted({int(np.searchsorted(rows, s)) for s in self._starts} - {0, len(rows)})),
        )


def _most(names: Mapping[str, int]) -> str:
    """The name that served most often; empty where none did."""
    return max(names, key=names.__getitem__, default="")


def _beside(rows: Any, steps: Floats, runs: Any, column: Column | None) -> Floats:
    """The values of ``column`` in the given rows, or else in the nearest row of the same step and run."""
    if column is None:
        return np.full(len(rows), np.nan)
    at = np.array(column[0], dtype=np.int64)
    if np.array_equal(at, rows):  # most logs have it in every row
        return np.array(column[1])
    own = np.full(len(steps), np.nan)
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
