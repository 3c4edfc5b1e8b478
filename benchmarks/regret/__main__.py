"""Trains small real workloads at many thresholds, and says what each rule's threshold costs against the best one.

    python -m benchmarks.regret [--jobs N] [--frozen] [--quick]

Arms that were trained before are in arms.jsonl.gz, so that a rule is scored again in seconds. Prints a table, writes
results/regret.json, and exits with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from benchmarks.regret.arms import PACKAGES, Arms
from benchmarks.regret.contest import Answer, baselines, calibrated, recommended
from benchmarks.regret.data import STEPS
from benchmarks.regret.modern import MODERN
from benchmarks.regret.sweep import Curve, curve_of, package_regret, sweep
from benchmarks.regret.tpe import TRIALS, best_by_trial
from benchmarks.regret.workloads import WORKLOADS
from benchmarks.reporting import print_table, write_results
from clipcal.recommendation import leaning, thresholds
from clipcal.verification import racing

CALIBRATIONS = (10, 20, 30, 40, 50, 60)
"""Seeds that the rules see; the sweep's are others."""
STUDIES = CALIBRATIONS[:3]
"""Seeds that the search sees, as it takes ten times as long."""
FACTORS = (0.125, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0)
TARGETS = {"clipcal recommend": (0.025, 0.10), "clipcal calibrate": (0.015, 0.06)}
Answers = Mapping[str, Sequence[Answer]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="arms that are trained side by side")
    parser.add_argument("--frozen", action="store_true", help="train nothing: fail where an arm is missing")
    parser.add_argument(
        "--quick", action="store_true", help="a look in seconds: without TPE, and without leaving workloads out"
    )
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    arms = Arms(jobs=asked.jobs, frozen=asked.frozen)
    sweep(arms)
    curves = {w: curve_of(arms, w) for w in WORKLOADS}
    fair = [w for w in WORKLOADS if not WORKLOADS[w].wrong_rate]
    # The search takes ten times as long as all else, so that it is made on the older workloads alone.
    answers = {w: _answers(arms, w, tpe=w in fair and w not in MODERN and not asked.quick) for w in WORKLOADS}
    apart = [w for w in WORKLOADS if WORKLOADS[w].wrong_rate]
    rows = []
    for rule in answers[fair[0]]:
        judged = [w for w in fair if rule in answers[w]]
        rows.append(_row(rule, judged, curves, {w: answers[w][rule] for w in judged}))
    for row in rows:
        if row["rule"] in TUNED:
            tuned = TUNED[row["rule"]]
            row["left_out"] = None if asked.quick else _left_out_of(tuned(arms, fair, curves))
    rows += [_package_row(name, fair, arms) for name in PACKAGES]
    rows.sort(key=lambda row: float(row["mean"]))
    _print(rows)
    _print_workloads(curves, answers, arms, fair + apart)
    if not asked.quick:
        older = [w for w in fair if w not in MODERN]
        ours = _row("clipcal calibrate", older, curves, {w: answers[w]["clipcal calibrate"] for w in older})
        search = _search(arms, older, curves, ours)
        results = {"rules": rows, "search": search, "workloads": {w: WORKLOADS[w].what for w in WORKLOADS}}
        write_results("regret", results, steps=STEPS)
    missed = [row["rule"] for row in rows if row["rule"] in TARGETS and not _met(row)]
    if not asked.frozen and not asked.quick:
        arms.pack()
    return 1 if missed else 0


def _met(row: Mapping[str, Any]) -> bool:
    mean, worst = TARGETS[row["rule"]]
    return bool(row["mean"] <= mean and row["worst"] <= worst)


