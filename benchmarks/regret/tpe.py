"""What people do otherwise: Optuna's TPE over ``max_norm``, every trial a training of full length."""

from __future__ import annotations

import math

from benchmarks.regret.arms import Arms, Key, Outcome, rule_of
from benchmarks.regret.workloads import STEPS

TRIALS = 20
LOW, HIGH = 1e-3, 1e3  # nobody knows the scale of the norms beforehand


def best_of_trials(arms: Arms, workload: str, seed: int) -> tuple[float, int]:
    """The threshold that 20 trials with TPE's defaults come to, judged by the held-out loss, and the steps they take."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("max_norm", LOW, HIGH, log=True)
        value = float(f"{value:.3g}")
        trial.set_user_attr("max_norm", value)
        outcome = arms[Key(workload=workload, seed=seed, rule=rule_of(value))]
        return _loss(outcome)

    study.optimize(objective, n_trials=TRIALS)
    return float(study.best_trial.user_attrs["max_norm"]), TRIALS * STEPS


def _loss(outcome: Outcome) -> float:
    reference = min(outcome.start, outcome.trivial)
    return min(outcome.final, reference) if math.isfinite(outcome.final) else reference
