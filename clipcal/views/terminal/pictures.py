"""An answer, the norms that it is about and a threshold -> the pictures that a terminal shows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from clipcal.views.terminal.charts import histogram
from clipcal.views.terminal.timeline import timeline

if TYPE_CHECKING:
    from clipcal.recommendation.answer import Recommendation
    from clipcal.run.trace import Floats, Trace


def pictures(
    r: Recommendation,
    trace: Trace,
    norms: Floats,
    *,
    threshold: float | None,
    last_step: int | None = None,
    width: int,
    ascii: bool,
) -> list[Text]:
    """How often each norm occurs, and the norms over the steps, each below an empty line."""
    counts = histogram(
        norms,
        width=width,
        median=r.stable.median if r.stable else None,
        threshold=threshold,
        spikes_from=r.spikes.min,
        num_spikes=r.spikes.count or None,
        ascii=ascii,
    )
    course = over_steps(r, trace, norms, threshold=threshold, last_step=last_step, width=width, ascii=ascii)
    return [Text(), *counts, Text(), *course]


def over_steps(
    r: Recommendation,
    trace: Trace,
    norms: Floats,
    *,
    threshold: float | None,
    last_step: int | None = None,
    width: int,
    ascii: bool,
) -> list[Text]:
    """``last_step`` ends the healthy part of a run that diverges."""
    return timeline(
        norms,
        trace.step,
        width=width,
        threshold=threshold,
        median=r.stable.median if r.stable else None,
        spikes=r.spikes.steps,
        first_step=r.stable.first_step if r.stable else None,
        last_step=last_step,
        ascii=ascii,
    )
