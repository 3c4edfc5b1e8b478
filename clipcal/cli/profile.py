"""``clipcal profile``: train unclipped and record the norms."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from clipcal.cli.answering import print_json, said_no
from clipcal.cli.options import (
    Device,
    Force,
    Json,
    Optimizer,
    Out,
    Plain,
    Quiet,
    Scale,
    Scratch,
    Seed,
    Source,
    Steps,
    TensorBoard,
    Threads,
    Trackers,
)
from clipcal.cli.scaling import profiled_already, run_probe, scale_of
from clipcal.cli.sources import read_source
from clipcal.cli.steps import curves, run_profile


def profile(
    source: Source,
    steps: Steps = None,
    seed: Seed = None,
    device: Device = None,
    out: Out = None,
    threads: Threads = None,
    optimizer: Optimizer = None,
    scratch: Scratch = False,
    trackers: Trackers = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut short, or make it longer.")
    ] = False,
    scale: Scale = None,
    tensorboard: TensorBoard = None,
    plain: Plain = False,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Record the gradient norms of N unclipped steps.

    Trains with clipping off, for as many optimizer steps as the spec or --steps says, into a run directory. A script is run as it
    is, in processes of its own, and ended after that many steps.
    """
    with said_no():
        what, folder = read_source(
            source,
            out,
            steps=steps,
            seed=seed,
            device=device,
            threads=threads,
            optimizer=optimizer,
            scratch=scratch,
            trackers=trackers,
            command="profile",
            resume=resume,
        )
        times = None if scale is None else scale_of(scale, what, folder, force=force, resume=resume)
        with curves(tensorboard, folder, quiet=quiet) as board:
            run = profiled_already(what, folder, times, resume=resume) or run_profile(
                what, folder, force=force, resume=resume, threads=threads, quiet=quiet, plain=plain, board=board
            )
        if times is not None:
            run_probe(what, run, times, threads=threads, quiet=quiet, plain=plain)
        from clipcal.run.summary import summary

        answer = summary(run)
        if json:
            print_json(answer)
        else:
            print(
                f"{run.folder}: {answer['steps']} steps, grad norm median {_short(answer['median'])}, "
                f"largest {_short(answer['largest'])} at step {answer['largest_step']}"
            )
            if not quiet:
                print(f"next: clipcal recommend {run.folder}", file=sys.stderr)


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
