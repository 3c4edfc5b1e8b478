"""``clipcal calibrate``: profile, recommend and verify in one go."""

from __future__ import annotations

from contextlib import ExitStack

from clipcal.cli import options
from clipcal.cli.answering import HOLDS, finish, print_json, said_no
from clipcal.cli.options import ArmOptions, Display, RunOptions
from clipcal.cli.recommend import save
from clipcal.cli.sources import read_source


@options.flags(
    "source steps seed seeds device out other threads jobs optimizer scratch trackers tensorboard plain json force quiet"
)
def calibrate(
    source: options.Source,
    asked: RunOptions,
    arms: ArmOptions,
    display: Display,
    tensorboard: options.TensorBoard = None,
) -> None:
    """Profile, recommend, and let training choose the threshold.

    The candidates are trained from the same seeds, and on one more seed where it stays open which is best. Ends with a threshold, its evidence, and the snippet to paste. Exit code 3 where the answer is no.
    """
    with said_no(), ExitStack() as opened:
        what, folder = read_source(source, asked, command="calibrate")
        from clipcal.cli import showing
        from clipcal.cli.steps import curves, prepare, run_choose, run_profile
        from clipcal.recommendation.evidence import load

        board = opened.enter_context(curves(tensorboard, folder, display))
        prepare(what)
        run = run_profile(what, folder, asked, display, board)
        evidence = load(run.folder)
        recommendation = evidence.recommend()
        save(run, recommendation, display)
        outcome = None
        if recommendation.max_norm is not None:
            display.note(f"preliminary, from the norms alone: {recommendation.headline} Training decides now.")
            outcome = run_choose(run, recommendation, arms, display, board)
            recommendation = evidence.recommend(recommendation.reading)
            save(run, recommendation, display)
        if board:
            board.recommend(recommendation)
        verification = outcome.verification if outcome else None
        if display.json:
            print_json(
                {
                    "schema": "clipcal.calibration/1",
                    "run": str(run.folder),
                    "max_norm": recommendation.max_norm,
                    "choice": outcome.choice if outcome else None,
                    "recommendation": recommendation.as_dict(),
                    "verification": verification.as_dict() if verification else None,
                }
            )
        else:
            if verification is not None:
                showing.show_headline(recommendation, verification, display)
            showing.show_recommendation(evidence, recommendation, display)
        if outcome is not None and not display.json:
            print()
            showing.show_verification(run, outcome.verification, display)
            showing.show_snippet(recommendation, evidence, display)
    finish(yes=verification is not None and verification.verdict in HOLDS)
