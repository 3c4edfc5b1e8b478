"""The steps that commands are made of: read a spec, profile, read a threshold, verify, choose."""

from __future__ import annotations

import sys
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
    from clipcal.spec import Spec
    from clipcal.verification import Verification


def read_spec(source: Path, out: Path | None, **overrides: Any) -> tuple[Spec, Path]:
    if source.suffix.lower() not in (".yaml", ".yml"):
        what = "a run directory" if source.is_dir() else "no YAML spec"
        hint = (
            f" Did you mean `clipcal recommend {source}`?"
            if source.is_dir()
            else " `clipcal init` writes a spec to start from."
        )
        raise InputError(f"{source}: is {what}; this version trains from a spec (.yaml).{hint}")
    from clipcal.spec import load_spec

    spec = load_spec(source, **overrides)
    return spec, out or Path("runs") / spec.name


def run_profile(spec: Spec, folder: Path, *, force: bool, resume: bool, threads: int | None, quiet: bool) -> Run:
    from clipcal import live, profiling
    from clipcal.console import note, stderr_console
    from clipcal.stdio import interruptible, prints_to_stderr

    console = stderr_console()
    with (
        interruptible() as asked,
        prints_to_stderr(),
        live.profile_view(console, spec.fields.steps, asked=asked, quiet=quiet) as (on_steps, on_guard),
    ):
        run = profiling.profile(
            spec,
            folder,
            force=force,
            resume=resume,
            threads=threads,
            on_steps=on_steps,
            on_guard=on_guard,
            should_stop=asked,
            command=sys.argv,
        )
    if not quiet:
        for text in run.info.notes:
            note(f"note: {text}")
        if run.info.status == "stopped":
            note(f"stopped early: {run.info.reason}")
    if run.info.status == "interrupted":
        note(
            f"{run.info.reason}; {run.folder} keeps every step. `clipcal recommend {run.folder}` reads it, --resume goes on with it."
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
    warm_up(run.info.device)
    from clipcal import live, verifying
    from clipcal.console import stderr_console

    with live.arms_view(stderr_console(), steps or run.info.steps, quiet=quiet) as (on_plan, on_progress):
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
    warm_up(run.info.device)
    from clipcal import choosing, live
    from clipcal.console import stderr_console
    from clipcal.trials import Trials

    with live.arms_view(stderr_console(), run.info.steps, quiet=quiet) as (on_plan, on_progress):
        trials = Trials(run, jobs=jobs, on_plan=on_plan, on_progress=on_progress)
        return choosing.choose(trials, recommendation, others=others, seeds=seeds)
