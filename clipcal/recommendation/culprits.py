"""A run and its recommendation -> which of its layers make the spikes, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipcal.errors import InputError
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.attribution import CALM, Attribution, attribute, combined
from clipcal.recommendation.evidence import Evidence
from clipcal.recommendation.peaks import Peaks, evenly, peaks_of
from clipcal.recommendation.ranks import unlike_trace
from clipcal.run.jsonfile import plain
from clipcal.run.layers import Layers, read_layers
from clipcal.run.trace import Floats
from clipcal.stats import Rows

MOST = 2_000_000  # norms that are looked at, of the peaks and of the stable steps: evenly spaced steps where there are more
OVERFLOW = 2 * float(np.finfo(np.float32).max)  # stands for a norm that was too large for the file's float32
SAME = 0.01  # relative difference up to which two norms are of the same step: gradients may be in half precision


@dataclass(frozen=True, kw_only=True)
class Culprits:
    """Where the norm of the peaks comes from.

    ``peaks`` are the spikes; of a heavy tail the steps far above the rest; of a run that diverges the finite steps of its
    runaway part; otherwise the largest 1% of the stable steps. ``norm_type`` is p of the shares. ``conclusion`` is the answer
    in words, ``notes`` are further facts. ``without_gradient`` are the tensors that never had one.
    """

    peaks: Peaks
    num_peaks: int
    num_stable: int
    norm_type: float
    conclusion: str
    attribution: Attribution
    without_gradient: tuple[str, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The object of ``recommend --layers --json``; non-finite numbers are strings."""
        fields: dict[str, Any] = plain(self)
        found: dict[str, Any] = fields.pop("attribution")
        return fields | found


_WORDS = {"spikes": "the spike", "tail": "the large step", "largest": "the largest step"}


