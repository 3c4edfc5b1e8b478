"""Norms that a GradScaler had its hand in are told from norms that are large, or not finite now and then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clipcal.recommendation.evidence import load
from clipcal.recommendation.scaled import scaled_caveat


def scaler_run(n: int = 3000, *, every: int = 150, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unscaled norms, and the same as a GradScaler's loop logs them before unscale_: overflow halves, 400 good steps double."""
    rng = np.random.default_rng(seed)
    norms = np.exp(rng.normal(0, 0.25, n))
    scale, good, logged = 2.0**16, 0, []
    for i, norm in enumerate(norms):
        if i % every == every - 1:
            logged.append(np.inf)
            scale, good = scale / 2, 0
            continue
        logged.append(norm * scale)
        good += 1
        if good == 100:
            scale, good = scale * 2, 0
    return norms, np.array(logged)


def test_scaled_norms_are_known_by_their_halvings() -> None:
    _, logged = scaler_run()
    said = scaled_caveat(logged)
    assert said is not None
    assert "scaler.unscale_" in said


@pytest.mark.parametrize("seed", range(20))
def test_others_are_not(seed: int) -> None:
    norms, logged = scaler_run(seed=seed)
    assert scaled_caveat(norms) is None
    large = 5e4 * norms
    assert scaled_caveat(large) is None
    broken = large.copy()
    broken[149::150] = np.nan
    assert scaled_caveat(broken) is None, "large, and not finite now and then"
    assert scaled_caveat(np.where(np.isfinite(logged), np.nan, np.inf)) is None
    assert scaled_caveat(np.array([])) is None


def test_a_log_of_them_says_so(tmp_path: Path) -> None:
    log = tmp_path / "train.csv"
    log.write_text("step,grad_norm\n" + "".join(f"{i},{g}\n" for i, g in enumerate(scaler_run()[1])))
    assert any("powers of two too large" in c for c in load(log).recommend().caveats)
