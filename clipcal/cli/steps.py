"""The steps that commands are made of: profile, read a threshold, verify, choose."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clipcal.cli.answering import INTERRUPTED, NO, stop
from clipcal.cli.sources import resuming
from clipcal.errors import InputError, need_torch
from clipcal.logs.choice import NO_CHOICE, LogChoice

if TYPE_CHECKING:
    from clipcal.recommendation.answer import Recommendation
    from clipcal.recommendation.evidence import Evidence
    from clipcal.run.directory import Run
    from clipcal.sources.script import Script
    from clipcal.sources.spec import Spec
    from clipcal.verification.answer import Verification
    from clipcal.verification.choosing import Outcome
    from clipcal.views.tensorboard.curves import Board


@contextlib.contextmanager
def curves(logdir: Path | None, folder: Path, *, quiet: bool) -> Iterator[Board | None]:
    """What writes the curves of a run for TensorBoard, where they are wanted. Raises InputError where it could not."""
    if logdir is None:
        yield None
        return
    from clipcal.views.tensorboard.curves import Board
    from clipcal.views.terminal.console import note

    board = Board(logdir, folder, (lambda text: None) if quiet else note)
    try:
        yield board
    finally:
        board.close()


def run_profile(
    source: Spec | Script,
    folder: Path,
    *,
    force: bool,
    resume: bool,
    threads: int | None,
    quiet: bool,
    plain: bool = False,
    board: Board | None = None,
) -> Run:
    from clipcal.run.directory import is_run
    from clipcal.sources.ranks import ranks_here
    from clipcal.sources.script import Script
    from clipcal.streams import interruptible, prints_to_stderr
    from clipcal.views.terminal import live
    from clipcal.views.terminal.console import note, stderr_console

    ranks = ranks_here()
    # torchrun has started all processes again after it lost one: what they recorded before is gone on with
    resume = resume or (ranks is not None and ranks.restarts > 0 and is_run(folder))
    console = stderr_console(plain=plain)
    is_script = isinstance(source, Script)
    total = source.steps if isinstance(source, Script) else source.fields.steps
    with (
        _nothing_is_written(folder),
        interruptible() as asked,
        prints_to_stderr(),
        # what a script prints itself would tear a live view
        live.profile_view(console, total, asked=asked, quiet=quiet, plain=is_script, spoken=plain) as (
            on_steps,
            on_guard,
        ),
    ):
        if board:
            on_steps, on_guard = board.of_profile(on_steps, on_guard)
        options: dict[str, Any] = {"force": force, "resume": resume, "on_steps": on_steps, "on_guard": on_guard}
        options |= {"should_stop": asked, "command": sys.argv}
        if isinstance(source, Script):
            from clipcal.scripts.profiling import profile

            run = profile(source, folder, **options)
        else:
            from clipcal.training.profiling import profile as profile_spec

            run = profile_spec(source, folder, threads=threads, **options)
    if not quiet:
        for text in run.info.notes:
            note(f"note: {text}")
        if run.info.status == "stopped":
            note(f"stopped early: {run.info.reason}")
    if run.info.status == "interrupted":
        note(
            f"{run.info.reason}; {run.folder} keeps every step. `clipcal recommend {run.folder}` reads it, "
            f"`{resuming(source, run.folder)}` goes on with it."
        )
        raise typer.Exit(INTERRUPTED)
    if not quiet:
        note(f"wrote {run.folder}")
    return run


def read(source: Path, choice: LogChoice = NO_CHOICE) -> tuple[Evidence, Recommendation]:
    from clipcal.recommendation.evidence import load

    evidence = load(source, choice)
    return evidence, evidence.recommend()


def save(run: Run, recommendation: Recommendation, *, quiet: bool) -> None:
    from clipcal.run.jsonfile import write_json

    try:
        write_json(run.recommendation, recommendation.as_dict())
    except InputError as e:
        if not quiet:
            print(f"note: {e}", file=sys.stderr)


@contextlib.contextmanager
def _nothing_is_written(folder: Path) -> Iterator[None]:
    from clipcal.run.directory import is_run

    before = is_run(folder)
    try:
        yield
    except KeyboardInterrupt:
        if not before and not is_run(folder):
            stop("interrupted before anything was recorded; nothing was written", INTERRUPTED)
        raise


@contextlib.contextmanager
def _arms_are_kept(run: Run) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        stop(
            f"interrupted; {run.folder} keeps the profile and the arms that had ended. `clipcal verify {run.folder}` trains the rest for "
            "the recommended threshold.",
            INTERRUPTED,
        )


def run_verify(
    run: Run,
    recommendation: Recommendation,
    others: list[float],
    seeds: int,
    steps: int | None,
    jobs: int | None,
    *,
    executor: str = "local",
    arm_gpus: float | None = None,
    force: bool,
    quiet: bool,
    spaced: bool,
    plain: bool = False,
    board: Board | None = None,
) -> Verification:
    from clipcal.arms.pool import warm_up

    max_norm = recommendation.max_norm
    if max_norm is None:
        if not others:
            stop(
                f"nothing to verify: {recommendation.reasons[0]} Give a threshold with --max-norm to try one all the same.",
                NO,
            )
        max_norm, *others = others
    if spaced:
        print(flush=True)
    if run.info.source.get("kind") == "spec":
        need_torch("`clipcal verify` of a spec's run")
        if executor == "local":
            warm_up(run.info.device)
    from clipcal.verification import verifying
    from clipcal.views.terminal import live
    from clipcal.views.terminal.console import stderr_console

    with (
        _arms_are_kept(run),
        live.arms_view(stderr_console(plain=plain), steps or run.info.steps, quiet=quiet) as (on_plan, on_progress),
    ):
        if board:
            on_plan, on_progress = board.of_arms(run, on_plan, on_progress)
        return verifying.verify(
            run,
            max_norm=max_norm,
            others=others,
            seeds=seeds,
            steps=steps,
            jobs=jobs,
            executor=executor,
            arm_gpus=arm_gpus,
            force=force,
            on_plan=on_plan,
            on_progress=on_progress,
        )


def run_choose(
    run: Run,
    recommendation: Recommendation,
    others: list[float],
    seeds: int,
    jobs: int | None,
    *,
    quiet: bool,
    spaced: bool,
    plain: bool = False,
    board: Board | None = None,
) -> Outcome:
    from clipcal.arms.pool import warm_up

    if spaced:
        print(flush=True)
    if run.info.source.get("kind") == "spec":
        warm_up(run.info.device)
    from clipcal.verification import choosing
    from clipcal.verification.trials import Trials
    from clipcal.views.terminal import live
    from clipcal.views.terminal.console import stderr_console

    view = live.arms_view(stderr_console(plain=plain), run.info.steps, quiet=quiet)
    with _arms_are_kept(run), view as (on_plan, on_progress):
        if board:
            on_plan, on_progress = board.of_arms(run, on_plan, on_progress)
        trials = Trials(run, jobs=jobs, on_plan=on_plan, on_progress=on_progress)
        return choosing.choose(trials, recommendation, others=others, seeds=seeds)
