"""Two runs -> what moved between them: keys of the source, the machine, the numbers, and one sentence that says it."""

from __future__ import annotations

import contextlib
import datetime
import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipcal.arms.pool import arm_name
from clipcal.errors import InputError
from clipcal.run.directory import Run, RunInfo, is_run, open_run
from clipcal.run.jsonfile import number, plain
from clipcal.run.source import ScriptSource, source_of
from clipcal.run.trace import read_trace
from clipcal.runs.listing import Row, row_of, saved_by
from clipcal.runs.sourcediff import Moved, asked_optimizer, moved, moved_keys, moved_words
from clipcal.stats.losses import final_loss

NAMED = 4
"""Keys that the sentence names; the table has them all."""
_OF_THE_RUN = ("name", "steps", "seed", "device")
"""Keys of a spec that run.json has itself, as they came to be with the flags that were given."""


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """``a`` and ``b`` are the runs; ``same_source`` is None where it cannot be told.

    ``settings`` are what was asked for and differs (keys of the spec, words of the command, steps, seeds), ``machine`` what it was
    trained on and differs (device, threads, versions), ``results`` what came out, all of it. A final loss is NaN where the arm is
    lost, and None where there is none.
    """

    a: Row
    b: Row
    same_source: bool | None
    settings: tuple[Moved, ...]
    machine: tuple[Moved, ...]
    results: tuple[Moved, ...]
    summary: str

    def as_dict(self) -> dict[str, Any]:
        """The ``comparison`` of ``runs A B --json``."""
        whole: dict[str, Any] = plain(self)
        return {k: v for k, v in whole.items() if k not in ("a", "b")}


def compare_runs(a: Path, b: Path, *, now: datetime.datetime) -> RunComparison:
    """Raises InputError where either is no run that can be read."""
    one, other = _open(a), _open(b)
    rows = row_of(one, now=now), row_of(other, now=now)
    same, settings = _settings(one, other)
    versions = one.info.versions.keys() & other.info.versions.keys()  # a script's process may be asked for fewer
    machine = moved(_machine(one, versions), _machine(other, versions))
    before, after = _results(one, rows[0]), _results(other, rows[1])
    return RunComparison(
        a=rows[0],
        b=rows[1],
        same_source=same,
        settings=settings,
        machine=machine,
        results=tuple(Moved(field=k, a=before[k], b=after[k]) for k in before),
        summary=_summary(rows, same, settings, machine),
    )


def _open(folder: Path) -> Run:
    if folder.is_dir() and not is_run(folder):
        raise InputError(
            f"{folder}: is no run directory (it has no run.json), and two places are compared run by run. "
            f"`clipcal runs {folder}` lists what is below it."
        )
    return open_run(folder)


def _settings(a: Run, b: Run) -> tuple[bool | None, tuple[Moved, ...]]:
    """Whether both train the same way, and what was asked for and differs."""
    kinds = [run.info.source.kind or "unknown" for run in (a, b)]
    asked = moved(_asked(a), _asked(b))
    if kinds[0] != kinds[1]:
        return False, (Moved(field="kind", a=kinds[0], b=kinds[1]), *asked)
    same, found = _COMPARED.get(kinds[0], _others)(a.info, b.info)
    return same, (*found, *asked)


def _asked(run: Run) -> dict[str, Any]:
    flags = run.info.source.overrides
    return {"steps": run.info.steps, "seeds": run.info.seeds} | ({"overrides": flags} if flags else {})


def _specs(a: RunInfo, b: RunInfo) -> tuple[bool | None, tuple[Moved, ...]]:
    keys = tuple(m for m in moved_keys(a.source, b.source) if m.field not in _OF_THE_RUN)
    return a.fingerprint == b.fingerprint and a.method == b.method, keys


def _scripts(a: RunInfo, b: RunInfo) -> tuple[bool | None, tuple[Moved, ...]]:
    one, other = a.source, b.source
    assert isinstance(one, ScriptSource)
    assert isinstance(other, ScriptSource)
    words, fields = moved_words(one.words, other.words), moved(one.settings(), other.settings())
    same = a.fingerprint == b.fingerprint
    alike = not words and a.seeds == b.seeds  # then it is the text that the fingerprints differ in
    if not same and alike and asked_optimizer(a) == asked_optimizer(b):
        return False, (Moved(field="the script's text", a=a.fingerprint, b=b.fingerprint), *fields)
    return same or (None if alike and not fields else False), (*words, *fields)


def _others(a: RunInfo, b: RunInfo) -> tuple[bool | None, tuple[Moved, ...]]:
    keys = moved(a.source.settings(), b.source.settings())
    shapes = a.fingerprint == b.fingerprint
    parameters = () if shapes else (Moved(field="parameters", a=a.num_parameters, b=b.num_parameters),)
    return (False if keys or not shapes else None), (*keys, *parameters)


