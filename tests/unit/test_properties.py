"""recommend(): what the answer may depend on, and what not: the unit of the norms, a part seen twice, one more spike, the
type of the columns, the process. And that whatever the columns hold, the answer is one that can be used."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from clipcal.errors import InputError
from clipcal.recommendation.answer import METHODS, Confidence, Method, Recommendation, Verdict
from clipcal.recommendation.calibration import DEAD, TINY, recommend
from clipcal.run.jsonfile import dumps

Array = NDArray[np.float64]

NO_THRESHOLD = {"vanishing", "clipped", "insufficient"}
NOISE = 1e-9  # relative: far above what rounding of logs leaves, far below what anybody would see


def examples(count: int) -> settings:
    """The same examples on every machine."""
    return settings(max_examples=count, deadline=None, derandomize=True)


def stationary(seed: int, n: int, sigma: float, kind: str) -> Array:
    """Norms (n,) about 1 of log spread ``sigma``: "lognormal", "gamma", or "ar" with a lag-one correlation of 0.7."""
    draw = np.random.default_rng(seed)
    if kind == "gamma":
        return draw.gamma(sigma**-2, sigma**2, n)
    if kind == "lognormal":
        return np.exp(draw.normal(0.0, sigma, n))
    noise = np.convolve(draw.standard_normal(n + 39), 0.7 ** np.arange(40), "valid") * math.sqrt(1 - 0.7**2)
    return np.exp(sigma * noise)


def with_spikes(norms: Array, sigma: float, seed: int, every: int = 30) -> Array:
    """The norms with a spike in the place of one in ``every``, that nothing of the rest comes near."""
    norms = norms.copy()
    rows = np.arange(every // 2, norms.size, every)
    norms[rows] = math.exp(6 * sigma) * np.random.default_rng(seed + 1).uniform(3, 10, rows.size)
    return norms


def trace(seed: int, n: int, sigma: float, kind: str, spiky: bool) -> Array:
    norms = stationary(seed, n, sigma, kind)
    return with_spikes(norms, sigma, seed) if spiky else norms


seeds = st.integers(0, 10**6)
kinds = st.sampled_from(["lognormal", "gamma", "ar"])
lengths = st.integers(60, 600) | st.integers(600, 2000)
traces = st.builds(trace, seeds, lengths, st.floats(0.05, 0.5), kinds, st.booleans())


def falling(n: int) -> Array:
    """Losses (n,) of a run that learns."""
    return 1 + np.exp(-np.arange(n) / n) + np.random.default_rng(0).normal(0.0, 0.02, n)


def flat(n: int) -> Array:
    """Losses (n,) of a run that learns nothing: all parts of them are alike."""
    return 2.3 + 0.01 * np.sin(np.arange(n))


def half_digit(value: float) -> float:
    """The most by which rounding to two significant digits may have moved a number to ``value``."""
    return 0.5 * 10.0 ** (math.floor(math.log10(value) + 1e-12) - 1)


class TestScale:
    """In another unit of the norms the answer is the same, in that unit."""

    @staticmethod
    def compare(plain: Recommendation, scaled: Recommendation, factor: float, *, same_digits: bool = False) -> None:
        assert scaled.verdict == plain.verdict
        assert scaled.spikes.steps == plain.spikes.steps
        assert scaled.drift.direction == plain.drift.direction
        assert len(scaled.reasons) == len(plain.reasons)
        if plain.max_norm is None:
            assert scaled.max_norm is None
            return
        assert plain.stable
        assert scaled.stable
        assert plain.corridor
        assert scaled.corridor
        assert plain.interval
        assert scaled.interval
        assert plain.candidates.gentle
        assert plain.candidates.firm
        assert (scaled.stable.first_step, scaled.stable.steps) == (plain.stable.first_step, plain.stable.steps)
        for mine, theirs in (
            (plain.stable.median, scaled.stable.median),
            (plain.stable.p95, scaled.stable.p95),
            (plain.stable.p99, scaled.stable.p99),
            (plain.stable.max, scaled.stable.max),
            (plain.corridor[0], scaled.corridor[0]),
            (plain.corridor[1], scaled.corridor[1]),
        ):
            assert theirs == pytest.approx(mine * factor, rel=NOISE)
        for mine, other in (
            (plain.max_norm, scaled.max_norm),
            (plain.candidates.gentle, scaled.candidates.gentle),
            (plain.candidates.firm, scaled.candidates.firm),
        ):
            assert other is not None
            rounding = 0.0 if same_digits else half_digit(mine) + half_digit(other) / factor
            assert abs(other / factor - mine) <= rounding + NOISE * mine
        assert scaled.max_norm is not None
        for mine, theirs in zip(plain.interval, scaled.interval, strict=True):
            # Its ends have three digits, or two where those lie further out.
            rounding = 0.011 * mine if same_digits else 0.011 * mine + half_digit(mine) + half_digit(theirs) / factor
            assert abs(theirs / factor - mine) <= rounding

    @examples(40)
    @given(traces, st.integers(-6, 6), st.integers(-20, 20), st.floats(math.log(1e-6), math.log(1e6)))
    def test_of_the_norms(self, norms: Array, ten: int, two: int, log: float) -> None:
        plain = recommend(norms)
        # The two digits are the same in units that differ by a power of ten; else each of the numbers is rounded its own way.
        self.compare(plain, recommend(norms * 10.0**ten), 10.0**ten, same_digits=True)
        for factor in (2.0**two, math.exp(log)):
            self.compare(plain, recommend(norms * factor), factor)

    @examples(40)
    @given(traces, st.integers(-60, 60), st.sampled_from(["warm-up", "drift", "divergence", "gaps", "two decimals"]))
    def test_of_any_course(self, norms: Array, ten: int, course: str) -> None:
        n, t = norms.size, np.arange(norms.size)
        match course:
            case "warm-up":
                norms = norms * (1 + 20 * np.exp(-30 * t / n))
            case "drift":
                norms = norms * np.exp(1.5 * t / n)
            case "divergence":
                norms = norms * np.exp(0.1 * np.clip(t - 0.7 * n, 0, None))
            case "gaps":
                norms[[n // 4, n // 3, n // 2]] = [np.nan, np.inf, 0.0]
            case "two decimals":
                norms = np.round(norms, 2)
        losses = falling(n)  # a run that learns is not dead, however small its norms are
        self.compare(recommend(norms, losses), recommend(norms * 10.0**ten, losses), 10.0**ten)

    @examples(20)
    @given(traces, st.floats(-300.0, -1.0))
    def test_without_losses_norms_too_small_to_move_a_weight_are_dead(self, norms: Array, below: float) -> None:
        plain = recommend(norms)
        assume(plain.verdict in ("stable", "spikes", "heavy_tail"))
        assert plain.stable is not None
        dead = recommend(norms / plain.stable.median * DEAD * 10.0**below)
        assert (dead.verdict, dead.max_norm) == ("vanishing", None)
        assert recommend(norms / plain.stable.median * DEAD * 2).verdict == plain.verdict

    @examples(20)
    @given(traces, st.floats(-300.0, -1.0))
    def test_small_norms_are_dead_where_the_loss_stands_still(self, norms: Array, below: float) -> None:
        assume(recommend(norms).verdict in ("stable", "spikes", "heavy_tail"))
        losses = flat(norms.size)
        dead = recommend(norms * TINY * 10.0**below, losses)
        assert (dead.verdict, dead.max_norm) == ("vanishing", None)
        assert recommend(norms * TINY * 5, losses).verdict == recommend(norms).verdict


class TestRepetition:
    """Training that goes on as before changes nothing but the evidence."""

    @staticmethod
    def longer(norms: Array, part: int, times: int) -> Array:
        return np.concatenate([norms, *[norms[-(norms.size // part) :]] * times])

    @staticmethod
    def outside(before: Recommendation, after: Recommendation) -> float:
        """How far beyond the interval the threshold went, as a share of the interval's width, rounding aside."""
        assert before.interval
        assert before.max_norm
        assert after.max_norm
        slack = half_digit(before.max_norm) + half_digit(after.max_norm)
        low, high = before.interval[0] - slack, before.interval[1] + slack
        beyond = max(math.log(after.max_norm / high), math.log(low / after.max_norm), 0.0)
        return beyond / math.log(before.interval[1] / before.interval[0])

    @examples(60)
    @given(seeds, lengths, st.floats(0.05, 0.25), kinds, st.booleans(), st.integers(2, 3), st.integers(1, 2))
    def test_the_verdict_stays(
        self, seed: int, n: int, sigma: float, kind: str, spiky: bool, part: int, times: int
    ) -> None:
        norms = trace(seed, n, sigma, kind, spiky)
        expected = "spikes" if spiky else "stable"
        assert recommend(norms).verdict == expected
        assert recommend(self.longer(norms, part, times)).verdict == expected

    @examples(60)
    @given(
        seeds, st.integers(200, 2000), st.floats(0.05, 0.25), kinds, st.booleans(), st.integers(2, 3), st.integers(1, 2)
    )
    def test_the_threshold_stays(
        self, seed: int, n: int, sigma: float, kind: str, spiky: bool, part: int, times: int
    ) -> None:
        norms = trace(seed, n, sigma, kind, spiky)
        # An interval of about 90%: it may be left, but not by as much as it is wide.
        # An interval of about 90%: it may be left, but not by as much as it is wide.
        assert self.outside(recommend(norms), recommend(self.longer(norms, part, times))) < 1

    @pytest.mark.parametrize("kind", ["lognormal", "gamma", "ar"])
    @pytest.mark.parametrize("spiky", [False, True])
    def test_short_runs_leave_their_interval_rarely(self, kind: str, spiky: bool) -> None:
        left = []
        for seed in range(40):
            norms = trace(seed, 60 + 5 * seed, 0.2, kind, spiky)
            before, after = recommend(norms), recommend(self.longer(norms, 2, 1 + seed % 2))
            left.append(self.outside(before, after) > 0)
        assert np.mean(left) <= 0.1

    @pytest.mark.parametrize("spiky", [False, True])
    @pytest.mark.parametrize(("n", "sigma", "kind"), [(240, 0.5, "lognormal"), (240, 0.3, "ar"), (1000, 0.5, "ar")])
    def test_the_interval_covers_what_endless_training_would_give(
        self, n: int, sigma: float, kind: str, spiky: bool
    ) -> None:
        truth = math.exp(2.3263 * sigma) * (1.5 if spiky else 1.25)
        covered = []
        for seed in range(100):
            answer = recommend(trace(seed, n, sigma, kind, spiky))
            if answer.verdict == ("spikes" if spiky else "stable"):
                assert answer.interval
                covered.append(answer.interval[0] <= truth <= answer.interval[1])
        assert len(covered) > 70
        assert np.mean(covered) >= 0.8


