"""How often the recommended threshold is right on synthetic traces whose truth is known, beside other rules.

    python -m benchmarks.traces.run [--traces N] [--packages N] [--show K] [--only REGIME[:SEED] ...]

Prints the scores of every rule, then ours by regime, and writes results/traces.json. What the measures mean stands in
labels.py (Truth) and scoring.py (Score). ``--only`` prints single traces, and writes nothing.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.reporting import print_table, write_results
from benchmarks.traces import packages
from benchmarks.traces.generator import REGIMES, labelled
from benchmarks.traces.labels import Labelled
from benchmarks.traces.scoring import MEASURES, Score, baselines, ours, score, score_of, share

OURS = "clipcal"
TIMES = {"long": 0.05, "excerpt": 5.0, "steep_excerpt": 2.0}
"""How many traces of a regime there are for one of others: a long one costs as much as a hundred, excerpts are of many kinds."""
SCORED = ("traces", "corridor %", "good %", "fair %", "x p99", "right verdict %", "false spikes %")
Scores = dict[str, list[Score]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores the recommendation on labelled traces.")
    parser.add_argument("--traces", type=int, default=60, help="per regime")
    parser.add_argument("--packages", type=int, default=10, help="traces per regime for the packages, which are slow")
    parser.add_argument("--show", type=int, default=0, help="failures of ours to print, per regime")
    parser.add_argument("--only", nargs="+", default=[], metavar="REGIME[:SEED]", help="print the answers on these")
    options = parser.parse_args()
    if options.only:
        for name in options.only:
            _print_answers(name, options.traces)
        return
    found = packages.installed()
    for name in sorted(set(packages.PACKAGES) - set(found)):
        print(f"{name}: not installed, its rows are left out; pip install --no-deps {name}")
    others: dict[str, Callable[..., float | None]] = dict(baselines())
    peers = {row: rule for row, (package, rule) in packages.RULES.items() if package in found}
    scores: dict[str, Scores] = defaultdict(lambda: defaultdict(list))
    wrong: dict[str, Counter[str]] = defaultdict(Counter)
    for regime in REGIMES:
        shown = 0
        for seed in range(_number(regime, options.traces)):
            trace = labelled(regime, seed)
            answer = ours(trace)
            mine = score_of(trace, answer)
            scores[OURS][regime].append(mine)
            if mine.verdict is False:
                wrong[regime][answer.verdict] += 1
            if (mine.verdict is False or mine.good is False or mine.beyond) and shown < options.show:
                print(f"{regime}:{seed}", _line(trace))
                shown += 1
            if trace.truth is None:
                continue
            rules = others | (peers if seed < _number(regime, options.packages) else {})
            for row, rule in rules.items():
                with np.errstate(all="ignore"):
                    scores[row][regime].append(score(trace, rule(trace.norms)))
    totals = {row: _totals(by_regime) for row, by_regime in scores.items()}
    regimes = {regime: _totals({regime: scores[OURS][regime]}) for regime in REGIMES}
    _print_totals(totals)
    _print_regimes(regimes, {row: scores[row] for row in others}, wrong)
    results = {
        "total": totals,
        "by_regime": {r: regimes[r] | {"wrong_verdicts": dict(wrong[r])} for r in REGIMES},
        "good_by_regime": {
            row: {r: share(s.good for s in scores[row][r])[0] for r in REGIMES if scores[row].get(r)} for row in scores
        },
    }
    write_results("traces", _finite(results), traces=options.traces, seeds=f"0 to {options.traces - 1}", packages=found)


def _number(regime: str, traces: int) -> int:
    return max(round(traces * TIMES.get(regime, 1.0)), 1)


def _totals(by_regime: Scores) -> dict[str, float]:
    """Each measure over all traces alike, and how many it applies to."""
    scores = [s for scores in by_regime.values() for s in scores]
    totals: dict[str, float] = {}
    for measure in MEASURES:
        totals[measure], totals[f"{measure}_traces"] = share(getattr(s, measure) for s in scores)
    ratios = [s.over_p99 for s in scores if s.over_p99 is not None]
    return totals | {"over_p99": statistics.median(ratios) if ratios else math.nan, "traces": len(scores)}


def _print_totals(totals: dict[str, dict[str, float]]) -> None:
    rows = [["rule", *SCORED, "tail as spikes %", "beyond %"]]
    for row, t in totals.items():
        rows.append(
            [
                row,
                f"{t['corridor_traces']:.0f}",
                *(_percent(t[m]) for m in ("corridor", "good", "fair")),
                f"{t['over_p99']:.2f}",
                *(_percent(t[m]) for m in ("verdict", "false_spikes", "tail_as_spikes", "beyond")),
            ]
        )
    print_table(rows)


def _print_regimes(
    regimes: dict[str, dict[str, float]], others: dict[str, Scores], wrong: dict[str, Counter[str]]
) -> None:
    rows = [
        [
            "regime (clipcal)",
            *SCORED,
            "beyond %",
            "wrong verdicts",
            "best other, good %",
        ]
    ]
    for regime, t in regimes.items():
        best = max(
            ((share(s.good for s in by[regime])[0], row) for row, by in others.items() if by.get(regime)), default=None
        )
        rows.append(
            [
                regime,
                f"{t['traces']:.0f}",
                *(_percent(t[m]) for m in ("corridor", "good", "fair")),
                "-" if math.isnan(t["over_p99"]) else f"{t['over_p99']:.2f}",
                _percent(t["verdict"]),
                _percent(t["tail_as_spikes"] if math.isnan(t["false_spikes"]) else t["false_spikes"]),
                _percent(t["beyond"]),
                ", ".join(f"{k} {v}" for k, v in wrong[regime].most_common()) or "-",
                "-" if best is None else f"{best[1]} {best[0]:.0f}",
            ]
        )
    print_table(rows)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _print_answers(name: str, traces: int) -> None:
    regime, _, seed = name.partition(":")
    for s in [int(seed)] if seed else range(_number(regime, traces)):
        print(f"{regime}:{s}", _line(labelled(regime, s)))


def _line(trace: Labelled) -> str:
    answer, truth = ours(trace), trace.truth
    said = f"{trace.norms.size} steps: said {answer.verdict} {answer.max_norm}, right {' or '.join(sorted(trace.verdicts))}"
    if truth is None:
        return said
    what = "smallest spike" if truth.has_spikes else "useless from"
    return (
        f"{said}, median {truth.lower:.3g}, p98 {truth.p98:.3g}, p99 {truth.p99:.3g}, {what} {truth.upper:.3g}"
        f"{'' if truth.is_good(answer.max_norm) else ': not good'}"
    )


def _finite(value: Any) -> Any:
    """NaN, which JSON has no number for, as None; floats to a hundredth."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 2)
    return value


if __name__ == "__main__":
    main()
