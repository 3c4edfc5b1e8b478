"""How a threshold moves with the batch, on gradients whose signal and noise are known; and the file of a probe."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clipcal.errors import InputError
from clipcal.recommendation.answer import Reading
from clipcal.recommendation.calibration import read_columns
from clipcal.recommendation.scaling.probed import header, line, read_probed, times_of
from clipcal.recommendation.scaling.transfer import transfer

Array = NDArray[np.float64]
DIM, SIGNAL, NOISE = 200, 1.0, 2.0  # |G| and the root of S/B


def gradients(rng: np.random.Generator, steps: int, count: int) -> Array:
    """(steps, count, DIM): the gradients of batches at the same weights."""
    signal = np.zeros(DIM)
    signal[0] = SIGNAL
    return signal + rng.normal(0, NOISE / math.sqrt(DIM), (steps, count, DIM))


def read(norms: Array, probed: Array, parts: Array) -> tuple[Reading, Reading, Array]:
    return read_columns(norms), read_columns(probed), parts


def known(rng: np.random.Generator, steps: int = 300, count: int = 2) -> tuple[Array, Array, Array]:
    """The norms of a profile, those of a probe, and of its parts."""
    norms = np.linalg.norm(gradients(rng, steps, 1)[:, 0], axis=1)
    parts = gradients(rng, steps, count)
    return norms, np.linalg.norm(parts.mean(axis=1), axis=1), np.linalg.norm(parts, axis=2)


def expected(times: float) -> float:
    """The norm at so many times the batch over the one at the batch itself."""
    return math.sqrt((SIGNAL**2 + NOISE**2 / times) / (SIGNAL**2 + NOISE**2))


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("times", [2, 4, 8, 64])
def test_signal_and_noise_are_found_and_the_factor_follows(count: int, times: int) -> None:
    found = transfer(*read(*known(np.random.default_rng(0), count=count)), times=times)
    assert found.factor == pytest.approx(expected(times), rel=0.08)
    assert found.signal_norm == pytest.approx(SIGNAL, rel=0.05)
    assert found.noise_norm == pytest.approx(NOISE, rel=0.05)
    assert found.noise_scale == pytest.approx(NOISE**2 / SIGNAL**2, rel=0.1)
    assert found.drift == pytest.approx(1.0, abs=0.05)
    assert found.measured == pytest.approx(expected(count), rel=0.05)
    assert found.probed == count
    assert found.times == times


@pytest.mark.parametrize("times", [2, 4, 8])
def test_the_interval_holds_what_it_says(times: int) -> None:
    """About 90%, and rather more: what drift may do is counted, and here there is none."""
    rng = np.random.default_rng(1)
    rounds = 60
    inside = 0
    for _ in range(rounds):
        low, high = transfer(*read(*known(rng, steps=120)), times=times).interval
        inside += low <= expected(times) <= high
        assert high / low < 1.5
    assert inside / rounds >= 0.8


def test_the_interval_widens_with_the_distance_where_the_paths_part() -> None:
    norms, probed, parts = known(np.random.default_rng(2))
    widths, factors = [], []
    for times in (2, 4, 8, 16):
        found = transfer(*read(norms, 1.4 * probed, 1.4 * parts), times=times)
        assert found.drift == pytest.approx(1.4, rel=0.05)
        widths.append(found.interval[1] / found.interval[0])
        factors.append(found.factor / expected(times))
    assert widths == sorted(widths)
    assert widths[-1] > 2 * widths[0]
    assert factors[0] == pytest.approx(1.4, rel=0.05), "what was measured at the probe's batch counts in full"
    assert factors == sorted(factors)


def test_a_sum_grows_with_the_batch() -> None:
    norms, probed, parts = known(np.random.default_rng(3))
    mean = transfer(*read(norms, probed, parts), times=8)
    summed = transfer(*read(norms, 2 * probed, parts), times=8, summed=True)
    assert summed.factor == pytest.approx(8 * mean.factor)
    assert summed.noise == pytest.approx(mean.noise)
    assert summed.drift == pytest.approx(mean.drift)


def test_without_noise_nothing_moves_and_of_noise_alone_the_root_is_left() -> None:
    rng = np.random.default_rng(4)
    level = np.exp(rng.normal(0, 0.1, 200))
    still = transfer(*read(level, level, np.stack([level, level], axis=1)), times=8)
    assert still.noise == 0
    assert still.factor == pytest.approx(1.0)
    root = transfer(*read(level, level / math.sqrt(2), np.stack([level, level], axis=1)), times=8)
    assert root.noise == pytest.approx(1.0)
    assert math.isinf(root.noise_scale)
    assert root.factor == pytest.approx(1 / math.sqrt(8), rel=1e-6)


@pytest.mark.parametrize(("bad", "shared"), [(1, 0.0), (2, 1.0)])
def test_spikes_of_single_batches_are_told_from_those_of_the_whole_loss(bad: int, shared: float) -> None:
    norms, probed, parts = known(np.random.default_rng(5))
    parts[50::60, :bad] = 100.0
    probed[50::60] = 50.0 * bad
    found = transfer(*read(norms, probed, parts), times=4, spike=90.0)
    assert found.shared == pytest.approx(shared, abs=1e-6)
    assert found.factor == pytest.approx(expected(4), rel=0.08), "spikes do not move the ordinary steps"
    assert transfer(*read(norms, probed, parts), times=4, spike=1e3).shared is None


def test_steps_that_are_not_finite_are_left_out() -> None:
    norms, probed, parts = known(np.random.default_rng(6))
    probed[100], parts[100] = np.nan, np.inf
    parts[101, 0] = np.nan
    assert transfer(*read(norms, probed, parts), times=4).factor == pytest.approx(expected(4), rel=0.08)


def test_too_few_steps_are_an_answer_with_numbers() -> None:
    norms, probed, parts = known(np.random.default_rng(7))
    with pytest.raises(InputError, match=r"probe at 2 times the batch has no stable part \(4 steps\)"):
        transfer(*read(norms, probed[:4], parts[:4]), times=4)
    with pytest.raises(InputError, match="holds 0 stable steps, and 15 are needed"):
        transfer(*read(norms, probed, np.full_like(parts, np.nan)), times=4)


# The file


def test_a_probe_is_read_as_it_was_written_cut_off_at_any_byte(tmp_path: Path) -> None:
    path = tmp_path / "scale.jsonl"
    head = header(3, "sum", batch_norm=True)
    lines = [line(i, 0.5, math.nan if i == 1 else 1.5, [1.0, 2.0, math.inf]) for i in range(3)]
    whole = head + b"".join(lines)
    path.write_bytes(whole)
    found = read_probed(path)
    assert (found.times, found.reduction, found.batch_norm) == (3, "sum", True)
    np.testing.assert_array_equal(found.norms, [1.5, math.nan, 1.5])
    np.testing.assert_array_equal(found.parts, [[1.0, 2.0, math.inf]] * 3)
    for cut in range(len(head), len(whole)):
        path.write_bytes(whole[:cut])
        assert len(read_probed(path).step) == whole[:cut].count(b"\n") - 1


@pytest.mark.parametrize(
    "text", ["", "{}\n", "[]\n", "not json\n", '{"schema": "clipcal.scale/2", "batch": 2, "reduction": "mean"}\n']
)
def test_what_is_no_probe_is_refused_with_the_way_out(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scale.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=r"no probe that this clipcal reads.*--scale batch=2"):
        read_probed(path)


def test_lines_that_are_no_steps_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "scale.jsonl"
    bad = b'{"step": 1}\n[1]\nnull\n{"step": 1, "loss": 1, "grad_norm": 1, "parts": [1]}\n\xff\n'
    path.write_bytes(header(2, "mean", batch_norm=False) + bad + line(2, 1.0, 1.0, [1.0, 2.0]))
    assert read_probed(path).step.tolist() == [2]


def test_how_many_times_is_read_from_the_option() -> None:
    assert times_of("batch=2") == 2
    assert times_of("batch=64") == 64
    assert times_of("batch=16", most=16) == 16


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8", "expected batch=K"),
        ("batc=8", "Did you mean 'batch'"),
        ("seq_len=8", "expected batch=K"),
        ("batch", "whole number from 2 to 16"),
        ("batch=1", "whole number from 2 to 16"),
        ("batch=17", "whole number from 2 to 16"),
        ("batch=2.5", "whole number from 2 to 16"),
        ("batch=-2", "whole number from 2 to 16"),
    ],
)
def test_other_scales_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        times_of(text, most=16)
