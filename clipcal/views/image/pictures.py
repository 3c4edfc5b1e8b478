"""Evidence and an answer -> the picture that ``recommend``, ``check`` and ``verify`` draw of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipcal.checking import Check
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.evidence import Evidence
from clipcal.run.directory import Run
from clipcal.views import words
from clipcal.views.figures.arms import Arms, arms
from clipcal.views.figures.every import Figures, figures
from clipcal.views.image.arms import curves_row, final_panel
from clipcal.views.image.layers import heat_panel
from clipcal.views.image.saving import save
from clipcal.views.image.sheet import Headline, Panel, page
from clipcal.views.image.style import our_style
from clipcal.views.image.thresholds import distribution_panel, loss_after_panel, share_panel
from clipcal.views.image.timeline import losses_panel, norms_panel, quarters_panel


def draw_recommendation(evidence: Evidence, recommendation: Recommendation, file: Path) -> None:
    """Write the picture of ``recommend``. Raises InputError where it cannot be written."""
    with our_style():
        head = _headline(words.headline(recommendation), evidence)
        drawn = figures(evidence, recommendation)
        save(page(head, _rows(drawn, words.LABELS[recommendation.method])), file)


def draw_check(evidence: Evidence, check: Check, file: Path) -> None:
    """Write the picture of ``check``: the same with the threshold in use. Raises InputError where it cannot be written."""
    with our_style():
        head = _headline(words.check_headline(check), evidence)
        drawn = figures(evidence, check.recommendation, in_use=check.max_norm)
        save(page(head, _rows(drawn, words.LABELS[check.recommendation.method], check)), file)


def draw_verification(run: Run, file: Path) -> None:
    """Write the picture of ``verify``, of what it left in ``run``. Raises InputError where it cannot be written."""
    found = arms(run)
    assert found is not None, "a run that was verified"
    with our_style():
        rows = [*curves_row(found, run.info.method), [final_panel(found)]]
        save(page(_verified(found, run), rows), file)


def _headline(head: words.Headline, evidence: Evidence) -> Headline:
    source = f"{evidence.source}, {words.count(len(evidence.norms), 'step')}"
    return Headline(answer=head.answer, said=" · ".join(head.fields), source=source, more=head.below)


def _verified(arms: Arms, run: Run) -> Headline:
    said = words.count(len(arms.seeds), "seed")
    if arms.comparison is not None:
        difference, interval = arms.comparison
        spread = f" (90%: {interval[0]:+.3g} to {interval[1]:+.3g})" if interval else ""
        said = f"final loss {difference:+.3g}{spread} against unclipped, {said}"
    answer = f"{words.LABELS[run.info.method]} {arms.max_norm:g}: {words.spaced(arms.verdict)}"
    more = arms.reasons[0] if arms.reasons else ""
    return Headline(answer=answer, said=said.replace("-", "−"), source=str(run.folder), more=more)


def _rows(f: Figures, label: str, check: Check | None = None) -> list[Sequence[Panel]]:
    """What goes over the steps, a row each, then what goes over the norm."""
    c = f.course
    over_steps = [norms_panel(c, label)]
    if c.losses is not None:
        over_steps.append(losses_panel(c))
    if check is not None and any(q.clipped is not None for q in check.quarters):
        over_steps.append(quarters_panel(c, check, label))
    if f.heat is not None and np.isfinite(f.heat.rise).any():
        over_steps.append(heat_panel(f.heat, c))
    rows: list[Sequence[Panel]] = [[panel] for panel in over_steps]
    if f.distribution is not None:
        rows.append([distribution_panel(f.distribution, c.unit)])
    num = (f.share is not None) + (f.harm is not None)
    last = [share_panel(f.share, c.unit, num)] if f.share is not None else []
    return [*rows, last + ([loss_after_panel(f.harm, c.unit, label, num)] if f.harm is not None else [])]
