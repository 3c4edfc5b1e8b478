"""Published packages that clip by the norms they have seen -> the threshold that each has come to after a trace.

Each clips a module with one parameter, whose gradient is set to one norm after the other, so that the package's own code does
all the counting. The threshold is then probed from outside, with copies of the clipper and gradients it has not seen.
A package that is not installed is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.traces.process import Array

Rule = Callable[[Array], float | None]

PACKAGES = ("autoclip", "zclip")
RECENT = 1000  # norms: all that autoclip keeps; what is older weighs less than 1e-13 in the averages of ZClip
LARGEST = 1e100  # as a probe: its square is still a float


def installed() -> dict[str, str]:
    """The version of each of PACKAGES that is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class _Clipped:
    """A module with one parameter in double precision: its gradient's norm is the gradient."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.module = torch.nn.Module()
        self.module.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def after(self, norm: float, step: Callable[[], object]) -> float:
        """What ``step`` leaves of a gradient with that norm."""
        import torch

        weight = self.module.weight
        assert isinstance(weight, torch.nn.Parameter)
        weight.grad = torch.full((1,), norm, dtype=torch.float64)
        step()
        return float(weight.grad)


def autoclip(norms: Array) -> float | None:
    """``autoclip.torch.QuantileClip`` as it comes, but for the total norm: the 90% point of the last 1,000 norms."""
    return _quantile_clip(norms, 0.9)


def autoclip_paper(norms: Array) -> float | None:
    """The same with the 10% point that the AutoClip paper recommends (Seetharaman et al., 2020, arXiv:2007.14469)."""
    return _quantile_clip(norms, 0.1)


def _quantile_clip(norms: Array, quantile: float) -> float | None:
    one = _Clipped()
    clipper: Any = import_module("autoclip.torch").QuantileClip(
        one.module.parameters(), quantile=quantile, global_threshold=True
    )
    for norm in norms[-RECENT:].tolist():
        one.after(norm, clipper.step)
    threshold = one.after(LARGEST, clipper.step)
    return threshold if threshold < LARGEST else None


def zclip(norms: Array) -> float | None:
    """``zclip.ZClip`` without its fixed ``max_grad_norm``: where its z-score begins to clip (Kumar et al., 2025)."""
    return _zclip(norms, max_grad_norm=None)


def zclip_default(norms: Array) -> float | None:
    """``zclip.ZClip()`` as it comes: besides, nothing above ``max_grad_norm=1.0`` passes."""
    return _zclip(norms)


def _zclip(norms: Array, **settings: Any) -> float | None:
    one = _Clipped()
    clipper: Any = import_module("zclip").ZClip(**settings)
    for norm in norms[-RECENT:].tolist():
        one.after(norm, lambda: clipper.step(one.module))

    def clips(norm: float) -> bool:
        return one.after(norm, lambda: deepcopy(clipper).step(one.module)) < norm * (1 - 1e-9)

    low, high = math.log(1e-30), math.log(LARGEST)
    if not clips(LARGEST):
        return None
    # What it clips to depends on how far the norm is off, so only where it begins to clip compares with a threshold.
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if clips(math.exp(middle)) else (middle, high)
    return math.exp(high)


RULES: Mapping[str, tuple[str, Rule]] = {
    "autoclip package, p90": ("autoclip", autoclip),
    "autoclip package, p10": ("autoclip", autoclip_paper),
    "zclip package, no max": ("zclip", zclip),
    "zclip package, default": ("zclip", zclip_default),
}
"""Row of the table -> the package it needs, and the rule."""