class TestOneMoreSpike:
    @staticmethod
    def before_and_after(seed: int, n: int, sigma: float, kind: str, every: int, where: float) -> list[Recommendation]:
        norms = with_spikes(stationary(seed, n, sigma, kind), sigma, seed, every)
        before = recommend(norms)
        assume(before.verdict == "spikes")
        assert before.stable is not None
        return [before, recommend(np.insert(norms, int(where * n), 100 * before.stable.median))]

    # not among the first steps, where it may be the end of a warm-up
    somewhere = st.floats(0.15, 0.99)

    @examples(80)
    @given(seeds, lengths, st.floats(0.05, 0.5), kinds, st.integers(10, 60), somewhere)
    def test_raises_the_threshold_no_higher_than_before(
        self, seed: int, n: int, sigma: float, kind: str, every: int, where: float
    ) -> None:
        before, after = self.before_and_after(seed, n, sigma, kind, every, where)
        assert after.verdict == "spikes"
        assert before.corridor
        assert after.max_norm
        assert before.corridor[0] < after.max_norm < before.corridor[1]

    @staticmethod
    def calm_with(*spikes: float) -> Array:
        norms = stationary(0, 800, 0.07, "lognormal")
        norms[[200 + 150 * i for i in range(len(spikes))]] = spikes
        return norms

    def test_dwarfs_none_that_were_seen_before(self) -> None:
        before, after = recommend(self.calm_with(4.2)), recommend(self.calm_with(4.2, 100.0))
        assert before.spikes.steps == (200,)
        assert before.corridor
        assert after.max_norm
        assert before.corridor[0] < after.max_norm < before.corridor[1]

    def test_hides_none_that_were_seen_before(self) -> None:
        assert recommend(self.calm_with(4.2, 100.0)).spikes.steps == (200, 350)


