"""``clipcal calibrate``: profile, recommend and verify in one go."""

from __future__ import annotations

import typer

from clipcal.commands.answering import NO, print_json, said_no
from clipcal.commands.options import (
    Device,
    Force,
    Jobs,
    Json,
    Optimizer,
    Others,
    Out,
    Quiet,
    Scratch,
    Seed,
    Seeds,
    Source,
    Steps,
    Threads,
    Trackers,
)
from clipcal.commands.showing import show_choice, show_recommendation, show_snippet, show_verification
from clipcal.commands.sources import prepare, read_source
from clipcal.commands.steps import read, run_choose, run_profile, save


def calibrate(
    source: Source,
    steps: Steps = None,
    seed: Seed = None,
    seeds: Seeds = 3,
    device: Device = None,
    out: Out = None,
    other: Others = None,
    threads: Threads = None,
    jobs: Jobs = None,
    optimizer: Optimizer = None,
    scratch: Scratch = False,
    trackers: Trackers = False,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Profile, recommend, and let training choose among the candidates.

    Candidates are trained from the same seeds, and on one more seed where it stays open which is best. Ends with a threshold, its evidence, and the snippet to paste. Exit code 3 where the answer is no.
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
        )
        prepare(what)
        run = run_profile(what, folder, force=force, resume=False, threads=threads, quiet=quiet)
        evidence, recommendation = read(run.folder)
        save(run, recommendation, quiet=quiet)
        if not json:
            show_recommendation(evidence, recommendation)
        outcome = None
        if recommendation.max_norm is not None:
            outcome = run_choose(run, recommendation, other or [], seeds, jobs, quiet=quiet, spaced=not json)
            evidence, recommendation = read(run.folder)
            save(run, recommendation, quiet=quiet)
        verification = outcome.verification if outcome else None
        if json:
            from clipcal.jsonfile import plain

            print_json(
                {
                    "schema": "clipcal.calibration/1",
                    "run": str(run.folder),
                    "max_norm": recommendation.max_norm,
                    "choice": plain(outcome.choice) if outcome else None,
                    "recommendation": recommendation.as_dict(),
                    "verification": verification.as_dict() if verification else None,
                }
            )
        elif outcome is not None:
            show_choice(run, outcome)
            show_verification(run, outcome.verification)
            show_snippet(recommendation, run)
    holds = verification is not None and verification.verdict in ("holds", "no_difference")
    raise typer.Exit(0 if holds else NO)
