"""Per-tensor norms at the peaks and at stable steps -> which layers make the peaks. Pure functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipcal.run.trace import Floats
from clipcal.stats import Rows

Finding = Literal["one", "few", "together", "spread", "flat", "single", "none"]

CALM = 0.5  # of the rise, in logs: without its culprits a peak rises by less than that
MOSTLY = 0.8  # of the peaks are explained by the culprits
HELD = 0.75  # of the usual norm to the power p is in the layers that rise, where they rise together
FEW = 3  # culprits at most, and at most half of the layers: more than that is no layer's fault
FLAT = 1.2  # times the usual norm: a rise below that is none


@dataclass(frozen=True, kw_only=True)
class TensorShare:
    """One tensor. ``share`` is its share of the total norm to the power p at the peaks, the mean over the peaks, so that each
    counts alike however large it is; ``stable_share`` the same at stable steps. For p = inf they say how often the tensor
    attains the maximum. ``usual`` is its median norm at stable steps, ``rise`` its median norm at the peaks over that: infinite
    where the usual one is zero, None where both are."""

    name: str
    share: float
    stable_share: float
    usual: float
    rise: float | None


@dataclass(frozen=True, kw_only=True)
class LayerShare(TensorShare):
    """The tensors of one module, the largest share first, and what they come to together."""

    tensors: tuple[TensorShare, ...]


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """``layers`` have the largest share first. ``rise`` is the median norm of all layers together at the peaks over that at
    stable steps. ``culprits`` are the layers without which it would be small, ``rise_without``: finding "one" or "few";
    "together" is most of what there is rising, "spread" something in between, "flat" no rise, "single" one layer in all, "none"
    no gradient in any."""

    finding: Finding
    culprits: tuple[str, ...]
    rise: float | None
    rise_without: float | None
    layers: tuple[LayerShare, ...]


def attribute(peaks: Floats, stable: Floats, names: Sequence[str], norm_type: float) -> Attribution:
    """Compare tensor norms at the peaks (k, tensors) with those at stable steps (n, tensors).

    Norms are finite, and in every row at least one is above zero; k or n may be 0. ``norm_type`` is p, the norm that makes
    the total out of the tensors' norms.
    """
    if not len(peaks) or not len(stable):
        return Attribution(finding="none", culprits=(), rise=None, rise_without=None, layers=())
    layer_names, index = grouped(names)
    at_peaks, at_stable = (combined(x, norm_type, index) for x in (peaks, stable))

    shares, stable_shares = _shares(peaks, norm_type), _shares(stable, norm_type)
    columns = zip(names, shares.tolist(), stable_shares.tolist(), _usual(stable), _rises(peaks, stable), strict=True)
    tensors = [TensorShare(name=n, share=a, stable_share=b, usual=u, rise=r) for n, a, b, u, r in columns]
    layers = [
        LayerShare(
            name=layer,
            share=float(np.sum(shares[index == i])),
            stable_share=float(np.sum(stable_shares[index == i])),
            usual=usual,
            rise=rise,
            tensors=tuple(sorted((tensors[j] for j in np.flatnonzero(index == i)), key=lambda t: -t.share)),
        )
        for i, (layer, usual, rise) in enumerate(
            zip(layer_names, _usual(at_stable), _rises(at_peaks, at_stable), strict=True)
        )
    ]
    finding, culprits, rise, without = _find(at_peaks, at_stable, layers, norm_type)
    return Attribution(
        finding=finding,
        culprits=tuple(layers[i].name for i in culprits),
        rise=rise,
        rise_without=without,
        layers=tuple(sorted(layers, key=lambda layer: -layer.share)),
    )


def layers_of(names: Sequence[str]) -> list[str]:
    """The layer of each tensor: its name without the last component. A tensor of the model itself is its own layer; where
    all tensors are of one module, each is its own."""
    layers = []
    for name in names:
        group, found, _ = name.partition("][")  # what has no name in the model: optimizer.param_groups[0][3]
        is_group = found and name.startswith("optimizer.param_groups[")
        layers.append(f"{group}]" if is_group else name.rpartition(".")[0] or name)
    return layers if len(set(layers)) > 1 else list(names)


def grouped(names: Sequence[str]) -> tuple[list[str], Rows]:
    """The layers in the order of their first tensors, and which of them each tensor is of."""
    of_layer = layers_of(names)
    layers = list(dict.fromkeys(of_layer))
    places = {layer: i for i, layer in enumerate(layers)}
    return layers, np.array([places[layer] for layer in of_layer], dtype=np.intp)


def combined(norms: Floats, norm_type: float, of_group: Rows | None = None) -> Floats:
    """The norms (n, tensors) as the norms (n, groups) of the groups that the tensors are of, by default all of one."""
    starts: Sequence[int] | Rows = (0,)
    if of_group is not None:
        order = np.argsort(of_group, kind="stable")
        starts = np.searchsorted(of_group[order], np.arange(of_group.max() + 1))
        norms = norms[:, order]
    if norm_type == math.inf:
        largest_of: Floats = np.maximum.reduceat(norms, starts, axis=1)
        return largest_of
    largest = np.max(norms, axis=1, keepdims=True)
    relative = np.divide(norms, largest, out=np.zeros_like(norms), where=largest > 0)  # no power of it overflows
    powers: Floats = np.add.reduceat(relative**norm_type, starts, axis=1)
    total: Floats = largest * powers ** (1 / norm_type)
    return total


def _shares(norms: Floats, norm_type: float) -> Floats:
    """Each column's share of the rows' norms to the power p, the mean over the rows."""
    relative = norms / np.max(norms, axis=1, keepdims=True)
    powers = (relative == 1).astype(np.float64) if norm_type == math.inf else relative**norm_type
    shares: Floats = np.mean(powers / np.sum(powers, axis=1, keepdims=True), axis=0)
    return shares


def _usual(stable: Floats) -> list[float]:
    usual: list[float] = np.median(stable, axis=0).tolist()
    return usual


def _rises(peaks: Floats, stable: Floats) -> list[float | None]:
    pairs = zip(np.median(peaks, axis=0).tolist(), _usual(stable), strict=True)
    return [high / usual if usual > 0 else math.inf if high > 0 else None for high, usual in pairs]


def _find(
    peaks: Floats, stable: Floats, layers: Sequence[LayerShare], norm_type: float
) -> tuple[Finding, list[int], float, float | None]:
    """The finding, its culprits as columns of ``peaks`` and ``stable``, the norms of the ``layers``, and how far the norm rises
    with and without them."""
    rise = _rises(combined(peaks, norm_type), combined(stable, norm_type))[0]
    assert rise is not None, "rows without any norm"
    active = [i for i in range(len(layers)) if peaks[:, i].any() or stable[:, i].any()]
    if len(active) == 1:
        return "single", [], rise, None
    if rise < FLAT:
        return "flat", [], rise, None
    # What a layer adds, in units of the norm of the peaks to the power p: a large layer that stays as it is adds nothing.
    shrunk = math.exp(-min(norm_type * math.log(rise), 700.0))
    added = sorted(active, key=lambda i: layers[i].stable_share * shrunk - layers[i].share)
    height = _heights(peaks, stable, norm_type)
    for k in range(1, min(FEW, len(active) // 2) + 1):
        rest = [i for i in active if i not in added[:k]]
        without = _heights(peaks[:, rest], stable[:, rest], norm_type)
        if float(np.mean(without < CALM * np.maximum(height, math.log(FLAT)))) >= MOSTLY:
            return "one" if k == 1 else "few", added[:k], rise, math.exp(float(np.median(without)))
    held = sum(layer.stable_share for layer in layers if layer.rise is not None and layer.rise >= rise**CALM)
    return "together" if held >= HELD else "spread", [], rise, None


def _heights(peaks: Floats, stable: Floats, norm_type: float) -> Floats:
    """How far each peak (k, layers) stands above the usual norm of these layers, in logs (k,)."""
    usual = float(np.median(combined(stable, norm_type)))
    if usual == 0:
        usual = float(np.max(stable)) or float(np.max(peaks)) or 1.0
    heights: Floats = np.log(np.maximum(combined(peaks, norm_type)[:, 0] / usual, 1e-300))
    return heights
