"""The steps that commands are made of: profile, verify, choose, each with its progress on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clipcal.arms import pool
from clipcal.cli.answering import stop
from clipcal.cli.options import ArmOptions, Display, RunOptions
from clipcal.errors import Exit, need_torch
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.guarding import OnGuard
from clipcal.run.directory import Run, is_run
from clipcal.run.recording import OnSteps
from clipcal.sources.ranks import ranks_here
from clipcal.sources.script import Script
from clipcal.streams import Interrupt, interruptible, prints_to_stderr
from clipcal.verification.answer import Verification
from clipcal.views.terminal import live
from clipcal.views.terminal.console import note, stderr_console

if TYPE_CHECKING:
    from clipcal.arms.trials import Trials
    from clipcal.sources.spec import Spec
    from clipcal.verification.choosing import Outcome
    from clipcal.views.tensorboard.curves import Board


def prepare(source: Spec | Script) -> None:
    """Have the process that workers are forked from import torch while this one profiles."""
    if not isinstance(source, Script):
        from clipcal.training.building import pick_device

        pool.warm_up(str(pick_device(source.fields.device)))


@contextlib.contextmanager
def curves(logdir: Path | None, folder: Path, display: Display) -> Iterator[Board | None]:
    """What writes the curves of a run for TensorBoard, where they are wanted. Raises InputError where it could not."""
    if logdir is None:
        yield None
        return
    from clipcal.views.tensorboard.curves import Board

    with contextlib.closing(Board(logdir, folder, display.note)) as board:
        yield board


def run_profile(
    source: Spec | Script, folder: Path, asked: RunOptions, display: Display, board: Board | None = None
) -> Run:
    ranks = ranks_here()
    # torchrun has started all processes again after it lost one: what they recorded before is continued
    resume = asked.resume or (ranks is not None and ranks.restarts > 0 and is_run(folder))
    with _nothing_is_written(folder), profile_view(source, display) as (stopping, on_steps, on_guard):
        if board:
            on_steps, on_guard = board.of_profile(on_steps, on_guard)
        how: dict[str, Any] = {"force": asked.force, "resume": resume, "on_steps": on_steps, "on_guard": on_guard}
        how |= {"should_stop": stopping, "command": sys.argv}
        if isinstance(source, Script):
            from clipcal.scripts.profiling import profile
            from clipcal.training.keeping import Profiling

            run = profile(source, folder, Profiling(**how))
        else:
            from clipcal.training.profiling import profile as profile_spec

            run = profile_spec(source, folder, threads=asked.threads, **how)
    for text in run.info.notes:
        display.note(f"note: {text}")
    if run.info.status == "stopped":
        display.note(f"stopped early: {run.info.reason}")
    if run.info.status == "interrupted":
        note(
            f"{run.info.reason}; {run.folder} keeps every step. `clipcal recommend {run.folder}` reads it, "
            f"`{source.resuming(run.folder)}` continues it."
        )
        raise typer.Exit(Exit.INTERRUPTED)
    display.note(f"wrote {run.folder}")
    return run


@contextlib.contextmanager
def profile_view(source: Spec | Script, display: Display) -> Iterator[tuple[Interrupt, OnSteps, OnGuard]]:
    """Progress while a source trains; Ctrl-C asks it to stop, and what it prints goes to stderr."""
    console = stderr_console(plain=display.plain)
    is_script = isinstance(source, Script)  # what it prints itself would tear a live view
    with (
        interruptible() as stopping,
        prints_to_stderr(),
        live.profile_view(
            console, source.steps, asked=stopping, quiet=display.quiet, plain=is_script, spoken=display.plain
        ) as (on_steps, on_guard),
    ):
        yield stopping, on_steps, on_guard


@contextlib.contextmanager
def _nothing_is_written(folder: Path) -> Iterator[None]:
    before = is_run(folder)
    try:
        yield
    except KeyboardInterrupt:
        if not before and not is_run(folder):
            stop("interrupted before anything was recorded; nothing was written", Exit.INTERRUPTED)
        raise


@contextlib.contextmanager
def _trials(run: Run, arms: ArmOptions, display: Display, board: Board | None) -> Iterator[Trials]:
    """What trains the arms of a run, with progress while it does; Ctrl-C says what is kept of them."""
    from clipcal.arms import trainers
    from clipcal.arms.trials import Trials

    view = live.arms_view(stderr_console(plain=display.plain), arms.steps or run.info.steps, quiet=display.quiet)
    try:
        with view as (on_plan, on_progress):
            if board:
                on_plan, on_progress = board.of_arms(run, on_plan, on_progress)
            options = trainers.ArmOptions(
                steps=arms.steps,
                jobs=arms.jobs,
                executor=arms.executor,
                arm_gpus=arms.arm_gpus,
                force=arms.force,
                on_plan=on_plan,
                on_progress=on_progress,
            )
            yield Trials(run, options)
    except KeyboardInterrupt:
        stop(
            f"interrupted; {run.folder} keeps the profile and the arms that had ended. `clipcal verify {run.folder}` trains the rest for "
            "the recommended threshold.",
            Exit.INTERRUPTED,
        )


def run_verify(
    run: Run, recommendation: Recommendation, arms: ArmOptions, display: Display, board: Board | None
) -> Verification:
    max_norm, others = recommendation.max_norm, arms.other or []
    if max_norm is None:
        if not others:
            stop(
                f"nothing to verify: {recommendation.reasons[0]} Give a threshold with --max-norm to try one all the same.",
                Exit.NO,
            )
        max_norm, *others = others
    if run.info.source.needs_torch:
        need_torch("`clipcal verify` of a spec's run")
        if arms.executor == "local":
            pool.warm_up(run.info.device)
    from clipcal.verification.verifying import verified

    with _trials(run, arms, display, board) as trials:
        return verified(trials, max_norm=max_norm, others=others, seeds=arms.seeds)


def run_choose(
    run: Run, recommendation: Recommendation, arms: ArmOptions, display: Display, board: Board | None
) -> Outcome:
    if run.info.source.needs_torch:
        pool.warm_up(run.info.device)
    from clipcal.verification import choosing

    with _trials(run, arms, display, board) as trials:
        return choosing.choose(trials, recommendation, others=arms.other or [], seeds=arms.seeds)
