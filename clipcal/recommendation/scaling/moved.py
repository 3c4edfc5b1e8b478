"""The answer of ``recommend --scale``: its types, and the JSON object that they become."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.scaling.probed import Reduction
from clipcal.recommendation.scaling.transfer import Transfer

RUNS = 0.6  # in logs: at one and the same batch, 9 of 10 thresholds of two seeds lie within x 1.8 (benchmarks.transfer --workloads)
CROWDED = 0.1  # of the steps: where so many hold a spike, they are the level, and no probe of fewer has seen that level
PATHS = 1.25  # of a drift, either way: the two trainings went ways of their own, and a third goes another
ONE_WAY = 0.5  # of a spike that all batches share: above, it is the whole loss's
Name = Literal["firm", "middle", "gentle"]
Taken = tuple[Name | None, Name | None]
NAMES: tuple[Name, ...] = ("firm", "middle", "gentle")


@dataclass(frozen=True, kw_only=True)
class Moved:
    """``recommendation`` is for ``transfer.times`` the batch of the run that ``transfer`` was measured on. ``taken`` are the candidates
    that the profile and the probe take, None for a threshold that is none of them."""

    recommendation: Recommendation
    transfer: Transfer
    reduction: Reduction
    taken: Taken

    def as_dict(self) -> dict[str, Any]:
        """The object that ``--json`` has as ``transfer``."""
        t = self.transfer
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(t).items()}
        taken = dict(zip(("profile", "probe"), self.taken, strict=True))
        return found | {"noise_scale": t.noise_scale, "reduction": self.reduction, "taken": taken}
