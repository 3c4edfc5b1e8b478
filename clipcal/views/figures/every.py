"""Evidence and recommendation -> the numbers of all their pictures together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.culprits import Culprits, known_culprits
from clipcal.recommendation.evidence import Evidence
from clipcal.views.figures.course import Course, course
from clipcal.views.figures.facts import Facts, facts
from clipcal.views.figures.harm import LossAfter, loss_after
from clipcal.views.figures.heat import Heat, heat
from clipcal.views.figures.thresholds import ClippedShare, Distribution, clipped_share, distribution


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A figure is None where there is nothing to draw."""

    course: Course
    distribution: Distribution | None
    share: ClippedShare | None
    harm: LossAfter | None
    heat: Heat | None
    facts: Facts
    culprits: Culprits | None


def figures(evidence: Evidence, recommendation: Recommendation, *, in_use: float | None = None) -> Figures:
    """``in_use`` is a threshold that is checked, or that the run was clipped at; an infinite one is none."""
    r = recommendation
    if in_use is not None and not math.isfinite(in_use):
        in_use = None
    found = known_culprits(evidence, r)
    return Figures(
        course=course(r, in_use=in_use, guard=evidence.guard),
        distribution=distribution(r, in_use=in_use),
        share=clipped_share(r, in_use=in_use),
        harm=loss_after(r),
        heat=heat(evidence, r, found),
        facts=facts(r, evidence.trace, evidence.norms),
        culprits=found,
    )
