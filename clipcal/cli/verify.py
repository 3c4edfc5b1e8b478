"""``clipcal verify``: train again, clipped beside unclipped."""

from __future__ import annotations

from contextlib import ExitStack

from clipcal.cli import options
from clipcal.cli.answering import HOLDS, finish, print_json, said_no
from clipcal.cli.options import ArmOptions, Display
from clipcal.cli.recommend import save
from clipcal.errors import InputError


@options.flags("run other seeds steps jobs executor arm_gpus plot tensorboard plain json force quiet")
def verify(
    run: options.RunArg,
    arms: ArmOptions,
    display: Display,
    plot: options.Plot = None,
    tensorboard: options.TensorBoard = None,
) -> None:
    """Train again, clipped beside unclipped.

    From the same seeds, weights and batches as the profile. Where training is lost, a tenth of the learning rate is tried
    too. Exit code 3 where clipping costs something or training is lost all the same.
    """
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
        if display.json and recommendation.max_norm is None and not arms.other:
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
        if display.json:
            print_json(verification.as_dict())
        else:
            from clipcal.cli.showing import show_verification

            show_verification(evidence.run, verification, display)
        if plot is not None:  # last: what was trained is told, whatever becomes of the picture
            from clipcal.views.image.pictures import draw_verification

            draw_verification(evidence.run, plot)
            display.note(f"wrote {plot}")
    finish(yes=verification.verdict in HOLDS)
