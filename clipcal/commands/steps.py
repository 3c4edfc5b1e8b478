"""The steps that commands are made of: read a spec, profile, read a threshold, verify, choose."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clipcal.commands.answering import INTERRUPTED, NO, stop
from clipcal.errors import InputError

if TYPE_CHECKING:
    from clipcal.choosing import Outcome
    from clipcal.evidence import Evidence
    from clipcal.recommendation import Recommendation
    from clipcal.rundir import Run
    from clipcal.scripts.script import Script
    from clipcal.spec import Spec
    from clipcal.verification import Verification


def read_source(
    words: list[str],
    out: Path | None,
    *,
    steps: int | None,
    seed: int | None,
    device: str | None,
    threads: int | None,
    optimizer: str | None,
    scratch: bool,
    trackers: bool,
    resume: bool = False,
) -> tuple[Spec | Script, Path]:
    """What to train, and the run directory. A run that is gone on with has its own number of steps. Raises InputError."""
    first = Path(words[0])
    if first.suffix.lower() not in (".yaml", ".yml"):
        script = _read_script(words, steps, seed, device, threads, optimizer, scratch, trackers)
        folder = out or Path("runs") / script.name
        if resume and steps is None and (known := _steps_of(folder)):
            script = replace(script, steps=known)
        return script, folder
    if len(words) > 1:
        raise InputError(f"{first}: a spec takes no arguments of its own (found {words[1]!r}). Its values stand in it.")
    flags = {"--optimizer": optimizer, "--scratch": scratch, "--trackers": trackers}
    given = next((flag for flag, value in flags.items() if value), None)
    if given:
        raise InputError(f"{given} is for scripts, and {first} is a spec, which says by itself what is trained.")
    from clipcal.spec import load_spec

    spec = load_spec(first, steps=steps, seed=seed, device=device)
    folder = out or Path("runs") / spec.name
    if resume and steps is None and (known := _steps_of(folder)):
        spec = load_spec(first, steps=known, seed=seed, device=device)
    return spec, folder


def _steps_of(folder: Path) -> int | None:
    """How many steps a run was to have; None where that cannot be read."""
    from clipcal.rundir import is_run, open_run

    return open_run(folder).info.steps or None if is_run(folder) else None


def _read_script(
    words: list[str],
    steps: int | None,
    seed: int | None,
    device: str | None,
    threads: int | None,
    optimizer: str | None,
    scratch: bool,
    trackers: bool,
) -> Script:
    from clipcal.scripts.script import STEPS, from_words

    if device is not None:
        raise InputError(
            f"--device {device}: a script picks its device by itself; say so in its own arguments, after --."
        )
    if steps is not None and steps < 1:
        raise InputError(f"--steps {steps}: expected a number greater than 0.")
    return from_words(
        words,
        steps=STEPS if steps is None else steps,
        seed=seed or 0,
        optimizer=optimizer,
        scratch=scratch,
        trackers=trackers,
        threads=threads,
    )


def prepare(source: Spec | Script) -> None:
    """Have the process that workers are forked from import torch while this one profiles."""
    from clipcal.scripts.script import Script

    if not isinstance(source, Script):
        from clipcal.arms import warm_up
        from clipcal.runners.spec import pick_device

        warm_up(str(pick_device(source.fields.device)))


def _resuming(source: Spec | Script, folder: Path) -> str:
    from clipcal.scripts.script import Script

    if not isinstance(source, Script):
        return shlex.join(["clipcal", "profile", str(source.file), "--out", str(folder), "--resume"])
    is_file = source.words[0].endswith(".py")
    before, after = (source.words[:1], source.words[1:]) if is_file else ((), source.words)
    return shlex.join(
        ["clipcal", "profile", *before, "--out", str(folder), "--resume", *(["--", *after] if after else [])]
    )


def run_profile(
    source: Spec | Script, folder: Path, *, force: bool, resume: bool, threads: int | None, quiet: bool
) -> Run:
    from clipcal import live
    from clipcal.console import note, stderr_console
    from clipcal.scripts.script import Script
    from clipcal.stdio import interruptible, prints_to_stderr

    console = stderr_console()
    is_script = isinstance(source, Script)
    total = source.steps if isinstance(source, Script) else source.fields.steps
    with (
        _nothing_is_written(folder),
        interruptible() as asked,
        prints_to_stderr(),
        # what a script prints itself would tear a live view
        live.profile_view(console, total, asked=asked, quiet=quiet, plain=is_script) as (on_steps, on_guard),
    ):
        options: dict[str, Any] = {"force": force, "resume": resume, "on_steps": on_steps, "on_guard": on_guard}
        options |= {"should_stop": asked, "command": sys.argv}
        if isinstance(source, Script):
            from clipcal.scripts.profiling import profile

            run = profile(source, folder, **options)
        else:
            from clipcal.profiling import profile as profile_spec

            run = profile_spec(source, folder, threads=threads, **options)
    if not quiet:
        for text in run.info.notes:
            note(f"note: {text}")
        if run.info.status == "stopped":
            note(f"stopped early: {run.info.reason}")
    if run.info.status == "interrupted":
        note(
            f"{run.info.reason}; {run.folder} keeps every step. `clipcal recommend {run.folder}` reads it, "
            f"`{_resuming(source, run.folder)}` goes on with it."
        )
        raise typer.Exit(INTERRUPTED)
    if not quiet:
        note(f"wrote {run.folder}")
    return run


def read(
    source: Path, *, tag: str | None = None, run: int | None = None, pattern: str | None = None
) -> tuple[Evidence, Recommendation]:
    from clipcal.evidence import load

    evidence = load(source, tag=tag, run=run, pattern=pattern)
    return evidence, evidence.recommend()


def save(run: Run, recommendation: Recommendation, *, quiet: bool) -> None:
    from clipcal.jsonfile import write_json

    try:
        write_json(run.recommendation, recommendation.as_dict())
    except InputError as e:
        if not quiet:
            print(f"note: {e}", file=sys.stderr)


@contextlib.contextmanager
def _nothing_is_written(folder: Path) -> Iterator[None]:
    from clipcal.rundir import is_run

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
    force: bool,
    quiet: bool,
    spaced: bool,
) -> Verification:
    from clipcal.arms import warm_up

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
        warm_up(run.info.device)
    from clipcal import live, verifying
    from clipcal.console import stderr_console

    with (
        _arms_are_kept(run),
        live.arms_view(stderr_console(), steps or run.info.steps, quiet=quiet) as (on_plan, on_progress),
    ):
        return verifying.verify(
            run,
            max_norm=max_norm,
            others=others,
            seeds=seeds,
            steps=steps,
            jobs=jobs,
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
) -> Outcome:
    from clipcal.arms import warm_up

    if spaced:
        print(flush=True)
    if run.info.source.get("kind") == "spec":
        warm_up(run.info.device)
    from clipcal import choosing, live
    from clipcal.console import stderr_console
    from clipcal.trials import Trials

    with _arms_are_kept(run), live.arms_view(stderr_console(), run.info.steps, quiet=quiet) as (on_plan, on_progress):
        trials = Trials(run, jobs=jobs, on_plan=on_plan, on_progress=on_progress)
        return choosing.choose(trials, recommendation, others=others, seeds=seeds)
