"""``clipcal verify``: train again, clipped beside unclipped."""

from __future__ import annotations

from contextlib import ExitStack

from clipcal.cli import options
from clipcal.cli.answering import HOLDS, finish, print_json, said_no
from clipcal.cli.options import ArmOptions, Display
from clipcal.cli.recommend import save
from clipcal.errors import InputError


def verify(
    run: options.RunArg,
    other: options.Others = None,
    seeds: options.Seeds = 3,
    steps: options.Steps = None,
    jobs: options.Jobs = None,
    executor: options.Executor = "local",
    arm_gpus: options.ArmGpus = None,
    plot: options.Plot = None,
    tensorboard: options.TensorBoard = None,
    plain: options.Plain = False,
    json: options.Json = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Train again, clipped beside unclipped.

    From the same seeds, weights and batches as the profile. Where training is lost, a tenth of the learning rate is tried
    too. Exit code 3 where clipping costs something or training is lost all the same.
    """
    display = Display(plain=plain, json=json, quiet=quiet)
    arms = ArmOptions(
        others=other or [], seeds=seeds, jobs=jobs, steps=steps, executor=executor, arm_gpus=arm_gpus, force=force
    )
    with said_no(), ExitStack() as opened:
        from clipcal.cli.steps import curves, run_verify
        from clipcal.recommendation.evidence import load
        from clipcal.run.directory import open_run
        from clipcal.verification.answer import SCHEMA

        options.check_plot(plot)
        if run.is_dir():
            open_run(run)  # not a log in it: that cannot be trained again
        evidence = load(run)
        recommendation = evidence.recommend()
        if evidence.run is None:
            raise InputError(
                f"{run}: is a trace or a log by itself, which cannot be trained again. Name a run directory."
            )
        board = opened.enter_context(curves(tensorboard, evidence.run.folder, display))
        save(evidence.run, recommendation, display)
        if json and recommendation.max_norm is None and not other:
            reasons = list(recommendation.reasons)
            nothing: dict[str, object] = {
                "schema": SCHEMA,
                "verdict": None,
                "max_norm": None,
                "arms": [],
                "comparison": None,
            }
            print_json({**nothing, "reasons": reasons})
            finish(yes=False)
        verification = run_verify(evidence.run, recommendation, arms, display, board)
        if board:
            board.recommend(recommendation)
        if json:
            print_json(verification.as_dict())
        else:
            from clipcal.cli.showing import show_verification

            show_verification(evidence.run, verification, display)
        if plot is not None:  # last: what was trained is told, whatever becomes of the picture
            from clipcal.views.image.pictures import draw_verification

            draw_verification(evidence.run, plot)
            display.note(f"wrote {plot}")
    finish(yes=verification.verdict in HOLDS)
