"""How often the interval around the recommended threshold holds the threshold of another trace of the same kind and length.

    python -m benchmarks.traces.coverage [--traces N]

Each trace is compared with the next one. Each has a unit of its own, so that rounding to two digits falls anywhere. Beside it stands how
often the interval holds the gentle candidate of traces of 200,000 steps, where the same rule has next to no sampling error. A short trace
can come to another verdict than a long one, most of all where spikes are rare; its interval is then one of another quantity, and
the share among those with the same verdict is given too. The last one takes verdict and rounding out: whether the interval, moved from
the threshold to the stable p99, holds the long traces' p99.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

import clipcal
from benchmarks.reporting import print_table, write_results
from benchmarks.traces.process import Array, autocorrelated, gamma, lognormal, second_mode, skewed, two_sources

CLAIMED = 90.0  # per cent
STEPS = (50, 200, 1000, 5000)
LONG, NUM_LONG = 200_000, 5

Process = Callable[[Generator, int], Array]


def warmed_up(rng: Generator, n: int) -> Array:
    """6 times the level at first, within 10% of it after 20 steps."""
    start: Array = 1 + 5 * np.exp(-np.arange(n) / 5)
    return lognormal(0.25)(rng, n) * start


def spiky(spread: float, rate: float, smallest: float) -> Process:
    """Independent spikes, from ``smallest`` times the stable p99 on, over a factor of 10."""
    p99 = math.exp(2.326 * spread)

    def draw(rng: Generator, n: int) -> Array:
        spike = rng.random(n) < rate
        sizes = p99 * smallest * 10 ** rng.random(n)
        norms = lognormal(spread)(rng, n)
        norms[spike] = sizes[spike]
        return norms

    return draw


PROCESSES: Mapping[str, Process] = {
    "log-normal 0.05": lognormal(0.05),
    "log-normal 0.2": lognormal(0.2),
    "log-normal 0.5": lognormal(0.5),
    "gamma 4": gamma(4.0),
    "skewed 0.15": skewed(0.15),
    "AR(1) 0.3": autocorrelated(0.25, 0.3),
    "AR(1) 0.7": autocorrelated(0.25, 0.7),
    "AR(1) 0.9": autocorrelated(0.25, 0.9),
    "warm-up": warmed_up,
    "two sources": two_sources(0.15, 2.0, 0.4),
    "mode near zero": second_mode(0.25, 0.25, 100.0, 0.5),
    "spikes 1%, far": spiky(0.25, 0.01, 6.0),
    "spikes 5%, near": spiky(0.25, 0.05, 2.5),
    "two decimals": lognormal(0.25),
}
ROUNDED = {"two decimals"}  # about a median of 0.2 to 2; in the others the unit is free


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A recommendation in the unit of its process, or a truth: ``interval`` is that of ``max_norm``, NaN where there is none."""

    verdict: str
    max_norm: float
    p99: float
    interval: tuple[float, float] = (math.nan, math.nan)

    def holds(self, truth: Answer) -> bool:
        return self.interval[0] <= truth.max_norm <= self.interval[1]

    def holds_p99(self, truth: Answer) -> bool:
        return self.interval[0] <= truth.p99 * self.max_norm / self.p99 <= self.interval[1]

    @property
    def width(self) -> float:
        return math.log(self.interval[1] / self.interval[0])


def ask(process: str, rng: Generator, n: int) -> Answer:
    """One trace of n steps, its unit drawn over a decade."""
    unit = 10 ** rng.uniform(-0.7, 0.3)
    norms = unit * PROCESSES[process](rng, n)
    answer = clipcal.recommend(np.round(norms, 2) if process in ROUNDED else norms)
    if answer.max_norm is None or answer.interval is None or answer.stable is None:
        return Answer(verdict=answer.verdict, max_norm=math.nan, p99=math.nan)
    low, high = answer.interval
    return Answer(
        verdict=answer.verdict,
        max_norm=answer.max_norm / unit,
        p99=answer.stable.p99 / unit,
        interval=(low / unit, high / unit),
    )


