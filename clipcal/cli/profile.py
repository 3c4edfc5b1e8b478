"""``clipcal profile``: train unclipped and record the norms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipcal.cli import options
from clipcal.cli.answering import print_json, said_no
from clipcal.cli.options import Display, RunOptions, ScriptOptions
from clipcal.cli.sources import read_source

if TYPE_CHECKING:
    from clipcal.run.directory import Run


def profile(
    source: options.Source,
    steps: options.Steps = None,
    seed: options.Seed = None,
    device: options.Device = None,
    out: options.Out = None,
    threads: options.Threads = None,
    optimizer: options.Optimizer = None,
    scratch: options.Scratch = False,
    trackers: options.Trackers = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut short, or make it longer.")
    ] = False,
    scale: options.Scale = None,
    tensorboard: options.TensorBoard = None,
    plain: options.Plain = False,
    json: options.Json = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Record the gradient norms of N unclipped steps.

    Trains with clipping off, for as many optimizer steps as the spec or --steps says, into a run directory. A script is run as it
    is, in processes of its own, and ended after that many steps.
    """
    display = Display(plain=plain, json=json, quiet=quiet)
    script = ScriptOptions(optimizer=optimizer, scratch=scratch, trackers=trackers)
    asked = RunOptions(
        out=out, steps=steps, seed=seed, device=device, threads=threads, force=force, script=script, resume=resume
    )
    with said_no():
        what, folder = read_source(source, asked, command="profile")
        from clipcal.cli import scaling
        from clipcal.cli.steps import curves, run_profile

        probed = None if scale is None else scaling.scale_of(scale, what, folder, asked)
        with curves(tensorboard, folder, display) as board:
            run = None
            if probed is not None:
                run = scaling.profiled_already(probed[0], folder, probed[1], asked)
            run = run or run_profile(what, folder, asked, display, board)
        if probed is not None:
            scaling.run_probe(probed[0], run, probed[1], asked, display)
        answer = _summary(run)
        if json:
            print_json(answer)
        else:
            print(
                f"{run.folder}: {answer['steps']} steps, grad norm median {answer['median']:.4g}, "
                f"largest {answer['largest']:.4g} at step {answer['largest_step']}"
            )
            display.note(f"next: clipcal recommend {run.folder}")


def _summary(run: Run) -> dict[str, Any]:
    """What a profile came to, in a few numbers; NaN where no norm is finite."""
    import numpy as np

    from clipcal.run.trace import read_trace

    trace = read_trace(run.trace)
    is_finite = np.isfinite(trace.grad_norm)
    finite, largest = trace.grad_norm[is_finite], int(np.argmax(np.where(is_finite, trace.grad_norm, -np.inf)))
    return {
        "schema": "clipcal.profile/1",
        "run": str(run.folder),
        "status": run.info.status,
        "reason": run.info.reason,
        "steps": len(trace),
        "median": float(np.median(finite)) if finite.size else math.nan,
        "largest": float(trace.grad_norm[largest]) if finite.size else math.nan,
        "largest_step": int(trace.step[largest]),
        "notes": run.info.notes,
    }
