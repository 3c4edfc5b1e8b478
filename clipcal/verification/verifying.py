"""Run -> Verification: train again with clipping on, beside the unclipped arm, from the same seeds and batches."""

from __future__ import annotations

from collections.abc import Sequence

from clipcal.arms.pool import LR_SCALE, Arm, OnPlan, OnProgress, arm_name, arm_of
from clipcal.arms.trainers import ArmOptions
from clipcal.arms.trials import Trials
from clipcal.errors import InputError
from clipcal.run.directory import Run
from clipcal.run.jsonfile import write_json
from clipcal.run.trace import Trace
from clipcal.verification.answer import Verification
from clipcal.verification.judging import judge, results_of


def verify(
    run: Run,
    *,
    max_norm: float,
    others: Sequence[float] = (),
    seeds: int = 3,
    steps: int | None = None,
    jobs: int | None = None,
    executor: str = "local",
    arm_gpus: float | None = None,
    force: bool = False,
    on_plan: OnPlan | None = None,
    on_progress: OnProgress | None = None,
) -> Verification:
    """Train ``seeds`` pairs of arms, unclipped and clipped at ``max_norm``, and judge; write verification.json.

    ``others`` are further thresholds, whose arms are trained and shown too. ``executor`` says where: ``local``, or ``ray`` for
    a cluster. Arms that are there from an earlier call are used again unless ``force``. Where an arm is lost, a tenth of the learning rate is tried as
    well. Raises InputError, or what the user's code raises.
    """
    options = ArmOptions(
        steps=steps,
        jobs=jobs,
        executor=executor,
        arm_gpus=arm_gpus,
        force=force,
        on_plan=on_plan,
        on_progress=on_progress,
    )
    return verified(Trials(run, options), max_norm=max_norm, others=others, seeds=seeds)


def check(trials: Trials, thresholds: Sequence[float], seeds: int) -> None:
    """Raise InputError unless arms can be trained for so many seeds and steps, and clipped at every threshold."""
    steps = trials.options.steps
    if seeds < 1 or (steps is not None and steps < 1):
        raise InputError(f"--{'seeds' if seeds < 1 else 'steps'} must be at least 1.")
    for value in thresholds:
        if not 0 < value < float("inf"):
            raise InputError(f"--max-norm {value:g}: expected a number greater than 0.")


def verified(
    trials: Trials,
    *,
    max_norm: float,
    others: Sequence[float] = (),
    seeds: int,
    beside: Sequence[tuple[Arm, Trace]] = (),
) -> Verification:
    """The verdict on ``max_norm`` from ``seeds`` pairs of arms; ``beside`` are arms that were trained already, and shown.
    Raises InputError, or what the user's code raises."""
    check(trials, (max_norm, *others), seeds)
    first = trials.first_seed
    thresholds = [None, *{arm_name(t): t for t in (*reversed(others), max_norm)}.values()]
    trained = dict(beside)
    trained |= trials.train([arm_of(t, first + k) for k in range(seeds) for t in thresholds])
    roles = {"unclipped": arm_name(None), "clipped": arm_name(max_norm)}
    results, _, _ = results_of(list(trained.items()))
    if any(r.diverged_at is not None for r in results if r.name in roles.values()):
        roles["smaller_rate"] = arm_name(None, LR_SCALE)
        trained |= trials.train([arm_of(None, first + k, LR_SCALE) for k in range(seeds)])
        if judge(max_norm, list(trained.items()), roles=roles).helped == "neither":
            roles["together"] = arm_name(max_norm, LR_SCALE)
            trained |= trials.train([arm_of(max_norm, first + k, LR_SCALE) for k in range(seeds)])
    verification = judge(max_norm, list(trained.items()), roles=roles)
    write_json(trials.run.verification, verification.as_dict())
    return verification