EDGES = [0.0, -0.0, 5e-324, 2.2e-308, 1e-12, 1.0, 1.0 + 2**-52, 1e308, math.nan, math.inf, -math.inf, -1.0]
values = st.sampled_from(EDGES) | st.floats()
sizes = st.integers(1, 150)


def with_another(value: float, n: int, other: float, where: float) -> Array:
    block = np.full(n, value)
    block[int(where * n)] = other
    return block


def between(log_first: float, log_last: float, n: int) -> Array:
    return np.exp(np.linspace(log_first, log_last, n))


blocks = st.one_of(
    st.builds(with_another, values, sizes, values, st.floats(0.0, 0.999)),
    st.builds(lambda cycle, n: np.resize(np.array(cycle), n), st.lists(values, min_size=1, max_size=4), sizes),
    st.builds(between, st.floats(-744.0, 709.0), st.floats(-744.0, 709.0), sizes),
    st.builds(lambda n: np.full(n, math.nan), sizes),
    st.builds(
        lambda n, seed, log: np.exp(np.random.default_rng(seed).normal(log, 0.3, n)), sizes, seeds, st.floats(-9, 9)
    ),
    st.builds(lambda n, seed: np.exp(np.random.default_rng(seed).uniform(-744, 709, n)), sizes, seeds),
    arrays.arrays(np.float64, st.integers(0, 60), elements=st.floats()),
)
columns = st.lists(blocks, max_size=4).map(lambda parts: np.concatenate([np.empty(0), *parts])[:300])


