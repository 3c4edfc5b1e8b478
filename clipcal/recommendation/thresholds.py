"""A steady part and what the losses say -> the threshold, the candidates that it lies among, and its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipcal.recommendation.answer import Candidates, Choice, Reading
from clipcal.recommendation.leaning import Leaning
from clipcal.stats import Steady
from clipcal.stats.arrays import Array
from clipcal.stats.harm import LOW

NET = 1.25  # times the stable p99: a safety net above everything that was seen
WIDE_NET = 1.08  # the same where p99 is far above the median already: what spreads so widely needs no more room
NET_OF_RISE = 1.4  # the same where norms rise, since they may rise more
NARROW, WIDE = math.log(3.0), math.log(4.5)  # p99 over the median: between them the net shrinks from one to the other
COMPROMISE = 1.15  # times the stable p99 where larger norms were seen, but no gap below them
REACH = 1.5  # times the stable p99 at most: a far spike is no reason to let everything below it through
FIRM = 1.2  # times the stable median: trained best where large norms did harm
MIDDLE = 2.0  # times the stable median: cost least where nothing was known of the losses
ABOVE_SEEN, SHORT_ABOVE_SEEN = 1.25, 1.5  # times the largest stable norm, for a safety net; the second under 50 steps
ROOM, ROOM_AT = 0.12, 120
"""How far a safety net stays below that limit, up to so many steps and ever less with more: the interval goes as far as the limit."""
SHORT = 50  # norms
OFTEN = 0.25  # of the ordinary steps: more are clipped on significant harm alone, or on what training showed
OTHER_RUN = math.sqrt(2.0)  # times the error of one run: how far the answer of another one is from it
LARGEST_LOG, SMALLEST = math.log(1e308), 5e-324


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """``corridor`` is (low, high), ``high`` infinite where nothing bounds it; ``interval`` is where nine in ten other runs would put it."""

    max_norm: float
    interval: tuple[float, float]
    corridor: tuple[float, float]
    candidates: Candidates


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """Steady -> candidates, as logs, for the estimate (a number) and for its bootstrap replicates (k,) alike. ``few``: under 50 steps.
    ``often``: below it, a threshold clips ordinary steps often."""

    steady: Steady
    few: bool
    often: float

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest log threshold that the norms seen allow."""
        s = self.steady
        if s.direction == "down" or (s.direction == "up" and s.smallest_spike is not None):
            high = s.roof
        elif s.smallest_spike is not None:
            high = min(max(s.highest * REACH, s.top * NET), s.roof)
        elif s.num_far:
            high = s.highest
        else:
            high = s.highest * (SHORT_ABOVE_SEEN if self.few else ABOVE_SEEN)
        return math.log(s.lowest), math.log(max(high, s.lowest))

    def gentle(self, log_top: Array) -> Array:
        """A net above the stable norms, midway below the smallest spike."""
        s = self.steady
        if s.smallest_spike is None:
            spread = math.log(s.p99) - math.log(s.median)
            net = NET_OF_RISE if s.direction == "up" else float(np.interp(spread, [NARROW, WIDE], [NET, WIDE_NET]))
            found = log_top + math.log(COMPROMISE if s.num_far else net)
        else:
            found = np.minimum(0.5 * (log_top + math.log(s.smallest_spike)), log_top + math.log(REACH))
        low, limit = self.limits
        high = np.full(log_top.size, limit)
        if self.has_room:
            # each replicate has its own largest norm, and below the limit there is room for those of other runs
            room = 1 + ROOM * min(1.0, ROOM_AT / max(s.stable_rows.size, 1))
            high = high - math.log(room) + (log_top - math.log(s.top))
        return np.asarray(np.clip(found, max(low, math.log(self.often)), np.maximum(high, low)), dtype=np.float64)

    @property
    def has_room(self) -> bool:
        """Whether the largest stable norm is what limits a safety net, and not where norms go."""
        return (
            self.steady.smallest_spike is None
            and not self.steady.num_far
            and self.steady.direction in ("flat", "cycle")
        )

    def lowered(self, log_gentle: Array, log_median: Array, weight: Array, sure: Any, level: float) -> Array:
        """Between gentle (``weight`` 0), middle (0.5) and firm (1); where harm is ``sure``, firm, or middle where it begins at a higher
        ``level``. Only what is sure clips ordinary steps often."""
        firm = np.minimum(log_median + math.log(FIRM), log_gentle)
        middle = np.minimum(log_median + math.log(MIDDLE), log_gentle)
        leaning = np.where(
            weight < 0.5, log_gentle + 2 * weight * (middle - log_gentle), middle + (2 * weight - 1) * (firm - middle)
        )
        below = firm if level in LOW else np.minimum(leaning, middle)
        return np.asarray(np.where(sure, below, np.maximum(leaning, math.log(self.often))))


