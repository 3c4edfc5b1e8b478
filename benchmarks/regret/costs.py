"""What a threshold costs by the share of the learning rate that it takes, and what each candidate costs: the figures behind `check`.

    python -m benchmarks.regret.costs

Trains nothing: it reads the arms that are kept. The share is of plain SGD, over the ordinary steps of the sweep's profiles. What is too low
about a threshold is its regret beyond that of the best higher one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.regret.arms import Arms
from benchmarks.regret.contest import recommended
from benchmarks.regret.sweep import SEEDS, Curve, curve_of, profiled
from benchmarks.regret.workloads import WORKLOADS
from benchmarks.reporting import print_table, write_results
from clipcal.checking.fitting import COSTS, TOO_MUCH, is_scale_free

CALIBRATIONS = (10, 20, 30, 40, 50, 60)
SHARES = (COSTS, TOO_MUCH, 0.5, 0.9)
WARM_UP = 20  # steps of the profile


@dataclass(frozen=True, kw_only=True)
class Row:
    """Of one workload: the optimizer's class, what is too low about the threshold that takes each of ``SHARES``, and the mean regret of the
    candidates over the calibrations' seeds."""

    workload: str
    optimizer: str
    too_low: Sequence[float]
    candidates: dict[str, float]


def threshold_that_takes(share: float, profiles: Sequence[np.ndarray[tuple[int], np.dtype[np.float64]]]) -> float:
    """The threshold that takes ``share`` of the length of these steps, on average over the profiles."""
    low, high = math.log(min(float(p.min()) for p in profiles)) - 9.0, math.log(max(float(p.max()) for p in profiles))
    for _ in range(60):
        middle = 0.5 * (low + high)
        takes = float(np.mean([1 - np.mean(np.minimum(1.0, math.exp(middle) / p)) for p in profiles]))
        low, high = (middle, high) if takes > share else (low, middle)
    return math.exp(high)


def too_low(curve: Curve, threshold: float) -> float:
    """The regret of a threshold beyond that of the best higher one of the sweep, or of none."""
    higher = [curve.regret(math.exp(log)) for log in curve.logs if math.exp(log) > threshold]
    return curve.regret(threshold) - min([*higher, curve.regret(None), curve.regret(threshold)])


def row_of(arms: Arms, workload: str) -> Row:
    curve = curve_of(arms, workload)
    norms = [np.array(arms[profiled(workload, seed)].norms)[WARM_UP:] for seed in SEEDS]
    profiles = [n[np.isfinite(n) & (n > 0)] for n in norms]
    answers = [recommended(arms, workload, seed)[0] for seed in CALIBRATIONS]
    return Row(
        workload=workload,
        optimizer=type(WORKLOADS[workload].build(0).optimizer).__name__,
        too_low=[too_low(curve, threshold_that_takes(share, profiles)) for share in SHARES],
        candidates={
            name: float(np.mean([curve.regret(getattr(r.candidates, name)) for r in answers]))
            for name in ("gentle", "middle", "firm")
        },
    )


def main() -> None:
    arms = Arms(frozen=True)
    rows = [row_of(arms, w) for w in WORKLOADS if not WORKLOADS[w].wrong_rate]
    heads = [*(f"takes {share:.0%}" for share in SHARES), "gentle", "middle", "firm"]
    print_table(
        [
            ["workload", "optimizer", *heads],
            *([r.workload, r.optimizer, *(f"{v:.3f}" for v in (*r.too_low, *r.candidates.values()))] for r in rows),
        ]
    )
    kinds = {"SGD and its like": False, "scale-free": True}
    worst = {
        kind: [max(r.too_low[i] for r in rows if is_scale_free(r.optimizer) is free) for i in range(len(SHARES))]
        for kind, free in kinds.items()
    }
    print_table(
        [["at most", *heads[: len(SHARES)]], *([kind, *(f"{v:.2f}" for v in found)] for kind, found in worst.items())]
    )
    write_results(
        "costs",
        {
            "shares": SHARES,
            "worst": worst,
            "workloads": {r.workload: {"too_low": r.too_low} | r.candidates for r in rows},
        },
    )


if __name__ == "__main__":
    main()
