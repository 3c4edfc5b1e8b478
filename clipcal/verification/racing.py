"""Candidates in the corridor -> the one that trains best: arms from the same seeds, and more seeds only while it is open.

Racing is Maron and Moore's (1994): whatever is clearly worse than the leader is not trained again. A tie goes to the
gentler candidate, since what clips less changes less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from clipcal.arms.pool import Arm, arm_of
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.leaning import Effect, effect_at
from clipcal.run.trace import Trace
from clipcal.stats import summarise
from clipcal.stats.harm import LOW, loss_response
from clipcal.stats.losses import diverged_at, final_loss, initial_loss
from clipcal.verification.judging import capped, margin_of, results_of

SNUG = 1.05
"""Times the stable median: the last candidate, at the lower end of the corridor. It clips most steps, so that only an
outcome speaks for it: where norms explode it trained best."""
APART, USUAL_APART = 1.08, 1.4
"""Candidates closer than by this factor are one, as no training tells them apart; the usual 1.0 must be further from ours."""
SLOWED = 0.2
"""Of the progress: by so much a firm candidate must be behind before a gentler one is taken where large norms do harm. Short
arms show what clipping slows down before they show what it prevents."""
EXTREME = 0.005
"""The least chance that one seed's losses may claim: the test's own floor on 200 steps, and as far from 1 on the other side."""
FINE = 0.5
"""Times the margin of `verify`: candidates of one corridor cost the same to paste, so that less of a difference decides."""
MORE = 1
"""Seeds that are added at most where the answer stays open: a second one has not paid for itself."""

# one-sided quantiles of Student's t by degrees of freedom: nine chances in ten that a difference has its sign, and 39 in 40
_T90 = (3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.415, 1.397, 1.383)
_T975 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

Train = Callable[[Sequence[Arm]], Sequence[tuple[Arm, Trace]]]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    name: str
    max_norm: float


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a candidate fared: ``loss`` is its mean final loss over its seeds, a lost arm counting as the start."""

    candidate: Candidate
    loss: float
    lost: int
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Race:
    """``standings`` in the order of the candidates, the gentlest first; ``seeds`` were trained of the chosen one; ``alike`` are the thresholds
    that they do not tell from it."""

    chosen: Candidate
    standings: tuple[Standing, ...]
    trained: tuple[tuple[Arm, Trace], ...]
    seeds: int
    reason: str
    alike: tuple[float, ...] = ()


def candidates_of(r: Recommendation) -> list[Candidate]:
    """The thresholds to try, the gentlest first: gentle, firm, snug, and the usual 1.0 where it is another one and lies among
    them."""
    if r.stable is None or r.candidates.gentle is None or r.candidates.firm is None:
        return []
    ours = [
        Candidate(name="gentle", max_norm=r.candidates.gentle),
        Candidate(name="firm", max_norm=r.candidates.firm),
        Candidate(name="snug", max_norm=float(f"{SNUG * r.stable.median:.2g}")),
    ]
    kept = ours[:1]
    for candidate in ours[1:]:
        if kept[-1].max_norm / candidate.max_norm > APART and candidate.max_norm > r.stable.median:
            kept.append(candidate)
    among = kept[-1].max_norm < 1.0 < kept[0].max_norm
    if among and all(max(c.max_norm, 1 / c.max_norm) > USUAL_APART for c in kept):
        kept.append(Candidate(name="default", max_norm=1.0))
    return sorted(kept, key=lambda c: -c.max_norm)


