"""What people do otherwise: Optuna's TPE over ``max_norm``, every trial a training of full length."""

from __future__ import annotations

import math

from benchmarks.regret.arms import Arms, Key, Outcome, rule_of

TRIALS = 20
LOW, HIGH = 1e-3, 1e3  # nobody knows the scale of the norms beforehand


def best_by_trial(arms: Arms, workload: str, seed: int) -> list[float]:
    """The best threshold after each of 20 trials with TPE's defaults, judged by the held-out loss of the whole training."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    found: list[tuple[float, float]] = []
    for _ in range(TRIALS):
        trial = study.ask()
        value = float(f"{trial.suggest_float('max_norm', LOW, HIGH, log=True):.3g}")
        loss = _loss(arms[Key(workload=workload, seed=seed, rule=rule_of(value))])
        study.tell(trial, loss)
        found.append((loss, value))
    return [min(found[: k + 1])[1] for k in range(TRIALS)]


def _loss(outcome: Outcome) -> float:
    reference = min(outcome.start, outcome.trivial)
    return min(outcome.final, reference) if math.isfinite(outcome.final) else reference
