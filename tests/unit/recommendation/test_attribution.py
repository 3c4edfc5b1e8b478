"""Which layers make the peaks: planted culprits, all layers at once, and the ends of the floats."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clipcal.recommendation.attribution import Attribution, attribute, combined, layers_of
from clipcal.run.trace import Floats

NAMES = ("embed.weight", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias", "head.weight")
USUAL = np.array([1.0, 0.5, 0.1, 2.0, 0.2, 1.0])


def rows(num: int, seed: int = 0) -> Floats:
    return USUAL * np.random.default_rng(seed).lognormal(0, 0.1, (num, len(USUAL)))


def planted(tensors: list[int], factor: float = 40.0, num: int = 10) -> Attribution:
    peaks = rows(num, seed=1)
    peaks[:, tensors] *= factor
    return attribute(peaks, rows(200), NAMES, 2.0)


def test_shares_and_rises_are_those_counted_by_hand() -> None:
    peaks, stable = rows(7, seed=1), rows(50)
    peaks[:, 0] *= 12
    found = attribute(peaks, stable, NAMES, 2.0)
    parts = {"embed": [0], "blocks.0": [1, 2], "blocks.1": [3, 4], "head": [5]}
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert sum(layer.stable_share for layer in found.layers) == pytest.approx(1)
    assert [layer.share for layer in found.layers] == sorted((layer.share for layer in found.layers), reverse=True)
    for layer in found.layers:
        own = parts[layer.name]
        assert layer.share == pytest.approx(np.mean((peaks[:, own] ** 2).sum(1) / (peaks**2).sum(1)))
        assert layer.stable_share == pytest.approx(np.mean((stable[:, own] ** 2).sum(1) / (stable**2).sum(1)))
        usual = np.median(np.sqrt((stable[:, own] ** 2).sum(1)))
        assert layer.usual == pytest.approx(usual)
        assert layer.rise == pytest.approx(np.median(np.sqrt((peaks[:, own] ** 2).sum(1))) / usual)
        assert {t.name for t in layer.tensors} == {NAMES[i] for i in own}
        for tensor in layer.tensors:
            i = NAMES.index(tensor.name)
            assert tensor.share == pytest.approx(np.mean(peaks[:, i] ** 2 / (peaks**2).sum(1)))
            assert tensor.rise == pytest.approx(np.median(peaks[:, i]) / np.median(stable[:, i]))
    total = np.median(np.sqrt((peaks**2).sum(1))) / np.median(np.sqrt((stable**2).sum(1)))
    assert found.rise == pytest.approx(total)


def test_one_layer() -> None:
    found = planted([0])
    assert (found.finding, found.culprits) == ("one", ("embed",))
    assert found.layers[0].name == "embed"
    assert found.rise_without == pytest.approx(1, abs=0.2)


def test_a_large_layer_that_stays_as_it_is_is_no_culprit() -> None:
    # blocks.1 makes most of the usual norm and still half of the norm at the peaks
    found = planted([0], factor=4.0)
    assert found.finding == "one"
    assert found.culprits == ("embed",)


def test_a_few_layers() -> None:
    found = planted([0, 5])
    assert found.finding == "few"
    assert set(found.culprits) == {"embed", "head"}


def test_each_peak_has_a_culprit_of_its_own() -> None:
    peaks = rows(20, seed=1)
    peaks[:10, 0] *= 40
    peaks[10:, 5] *= 40
    found = attribute(peaks, rows(200), NAMES, 2.0)
    assert found.finding == "few"
    assert set(found.culprits) == {"embed", "head"}
    assert found.layers[0].share == pytest.approx(0.5, abs=0.05)


def test_in_two_thirds_of_the_peaks_is_not_all() -> None:
    names = ("a.weight", "b.weight")
    stable = np.random.default_rng(0).lognormal(0, 0.1, (100, 2))
    peaks = stable[:30].copy()
    peaks[:20, 0] *= 50
    peaks[20:, 1] *= 50
    found = attribute(peaks, stable, names, 2.0)
    assert found.finding == "spread"
    assert found.culprits == ()


def test_all_layers_together() -> None:
    found = attribute(20 * rows(10, seed=1), rows(200), NAMES, 2.0)
    assert (found.finding, found.culprits, found.rise_without) == ("together", (), None)
    assert found.rise == pytest.approx(20, rel=0.2)


def test_no_rise_and_nothing_to_compare() -> None:
    assert attribute(1.1 * rows(10, seed=1), rows(200), NAMES, 2.0).finding == "flat"
    assert attribute(rows(0), rows(200), NAMES, 2.0).finding == "none"
    assert attribute(rows(10), rows(0), NAMES, 2.0).layers == ()
    alone = rows(30)
    alone[:, [0, 1, 2, 5]] = 0
    assert attribute(9 * alone[:5], alone, NAMES, 2.0).finding == "single"


@pytest.mark.parametrize("norm_type", [0.5, 1.0, 2.0, 3.0, 100.0, math.inf])
def test_every_norm(norm_type: float) -> None:
    peaks = rows(10, seed=1)
    peaks[:, 0] *= 40
    found = attribute(peaks, rows(200), NAMES, norm_type)
    assert (found.finding, found.culprits) == ("one", ("embed",))
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    if norm_type == math.inf:
        assert found.layers[0].share == 1.0
        assert found.layers[0].tensors[0].stable_share == 0.0
        np.testing.assert_array_equal(combined(peaks, norm_type)[:, 0], peaks.max(1))
    else:
        np.testing.assert_allclose(combined(peaks, norm_type)[:, 0], (peaks**norm_type).sum(1) ** (1 / norm_type))


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 8.0, math.inf])
@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e38])
def test_no_scale_is_too_large_or_too_small(scale: float, norm_type: float) -> None:
    peaks = rows(10, seed=1)
    peaks[:, 0] *= 40
    with np.errstate(all="raise", under="ignore"):
        found = attribute(peaks * scale, rows(200) * scale, NAMES, norm_type)
    assert (found.finding, found.culprits) == ("one", ("embed",))
    assert found.rise == pytest.approx(attribute(peaks, rows(200), NAMES, norm_type).rise)


def test_a_tensor_that_usually_has_no_gradient() -> None:
    stable, peaks = rows(200), rows(10, seed=1)
    stable[:, 0] = 0
    peaks[:, 0] = 50
    stable[:, 5] = peaks[:, 5] = 0
    with np.errstate(all="raise", under="ignore"):
        found = attribute(peaks, stable, NAMES, 2.0)
    by_name = {layer.name: layer for layer in found.layers}
    assert (found.finding, found.culprits) == ("one", ("embed",))
    assert by_name["embed"].rise == math.inf
    assert by_name["head"].rise is None
    assert by_name["head"].share == 0


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (["a.weight", "a.bias", "b.weight"], ["a", "a", "b"]),
        (["scale", "a.b.weight"], ["scale", "a.b"]),
        (["a.weight", "a.bias"], ["a.weight", "a.bias"]),
        (["weight", "bias"], ["weight", "bias"]),
        (["weight"], ["weight"]),
        (
            [
                "a.weight",
                "optimizer.param_groups[0][1]",
                "optimizer.param_groups[0][2]",
                "optimizer.param_groups[1][0]",
            ],
            ["a", "optimizer.param_groups[0]", "optimizer.param_groups[0]", "optimizer.param_groups[1]"],
        ),
    ],
)
def test_layers_of_tensors(names: list[str], layers: list[str]) -> None:
    assert layers_of(names) == layers


def test_tensors_of_a_layer_need_not_be_neighbours() -> None:
    order = [0, 3, 1, 5, 2, 4]
    mixed = tuple(NAMES[i] for i in order)
    peaks, stable = rows(10, seed=1), rows(50)
    one, other = attribute(peaks * 9, stable, NAMES, 2.0), attribute(peaks[:, order] * 9, stable[:, order], mixed, 2.0)
    assert [layer.name for layer in one.layers] == [layer.name for layer in other.layers]
    for a, b in zip(one.layers, other.layers, strict=True):
        assert (a.share, a.rise) == pytest.approx((b.share, b.rise))
