"""A log -> the run of clipcal's own beside it that recommends another threshold: both are of one training, and say different things."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from clipcal.errors import InputError
from clipcal.run.directory import is_run, open_run
from clipcal.run.jsonfile import number
from clipcal.run.records import read_record


@dataclass(frozen=True, kw_only=True)
class Beside:
    """The run's folder as it was looked for, and the threshold that it recommends."""

    folder: str
    max_norm: float


def run_beside(log: Path) -> Beside | None:
    """The newest run that was made in the log's own folder, or beside it in ``runs``; None where there is none, or it has no answer."""
    place = log if log.is_dir() else log.parent
    found: list[tuple[float, Beside]] = []
    for folder in sorted({p for there in (place, place / "runs") for p in there.glob("*") if is_run(p)}):
        with contextlib.suppress(InputError, OSError):  # a run that cannot be read has nothing to say of the log
            run = open_run(folder)
            raw = read_record(run.recommendation, todo="")
            if raw is not None and raw.get("max_norm") is not None:
                found.append(
                    (run.recommendation.stat().st_mtime, Beside(folder=str(folder), max_norm=number(raw["max_norm"])))
                )
    return max(found, key=lambda one: one[0])[1] if found else None
