"""Norms, and a threshold that is in use on them -> how it acts, and whether it still fits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipcal.checking.answer import Acts, Check, Part
from clipcal.checking.fitting import Context, judged, range_of
from clipcal.errors import InputError
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.evidence import Evidence
from clipcal.recommendation.replay import Verdict, judge
from clipcal.stats import Rows

__all__ = ["Acts", "Check", "Part", "check"]

Bools = NDArray[np.bool_]

AT_PILE = 0.01


def check(evidence: Evidence, max_norm: float | None = None) -> Check:
    """What ``max_norm`` is to the training that ``evidence`` was recorded from; without one, the threshold that the log says
    was in use. Raises InputError where the log says nothing, or ``max_norm`` is no threshold."""
    if max_norm is not None and not (math.isfinite(max_norm) and max_norm > 0):
        raise InputError(f"--max-norm must be a positive number, not {max_norm:g}.")
    r = evidence.recommend()
    reading = r.reading
    norms, usable = reading.norms, reading.usable
    threshold, said = (max_norm, "--max-norm") if max_norm is not None else _in_use(evidence, r)
    pile = reading.stats.pile if r.verdict == "clipped" else None
    above = usable & (norms > threshold)
    if pile is not None:  # norms after clipping reach the threshold, and do not pass it
        above = usable & (norms >= pile * (1 - AT_PILE)) & (abs(threshold / pile - 1) < AT_PILE)
    scale = np.divide(threshold, norms, out=np.ones(norms.size), where=above & (norms > threshold))
    stable, spikes = r.judged_rows()
    verdict: Verdict | None = judge(above[stable], above[spikes])
    if verdict == "inactive" and above.any():
        verdict = "guard"  # it acts in the warm-up alone
    at = np.flatnonzero(above)
    known = r.stable is not None
    acts = Acts(
        share=_mean(above[usable]),
        stable=_mean(above[stable]) if known else None,
        spikes=_mean(above[spikes]),
        rows=int(at.size),
        first_step=reading.step(at[0]) if at.size else None,
        last_step=reading.step(at[-1]) if at.size else None,
        stable_scale=_mean(scale[stable]) if known else None,
    )
    if (pile is not None and not at.size) or not usable.any():
        verdict = None
    steady = reading.stats.steady
    first = steady.first_row if known and steady is not None else 0

    def part(rows: Rows) -> Part:
        """What is counted of some rows, at least one."""
        ok = rows[usable[rows]]
        return Part(
            first_step=int(reading.steps[rows[0]]),
            last_step=int(reading.steps[rows[-1]]),
            rows=int(rows.size),
            median=float(np.median(norms[ok])) if ok.size else None,
            clipped=None if verdict is None else _mean(above[ok]),
            mean_scale=_mean(scale[ok]) if pile is None else None,
            verdict=judge(above[ok], np.empty(0, dtype=bool)) if ok.size and verdict is not None else None,
        )

    quarters = tuple(part(rows) for rows in np.array_split(np.arange(first, norms.size), 4) if rows.size)
    warm_up = part(np.arange(first)) if first else None
    measured = usable.any() and pile is None
    context = Context.of(evidence, pile)
    found = Check(
        source=evidence.source,
        steps=int(norms.size),
        max_norm=threshold,
        max_norm_from=said,
        verdict=verdict,
        fits=None,
        fitting=None if pile is not None else range_of(r, context),
        acts=acts,
        mean_scale=_mean(scale[usable]) if measured else None,
        scale_when_clipped=_mean(scale[above]) if measured else None,
        quarters=quarters,
        warm_up=warm_up,
        recommendation=r,
        reasons=(),
        codes=(),
    )
    fits, why = judged(found, context)
    return replace(found, fits=fits, reasons=tuple(s.text for s in why), codes=tuple(s.code for s in why))


def _in_use(evidence: Evidence, r: Recommendation) -> tuple[float, str]:
    source = evidence.source
    if evidence.in_use is not None and math.isfinite(evidence.in_use):
        return evidence.in_use, evidence.in_use_from
    judge_it = "Give a threshold to judge with --max-norm"
    if r.max_norm is not None:
        judge_it += f", such as the recommended one: clipcal check {source} --max-norm {r.max_norm:g}"
    else:
        judge_it += "."
    if evidence.in_use is not None:
        raise InputError(f"{source}: its run was not clipped ({evidence.in_use_from}). {judge_it}")
    if evidence.run is not None:
        how = "clipping off" if evidence.guard is None else f"a temporary guard of {evidence.guard:g} alone"
        raise InputError(f"{source}: was recorded with {how}, so it says no threshold that is in use. {judge_it}")
    raise InputError(
        f"{source}: does not say which threshold was in use. Give it with --max-norm "
        "(Trainer, LLaMA-Factory, TRL and DeepSpeed clip at 1.0 where nothing else is set; Lightning not at all)."
    )


def _mean(values: NDArray[Any]) -> float | None:
    return float(np.mean(values)) if values.size else None