def threshold_of(reading: Reading, steady: Steady, leans: Leaning, choice: Choice | None) -> Threshold:
    """The threshold for a reading with a ``steady`` part, leaning as the losses say, or the one that training chose."""
    ordinary = reading.norms[steady.ordinary_rows]
    often = float(np.quantile(ordinary, 1 - OFTEN, method="higher"))
    rule = _Rule(steady=steady, few=reading.norms.size < SHORT, often=often)
    corridor = (steady.median, math.inf if steady.smallest_spike is None else steady.smallest_spike)
    within = (corridor[0], min(corridor[1], _exp(rule.limits[1]) * (1 + 1e-12)))
    seldom = (max(within[0], often * (1 - 1e-12)), within[1])
    log_gentle, log_median = rule.gentle(np.log([steady.top])), np.log([steady.median])
    # where norms hardly differ, a log and its exponential may leave a bit less than the median
    gentle = max(rounded(_exp(float(log_gentle[0])), seldom), steady.median)
    middle, firm = (min(gentle, rounded(times * steady.median, within)) for times in (MIDDLE, FIRM))
    if choice is not None:
        chosen, centre = choice.max_norm, np.log([choice.max_norm])
        among = np.log([choice.max_norm, *choice.alike])
        logs = np.concatenate([end + steady.log_median - log_median for end in (np.min(among), np.max(among))])
    else:
        centre = rule.lowered(log_gentle, log_median, np.array([leans.weight]), leans.is_sure, leans.level)
        chosen = max(rounded(_exp(float(centre[0])), within if leans.is_sure else seldom), steady.median)
        logs = rule.lowered(rule.gentle(steady.log_top), steady.log_median, leans.weights, leans.sure, leans.level)
    return Threshold(
        max_norm=chosen,
        interval=_interval(chosen, centre, logs, rule.limits, within),
        corridor=corridor,
        candidates=Candidates(gentle=gentle, middle=middle, firm=firm),
    )


def _interval(
    chosen: float, centre: Array, logs: Array, limits: tuple[float, float], within: tuple[float, float]
) -> tuple[float, float]:
    """Where nine in ten other runs would put the threshold. ``logs`` (k,): bootstrap replicates, ``centre`` what they are of.

    Its ends are rounded outwards as thresholds are, so that a threshold inside it stays inside when it is rounded.
    """
    ends = np.clip(centre + OTHER_RUN * (np.quantile(logs, [0.05, 0.95]) - centre), *limits)
    low, high = (_exp(float(v)) for v in ends)
    bounds = [min(float(f"{low:.3g}"), rounded(low, within)), max(float(f"{high:.3g}"), rounded(high, within))]
    low, high = max(bounds[0], _exp(limits[0])), min(bounds[1], _exp(limits[1]))
    return min(low, chosen), max(high, chosen)


def _exp(log: float) -> float:
    return max(math.exp(min(log, LARGEST_LOG)), SMALLEST)


def rounded(value: float, corridor: tuple[float, float]) -> float:
    """``value`` to two significant digits where that stays inside the corridor, else to as many more as it takes."""
    for digits in range(2, 17):
        short = float(f"{value:.{digits - 1}e}")
        if corridor[0] < short < corridor[1] and math.isfinite(short):
            return short
    return value