def race(candidates: Sequence[Candidate], train: Train, *, first_seed: int, seeds: int) -> Race:
    """Train the candidates beside the unclipped arm on ``seeds`` seeds, and on a few more where it stays open; choose.

    ``candidates``: at least one, the gentlest first. ``train`` gives the traces of the arms it is asked for. What is
    clearly worse than the leader is not trained on further seeds. A tie goes to the gentlest; what the seeds do not tell, the
    losses of all unclipped arms together do, where they say that large norms do harm.
    """
    trained: list[tuple[Arm, Trace]] = []
    running = list(candidates)
    scores: list[float | None] = []
    done = 0
    while True:
        new = range(first_seed + done, first_seed + done + (min(2, seeds) if done == 0 else 1))
        thresholds = (None, *(c.max_norm for c in running))
        trained += train([arm_of(t, seed) for seed in new for t in thresholds])
        done += len(new)
        unclipped = [t for arm, t in trained if arm.max_norm is None]
        scores += [score_of(t) for t in unclipped[len(scores) :]]
        field, effect = _Field.of(trained), effect_on(unclipped, scores)
        # where all that still run have been lost, those that were left as slower and have not come back
        back = [c for c in candidates if c not in running and not field.lost[c.max_norm]]
        if back and all(field.lost[c.max_norm] for c in running):
            seen = {(arm.max_norm, arm.seed) for arm, _ in trained}
            seeds_so_far = range(first_seed, first_seed + done)
            missed = [(c.max_norm, s) for s in seeds_so_far for c in back if (c.max_norm, s) not in seen]
            trained += train([arm_of(t, seed) for t, seed in missed])
            running = [c for c in candidates if c in [*running, *back]]
            field = _Field.of(trained)
        running = field.race_on(running, effect)
        if done >= seeds + MORE or (done >= seeds and not field.is_open(running)):
            chosen, ground, among = field.choice(running, effect)
            standings = tuple(field.standing(c) for c in candidates)
            return Race(
                chosen=chosen,
                standings=standings,
                trained=tuple(trained),
                seeds=done,
                reason=_reason(chosen, ground, among, standings, done),
                alike=() if ground in ("best", "tie") else tuple(c.max_norm for c in among if c != chosen),
            )


def score_of(unclipped: Trace) -> float | None:
    """What the losses of one unclipped arm say of moderately large norms, as a z: low where they do harm, None where nothing is known."""
    steady = summarise(unclipped.grad_norm).steady
    response = None if steady is None else loss_response(steady.excess, unclipped.loss, among=LOW)
    return None if response is None else NormalDist().inv_cdf(min(max(response.p, EXTREME), 1 - EXTREME))


def effect_on(unclipped: Sequence[Trace], scores: Sequence[float | None]) -> Effect:
    """What moderately large norms do to the loss, from the unclipped arms of all seeds and their scores together (Stouffer's mean z): what
    only far larger ones do, every candidate prevents. A run that is lost has been harmed."""
    if any(diverged_at(t.loss, floor=min(final_loss(t.loss), initial_loss(t.loss))) is not None for t in unclipped):
        return "harm"
    known = [score for score in scores if score is not None]
    return effect_at(NormalDist().cdf(sum(known) / math.sqrt(len(known)))) if known else "unclear"


Ground = Literal["best", "tie", "lost", "harm", "harmless", "undecided"]