def strictly(text: str) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def check(answer: Recommendation, n: int) -> None:
    """That the answer to a trace of n steps is one that can be used."""
    assert strictly(dumps(answer.as_dict()))["verdict"] == answer.verdict
    assert answer.verdict in get_args(Verdict)
    assert answer.confidence in get_args(Confidence)
    assert answer.steps <= n  # of several runs in one log, only the last may count
    n = answer.steps
    assert answer.spikes.count == len(answer.spikes.steps)
    assert all(0 <= x <= n for x in (answer.nonfinite.count, answer.zeros, answer.spikes.count))
    assert (answer.nonfinite.first_step is None) == (answer.nonfinite.count == 0)
    for share in (answer.spikes.rate, answer.clipped.stable, answer.clipped.spikes):
        assert share is None or 0 <= share <= 1
    assert answer.reasons
    for text in answer.reasons:
        assert text
        assert not re.search(r"\b(nan|inf)\b", text), text
    assert all(value is None or math.isfinite(value) for value in answer.baselines.values())
    if answer.max_norm is None:
        assert answer.verdict in NO_THRESHOLD | {"diverging"}
        assert answer.confidence == "none"
        evidence = (answer.interval, answer.corridor, answer.stable, answer.harm, answer.clipped.stable)
        assert all(part is None for part in (*evidence, answer.candidates.gentle, answer.candidates.firm))
        return
    assert answer.verdict not in NO_THRESHOLD
    assert answer.confidence != "none"
    assert answer.interval
    assert answer.corridor
    assert answer.stable
    assert answer.candidates.gentle is not None
    assert answer.candidates.firm is not None
    assert 0 < answer.max_norm < math.inf
    assert 0 < answer.interval[0] <= answer.max_norm <= answer.interval[1] < math.inf
    low, high = answer.corridor
    assert low <= answer.candidates.firm <= answer.candidates.gentle <= high
    assert answer.candidates.firm <= answer.max_norm <= answer.candidates.gentle
    if low > 1e-300 and np.nextafter(low, math.inf) < high:
        assert low < answer.max_norm < high
    assert 0 < answer.stable.median == low <= answer.stable.p95 < math.inf
    assert low <= answer.stable.p99 < math.inf
    assert answer.stable.steps + answer.spikes.count + answer.nonfinite.count + answer.zeros <= n
    assert (answer.spikes.count > 0) == (answer.clipped.spikes is not None)
    if answer.verdict != "diverging":
        assert (answer.verdict == "spikes") == (answer.spikes.count > 0) == (high < math.inf)
    if answer.harm:
        assert answer.harm.threshold > 0
        assert math.isfinite(answer.harm.loss_change_above)
        assert math.isfinite(answer.harm.loss_change_below)


