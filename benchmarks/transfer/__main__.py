"""Does a threshold that was moved to a larger batch lie where one that is read there does?

    python -m benchmarks.transfer [--quick] [--workloads] [NAME ...]

Every config but `vanishing` is profiled with probes at 2, 4 and 8 times its batch, and its threshold is moved to 2, 4 and 8 times
the batch. Then it is profiled at these batches, from another seed, and the threshold is read there. A prediction is right where
that lies in its interval. The rows of 1 times move nothing: how often a threshold of the same batch and another seed lies in the
interval of `recommend`. "Same candidate" is the gentle, middle or firm one that was moved, whichever was taken there; "same
seed" is what is read there from the seed of the profile, whose steps at the probe's batch are the probe's; "in corridor": the threshold that was moved lies
in the corridor that is read there. Beside it, how far off the threshold is (a factor, the median over seeds) with this rule and with three simpler
ones.

`--workloads` does the same on the workloads of benchmarks/regret, every seed against all others: those that the width of
the interval was chosen on. No target is set: what fails is to be seen.
"""

from __future__ import annotations

import argparse

from benchmarks.reporting import print_table, write_results
from benchmarks.transfer.predictions import Row, off, rows_of, width
from benchmarks.transfer.readings import READERS, THREADS, TIMES

PROBES = (2, 4, 8)
SEEDS = {"configs": (20, 21, 22), "workloads": (0, 1, 2, 3)}
RULES = ("moved", "as it is", "noise alone", "root")


def by_training(rows: list[Row]) -> list[list[str]]:
    head = [
        "training",
        "batch",
        "moved to",
        "interval",
        "read there",
        "inside",
        "in corridor",
        "same candidate",
        "same seed",
    ]
    lines = [[*head, "off by", *RULES[1:]]]
    for name, times in dict.fromkeys((r.name, r.times) for r in rows):
        some = [r for r in rows if (r.name, r.times) == (name, times)]
        first = some[0]
        read = {r.other: r.read for r in some}
        lines.append(
            [
                name,
                f"x {times}",
                f"{first.predicted:.2g}",
                f"{first.interval[0]:.2g} to {first.interval[1]:.2g}",
                ", ".join("none" if v is None else f"{v:.2g}" for v in read.values()),
                f"{sum(r.inside for r in some)} of {len(some)}",
                f"{sum(r.in_corridor for r in some)}",
                f"{sum(r.holds(r.same_candidate) for r in some)}",
                f"{sum(r.holds(r.same_seed) for r in some)}" if times > 1 else "-",
                *(off(some, rule) for rule in RULES),
            ]
        )
    return lines


def summary(rows: list[Row]) -> list[list[str]]:
    head = [
        "probe",
        "batch",
        "inside",
        "in corridor",
        "same candidate",
        "same seed",
        "high / low",
        "off by",
        "in 9 of 10",
    ]
    lines = [[*head, *RULES[1:]]]
    for probe, times in dict.fromkeys((r.probe, r.times) for r in rows):
        some = [r for r in rows if (r.probe, r.times) == (probe, times)]
        if times == 1 and probe != PROBES[0]:
            continue
        lines.append(
            [
                "-" if times == 1 else f"x {probe}",
                f"x {times}",
                f"{sum(r.inside for r in some)} of {len(some)}",
                f"{sum(r.in_corridor for r in some)}",
                f"{sum(r.holds(r.same_candidate) for r in some)}",
                f"{sum(r.holds(r.same_seed) for r in some)}" if times > 1 else "-",
                f"{width(some):.2f}",
                off(some, "moved"),
                off(some, "moved", 0.9),
                *(off(some, rule) for rule in RULES[1:]),
            ]
        )
    return lines


def as_records(table: list[list[str]]) -> list[dict[str, str]]:
    return [dict(zip(table[0], line, strict=True)) for line in table[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="trainings by name; all where none is given")
    parser.add_argument("--quick", action="store_true", help="two seeds, and of the configs no small_gpt")
    parser.add_argument("--workloads", action="store_true", help="those of benchmarks/regret in place of the configs")
    asked = parser.parse_args()
    kind = "workloads" if asked.workloads else "configs"
    known, reader = READERS[kind]
    if unknown := sorted(set(asked.names) - set(known)):
        parser.error(f"no {kind} of these names: {', '.join(unknown)}; there are {', '.join(known)}")
    names = asked.names or [n for n in known if not (asked.quick and n == "small_gpt")]
    seeds = SEEDS[kind][:2] if asked.quick else SEEDS[kind]
    rows: list[Row] = []
    for name in names:
        readings = {seed: reader(name, seed, PROBES) for seed in seeds}
        for probe in PROBES:
            rows += rows_of(name, readings, probe, all_pairs=asked.workloads)
    tables = {"by training": by_training([r for r in rows if r.probe == PROBES[0]]), "summary": summary(rows)}
    for table in tables.values():
        print_table(table)
    if not asked.quick and not asked.names:
        target = "transfer" if kind == "configs" else "transfer_workloads"
        write_results(
            target,
            {name: as_records(t) for name, t in tables.items()},
            probes=PROBES,
            times=TIMES,
            seeds=seeds,
            threads=THREADS,
        )


if __name__ == "__main__":
    main()