def culprits(evidence: Evidence, recommendation: Recommendation) -> Culprits:
    """Find the layers that make the spikes. Raises InputError where the norms of the tensors are not known."""
    layers, rows = aligned(evidence)
    kind, peaks, stable = peaks_of(recommendation)
    most = max(MOST // len(layers.names), 100)
    # a threshold per tensor meets the largest of them
    norm_type = math.inf if recommendation.method == "per_tensor" else layers.norm_type
    at_peaks, at_stable = (_norms(evidence, layers, rows, evenly(part, most)) for part in (peaks, stable))
    with np.errstate(over="ignore"):
        found = attribute(at_peaks, at_stable, layers.names, norm_type)
    without = _without_gradient(layers, rows, at_peaks, at_stable)
    conclusion = _conclusion(found, kind, norm_type, evidence.trace.step[peaks].tolist())
    if len(without) == len(layers.names):
        conclusion = "No tensor got a gradient in any step of this trace: every norm is zero."
    elif recommendation.verdict == "vanishing" and any(layer.usual for layer in found.layers):
        conclusion = _where_it_vanishes(found)
    return Culprits(
        peaks=kind,
        num_peaks=len(peaks),
        num_stable=len(stable),
        norm_type=norm_type,
        conclusion=conclusion,
        attribution=found,
        without_gradient=without,
        notes=tuple(_notes(evidence, layers, rows, without)),
    )


def known_culprits(evidence: Evidence, recommendation: Recommendation) -> Culprits | None:
    """The same, for what is shown where it is there: None where the norms of the tensors are not known."""
    try:
        return None if evidence.run is None else culprits(evidence, recommendation)
    except InputError:
        return None


def aligned(evidence: Evidence) -> tuple[Layers, Rows]:
    """The run's layers, and which row of them each row of the evidence is: a profile writes the row of every step, also of
    those that are left out of the evidence, and a killed one may hold some more."""
    if evidence.run is None:
        raise InputError(
            f"{evidence.source}: is a trace by itself, without the norms of its tensors. Name a run directory, in which "
            "`clipcal profile` keeps them beside the trace."
        )
    path = evidence.run.layers if evidence.guard is None else evidence.run.guarded_layers
    if not path.exists():
        raise InputError(
            f"{path}: is not there, so the norms of its tensors are not known. Profile again with --force, or leave out --layers."
        )
    layers = read_layers(path)
    if (unlike := unlike_trace(layers, evidence.trace.step)) is not None:
        raise InputError(f"{path}: {unlike}. Profile again with --force.")
    return layers, evidence.trace.step.astype(np.intp)


def _norms(evidence: Evidence, layers: Layers, rows: Rows, some: Rows) -> Floats:
    """The tensor norms (k, tensors) of these rows of the evidence, without those that say nothing."""
    norms = np.asarray(layers.norms[rows[some]], dtype=np.float64)
    total = evidence.trace.grad_norm[some]
    # where float32, in which most training is done, can add up squares
    known = np.isfinite(norms).all(axis=1) & (norms > 0).any(axis=1) & (total > 1e-18) & (total < 1e18)
    if known.any():
        sums = combined(norms[known], layers.norm_type)[:, 0]
        if np.median(np.abs(sums - total[known]) / np.maximum(sums, total[known])) > SAME:
            raise InputError(
                "The norms of the tensors do not add up to those of the trace, so they are not of one run: profile again with "
                "--force, or leave out --layers."
            )
    norms[np.isinf(norms)] = OVERFLOW
    return norms[~np.isnan(norms).any(axis=1) & (norms > 0).any(axis=1)]


def _without_gradient(layers: Layers, rows: Rows, *looked_at: Floats) -> tuple[str, ...]:
    """The tensors whose norm is zero in every step."""
    dead = np.ones(len(layers.names), dtype=np.bool_)
    for norms in looked_at:
        dead &= ~norms.any(axis=0)
    for start in range(0, rows.size, 4096) if dead.any() else ():
        dead[dead] = ~layers.norms[rows[start : start + 4096]][:, dead].any(axis=0)
    return tuple(name for name, never in zip(layers.names, dead, strict=True) if never)


def power(norm_type: float) -> str:
    """What the shares are shares of."""
    return {1.0: "norm", 2.0: "squared norm"}.get(norm_type, f"norm^{norm_type:g}")


def times(rise: float | None) -> str:
    """How many times its usual norm something reaches: 12 x."""
    if rise is None:
        return "-"
    if rise == math.inf:
        return "from 0"
    return f"{float(f'{rise:.2g}'):,.0f} x" if 100 <= rise < 1e6 else f"{rise:.2g} x"


def _conclusion(found: Attribution, kind: Peaks, norm_type: float, steps: Sequence[int]) -> str:
    one = len(steps) == 1
    what = "the norms run away" if kind == "runaway" else f"{_WORDS[kind]}{'s' * (not one)}"
    their = "its" if one else "their"
    layers = {layer.name: layer for layer in found.layers}
    rise = times(found.rise)

    def part(name: str) -> str:
        layer = layers[name]
        if norm_type == math.inf:
            return f"`{name}` (the largest in {layer.share:.0%}, in stable steps in {layer.stable_share:.0%})"
        return f"`{name}` ({layer.share:.0%} of {their} {power(norm_type)}, {layer.stable_share:.0%} in stable steps)"

    match found.finding:
        case "one":
            name = found.culprits[0]
            return (
                f"One layer makes {what}: {part(name)} reaches {times(layers[name].rise)} its usual norm. Without it the "
                f"whole norm would reach {times(found.rise_without)} the usual, not {rise}."
            )
        case "few":
            *others, last = (part(name) for name in found.culprits)
            return (
                f"{len(found.culprits)} layers make {what}: {', '.join(others)} and {last}. Without them the norm would reach "
                f"{times(found.rise_without)} the usual, not {rise}."
            )
        case "spread":
            first, second = (part(layer.name) for layer in found.layers[:2])
            return f"No single layer makes {what}: {first} and {second} come first. The norm reaches {rise} the usual."
        case "together":
            assert found.rise is not None
            up = [r for layer in found.layers if (r := layer.rise) is not None and r >= found.rise**CALM]
            which = f"all {len(up)} layers" if len(up) == len(layers) else f"{len(up)} of {len(layers)} layers"
            shown = ", ".join(map(str, steps[:5])) + (", ..." if len(steps) > 5 else "")
            cause = (
                "the learning rate or the loss, not to a layer."
                if kind == "runaway"
                else f"the batch or the loss, not to a layer: look at what step{'s' * (not one)} {shown} {'was' if one else 'were'} "
                "trained on."
            )
            return (
                f"The layers rise together: {which} reach {times(min(up))} their usual norm or more, the whole {rise}. That points "
                f"to {cause}"
            )
        case "flat":
            return f"There is nothing to explain: {what}{' to' if kind == 'runaway' else ' reaches' if one else ' reach'} {rise} the usual norm."
        case "single":
            return f"Only `{found.layers[0].name}` has a gradient, so there is no other layer to compare it with."
        case "none":
            return "Too few steps have a norm that is finite and above zero: nothing can be compared."


def _where_it_vanishes(found: Attribution) -> str:
    by_usual = sorted((layer for layer in found.layers if layer.usual), key=lambda layer: layer.usual)
    return (
        f"The gradients vanish: the usual norm is {by_usual[-1].usual:.2g} in `{by_usual[-1].name}`, the most of all layers, and "
        f"{by_usual[0].usual:.2g} in `{by_usual[0].name}`, the least."
    )


def _notes(evidence: Evidence, layers: Layers, rows: Rows, without: Sequence[str]) -> list[str]:
    notes = []
    if evidence.method == "value":
        notes.append(
            "The threshold is for the largest element of the gradients, which is not known per tensor: the shares are of the "
            f"{power(layers.norm_type)} at the steps that it marks."
        )
    broken = np.flatnonzero(~np.isfinite(evidence.norms))
    if broken.size:
        first = layers.norms[rows[broken[0]]]
        bad = [name for name, norm in zip(layers.names, first, strict=True) if not math.isfinite(norm)]
        which = f"{len(bad)} of {len(first)} tensors" if len(bad) < len(first) else "all tensors"
        notes.append(
            f"Step {evidence.trace.step[broken[0]]} is the first without a finite norm, because of {which}"
            + (f": {listed(bad)}." if 0 < len(bad) < len(first) else ".")
        )
    if 0 < len(without) < len(layers.names):
        notes.append(f"{len(without)} of {len(layers.names)} tensors never got a gradient: {listed(without)}.")
    return notes


def listed(names: Sequence[str]) -> str:
    """The first of the names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
