"""``--scale``: the probe of ``profile``, and what ``recommend`` moves by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcal.errors import InputError

if TYPE_CHECKING:
    from clipcal.recommendation.answer import Recommendation
    from clipcal.recommendation.evidence import Evidence
    from clipcal.run.directory import Run
    from clipcal.sources.script import Script
    from clipcal.sources.spec import Spec


def scale_of(text: str, source: Spec | Script, folder: Path, *, force: bool, resume: bool) -> int:
    """How many times the batch the probe takes. Raises InputError, before anything is trained, where it cannot be taken."""
    from clipcal.recommendation.scaling.probed import LARGEST_PROBE, times_of
    from clipcal.sources.script import Script

    times = times_of(text, most=LARGEST_PROBE)
    if isinstance(source, Script):
        raise InputError(
            "--scale trains a spec a second time with a larger batch, and this is a script, which is run as it is. Write a spec "
            "(`clipcal init`), or profile the script at the larger batch itself."
        )
    from clipcal.run.directory import is_run, open_run
    from clipcal.training.probing import check_known, refuse

    refuse(source)
    if resume and not force and is_run(folder):
        check_known(open_run(folder), times)
    return times


def profiled_already(source: Spec | Script, folder: Path, times: int | None, *, resume: bool) -> Run | None:
    """The run that is gone on with, where all its steps are there and a probe alone is wanted. Raises InputError where that is
    there too."""
    from clipcal.sources.script import Script

    if not resume or times is None or isinstance(source, Script):
        return None
    from clipcal.run.directory import open_run
    from clipcal.training.probing import check_known, has_all

    if not has_all(folder, source):
        return None
    run = open_run(folder)
    known = check_known(run, times)
    if known is not None and len(known.step) >= source.fields.steps:
        raise InputError(
            f"{folder}: nothing is left to do ({len(known.step)} steps, and as many at {times} times the batch). Ask for more with --steps, "
            f"or go on with `clipcal recommend {folder} --scale batch={4 * times}`."
        )
    return run


def run_probe(source: Spec | Script, run: Run, times: int, *, threads: int | None, quiet: bool, plain: bool) -> None:
    """Take the probe of a run, with progress as for the profile."""
    from clipcal.sources.script import Script
    from clipcal.streams import interruptible, prints_to_stderr
    from clipcal.views.terminal import live
    from clipcal.views.terminal.console import note, stderr_console

    assert not isinstance(source, Script)
    if run.info.guard is not None:
        raise InputError(
            f"{run.folder}: is lost at once without clipping, so no probe was taken: its norms say nothing of another batch. The profile is "
            "kept; profile at the larger batch itself."
        )
    from clipcal.training.probing import probe

    if not quiet:
        note(f"profiling again at {times} times the batch")
    console = stderr_console(plain=plain)
    with (
        interruptible() as asked,
        prints_to_stderr(),
        live.profile_view(console, source.fields.steps, asked=asked, quiet=quiet, spoken=plain) as (on_steps, _),
    ):
        probe(source, run, times=times, threads=threads or run.info.threads, on_steps=on_steps, should_stop=asked)
    if not quiet:
        note(f"wrote {run.scale}")


def moving_to(text: str, others: Mapping[str, object]) -> int:
    """How many times the batch a recommendation is wanted for. Raises InputError beside ``others`` that are given."""
    from clipcal.recommendation.scaling.probed import times_of

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
    moved = move(recommendation, probed, times)
    return replace(evidence, run=named(evidence.run, times)), moved.recommendation, moved.as_dict()


def show_moved(evidence: Evidence, recommendation: Recommendation, *, plain: bool = False) -> None:
    """The answer without pictures: the steps are those of another batch, and none were seen at this one."""
    from clipcal.views.terminal import console, plainview

    none = evidence.norms[:0]
    if plain:
        lines = plainview.recommendation(recommendation, evidence.trace, none)
        plainview.say(line for line in lines if line != plainview.course(recommendation, evidence.trace, none)[0])
        return
    out = console.stdout_console()
    width, ascii = console.picture_width(out), console.is_ascii(out)
    console.show(out, console.recommendation(recommendation, evidence.trace, none, width=width, ascii=ascii))
