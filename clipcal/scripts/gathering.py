"""The files that watched processes write -> the steps of one optimizer, over all its ranks, as they come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcal.run.step import Step
from clipcal.scripts.child.growing import COUNT, NORM, NUMBERS
from clipcal.scripts.child.session import STREAMS

Rows = NDArray[np.float32]

UNLIKE = 1e-3
"""How far, relatively, the norms of ranks may be apart that share their gradients."""


@dataclass
class Rank:
    """One optimizer in one process: ``about`` is its stream.json, ``seen`` its seen.json."""

    folder: Path
    about: dict[str, Any]
    seen: dict[str, Any]
    steps: list[Step]
    rows: list[Rows]

    @property
    def rank(self) -> int:
        return int(self.about["rank"])

    @property
    def num_tensors(self) -> int:
        return len(self.about["names"])

    def read(self) -> None:
        """Whatever was written since."""
        numbers = [(name, f"<{kind}") for name, kind in NUMBERS.items()]
        row = np.dtype([*numbers, ("norms", f"<{NORM}", (self.num_tensors,))])
        with (self.folder / "steps").open("rb") as f:
            head = f.read(COUNT.size)
            count = COUNT.unpack(head)[0] if len(head) == COUNT.size else 0
            f.seek(COUNT.size + row.itemsize * len(self.steps))
            data = f.read(row.itemsize * max(count - len(self.steps), 0))
        for r in np.frombuffer(data, dtype=row):
            self.steps.append(Step(**{name: r[name].item() for name in NUMBERS}))
            self.rows.append(r["norms"].copy())
        # after the steps, so that what was seen of them is in it
        self.seen = _json(self.folder / "seen.json") or self.seen


class Gathering:
    """``poll`` gives the steps that are complete on every rank since the last call. ``num_unlike`` of them had another norm on another
    rank, where all should have the same gradients."""

    def __init__(self, session: Path) -> None:
        self.ranks: dict[str, Rank] = {}
        self.picked: list[Rank] = []
        self.given = 0
        self.num_unlike = 0
        self._folder = session / STREAMS

    def poll(self) -> tuple[list[Step], Rows]:
        for folder in sorted(self._folder.glob("*-*-*")) if self._folder.is_dir() else ():
            about = _json(folder / "stream.json")
            if folder.name not in self.ranks and about is not None:
                self.ranks[folder.name] = Rank(folder, about, {}, [], [])
        for rank in self.ranks.values():
            rank.read()
        # of each rank the optimizer that its process picked; where a command trains more than once, the first
        taken = {r.rank: r for r in self.picked}
        for rank in self.ranks.values():
            if rank.seen.get("picked"):
                taken.setdefault(rank.rank, rank)
        self.picked = [taken[k] for k in sorted(taken)]
        empty = np.empty((0, self.picked[0].num_tensors if self.picked else 0), dtype=np.float32)
        if not self.picked or len(self.picked) < self.world:
            return [], empty
        ready = min(len(r.steps) for r in self.picked)
        steps, rows = [], []
        for i in range(self.given, ready):
            of_ranks = [r.steps[i] for r in self.picked]
            step, row = _together(of_ranks, [r.rows[i] for r in self.picked], self.picked)
            self.num_unlike += not self.picked[0].about["sharded"] and _are_unlike(of_ranks)
            steps.append(step)
            rows.append(row)
        self.given = max(self.given, ready)
        return steps, np.stack(rows) if rows else empty

    @property
    def world(self) -> int:
        return int(self.picked[0].about["world"]) if self.picked else 1

    @property
    def lead(self) -> dict[str, Any]:
        """What the first rank says of itself."""
        return self.picked[0].about

    @property
    def clips(self) -> list[dict[str, Any]]:
        """The places at which the script clips by itself, as the first rank has seen them."""
        return list(self.picked[0].seen.get("clips", []))

    def optimizers(self) -> list[str]:
        """Every optimizer that made a step in the first process, by number, as people may want to read it."""
        first = self.picked[0].about["pid"] if self.picked else None
        rows = sorted(
            (r.about["number"], r.about, len(r.steps))
            for r in self.ranks.values()
            if r.about["pid"] == (first or r.about["pid"])
        )
        return [
            f"{number} {about['optimizer']} ({about['num_parameters']:,} parameters, {steps} step{'s' * (steps != 1)})"
            for number, about, steps in rows
        ]


def _together(steps: Sequence[Step], rows: Sequence[Rows], ranks: Sequence[Rank]) -> tuple[Step, Rows]:
    """One step of all ranks: norms from the shards, each counted once; the mean loss, since gradients are averaged over ranks."""
    first = steps[0]
    if len(steps) == 1 and not ranks[0].about["sharded"]:
        return first, rows[0]
    losses = [s.loss for s in steps]
    row, total = rows[0], first.grad_norm
    if ranks[0].about["sharded"]:
        counts = np.array([r.about["counts"] for r in ranks], dtype=np.float64)
        squares = (np.stack(rows).astype(np.float64) ** 2 * counts).sum(axis=0)
        row, total = np.sqrt(squares).astype(np.float32), float(np.sqrt(squares.sum()))
    together = replace(
        first,
        loss=float(np.mean(losses)),
        grad_norm=total,
        grad_max=max(s.grad_max for s in steps),
        skipped=any(s.skipped for s in steps),
    )
    return together, row


def _are_unlike(steps: Sequence[Step]) -> bool:
    norms = [s.grad_norm for s in steps if np.isfinite(s.grad_norm)]
    return len(norms) > 1 and max(norms) - min(norms) > UNLIKE * max(norms)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
