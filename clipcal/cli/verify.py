"""``clipcal verify``: train again, clipped beside unclipped."""

from __future__ import annotations

from contextlib import ExitStack

import typer

from clipcal.cli.answering import NO, print_json, said_no
from clipcal.cli.options import (
    ArmGpus,
    Executor,
    Force,
    Jobs,
    Json,
    Others,
    Plain,
    Plot,
    Quiet,
    RunArg,
    Seeds,
    Steps,
    TensorBoard,
)
from clipcal.cli.showing import show_verification
from clipcal.cli.steps import curves, read, run_verify, save
from clipcal.errors import InputError
from clipcal.verification.answer import SCHEMA


def verify(
    run: RunArg,
    other: Others = None,
    seeds: Seeds = 3,
    steps: Steps = None,
    jobs: Jobs = None,
    executor: Executor = "local",
    arm_gpus: ArmGpus = None,
    plot: Plot = None,
    tensorboard: TensorBoard = None,
    plain: Plain = False,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Train again, clipped beside unclipped.

    From the same seeds, weights and batches as the profile. Where training is lost, a tenth of the learning rate is tried
    too. Exit code 3 where clipping costs something or training is lost all the same.
    """
    with said_no(), ExitStack() as opened:
        if plot is not None:
            from clipcal.views.image.saving import check_file

            check_file(plot)
        if run.is_dir():
            from clipcal.run.directory import open_run

            open_run(run)  # not a log in it: that cannot be trained again
        evidence, recommendation = read(run)
        if evidence.run is None:
            raise InputError(
                f"{run}: is a trace or a log by itself, which cannot be trained again. Name a run directory."
            )
        from clipcal.arms.trainers import ArmOptions

        board = opened.enter_context(curves(tensorboard, evidence.run.folder, quiet=quiet))
        save(evidence.run, recommendation, quiet=quiet)
        if json and recommendation.max_norm is None and not other:
            nothing: dict[str, object] = {
                "schema": SCHEMA,
                "verdict": None,
                "max_norm": None,
                "arms": [],
                "comparison": None,
            }
            print_json(nothing | {"reasons": list(recommendation.reasons)})
            raise typer.Exit(NO)
        verification = run_verify(
            evidence.run,
            recommendation,
            other or [],
            seeds,
            ArmOptions(steps=steps, jobs=jobs, executor=executor, arm_gpus=arm_gpus, force=force),
            quiet=quiet,
            spaced=False,
            plain=plain,
            board=board,
        )
        if board:
            board.recommend(recommendation)
        if json:
            print_json(verification.as_dict())
        else:
            show_verification(evidence.run, verification, plain=plain)
        if plot is not None:  # last: what was trained is told, whatever becomes of the picture
            from clipcal.views.image.pictures import draw_verification
            from clipcal.views.terminal.console import note

            draw_verification(evidence.run, plot)
            if not quiet:
                note(f"wrote {plot}")
    raise typer.Exit(0 if verification.verdict in ("holds", "no_difference") else NO)
