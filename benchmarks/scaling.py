"""How the time and the memory of ``clipcal.recommend`` grow with the length of a trace: 10 thousand to 10 million steps.

One trace, made at each length: a warm-up, a level that falls to half, autocorrelated norms, spikes, and a loss that rises
after them, so that every part of the rule has work, the bootstrap and the test of the losses included. The lengths take
turns, each beside ``np.sort`` of the same norms: on a busy machine the seconds grow, the ratio much less.

Exits with 1 where a target is missed beyond its interval.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.reporting import interval, judged, print_table, write_results
from clipcal import recommend

Array = NDArray[np.float64]
Seconds = tuple[float, float, float]  # wall, CPU, and the part of CPU that is not the kernel's

LENGTHS = (10**4, 10**5, 10**6, 10**7)
TARGET_EXPONENT, TARGET_SECONDS, JUDGED_STEPS = 1.05, 1.0, 10**6
TURN = 0.2  # seconds: what is shorter is repeated within its turn, and the fastest counts
BUSY = 0.8  # CPU time per wall time below which the process was kept waiting by others
SEED = 0
RHO, MEMORY = 0.8, 60  # lag-one correlation of the log norms; after 60 steps a millionth of it is left
SPIKES = 0.005  # of the steps


def make_trace(n: int) -> tuple[Array, Array]:
    """Gradient norms and losses (n,). The course is stretched with n; noise, correlation and rate of spikes are not."""
    draw, t = np.random.default_rng(SEED), np.arange(n) / n
    noise = np.convolve(draw.standard_normal(n + MEMORY - 1), RHO ** np.arange(MEMORY), "valid") * np.sqrt(1 - RHO**2)
    norms = np.exp(0.2 * noise - math.log(2) * t) * (1 + 10 * np.exp(-t / 0.01))
    spikes = np.flatnonzero(draw.random(n) < SPIKES)
    norms[spikes] *= np.exp(draw.uniform(2.0, 4.0, spikes.size))
    losses = (2 + 2 * np.exp(-t / 0.2)) * np.exp(0.02 * draw.standard_normal(n))
    for later in (1, 2, 3):
        losses[spikes[spikes + later < n] + later] *= 1.05
    return norms, losses


def turn(call: Callable[..., object], *arguments: Array) -> Seconds:
    """The fastest call within a turn."""
    took: list[Seconds] = []
    begin = time.perf_counter()
    while not took or time.perf_counter() - begin < TURN:
        wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        call(*arguments)
        after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - wall
        user = after.ru_utime - before.ru_utime
        took.append((seconds, user + after.ru_stime - before.ru_stime, user))
    return min(took)


def peak_bytes(call: Callable[..., object], *arguments: Array) -> int:
    """The most memory that a call holds at once beside its arguments; numpy tells tracemalloc of its arrays."""
    tracemalloc.start()
    call(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def exponents(rounds: Sequence[Mapping[int, Seconds]], lengths: Sequence[int], clock: int) -> list[float]:
    """How time grows with the steps in each round: the slope of the least-squares line through the logs."""
    x = np.log(lengths)
    return [float(np.polyfit(x, np.log([seconds[n][clock] for n in lengths]), 1)[0]) for seconds in rounds]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of recommend against the length of a trace.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no 10 million steps: a look, not a result")
    quick = parser.parse_args().quick
    lengths, num_rounds = (LENGTHS[:-1], 3) if quick else (LENGTHS, 9)
    traces = {n: make_trace(n) for n in lengths}
    # before anything is timed: the first call also imports modules and warms the caches up
    answers = {n: recommend(*trace) for n, trace in traces.items()}
    ours: list[dict[int, Seconds]] = [{} for _ in range(num_rounds)]
    sorting: list[dict[int, Seconds]] = [{} for _ in range(num_rounds)]
    for i in range(num_rounds):
        for n, (norms, losses) in traces.items():
            ours[i][n] = turn(recommend, norms, losses)
            sorting[i][n] = turn(np.sort, norms)
    results: dict[str, Any] = {
        str(n): _summary([r[n] for r in ours], [r[n] for r in sorting])
        | {
            "peak_bytes_per_step": peak_bytes(recommend, *traces[n]) / n,
            "verdict": answers[n].verdict,
            "max_norm": answers[n].max_norm,
        }
        for n in lengths
    }
    head = [
        "steps",
        "median s",
        "95 % interval",
        "CPU s",
        "in kernel",
        "ns per step",
        "x np.sort",
        "95 % interval",
        "peak bytes/step",
    ]
    rows = [head]
    for n in lengths:
        r = results[str(n)]
        rows.append(
            [
                f"{n:,}",
                f"{r['wall']:.3f}",
                "{:.3f} .. {:.3f}".format(*r["wall_interval"]),
                f"{r['cpu']:.3f}",
                f"{r['cpu'] - r['user']:.3f}",
                f"{1e9 * r['wall'] / n:.0f}",
                f"{r['ratio']:.0f}",
                "{:.0f} .. {:.0f}".format(*r["ratio_interval"]),
                f"{r['peak_bytes_per_step']:.0f}",
            ]
        )
    print_table(rows)

    growth: dict[str, tuple[int, ...]] = {f"{lengths[0]:,} to {lengths[-1]:,}": lengths}
    growth |= {f"{a:,} to {b:,}": (a, b) for a, b in pairwise(lengths)}
    rows = [["time ~ steps ^ exponent", "wall", "95 % interval", "CPU without kernel", "95 % interval", "np.sort"]]
    for name, some in growth.items():
        wall, user, other = exponents(ours, some, 0), exponents(ours, some, 2), exponents(sorting, some, 0)
        results[f"exponent, {name}"] = r = {
            "wall": statistics.median(wall),
            "wall_interval": interval(wall),
            "user": statistics.median(user),
            "user_interval": interval(user),
            "sort": statistics.median(other),
        }
        cells = [(f"{r[clock]:.3f}", "{:.3f} .. {:.3f}".format(*r[f"{clock}_interval"])) for clock in ("wall", "user")]
        rows.append([name, *cells[0], *cells[1], f"{r['sort']:.3f}"])
    print_table(rows)

    r = results[str(JUDGED_STEPS)]
    in_time = judged(r["wall"], *r["wall_interval"], at_most=TARGET_SECONDS)
    if in_time != "met" and r["cpu"] < min(BUSY * r["wall"], TARGET_SECONDS):
        in_time += ", but met by CPU time: other processes had the machine"
    took = f"{r['wall']:.2f} s (CPU {r['cpu']:.2f} s)"
    print(f"{JUDGED_STEPS:,} steps: {took}, target < {TARGET_SECONDS:g} s: {in_time}")
    whole, *_, last = growth
    r = results[f"exponent, {whole}"]
    linear = judged(r["wall"], *r["wall_interval"], at_most=TARGET_EXPONENT)
    print(f"time ~ steps ^ {r['wall']:.3f}, linear if at most {TARGET_EXPONENT}: {linear}")
    r = results[f"exponent, {last}"]
    print(
        f"{last} alone, where fixed costs count least: {r['wall']:.3f}, without the kernel {r['user']:.3f} "
        "(glibc takes arrays of over 32 MB from it anew each time)"
    )
    write_results("scaling", results, lengths=lengths, rounds=num_rounds, seed=SEED)
    if "missed" in (in_time, linear):
        sys.exit(1)


def _summary(ours: Sequence[Seconds], sorting: Sequence[Seconds]) -> dict[str, Any]:
    wall = [w for w, _, _ in ours]
    ratios = [w / s for w, (s, _, _) in zip(wall, sorting, strict=True)]
    return {
        "wall": statistics.median(wall),
        "wall_interval": interval(wall),
        "cpu": statistics.median(cpu for _, cpu, _ in ours),
        "user": statistics.median(user for _, _, user in ours),
        "sort": statistics.median(s for s, _, _ in sorting),
        "ratio": statistics.median(ratios),
        "ratio_interval": interval(ratios),
    }


if __name__ == "__main__":
    main()
