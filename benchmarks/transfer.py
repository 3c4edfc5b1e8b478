"""Does a threshold that was moved to a larger batch lie where one that is read there does?

    python -m benchmarks.transfer [--quick] [NAME ...]

Every config but `vanishing` is profiled with a probe at twice its batch, and its threshold is moved to 2, 4 and 8 times the
batch. Then it is profiled at these batches, from another seed, and the threshold is read there. A prediction is right where
that lies in its interval. The row of 1 times is the measure of it: how often a threshold of the same batch and another seed lies in the
interval of `recommend`. "Same candidate" is the gentle, middle or firm one that was moved, whichever was taken there; "same
seed" is what is read there from the seed of the profile, whose steps at twice the batch are the probe's. Beside it, how far off the threshold is (a factor, the median over seeds) with this rule and with three simpler ones.

No target is set: what fails is to be seen.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.reporting import print_table, write_results
from clipcal.profiling import profile
from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.evidence import Evidence, load
from clipcal.rescaling.moving import move
from clipcal.rescaling.probing import probe
from clipcal.rundir import Run
from clipcal.spec import Spec, load_spec

ROOT = Path(__file__).parents[1]
PROBE, TIMES = 2, (2, 4, 8)
SEEDS = (10, 11, 12)  # not those that the rule was chosen on, 0 to 2
THREADS = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prediction and what was read there. The factors are predicted over read."""

    config: str
    times: int
    seed: int
    predicted: float
    interval: tuple[float, float]
    read: float | None
    same_seed: float | None
    same_candidate: float | None
    level_error: float | None
    factor: float
    noise: float
    drift: float
    errors: dict[str, float]

    @property
    def inside(self) -> bool:
        return self.holds(self.read)

    def holds(self, value: float | None) -> bool:
        return value is not None and self.interval[0] <= value <= self.interval[1]


def spec_of(config: str, seed: int, times: int) -> Spec:
    path = ROOT / "configs" / f"{config}.yaml"
    plain = load_spec(path)
    return load_spec(path, seed=seed, accumulate=times * plain.fields.accumulate)


def profiled(config: str, seed: int, times: int, folder: Path) -> Evidence:
    run = profile(spec_of(config, seed, times), folder / f"{config}-{seed}-{times}", threads=THREADS)
    return load(run.folder)


def taken(r: Recommendation) -> str:
    """Which candidate a threshold is."""
    return next(n for n in ("gentle", "middle", "firm") if getattr(r.candidates, n) == r.max_norm)


def row(config: str, seed: int, times: int, here: Evidence, there: Recommendation, own: Recommendation) -> Row:
    """``there`` is read at the larger batch from another seed, ``own`` from the same."""
    at_batch = here.recommend()
    assert at_batch.max_norm is not None
    assert at_batch.interval is not None
    assert at_batch.stable is not None
    found = move(here, at_batch, max(times, PROBE))
    t, moved = found.transfer, found.recommendation
    if times == 1:
        predicted, interval, factor = at_batch.max_norm, at_batch.interval, 1.0
    else:
        assert moved.max_norm is not None
        assert moved.interval is not None
        predicted, interval, factor = moved.max_norm, moved.interval, t.factor
    noise = math.sqrt(1 - t.noise + t.noise / times)
    rules = {"moved": factor, "left as it is": 1.0, "noise alone": noise, "root": 1 / math.sqrt(times)}
    read, level = there.max_norm, None
    if there.stable is not None:
        level = math.log(at_batch.stable.median * factor / there.stable.median)
    return Row(
        config=config,
        times=times,
        seed=seed,
        predicted=predicted,
        interval=interval,
        read=read,
        same_seed=own.max_norm,
        same_candidate=getattr(there.candidates, taken(at_batch)),
        level_error=level,
        factor=factor,
        noise=t.noise,
        drift=t.drift,
        errors={} if read is None else {k: math.log(at_batch.max_norm * v / read) for k, v in rules.items()},
    )


def rows_of(config: str, seeds: tuple[int, ...], folder: Path) -> list[Row]:
    base: dict[int, Evidence] = {}
    for seed in seeds:
        base[seed] = profiled(config, seed, 1, folder)
        run = base[seed].run
        assert isinstance(run, Run)
        probe(spec_of(config, seed, 1), run, times=PROBE, threads=THREADS)
    rows = []
    for times in (1, *TIMES):
        there = {s: (base[s] if times == 1 else profiled(config, s, times, folder)).recommend() for s in seeds}
        for seed, other in zip(seeds, (*seeds[1:], seeds[0]), strict=True):
            rows.append(row(config, seed, times, base[seed], there[other], there[seed]))
    return rows


def table(rows: list[Row]) -> list[list[str]]:
    head = ["config", "batch", "moved to", "interval", "read there", "inside", "same candidate", "same seed", "off by"]
    lines = [[*head, "as it is", "noise alone", "root"]]
    for config, times in dict.fromkeys((r.config, r.times) for r in rows):
        some = [r for r in rows if (r.config, r.times) == (config, times)]
        first = some[0]
        lines.append(
            [
                config,
                f"x {times}",
                f"{first.predicted:.2g}",
                f"{first.interval[0]:.2g} to {first.interval[1]:.2g}",
                ", ".join("none" if r.read is None else f"{r.read:.2g}" for r in some),
                f"{sum(r.inside for r in some)} of {len(some)}",
                f"{sum(r.holds(r.same_candidate) for r in some)} of {len(some)}",
                f"{sum(r.holds(r.same_seed) for r in some)} of {len(some)}" if times > 1 else "-",
                *(off(some, rule) for rule in ("moved", "left as it is", "noise alone", "root")),
            ]
        )
    return lines


def off(rows: list[Row], rule: str) -> str:
    errors = [abs(r.errors[rule]) for r in rows if r.errors]
    return f"x {math.exp(statistics.median(errors)):.2f}" if errors else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="configs by name; all but vanishing where none is given")
    parser.add_argument("--quick", action="store_true", help="two seeds in place of three, and no small_gpt")
    asked = parser.parse_args()
    names = asked.names or sorted(p.stem for p in (ROOT / "configs").glob("*.yaml") if p.stem != "vanishing")
    seeds = SEEDS[:2] if asked.quick else SEEDS
    if asked.quick:
        names = [n for n in names if n != "small_gpt"]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            rows += rows_of(name, seeds, Path(folder))
    print_table(table(rows))
    results: dict[str, Any] = {"rows": [r.__dict__ | {"inside": r.inside} for r in rows]}
    for times in (1, *TIMES):
        some = [r for r in rows if r.times == times]
        results[f"x {times}"] = {"inside": sum(r.inside for r in some), "of": len(some)}
        own = f", {sum(r.holds(r.same_seed) for r in some)} from the same seed" if times > 1 else ""
        width = statistics.median(r.interval[1] / r.interval[0] for r in some)
        print(
            f"{times} times: {sum(r.inside for r in some)} of {len(some)} inside, {sum(r.holds(r.same_candidate) for r in some)} as the same "
            f"candidate{own}; interval high / low {width:.2f}; off by {off(some, 'moved')}, left as it is {off(some, 'left as it is')}, noise alone "
            f"{off(some, 'noise alone')}, root {off(some, 'root')}"
        )
    if not asked.quick and not asked.names:
        write_results("transfer", results, probe=PROBE, seeds=seeds, threads=THREADS)


if __name__ == "__main__":
    main()
