"""``--scale``: the probe of ``profile``, and what ``recommend`` moves by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcal.errors import InputError
from clipcal.recommendation.scaling.probed import LARGEST_PROBE, times_of
from clipcal.run.directory import Run, is_run, open_run
from clipcal.sources.script import Script

if TYPE_CHECKING:
    from clipcal.cli.options import Display, RunOptions
    from clipcal.recommendation.answer import Recommendation
    from clipcal.recommendation.evidence import Evidence
    from clipcal.sources.spec import Spec


def scale_of(text: str, source: Spec | Script, folder: Path, asked: RunOptions) -> tuple[Spec, int]:
    """The spec, and how many times its batch the probe takes. Raises InputError, before anything is trained, where it cannot be taken."""
    times = times_of(text, most=LARGEST_PROBE)
    if isinstance(source, Script):
        raise InputError(
            "--scale trains a spec a second time with a larger batch, and this is a script, which is run as it is. Write a spec "
            "(`clipcal init`), or profile the script at the larger batch itself."
        )
    from clipcal.training.probing import check_known, refuse

    refuse(source)
    if asked.resume and not asked.force and is_run(folder):
        check_known(open_run(folder), times)
    return source, times


def profiled_already(spec: Spec, folder: Path, times: int, asked: RunOptions) -> Run | None:
    """The run that is resumed, where all its steps are there and a probe alone is wanted. Raises InputError where that is there too."""
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


def run_probe(spec: Spec, run: Run, times: int, asked: RunOptions, display: Display) -> None:
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


def moving_to(text: str, others: Mapping[str, object]) -> int:
    """How many times the batch a recommendation is wanted for. Raises InputError beside ``others`` that are given."""
    given = [name for name, value in others.items() if value]
    if given:
        raise InputError(
            f"--scale moves the threshold to another batch, and {' and '.join(given)} shows the steps of the profile's own. Ask for one "
            "or the other."
        )
    return times_of(text)


def moved_to(
    evidence: Evidence, recommendation: Recommendation, times: int
) -> tuple[Evidence, Recommendation, dict[str, Any] | None]:
    """The same for ``times`` the batch, and what it was moved by. Where there is no threshold there is nothing to move."""
    from clipcal.recommendation.scaling.moving import move, named, probe_of

    probed = probe_of(evidence)
    if recommendation.max_norm is None:
        return evidence, recommendation, None
    assert evidence.run is not None
    moved = move(recommendation, evidence.norms, probed, times)
    return replace(evidence, run=named(evidence.run, times)), moved.recommendation, moved.as_dict()