_COMPARED: Mapping[str, Callable[[RunInfo, RunInfo], tuple[bool | None, tuple[Moved, ...]]]] = {
    "spec": _specs,
    "script": _scripts,
}


def _machine(run: Run, versions: Set[str]) -> dict[str, Any]:
    info = run.info
    return {
        "device": info.device,
        "threads": info.threads,
        "ranks": info.world_size,
        "versions": {k: v for k, v in info.versions.items() if k in versions},
        "platform": info.platform,
    }


def _results(run: Run, row: Row) -> dict[str, Any]:
    saved = saved_by(run)
    read = saved.recommendation or {}
    stable, spikes = read.get("stable") or {}, read.get("spikes") or {}
    profiled = None
    with contextlib.suppress(InputError):
        profiled = final_loss(read_trace(run.trace).loss)
    unclipped, clipped = _final_losses(saved.verification or {"arms": []}, row.verified_at)
    return {
        "verdict": row.verdict,
        "max_norm": row.max_norm,
        "method": row.method,
        "chosen": row.chosen,
        "confidence": read.get("confidence"),
        "interval": read.get("interval"),
        "stable_median": stable.get("median"),
        "stable_p99": stable.get("p99"),
        "spikes": spikes.get("count"),
        "spike_rate": spikes.get("rate"),
        "recorded": row.recorded,
        "status": row.status,
        "verification": row.verification,
        "verified_at": row.verified_at,
        "final_loss_profile": profiled,
        "final_loss_unclipped": unclipped,
        "final_loss_clipped": clipped,
    }


def _final_losses(verification: Mapping[str, Any], max_norm: float | None) -> tuple[float | None, float | None]:
    """The mean over the seeds of the unclipped arms and of those clipped at the threshold; NaN where one of them is lost."""
    found: dict[str, list[float]] = {arm_name(None): [], arm_name(max_norm): []}
    for arm in verification["arms"]:
        if arm["name"] in found:
            found[arm["name"]].append(math.nan if arm["diverged_at"] is not None else number(arm["final_loss"]))
    unclipped, clipped = found[arm_name(None)], found[arm_name(max_norm)] if max_norm is not None else []
    return _mean(unclipped), _mean(clipped)


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _summary(rows: tuple[Row, Row], same: bool | None, settings: tuple[Moved, ...], machine: tuple[Moved, ...]) -> str:
    parts = [_threshold(*rows)]
    a, b = rows
    if a.verdict != b.verdict and a.verdict and b.verdict:
        parts.append(f"the verdict from {a.verdict} to {b.verdict}")
    parts.append(_source(rows, same, settings, machine))
    if machine:
        parts.append(f"the machine differs in {_listed(machine)}")
    return "; ".join(parts) + "."


def _threshold(a: Row, b: Row) -> str:
    unread = [r for r in (a, b) if r.verdict is None]
    if unread:
        commands = [f"`{r.next}`" for r in unread if r.next]
        how = f" ({' and '.join(commands)} {'reads it' if len(commands) == 1 else 'read them'})" if commands else ""
        what = "Neither run has been read" if len(unread) == 2 else f"{unread[0].path} has not been read"
        return f"{what} yet{how}"
    if a.max_norm is None or b.max_norm is None:
        if a.max_norm is None and b.max_norm is None:
            return "Neither run has a threshold"
        has, none = (a, b) if b.max_norm is None else (b, a)
        return f"{has.path} has the threshold {has.max_norm:g}, {none.path} has none"
    if a.method != b.method:
        return f"The thresholds are of two kinds, {a.method} {a.max_norm:g} and {b.method} {b.max_norm:g}"
    if a.max_norm == b.max_norm:
        return f"The threshold is {a.max_norm:g} in both"
    ratio = f" (x {b.max_norm / a.max_norm:.2g})" if a.max_norm > 0 else ""
    return f"The threshold moved from {a.max_norm:g} to {b.max_norm:g}{ratio}"


def _source(rows: tuple[Row, Row], same: bool | None, settings: tuple[Moved, ...], machine: tuple[Moved, ...]) -> str:
    a, b = rows
    if a.kind != b.kind:
        return f"one is of a {a.kind}, the other of a {b.kind}"
    noun = source_of({"kind": a.kind}).noun
    moved_there = tuple(m for m in settings if not m.field.startswith("overrides."))
    if moved_there:
        return f"the {noun} differs in {_listed(moved_there)}"
    if same is None:
        return f"whether the {noun} is the same cannot be told"
    alone = " and so is all else that a run records: look at the code and the data" if not machine else ""
    moved_all_the_same = rows[0].max_norm != rows[1].max_norm and None not in (a.verdict, b.verdict)
    return f"the {noun} is the same{alone if moved_all_the_same else ''}"


def _listed(found: tuple[Moved, ...]) -> str:
    names = [m.field for m in found]
    if len(names) > NAMED:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
