"""recommend(): what holds for every trace."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clipcal.recommendation.answer import Recommendation
from clipcal.recommendation.calibration import recommend

anything = st.lists(
    st.one_of(
        st.floats(allow_nan=True, allow_infinity=True),
        st.sampled_from([0.0, 1.0, math.nan, math.inf, 5e-324, 1.7e308, -1.0]),
        st.floats(0.1, 10.0),
    ),
    max_size=120,
)
ordinary = arrays.arrays(np.float64, st.integers(10, 150), elements=st.floats(0.01, 100.0))


def check(answer: Recommendation) -> None:
    json.dumps(answer.as_dict(), allow_nan=False)
    assert 1 <= len(answer.reasons) <= 4
    if answer.max_norm is None:
        assert answer.confidence == "none"
        assert answer.interval is answer.corridor is None
        return
    assert answer.interval is not None
    assert answer.corridor is not None
    assert 0 < answer.max_norm < math.inf
    assert answer.interval[0] <= answer.max_norm <= answer.interval[1] < math.inf
    assert answer.corridor[0] <= answer.max_norm <= answer.corridor[1]
    assert answer.candidates.firm is not None
    assert answer.candidates.gentle is not None
    assert answer.candidates.firm <= answer.candidates.gentle
    assert answer.max_norm in (answer.candidates.firm, answer.candidates.gentle)


@settings(max_examples=150, deadline=None)
@given(anything)
def test_any_trace_gets_a_valid_answer(norms: list[float]) -> None:
    check(recommend(norms))


@settings(max_examples=100, deadline=None)
@given(st.data(), anything)
def test_any_losses_get_a_valid_answer(data: st.DataObject, norms: list[float]) -> None:
    losses = data.draw(st.lists(st.floats(), min_size=len(norms), max_size=len(norms)))
    check(recommend(norms, losses))


@settings(max_examples=60, deadline=None)
@given(ordinary)
def test_the_same_trace_gets_the_same_answer(norms: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    assert recommend(norms) == recommend(norms.copy())


@settings(max_examples=100, deadline=None)
@given(ordinary, st.sampled_from([2.0**-30, 0.25, 8.0, 2.0**20]))
def test_the_threshold_follows_the_scale(norms: np.ndarray[tuple[int], np.dtype[np.float64]], factor: float) -> None:
    plain, scaled = recommend(norms), recommend(norms * factor)
    assert scaled.verdict == plain.verdict
    if plain.max_norm is not None:
        assert scaled.max_norm is not None
        # Two significant digits each: 5% apart at worst.
        assert scaled.max_norm / factor == pytest.approx(plain.max_norm, rel=0.11)
        assert scaled.stable is not None
        assert plain.stable is not None
        assert scaled.stable.p99 / factor == pytest.approx(plain.stable.p99, rel=1e-6)
