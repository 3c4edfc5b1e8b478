"""Evidence and an answer -> the picture that ``recommend``, ``check`` and ``verify`` draw of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.text import Text

from clipcal.checking import Check
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.culprits import known_culprits
from clipcal.recommendation.evidence import Evidence
from clipcal.run.directory import Run
from clipcal.views.figures.arms import arms
from clipcal.views.figures.course import Course, course
from clipcal.views.figures.harm import loss_after
from clipcal.views.figures.heat import heat
from clipcal.views.figures.thresholds import clipped_share, distribution
from clipcal.views.image.arms import curves_row
from clipcal.views.image.arms import headline as verified
from clipcal.views.image.finals import final_panel
from clipcal.views.image.layers import heat_panel
from clipcal.views.image.quarters import quarters_panel
from clipcal.views.image.response import loss_after_panel
from clipcal.views.image.saving import save
from clipcal.views.image.sheet import Headline, Panel, page
from clipcal.views.image.style import our_style
from clipcal.views.image.thresholds import distribution_panel, share_panel
from clipcal.views.image.timeline import losses_panel, norms_panel
from clipcal.views.terminal import checkview, console


def draw_recommendation(evidence: Evidence, recommendation: Recommendation, file: Path) -> None:
    """Write the picture of ``recommend``. Raises InputError where it cannot be written."""
    with our_style():
        head = _headline(console.headline(recommendation), evidence)
        save(page(head, _rows(evidence, recommendation, None)), file)


def draw_check(evidence: Evidence, check: Check, file: Path) -> None:
    """Write the picture of ``check``: the same with the threshold in use. Raises InputError where it cannot be written."""
    with our_style():
        head = _headline(checkview.headline(check), evidence)
        save(page(head, _rows(evidence, check.recommendation, check)), file)


def draw_verification(run: Run, file: Path) -> None:
    """Write the picture of ``verify``, of what it left in ``run``. Raises InputError where it cannot be written."""
    found = arms(run)
    assert found is not None, "a run that was verified"
    with our_style():
        rows = [*curves_row(found, run.info.method), [final_panel(found)]]
        save(page(verified(found, run), rows), file)


def _headline(lines: Sequence[Text], evidence: Evidence) -> Headline:
    answer, _, said = lines[0].plain.partition("   ")
    n = len(evidence.norms)
    return Headline(
        answer=answer,
        said=said.replace("   ", " · "),
        source=f"{evidence.source}, {n:,} step{'s' * (n != 1)}",
        more=lines[1].plain if len(lines) > 1 else "",
    )


def _rows(evidence: Evidence, recommendation: Recommendation, check: Check | None) -> list[Sequence[Panel]]:
    in_use = None if check is None else check.max_norm
    drawn = course(recommendation, in_use=in_use, guard=evidence.guard)
    rows: list[Sequence[Panel]] = [[p] for p in _over_steps(drawn, evidence, recommendation, check)]
    found = distribution(recommendation, in_use=in_use)
    if found is not None:
        rows.append([distribution_panel(found, drawn.unit)])
    share = clipped_share(recommendation, in_use=in_use)
    after = loss_after(recommendation)
    num = (share is not None) + (after is not None)
    last = [share_panel(share, drawn.unit, num)] if share is not None else []
    last += (
        [loss_after_panel(after, drawn.unit, console.label(recommendation.method), num)] if after is not None else []
    )
    return [*rows, last]


def _over_steps(
    drawn: Course, evidence: Evidence, recommendation: Recommendation, check: Check | None
) -> Sequence[Panel]:
    layers = heat(evidence, recommendation, known_culprits(evidence, recommendation))
    if layers is not None and not np.isfinite(layers.rise).any():
        layers = None
    quarters = check is not None and any(q.clipped is not None for q in check.quarters)
    label = console.label(recommendation.method)
    panels = [norms_panel(drawn, label, last=drawn.losses is None and not quarters and layers is None)]
    if drawn.losses is not None:
        panels.append(losses_panel(drawn, last=not quarters and layers is None))
    if check is not None and quarters:
        panels.append(quarters_panel(drawn, check.warm_up, check.quarters, label, last=layers is None))
    if layers is not None:
        panels.append(heat_panel(layers, drawn))
    return panels
