"""Readings of several seeds -> predictions, and what was read where they are for."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.transfer.readings import TIMES, Readings
from clipcal.recommendation.scaling.moving import move, name_of


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prediction for ``times`` the batch from a probe at ``probe`` times of one seed, and what ``other`` seed's training reads there.
    ``errors``: by rule, the log of predicted over read. ``level_error``: the same of the stable medians."""

    name: str
    probe: int
    times: int
    seed: int
    other: int
    predicted: float
    interval: tuple[float, float]
    read: float | None
    corridor: tuple[float, float] | None
    same_seed: float | None
    same_candidate: float | None
    level_error: float | None
    noise: float
    drift: float
    errors: dict[str, float]

    @property
    def inside(self) -> bool:
        return self.holds(self.read)

    @property
    def in_corridor(self) -> bool:
        return self.corridor is not None and self.corridor[0] <= self.predicted <= self.corridor[1]

    def holds(self, value: float | None) -> bool:
        return value is not None and self.interval[0] <= value <= self.interval[1]


def rows_of(name: str, readings: Mapping[int, Readings], probe: int, *, all_pairs: bool) -> list[Row]:
    """``readings`` by seed. A prediction is compared with the next seed's training, or with those of all others."""
    seeds = list(readings)
    rows = []
    for times in TIMES:
        for i, seed in enumerate(seeds):
            others = [s for s in seeds if s != seed] if all_pairs else [seeds[(i + 1) % len(seeds)]]
            rows += [_row(name, probe, times, seed, other, readings) for other in others]
    return rows


def _row(name: str, probe: int, times: int, seed: int, other: int, readings: Mapping[int, Readings]) -> Row:
    here, there, own = readings[seed], readings[other].read[times], readings[seed].read[times]
    at_batch = here.read[1]
    assert at_batch.max_norm is not None
    assert at_batch.interval is not None
    assert at_batch.stable is not None
    found = move(at_batch, here.probes[probe], max(times, 2))
    t, moved = found.transfer, found.recommendation
    if times == 1:
        predicted, interval, factor = at_batch.max_norm, at_batch.interval, 1.0
    else:
        assert moved.max_norm is not None
        assert moved.interval is not None
        predicted, interval, factor = moved.max_norm, moved.interval, t.factor
    noise = math.sqrt(1 - t.noise + t.noise / times)
    rules = {"moved": factor, "as it is": 1.0, "noise alone": noise, "root": 1 / math.sqrt(times)}
    candidate = name_of(at_batch)
    assert candidate is not None
    level = None if there.stable is None else math.log(at_batch.stable.median * factor / there.stable.median)
    return Row(
        name=name,
        probe=probe,
        times=times,
        seed=seed,
        other=other,
        predicted=predicted,
        interval=interval,
        read=there.max_norm,
        corridor=there.corridor,
        same_seed=own.max_norm,
        same_candidate=getattr(there.candidates, candidate),
        level_error=level,
        noise=t.noise,
        drift=t.drift,
        errors={}
        if there.max_norm is None
        else {k: math.log(at_batch.max_norm * v / there.max_norm) for k, v in rules.items()},
    )


def off(rows: Sequence[Row], rule: str, quantile: float = 0.5) -> str:
    """By what factor a rule is off: of the median row, or a higher quantile."""
    errors = sorted(abs(r.errors[rule]) for r in rows if r.errors)
    if not errors:
        return "-"
    value = statistics.median(errors) if quantile == 0.5 else errors[math.ceil(quantile * len(errors)) - 1]
    return f"x {math.exp(value):.2f}"


def width(rows: Sequence[Row]) -> float:
    """High over low end of the interval, the median over rows."""
    return statistics.median(r.interval[1] / r.interval[0] for r in rows)
