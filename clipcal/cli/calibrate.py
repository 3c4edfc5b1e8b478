"""``clipcal calibrate``: profile, recommend and verify in one go."""

from __future__ import annotations

from contextlib import ExitStack

import typer

from clipcal.cli.answering import NO, print_json, said_no
from clipcal.cli.options import (
    Device,
    Force,
    Jobs,
    Json,
    Optimizer,
    Others,
    Out,
    Plain,
    Quiet,
    Scratch,
    Seed,
    Seeds,
    Source,
    Steps,
    TensorBoard,
    Threads,
    Trackers,
)
from clipcal.cli.showing import show_choice, show_recommendation, show_snippet, show_verification
from clipcal.cli.sources import prepare, read_source
from clipcal.cli.steps import curves, read, run_choose, run_profile, save


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
    tensorboard: TensorBoard = None,
    plain: Plain = False,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Profile, recommend, and let training choose the threshold.

    The candidates are trained from the same seeds, and on one more seed where it stays open which is best. Ends with a threshold, its evidence, and the snippet to paste. Exit code 3 where the answer is no.
    """
    with said_no(), ExitStack() as opened:
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
            command="calibrate",
        )
        board = opened.enter_context(curves(tensorboard, folder, quiet=quiet))
        prepare(what)
        run = run_profile(
            what, folder, force=force, resume=False, threads=threads, quiet=quiet, plain=plain, board=board
        )
        evidence, recommendation = read(run.folder)
        save(run, recommendation, quiet=quiet)
        if not json:
            show_recommendation(evidence, recommendation, plain=plain)
        outcome = None
        if recommendation.max_norm is not None:
            outcome = run_choose(
                run, recommendation, other or [], seeds, jobs, quiet=quiet, spaced=not json, plain=plain, board=board
            )
            recommendation = evidence.recommend(recommendation.reading)
            save(run, recommendation, quiet=quiet)
        if board:
            board.recommend(recommendation)
        verification = outcome.verification if outcome else None
        if json:
            from clipcal.run import jsonfile

            print_json(
                {
                    "schema": "clipcal.calibration/1",
                    "run": str(run.folder),
                    "max_norm": recommendation.max_norm,
                    "choice": jsonfile.plain(outcome.choice) if outcome else None,
                    "recommendation": recommendation.as_dict(),
                    "verification": verification.as_dict() if verification else None,
                }
            )
        elif outcome is not None:
            show_choice(run, outcome, plain=plain)
            show_verification(run, outcome.verification, plain=plain)
            show_snippet(recommendation, run, plain=plain)
    holds = verification is not None and verification.verdict in ("holds", "no_difference")
    raise typer.Exit(0 if holds else NO)