@dataclass(frozen=True, kw_only=True)
class _Field:
    """Final losses by threshold (infinite: unclipped) and seed, how many were lost, and the least difference that counts."""

    losses: Mapping[float, Mapping[int, float]]
    lost: Mapping[float, int]
    margin: float
    progress: float

    @classmethod
    def of(cls, trained: Sequence[tuple[Arm, Trace]]) -> _Field:
        results, start, progress = results_of(trained)
        losses: dict[float, dict[int, float]] = {}
        lost: dict[float, int] = {}
        for r in results:
            key = math.inf if r.max_norm is None else r.max_norm
            losses.setdefault(key, {})[r.seed] = capped(r, start)
            lost[key] = lost.get(key, 0) + (r.diverged_at is not None)
        return cls(
            losses=losses,
            lost=lost,
            margin=FINE * margin_of(list(losses[math.inf].values()), progress),
            progress=progress,
        )

    def behind(self, a: Candidate, b: Candidate) -> tuple[float, float]:
        """How much higher the final loss of ``a`` is than that of ``b``, mean over their common seeds, and its error."""
        one, other = self.losses[a.max_norm], self.losses[b.max_norm]
        d = np.array([one[seed] - other[seed] for seed in one if seed in other])
        return float(np.mean(d)), float(np.std(d, ddof=1) / math.sqrt(len(d))) if len(d) > 1 else math.inf

    def leader(self, running: Sequence[Candidate]) -> Candidate:
        seeds = set.intersection(*(set(self.losses[c.max_norm]) for c in running))
        return min(
            running,
            key=lambda c: (self.lost[c.max_norm], float(np.mean([self.losses[c.max_norm][s] for s in seeds]))),
        )

    def is_worse(self, a: Candidate, b: Candidate, quantiles: Sequence[float]) -> bool:
        """Lost more often, or a final loss that is higher beyond the margin and beyond chance."""
        if self.lost[a.max_norm] != self.lost[b.max_norm]:
            return self.lost[a.max_norm] > self.lost[b.max_norm]
        behind, error = self.behind(a, b)
        common = len(set(self.losses[a.max_norm]) & set(self.losses[b.max_norm]))
        t = quantiles[min(common - 2, len(quantiles) - 1)] if common > 1 else 0.0
        return behind > self.margin and not behind <= t * error

    def still_in(self, running: Sequence[Candidate], quantiles: Sequence[float]) -> list[Candidate]:
        """Those that are not worse than the leader."""
        leader = self.leader(running)
        return [c for c in running if c == leader or not self.is_worse(c, leader, quantiles)]

    def race_on(self, running: Sequence[Candidate], effect: Effect) -> list[Candidate]:
        """Those that are worth another seed: not clearly worse than the leader."""
        leader, kept = self.leader(running), self.still_in(running, _T975)
        if effect == "harm":
            kept += [
                c
                for c in running
                if c.max_norm <= leader.max_norm
                and self.lost[c.max_norm] <= self.lost[leader.max_norm]
                and self.behind(c, leader)[0] <= SLOWED * self.progress
            ]
        return [c for c in running if c in kept]

    def choice(self, running: Sequence[Candidate], effect: Effect) -> tuple[Candidate, Ground, Sequence[Candidate]]:
        """The candidate, why, and among which. ``running``: those that are not clearly worse than their leader."""
        leader = self.leader(running)
        if len(running) == 1:
            return leader, "best", running
        if all(self.behind(c, leader)[0] <= self.margin for c in running):
            return running[0], "tie", running
        left = self.still_in(running, _T90)
        if self.lost[math.inf] and effect == "harm":
            return running[-1], "lost", running
        firm = next((c for c in running if c.name == "firm"), None)
        if effect == "harm" and firm is not None:
            tighter = [c for c in left if c.max_norm < firm.max_norm]
            if tighter and firm not in left:
                return self.leader(tighter), "best", running
            return min(firm, leader, key=lambda c: c.max_norm), "harm", running
        if len(left) == 1:
            return leader, "best", running
        if all(self.behind(c, leader)[0] <= self.margin for c in left):
            return left[0], "tie", left
        return (left[0], "harmless", left) if effect == "none" else (leader, "undecided", left)

    def is_open(self, running: Sequence[Candidate]) -> bool:
        """Whether some candidate is behind the leader by more than the margin, and may be so by chance: seeds would tell."""
        leader = self.leader(running)
        left = self.still_in(running, _T90)
        return any(self.behind(c, leader)[0] > self.margin for c in left if c != leader)

    def standing(self, c: Candidate) -> Standing:
        values = self.losses[c.max_norm]
        return Standing(
            candidate=c, loss=float(np.mean(list(values.values()))), lost=self.lost[c.max_norm], seeds=len(values)
        )


def _reason(
    chosen: Candidate, ground: Ground, among: Sequence[Candidate], standings: Sequence[Standing], seeds: int
) -> str:
    if len(standings) == 1:
        return ""
    how = ", ".join(
        f"{s.candidate.name} {s.candidate.max_norm:g} "
        + (
            f"was lost on {s.lost} of {s.seeds} seeds"
            if s.lost
            else f"ends at {s.loss:.4g}"
            if s.seeds == seeds
            else f"was clearly behind after {s.seeds}"
        )
        for s in standings
    )
    names = [c.name for c in among]
    # what is out of the race is no part of a tie: "the gentlest" would contradict a gentler one in the same sentence
    they = "they" if len(among) == len(standings) else _listed(names)
    of = "" if len(among) == len(standings) else " of these"
    apart = f"the seeds do not tell {'them' if they == 'they' else they} apart"
    why = {
        "best": f"{chosen.name} trains best",
        "tie": f"{they} train alike, so the gentlest{of}, {chosen.name}, is taken",
        "lost": f"{apart}, but unclipped training is lost, so the tightest{of}, {chosen.name}, is taken",
        "harm": f"{apart}, but the loss tends to rise after large norms, so {chosen.name} is taken",
        "harmless": f"{apart}, and the loss does not rise after large norms, so {chosen.name} is taken",
        "undecided": f"{apart}, so {chosen.name} is taken, which ends lowest so far",
    }[ground]
    return f"Trained side by side on {seeds} seed{'s' * (seeds != 1)}: {how}; {why}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