class TestAnything:
    @examples(200)
    @given(columns, st.sampled_from(METHODS))
    def test_of_norms_gets_a_usable_answer(self, norms: Array, method: Method) -> None:
        answer = recommend(norms, method=method)
        assert (answer.method, answer.steps) == (method, norms.size)
        check(answer, norms.size)

    @examples(200)
    @given(columns, columns, columns, st.lists(st.integers(-(2**53), 2**53), max_size=9), st.booleans(), seeds)
    def test_of_every_column_gets_a_usable_answer(
        self, norms: Array, losses: Array, lrs: Array, numbers: list[int], learns: bool, seed: int
    ) -> None:
        n = norms.size
        losses = falling(n) if learns and n else np.resize(losses, n)
        again = seed % (n + 1)  # the row where the run was started again
        steps = np.resize(numbers, n) if numbers else np.concatenate([np.arange(again), np.arange(n - again)])
        check(recommend(norms, losses, lrs=np.resize(lrs, n), steps=steps), n)

    @examples(60)
    @given(traces, st.data())
    def test_in_the_middle_of_training_gets_a_usable_answer(self, norms: Array, data: st.DataObject) -> None:
        block = data.draw(columns)[: norms.size // 2]
        at = data.draw(st.integers(0, norms.size - block.size))
        norms[at : at + block.size] = block
        check(recommend(norms, falling(norms.size)), norms.size)

    def test_has_its_percentiles_in_order(self) -> None:
        answer = recommend([3, 4, 5, 5, 5, 1, 1, 1, 2, 2, 1, 5] * 2)
        assert answer.stable
        assert answer.stable.p95 <= answer.stable.p99

    def test_is_told_of_with_finite_numbers(self) -> None:
        assert not any("max_norm=inf" in c for c in recommend([1.7e308] * 2 + [math.inf] * 40).caveats)


class TestSameAnswer:
    @examples(60)
    @given(columns, columns)
    def test_twice_and_nothing_is_written_to_the_columns(self, norms: Array, losses: Array) -> None:
        losses = np.resize(losses, norms.size).astype(np.float64)
        before = norms.tobytes(), losses.tobytes()
        norms.flags.writeable = losses.flags.writeable = False
        assert dumps(recommend(norms, losses).as_dict()) == dumps(recommend(norms, losses).as_dict())
        assert before == (norms.tobytes(), losses.tobytes())

    @pytest.mark.parametrize(
        "convert",
        [
            list,
            tuple,
            lambda x: x.tolist(),
            lambda x: x.astype(np.float64),
            lambda x: x.astype(">f8"),
            lambda x: np.repeat(x, 3)[::3],
            lambda x: x[::-1].copy()[::-1],
        ],
        ids=["list", "tuple", "list of float", "float64", "big-endian", "strided", "reversed"],
    )
    @pytest.mark.parametrize("spiky", [False, True])
    def test_for_every_type_of_column(self, convert: Callable[[NDArray[Any]], Any], spiky: bool) -> None:
        norms = trace(3, 300, 0.3, "ar", spiky).astype(np.float32)
        norms[100] = np.nan
        losses = falling(300).astype(np.float32)
        steps = np.arange(50, 350)
        expected = recommend(norms, losses, steps=steps, lrs=losses)
        given_so = recommend(convert(norms), convert(losses), steps=convert(steps), lrs=convert(losses))
        assert dumps(given_so.as_dict()) == dumps(expected.as_dict())

    def test_in_every_process(self) -> None:
        # beyond 10,000 steps numpy's linear algebra may use several threads
        cases = [trace(i, n, 0.3, "ar", i % 2 == 1) for i, n in enumerate((60, 300, 2000, 12_000, 30_000))]
        code = (
            "import json, sys\nfrom clipcal.recommendation.calibration import recommend\nfrom clipcal.run.jsonfile import dumps\n"
            "for norms, losses in json.load(sys.stdin):\n    print(dumps(recommend(norms, losses).as_dict()))"
        )
        text = json.dumps([(norms.tolist(), falling(norms.size).tolist()) for norms in cases])
        expected = [dumps(recommend(norms, falling(norms.size)).as_dict()) for norms in cases]
        for seed, threads in (("0", "1"), ("12345", "2")):
            environment = os.environ | {"PYTHONHASHSEED": seed}
            environment |= {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
            done = subprocess.run(
                [sys.executable, "-c", code], input=text, capture_output=True, text=True, env=environment, check=True
            )
            assert done.stdout.splitlines() == expected


@pytest.mark.parametrize(
    "arguments",
    [
        {"grad_norms": [1.0] * 20, "steps": [1e300] * 20},
        {"grad_norms": [10**400] * 20},
        {"grad_norms": np.full(20, 1 + 1j)},
    ],
    ids=["step beyond integers", "integer beyond floats", "complex"],
)
def test_what_fits_no_float_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        recommend(**arguments)
