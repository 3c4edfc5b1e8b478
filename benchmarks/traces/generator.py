"""A regime's name and a seed -> a labelled trace of gradient norms.

The traces are ours, drawn from what gradient norms do in training, not from any rule: no number here was chosen by looking at
what a rule makes of it. ``REGIMES`` is the whole list.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.random import Generator

from benchmarks.traces import endings, excerpts, heavy, logs, moving, training
from benchmarks.traces.labels import Labelled

Regime = Callable[[Generator], Labelled]

REGIMES: Mapping[str, Regime] = {
    "log_normal": training.log_normal,
    "gamma": training.gamma_noise,
    "skewed": training.skewed_noise,
    "flat": training.flat_norms,
    "autocorrelated": training.slow_noise,
    "changing_spread": training.changing_spread,
    "two_sources": training.two_data_sources,
    "mode_near_zero": training.mode_near_zero,
    "short": training.short,
    "long": training.long_quiet,
    "warm_up": training.warm_start,
    "drift_up": training.drift_up,
    "drift_down": training.drift_down,
    "late_drift": training.late_drift,
    "late_onset": moving.late_onset,
    "level_shift": moving.level_shift,
    "late_shift": moving.late_shift,
    "u_shape": training.down_and_up,
    "staircase": training.stairs,
    "epochs": training.epochs,
    "restarts": training.restarts,
    "rare_spikes": training.rare_spikes,
    "bursts": training.bursts,
    "many_spikes": training.many_spikes,
    "wide_spikes": training.wide_spikes,
    "spikes_on_drift": training.spikes_on_drift,
    "wide_and_near": training.wide_and_near,
    "many_in_few": training.many_in_few,
    "compound": training.compound,
    "heavy_tail": training.heavy_tails,
    "very_heavy": heavy.very_heavy,
    "wide_log_normal": heavy.wide_log_normal,
    "heavy_on_drift": heavy.heavy_on_drift,
    "few_heavy": heavy.few_heavy,
    "rounded": logs.rounded,
    "holes": logs.holes,
    "last_of_window": logs.last_of_window,
    "mean_of_window": logs.mean_of_window,
    "joined_runs": logs.joined_runs,
    "growth": endings.growth,
    "plateau": endings.plateau,
    "nan_tail": endings.nan_tail,
    "late_growth": endings.late_growth,
    "spikes_then_end": endings.spikes_then_end,
    "only_inf": endings.only_inf,
    "vanishing": endings.vanishing,
    "clipped": endings.clipped,
    "clipped_log": endings.clipped_log,
    "nothing": endings.nothing,
    "excerpt": excerpts.excerpt,
    "steep_excerpt": excerpts.steep,
}


def labelled(regime: str, seed: int) -> Labelled:
    """The trace of ``regime`` (a key of REGIMES) with that seed, the same whatever else was drawn before it."""
    return REGIMES[regime](np.random.default_rng([zlib.crc32(regime.encode()), seed]))