def _answers(arms: Arms, workload: str, *, tpe: bool) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {"unclipped": [Answer(max_norm=None, steps=0)]}
    for seed in CALIBRATIONS:
        r, steps = recommended(arms, workload, seed)
        found.setdefault("clipcal recommend", []).append(Answer(max_norm=r.max_norm, steps=steps))
        found.setdefault("clipcal calibrate", []).append(calibrated(arms, workload, seed)[0])
        for name, answer in baselines(arms, workload, seed).items():
            found.setdefault(name, []).append(answer)
    if tpe:
        by_seed = [best_by_trial(arms, workload, seed) for seed in STUDIES]
        for trials in (TRIALS // 5, TRIALS):
            found[f"Optuna TPE, {trials} trials"] = [
                Answer(max_norm=best[trials - 1], steps=trials * STEPS) for best in by_seed
            ]
    return found


def _search(
    arms: Arms, workloads: Sequence[str], curves: Mapping[str, Curve], ours: Mapping[str, Any]
) -> dict[str, Any]:
    """How many trials of full length the search takes to come to the regret of `calibrate`, and what they cost."""
    found = [[curves[w].regret(t) for t in best_by_trial(arms, w, s)] for w in workloads for s in STUDIES]
    by_trial = [sum(regrets) / len(found) for regrets in zip(*found, strict=True)]
    reached = next((k + 1 for k, mean in enumerate(by_trial) if mean <= ours["mean"]), None)
    print()
    if reached is None:
        print(f"TPE does not reach calibrate's mean regret of {ours['mean']:.4f} in {TRIALS} trials.")
    else:
        share = ours["steps"] / (reached * STEPS)
        print(
            f"TPE reaches calibrate's mean regret of {ours['mean']:.4f} after {reached} trials, {reached * STEPS} steps: "
            f"calibrate takes {share:.0%} of them. After {TRIALS} it is at {by_trial[-1]:.4f}."
        )
    return {"mean_regret_by_trial": by_trial, "trials_to_calibrate": reached, "steps_per_trial": STEPS}


def _regrets(curve: Curve, answers: Sequence[Answer], factor: float = 1.0) -> float:
    return sum(curve.regret(None if a.max_norm is None else factor * a.max_norm) for a in answers) / len(answers)


def _row(
    rule: str, workloads: Sequence[str], curves: Mapping[str, Curve], answers: Mapping[str, Sequence[Answer]]
) -> dict[str, Any]:
    each = {w: _regrets(curves[w], answers[w]) for w in workloads}
    worst = max(each, key=lambda w: each[w])
    steps = [a.steps for w in workloads for a in answers[w]]
    return {
        "rule": rule,
        "mean": sum(each.values()) / len(each),
        "worst": each[worst],
        "worst_workload": worst,
        "left_out": _left_out(workloads, curves, answers),
        "workloads": len(each),
        "steps": sum(steps) / len(steps),
        "most_steps": max(steps),
        "each": each,
    }


def _left_out(
    workloads: Sequence[str], curves: Mapping[str, Curve], answers: Mapping[str, Sequence[Answer]]
) -> float | None:
    """Of a rule that is multiplied by a factor; None where there is nothing to multiply."""
    if all(a.max_norm is None for w in workloads for a in answers[w]):
        return None
    return _left_out_of({f: {w: _regrets(curves[w], answers[w], f) for w in workloads} for f in FACTORS})


def _left_out_of(table: Mapping[Any, Mapping[str, float]]) -> float:
    """The mean regret where each workload has the setting that is best on all the others. ``table``: setting -> workload."""
    workloads = list(next(iter(table.values())))
    chosen = {w: min(table, key=lambda s: sum(table[s][v] for v in workloads if v != w)) for w in workloads}
    return sum(table[chosen[w]][w] for w in workloads) / len(workloads)


def _recommend_settings(
    arms: Arms, workloads: Sequence[str], curves: Mapping[str, Curve]
) -> dict[tuple[float, ...], dict[str, float]]:
    """The regrets of `recommend` at other constants than ours."""
    table: dict[tuple[float, ...], dict[str, float]] = {}
    for firm, middle in itertools.product((1.05, 1.2, 1.4, 2.0), (1.5, 2.0, 3.0)):
        with _constants(thresholds, FIRM=firm, MIDDLE=middle):
            table[firm, middle] = {
                w: sum(curves[w].regret(recommended(arms, w, s)[0].max_norm) for s in CALIBRATIONS) / len(CALIBRATIONS)
                for w in workloads
            }
    return table


def _calibrate_settings(
    arms: Arms, workloads: Sequence[str], curves: Mapping[str, Curve]
) -> dict[tuple[float, ...], dict[str, float]]:
    """The regrets of `calibrate` at other constants of its race than ours."""
    table: dict[tuple[float, ...], dict[str, float]] = {}
    for slowed, harmful, sure in itertools.product((0.05, 0.2, 0.5), (0.1, 0.2, 0.3), (0.7, 1.0, 1.4)):
        quantiles = tuple(sure * t for t in racing._T90)
        with _constants(leaning, LIKELY=harmful), _constants(racing, SLOWED=slowed, _T90=quantiles):
            table[slowed, harmful, sure] = {
                w: _regrets(curves[w], [calibrated(arms, w, s)[0] for s in CALIBRATIONS]) for w in workloads
            }
    return table


TUNED = {"clipcal recommend": _recommend_settings, "clipcal calibrate": _calibrate_settings}


@contextlib.contextmanager
def _constants(module: ModuleType, **values: Any) -> Iterator[None]:
    before = {name: getattr(module, name) for name in values}
    vars(module).update(values)
    try:
        yield
    finally:
        vars(module).update(before)


def _package_row(name: str, workloads: Sequence[str], arms: Arms) -> dict[str, Any]:
    each = {w: package_regret(arms, w, name) for w in workloads}
    worst = max(each, key=lambda w: each[w])
    return {
        "rule": f"package {name}",
        "mean": sum(each.values()) / len(each),
        "worst": each[worst],
        "worst_workload": worst,
        "left_out": None,
        "workloads": len(each),
        "steps": 0.0,
        "most_steps": 0,
        "each": each,
    }


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    table: list[tuple[str, ...]] = [("rule", "mean regret", "worst", "on", "of", "left one out", "steps", "most")]
    for row in rows:
        left_out = "" if row["left_out"] is None else f"{row['left_out']:.3f}"
        table.append(
            (
                row["rule"],
                f"{row['mean']:.3f}",
                f"{row['worst']:.2f}",
                row["worst_workload"],
                str(row["workloads"]),
                left_out,
                f"{row['steps']:.0f}",
                str(row["most_steps"]),
            )
        )
    print_table(table)


def _print_workloads(
    curves: Mapping[str, Curve], answers: Mapping[str, Answers], arms: Arms, workloads: Sequence[str]
) -> None:
    rules = ("unclipped", "default_1.0", "median", "clipcal recommend", "clipcal calibrate")
    table: list[tuple[str, ...]] = [("workload", "what", "best at", *rules)]
    for w in workloads:
        regrets = [f"{_regrets(curves[w], answers[w][rule]):.3f}" for rule in rules]
        table.append((w, WORKLOADS[w].what, curves[w].best_at, *regrets))
    print_table(table)


if __name__ == "__main__":
    sys.exit(main())