def truth_of(process: str, seed: int) -> Answer:
    """The verdict on most long traces, and the geometric means of what those say."""
    rng = np.random.default_rng([seed, 0])
    answers = [ask(process, rng, LONG) for _ in range(NUM_LONG)]
    verdict = Counter(a.verdict for a in answers).most_common(1)[0][0]
    alike = [a for a in answers if a.verdict == verdict]
    return Answer(
        verdict=verdict,
        max_norm=statistics.geometric_mean(a.max_norm for a in alike),
        p99=statistics.geometric_mean(a.p99 for a in alike),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the coverage of the interval.")
    parser.add_argument("--traces", type=int, default=200, help="per process and length")
    num_traces = parser.parse_args().traces
    found: dict[str, dict[str, float]] = {}
    truths = {}
    for seed, process in enumerate(PROCESSES):
        truth = truths[process] = truth_of(process, seed)
        for n in STEPS:
            rng = np.random.default_rng([seed, n])
            found[f"{process}, {n} steps"] = _measures([ask(process, rng, n) for _ in range(num_traces)], truth)
    for n in STEPS:
        found[f"all, {n} steps"] = _mean([r for name, r in found.items() if name.endswith(f", {n} steps")])
    found["all"] = _mean([found[f"all, {n} steps"] for n in STEPS])
    print_table([["process, steps", *COLUMNS.values()], *([name, *_cells(r)] for name, r in found.items())])
    print_table(
        [
            ["process", "verdict on long traces", "max_norm", "p99"],
            *([p, t.verdict, f"{t.max_norm:.3f}", f"{t.p99:.3f}"] for p, t in truths.items()),
        ]
    )
    print(
        f"claimed: {CLAIMED:.0f} %; the share of {num_traces} traces has a standard error of {_error(num_traces):.1f} %"
    )
    results = {
        "coverage": {
            name: {k: None if math.isnan(v) else round(v, 3) for k, v in r.items()} for name, r in found.items()
        },
        "truth": {p: {"verdict": t.verdict, "max_norm": t.max_norm, "p99": t.p99} for p, t in truths.items()},
    }
    write_results("coverage", results, traces=num_traces, steps=STEPS, long=LONG, num_long=NUM_LONG)


COLUMNS = {
    "covered": "holds another's %",
    "long": "holds endless %",
    "same_verdict": "same verdict %",
    "covered_then": "holds it then %",
    "p99_covered": "holds p99 %",
    "too_low": "too low %",
    "too_high": "too high %",
    "width": "width",
}


def _measures(answers: Sequence[Answer], truth: Answer) -> dict[str, float]:
    """Per cent; too low and too high are intervals wholly to that side; ``width`` is the median of log(high / low)."""
    same = [a for a in answers if a.verdict == truth.verdict]
    n = len(answers) / 100
    return {
        "covered": sum(a.holds(b) for a, b in zip(answers, [*answers[1:], answers[0]], strict=True)) / n,
        "long": sum(a.holds(truth) for a in answers) / n,
        "same_verdict": len(same) / n,
        "covered_then": 100 * sum(a.holds(truth) for a in same) / len(same) if same else math.nan,
        "p99_covered": sum(a.holds_p99(truth) for a in answers) / n,
        "too_low": sum(a.interval[1] < truth.max_norm for a in answers) / n,
        "too_high": sum(a.interval[0] > truth.max_norm for a in answers) / n,
        "width": statistics.median(a.width for a in answers if not math.isnan(a.max_norm)),
    }


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Over processes alike; ``covered_then`` where a process has such traces."""
    return {key: statistics.mean(r[key] for r in rows if not math.isnan(r[key])) for key in COLUMNS}


def _cells(r: dict[str, float]) -> list[str]:
    return ["-" if math.isnan(r[k]) else f"{r[k]:.2f}" if k == "width" else f"{r[k]:.1f}" for k in COLUMNS]


def _error(n: int) -> float:
    share = CLAIMED / 100
    return 100 * math.sqrt(share * (1 - share) / n)


if __name__ == "__main__":
    main()
