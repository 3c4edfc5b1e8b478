"""A profiled run and its recommendation -> the candidate that trains best, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from clipcal.arms.trials import Trials
from clipcal.recommendation.answer import Choice, Recommendation
from clipcal.run.jsonfile import write_json
from clipcal.verification.answer import Verification
from clipcal.verification.racing import Race, candidates_of, race
from clipcal.verification.verifying import check, verified

SCHEMA = "clipcal.choice/1"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``race`` is None where there was one candidate, and so nothing to choose."""

    choice: Choice
    race: Race | None
    verification: Verification


def choose(trials: Trials, recommendation: Recommendation, *, others: Sequence[float] = (), seeds: int = 3) -> Outcome:
    """Train the candidates of ``recommendation`` side by side, and verify the one that trains best.

    ``seeds`` pairs of arms are trained at least, and one more where it stays open which is best. ``others`` are
    thresholds that are shown too, and never chosen. Writes choice.json and verification.json of the run. Raises
    InputError, or what the user's code raises.
    """
    assert recommendation.max_norm is not None
    check(trials, others, seeds)
    candidates = candidates_of(recommendation)
    result = race(candidates, trials.train, first_seed=trials.first_seed, seeds=seeds)
    chosen = result.chosen
    choice = Choice(name=chosen.name, max_norm=chosen.max_norm, reason=result.reason, alike=result.alike)
    standings = [asdict(s.candidate) | {"loss": s.loss, "lost": s.lost, "seeds": s.seeds} for s in result.standings]
    kept = {"schema": SCHEMA} | asdict(choice) | {"seeds": result.seeds, "candidates": standings}
    write_json(trials.run.choice, kept)
    verification = verified(trials, max_norm=choice.max_norm, others=others, seeds=result.seeds, beside=result.trained)
    return Outcome(choice=choice, race=result if len(candidates) > 1 else None, verification=verification)
