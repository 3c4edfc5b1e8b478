"""``clipcal profile``: train unclipped and record the norms."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcal.cli import options
from clipcal.cli.answering import print_json, said_no
from clipcal.cli.options import Display, RunOptions
from clipcal.cli.sources import read_source
from clipcal.errors import InputError

if TYPE_CHECKING:
    from clipcal.run.directory import Run
    from clipcal.sources.script import Script
    from clipcal.sources.spec import Spec


@options.flags(
    "source steps seed device out threads optimizer scratch trackers resume scale tensorboard plain json force quiet"
)
def profile(
    source: options.Source,
    asked: RunOptions,
    display: Display,
    scale: options.Scale = None,
    tensorboard: options.TensorBoard = None,
) -> None:
    """Record the gradient norms of N unclipped steps.

    Trains with clipping off, for as many optimizer steps as the spec or --steps says, into a run directory. A script is run as it
    is, in processes of its own, and ended after that many steps.
    """
    with said_no():
        what, folder = read_source(source, asked, command="profile")
        from clipcal.cli.steps import curves, run_profile

        probed = None if scale is None else _scale_of(scale, what, folder, asked)
        with curves(tensorboard, folder, display) as board:
            run = None if probed is None else _profiled_already(*probed, folder, asked)
            run = run or run_profile(what, folder, asked, display, board)
        if probed is not None:
            _run_probe(*probed, run, asked, display)
        answer = _summary(run)
        if display.json:
            print_json(answer)
        else:
            print(
                f"{run.folder}: {answer['steps']} steps, grad norm median {answer['median']:.4g}, "
                f"largest {answer['largest']:.4g} at step {answer['largest_step']}"
            )
            display.note(f"next: clipcal recommend {run.folder}")


def _scale_of(text: str, source: Spec | Script, folder: Path, asked: RunOptions) -> tuple[Spec, int]:
    """The spec, and how many times its batch the probe takes. Raises InputError, before anything is trained, where it cannot be taken."""
    from clipcal.recommendation.scaling.probed import LARGEST_PROBE, times_of
    from clipcal.run.directory import is_run, open_run
    from clipcal.sources.script import Script
    from clipcal.training.probing import check_known, refuse

    times = times_of(text, most=LARGEST_PROBE)
    if isinstance(source, Script):
        raise InputError(
            "--scale trains a spec a second time with a larger batch, and this is a script, which is run as it is. Write a spec "
            "(`clipcal init`), or profile the script at the larger batch itself."
        )
    refuse(source)
    if asked.resume and not asked.force and is_run(folder):
        check_known(open_run(folder), times)
    return source, times


def _profiled_already(spec: Spec, times: int, folder: Path, asked: RunOptions) -> Run | None:
    """The run that is resumed, where all its steps are there and a probe alone is wanted. Raises InputError where that is there too."""
    from clipcal.run.directory import open_run
    from clipcal.training.probing import check_known, has_all

    if not asked.resume or not has_all(folder, spec):
        return None
    run = open_run(folder)
    known = check_known(run, times)
    if known is not None and len(known.step) >= spec.steps:
        raise InputError(
            f"{folder}: nothing is left to do ({len(known.step)} steps, and as many at {times} times the batch). Ask for more with --steps, "
            f"or go on with `clipcal recommend {folder} --scale batch={4 * times}`."
        )
    return run


def _run_probe(spec: Spec, times: int, run: Run, asked: RunOptions, display: Display) -> None:
    """Take the probe of a run, with progress as for the profile."""
    from clipcal.cli.steps import profile_view
    from clipcal.training.probing import probe

    if run.info.guard is not None:
        raise InputError(
            f"{run.folder}: is lost at once without clipping, so no probe was taken: its norms say nothing of another batch. The profile is "
            "kept; profile at the larger batch itself."
        )
    display.note(f"profiling again at {times} times the batch")
    threads = asked.threads or run.info.threads
    with profile_view(spec, display) as (stopping, on_steps, _):
        probe(spec, run, times=times, threads=threads, on_steps=on_steps, should_stop=stopping)
    display.note(f"wrote {run.scale}")


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
