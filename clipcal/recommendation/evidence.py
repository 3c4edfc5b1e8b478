"""A run directory, a trace or any training log -> what a recommendation is read from, and the recommendation."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from clipcal.errors import InputError, nearest_path
from clipcal.logs.addresses import located
from clipcal.logs.choice import NO_CHOICE, LogChoice
from clipcal.recommendation.answer import Choice, Method, Reading, Recommendation
from clipcal.recommendation.calibration import last_run, recommend
from clipcal.recommendation.guarding import guard_of, needs_guard
from clipcal.recommendation.ranks import told_by_ranks
from clipcal.recommendation.reasons import too_high_rate
from clipcal.recommendation.scaled import scaled_caveat
from clipcal.run.directory import Run, is_record, is_run, open_run, runs_near
from clipcal.run.jsonfile import number
from clipcal.run.layers import read_layers
from clipcal.run.records import read_record
from clipcal.run.trace import COLUMNS, Floats, Trace, is_trace, read_trace
from clipcal.stats.healthy import find_ending

if TYPE_CHECKING:
    from clipcal.logs.log import Log

STREAM = "standard input"
ENDED_EARLY = {"running": "was cut short, or still runs", "interrupted": "was interrupted", "failed": "failed"}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """``norms`` is 1-D, one value per row of ``trace``: what ``method`` puts its threshold on. ``run`` is None for a trace
    file by itself, and for a log. ``caveats`` are what is known of how the trace came about; ``guard`` is the threshold that
    training was clipped at meanwhile, where it is lost at once without, and ``cause`` what is known of why.

    ``in_use`` is the threshold that a log says its run was clipped at (infinite: none), ``in_use_from`` where it says so,
    and ``single_steps`` whether each row is one, next to the one before. ``optimizer`` is the class that was trained with, None where that is unknown,
    and ``framework`` what wrote the log or let the script clip, empty where that is unknown.
    """

    source: str
    trace: Trace
    norms: Floats
    method: Method = "norm"
    norm_type: float = 2.0
    run: Run | None = None
    caveats: tuple[str, ...] = ()
    guard: float | None = None
    cause: str | None = None
    in_use: float | None = None
    in_use_from: str = ""
    single_steps: bool = True
    optimizer: str | None = None
    framework: str = ""

    def recommend(self, reading: Reading | None = None) -> Recommendation:
        """The answer. ``reading`` is that of an earlier answer to the same evidence, before training chose a candidate."""
        losses = self.trace.loss if np.isfinite(self.trace.loss).any() else None
        answer = recommend(
            self.norms,
            losses,
            steps=self.trace.step,
            lrs=self.trace.lr,
            method=self.method,
            norm_type=self.norm_type,
            guard=self.guard,
            choice=read_choice(self.run) if self.run else None,
            source=self.source,
            caveats=self.caveats,
            single_steps=self.single_steps,
            reading=reading,
        )
        in_use, found = self.in_use, answer.max_norm
        if (
            self.run is None
            and answer.verdict == "diverging"
            and in_use is not None
            and found is not None
            and found >= in_use
        ):
            text = (
                f"The run diverged although it was clipped at {in_use:g}, so {found:g} would not have kept it stable either: lower the "
                "learning rate, or look at the batches before it diverged."
            )
            answer = answer.saying([("diverged_clipped", text)], at=0)
        if self.cause is not None:
            answer = answer.saying([("learning_rate_too_high", self.cause)], at=1)
        if self.run is None:
            return answer
        path = self.run.ranks if self.guard is None else self.run.guarded_ranks
        reasons, caveats = told_by_ranks(path, self.trace, answer)
        return answer.saying([("ranks", text) for text in reasons], [("ranks", text) for text in caveats])


def load(path: Path, choice: LogChoice = NO_CHOICE) -> Evidence:
    """Read a run directory, a trace by itself, or any training log; ``-`` is a log on standard input.

    ``choice`` is made within a log, and not in a run of clipcal's own. Raises InputError.
    """
    if str(path) == "-":
        return _of_stream(sys.stdin.buffer, choice)
    path = located(path)
    if not os.path.lexists(path):
        hint = nearest_path(path, {*path.parent.glob("*"), *runs_near(path)}, listed=0)
        raise InputError(
            f"{path}: there is no such run or log.{hint} Name a training log, or make a run with `clipcal profile SPEC`."
        )
    if is_record(path):
        what = "the record of a run" if path.name == "run.json" else "a part of a run"
        raise InputError(f"{path}: is {what}, and holds no norms by itself; name its directory, {path.parent}.")
    if not is_run(path) and not (path.is_file() and is_trace(path)):
        return _of_log(path, choice)
    if choice.is_made:
        raise InputError(
            f"{path}: --tag, --run and --pattern choose within a training log, and this is a run of clipcal's own."
        )
    if not path.is_file():
        return _of_run(open_run(path), str(path))
    caveats = []
    if is_run(path.parent) and path.name == "trace.jsonl":
        try:
            return _of_run(open_run(path.parent), str(path))
        except InputError:
            caveats.append("The run.json beside the trace cannot be read, so how the trace came about is not known.")
    trace = read_trace(path)
    return _counted(Evidence(source=str(path), trace=trace, norms=trace.grad_norm, caveats=tuple(caveats)))


def _of_stream(stream: BinaryIO, choice: LogChoice) -> Evidence:
    """A log from a pipe, put into a temporary file first: a format is told by looking twice."""
    with tempfile.NamedTemporaryFile(prefix="clipcal-") as f:
        try:
            shutil.copyfileobj(stream, f)
            f.flush()
        except OSError as e:
            raise InputError(
                f"Standard input cannot be kept in {f.name} ({e.strerror}). Save the log to a file."
            ) from None
        try:
            evidence = _of_log(Path(f.name), choice)
        except InputError as e:
            raise InputError(str(e).replace(f.name, STREAM)) from None
    return replace(evidence, source=STREAM)


def _of_log(path: Path, choice: LogChoice) -> Evidence:
    from clipcal.logs.reading import read_log

    return of_log(read_log(path, pattern=choice.pattern), str(path), choice)


def of_log(log: Log, source: str, choice: LogChoice = NO_CHOICE) -> Evidence:
    """What is read of a log that stands at ``source``. Raises InputError, with what there is to choose from."""
    from clipcal.logs.picking import pick

    picked = pick(log, source, choice)
    rows = len(picked.grad_norm)
    unknown = np.full(rows, np.nan)
    scaled = scaled_caveat(picked.grad_norm)
    trace = Trace(
        step=picked.step.astype(np.int64),
        loss=picked.loss,
        grad_norm=picked.grad_norm,
        grad_max=unknown,
        lr=picked.lr,
        seconds=unknown,
        scale=unknown,
        skipped=np.zeros(rows, dtype=np.bool_),
    )
    return Evidence(
        source=source,
        trace=trace,
        norms=picked.grad_norm,
        caveats=(*([scaled] if scaled else []), *picked.caveats),
        in_use=log.max_norm,
        in_use_from=log.max_norm_from,
        single_steps=picked.single_steps,
        framework=log.framework,
    )


def _of_run(run: Run, source: str) -> Evidence:
    if not run.trace.exists():
        raise InputError(
            f"{run.folder}: has no trace yet. Record one with `clipcal profile SPEC --out {run.folder} --force`."
        )
    info = run.info
    guarded = info.guard is not None and run.guarded.exists()
    trace = read_trace(run.guarded if guarded else run.trace)
    caveats = []
    if (how := ENDED_EARLY.get(info.status)) is not None:
        why = f": {info.reason.rstrip('.')}" if info.status == "failed" and info.reason else ""
        caveats.append(f"The profile {how} after {len(trace)}{f' of {info.steps}' if info.steps else ''} steps{why}.")
    if info.status == "stopped" and info.reason and not guarded:
        caveats.append(f"The profile stopped early: {info.reason}.")
    caveats += [_sentence(note) for note in info.notes]
    method = info.method
    norms = trace.grad_norm
    if method == "value":
        norms = trace.grad_max
    elif method == "per_tensor":
        layers = run.guarded_layers if guarded else run.layers
        rows = read_layers(layers).norms[: len(trace)]
        if len(rows) < len(trace):
            raise InputError(f"{layers}: holds {len(rows)} steps, the trace {len(trace)}; profile again with --force.")
        norms = rows.max(axis=1, initial=0.0).astype(np.float64)
    evidence = Evidence(
        source=source,
        trace=trace,
        norms=norms,
        method=method,
        norm_type=info.norm_type,
        run=run,
        caveats=tuple(caveats),
        guard=info.guard if guarded else None,
        cause=too_high_rate(read_trace(run.trace)) if guarded else None,
        optimizer=info.source.optimizer_class,
        framework=info.source.framework or "",
        in_use=info.in_use,
        in_use_from="" if info.in_use is None else "the script's own clip call",
    )
    return _counted(evidence)


def _counted(evidence: Evidence) -> Evidence:
    """Leaves out the steps that a GradScaler dropped: their gradients overflowed fp16 and never reached the weights. Of several runs
    in one trace file it leaves the last; the rows of a run are told by their number, so they stay."""
    trace, caveats = evidence.trace, list(evidence.caveats)
    dropped = int(trace.skipped.sum())
    if dropped:
        caveats.append(f"The GradScaler dropped {dropped} steps; they are not counted.")
    caveats += [_sentence(p) for p in trace.problems]
    norms, trace = evidence.norms[~trace.skipped], trace.taken()
    first, joined = last_run(trace.step)
    if evidence.run is None and first and joined:
        caveats.insert(0, joined)
        norms = norms[first:]
        trace = Trace(**{name: getattr(trace, name)[first:] for name in COLUMNS}, problems=trace.problems)
    return replace(evidence, trace=trace, norms=norms, caveats=tuple(caveats))


def read_choice(run: Run) -> Choice | None:
    """What `calibrate` chose by training, or None. Raises InputError for a record that cannot be read: without it, the threshold would
    silently be another one."""
    todo = "Delete it to read the threshold from the norms alone, or calibrate again with --force."
    raw = read_record(run.choice, todo=todo)
    if raw is None:
        return None
    alike = tuple(number(threshold) for threshold in raw.get("alike", ()))
    return Choice(name=raw["name"], max_norm=number(raw["max_norm"]), reason=raw["reason"], alike=alike)


def guard_for(run: Run) -> float | None:
    """The guard to profile a run again under that was lost too early; None where what is there says enough, or is not finished."""
    if run.info.status not in ("complete", "stopped") or run.info.guard is not None:
        return None
    evidence = load(run.folder)
    if find_ending(evidence.norms).kind != "diverged":  # most runs are not lost, and are read once, later
        return None
    return guard_of(evidence.norms) if needs_guard(evidence.recommend()) else None


def _sentence(note: str) -> str:
    """The note with a capital, but where it begins with the name of a file."""
    first = note.split(" ", 1)[0]
    return f"{note[:1].upper()}{note[1:]}." if first.isalnum() else f"{note}."
