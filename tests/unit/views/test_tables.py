"""The tables below the answer: columns that a terminal of 80 holds, nothing cut, nothing but ASCII where that is all."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from clipcal.recommendation.attribution import attribute
from clipcal.recommendation.baselines import BASELINES
from clipcal.recommendation.calibration import recommend
from clipcal.recommendation.culprits import Culprits
from clipcal.recommendation.replay import Replayed, replay
from clipcal.run.trace import Floats
from clipcal.views.terminal import console, tables


def spiky(n: int = 400) -> Floats:
    norms = np.random.default_rng(0).lognormal(0.0, 0.2, n)
    norms[[50, 120, 200, 260, 390]] = [12.0, 30.0, 15.0, 22.0, 18.0]
    return norms


def compared(norms: Floats) -> tuple[Replayed, ...]:
    return replay(recommend(norms))


def shown(lines: list[Text], *, terminal: bool, width: int = 80, encoding: str = "utf-8") -> list[str]:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    screen = Console(
        file=out, force_terminal=terminal, width=width, highlight=False, emoji=False, markup=False, color_system=None
    )
    console.show(screen, lines)
    out.flush()
    return out.buffer.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [70, 80, 110, 160])
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
def test_every_rule_has_a_line_that_fits(width: int, scale: float) -> None:
    lines = shown(tables.comparison(compared(spiky() * scale), width=width, ascii=False), terminal=True, width=width)
    assert max(map(len, lines)) <= width
    for name in (*BASELINES, "firm"):
        assert sum(line.startswith(f"    {name} ") for line in lines) == 1, name
    assert sum(line.startswith("  > gentle ") for line in lines) == 1
    assert ("what it is" in lines[2]) == (width >= 125)
    assert ("source" in lines[2]) == (80 <= width < 125)


def test_the_comparison_in_a_pipe() -> None:
    rows = compared(spiky())
    lines = shown(tables.comparison(rows, width=None, ascii=False), terminal=False, width=80)
    assert lines[:2] == ["", "Compared on 395 stable steps and 5 spikes"]
    assert lines[2].split() == ["rule", "max_norm", "stable", "spikes", "mean", "scale", "verdict", "what", "it", "is"]
    table = lines[3 : 3 + len(rows)]
    assert any("half the mean (Pascanu 2013)" in line for line in table)
    thresholds = [next(float(word) for word in line.split() if word[0].isdigit()) for line in table]
    assert thresholds == sorted(thresholds, reverse=True)
    assert lines[3 + len(rows)] == ""
    assert [line.split()[0] for line in lines[4 + len(rows) :]] == ["•"] * 4


def test_words_of_the_comparison() -> None:
    calm = np.random.default_rng(0).lognormal(0.0, 0.2, 300)
    assert (
        tables.comparison(compared(calm), width=None, ascii=True)[1].plain
        == "Compared on 300 stable steps (there are no spikes)"
    )
    piled = [line.plain for line in tables.comparison(compared(np.full(90, 2.0)), width=None, ascii=True)]
    assert piled[1] == "Compared on 90 steps with a finite norm"
    assert piled[2].split()[:3] == ["rule", "max_norm", "finite"]
    assert any("could be told apart" in line for line in piled)
    value = [line.plain for line in tables.comparison(compared(calm), method="value", width=None, ascii=True)]
    assert value[2].split()[1] == "clip_value"
    assert any("leaves of the largest element" in line for line in value)


def culprits(
    names: list[str], *, hot: int = 0, norm_type: float = 2.0, conclusion: str = "One layer makes the spikes."
) -> Culprits:
    rng = np.random.default_rng(0)
    stable, peaks = rng.lognormal(0, 0.1, (50, len(names))), rng.lognormal(0, 0.1, (5, len(names)))
    peaks[:, hot] *= 60
    return Culprits(
        peaks="spikes", num_peaks=5, num_stable=1050, norm_type=norm_type, conclusion=conclusion,
        attribution=attribute(peaks, stable, names, norm_type), without_gradient=(), notes=("A note.",),
    )  # fmt: skip


GPT = [
    f"transformer.h.{i}.{part}.{t}"
    for i in range(6)
    for part in ("attn.c_attn", "mlp.c_fc")
    for t in ("weight", "bias")
]


def test_the_layers_in_a_pipe() -> None:
    lines = shown(tables.layers(culprits(GPT), width=None, ascii=False), terminal=False, width=80)
    assert lines[:5] == [
        "",
        "Layers at the 5 spikes, against 1,050 stable steps",
        "  • One layer makes the spikes.",
        "  • A note.",
        "",
    ]
    assert lines[5].split() == ["share", "stable", "usual", "reaches", "layer", "(its", "largest", "tensor)"]
    assert lines[6].startswith("  >  99")
    assert " x  transformer.h.0.attn.c_attn (weight 99." in lines[6]
    assert lines[16].endswith("2 other layers")
    assert lines[17] == ""
    assert lines[18].startswith("  • share: of the squared norm at the spikes")
    assert len(lines) == 19


def test_one_layer_more_than_shown_is_shown() -> None:
    names = [f"layer{i}.{t}" for i in range(11) for t in ("weight", "bias")]
    lines = shown(tables.layers(culprits(names), width=None, ascii=False), terminal=False)
    assert sum("layer" in line and "%" in line for line in lines) == 11
    assert not any("other layers" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("length", [5, 40, 75, 200])
def test_no_name_is_cut_and_no_line_is_too_wide(width: int, length: int) -> None:
    long = "a" * length
    lines = shown(
        tables.layers(culprits([f"{long}.weight", "b.weight", "b.bias"]), width=width, ascii=False),
        terminal=True,
        width=width,
    )
    assert max(map(len, lines)) <= width
    header = next(i for i, line in enumerate(lines) if line.split()[:2] == ["share", "stable"])
    start = lines[header].index("layer")
    table = "".join(line[start:] for line in lines[header + 1 :] if not line.startswith("  •"))
    assert long in table


def test_ascii_and_hostile_names() -> None:
    names = ["ü[red]x[/red].weight", "b\x1b[31m.weight", "c.weight"]
    found = culprits(names, conclusion="`ü` makes the spikes.")
    lines = shown(tables.layers(found, width=80, ascii=False), terminal=True)
    assert "\x1b" not in "".join(lines)
    assert any("ü[red]x[/red] (weight" in line for line in lines)
    plain = shown(tables.layers(found, width=80, ascii=True), terminal=True, encoding="ascii")
    assert any("?[red]x[/red] (weight" in line for line in plain)
    assert "  - `?` makes the spikes." in plain
    compared_ = shown(tables.comparison(compared(spiky()), width=80, ascii=True), terminal=True, encoding="ascii")
    assert all(line.isascii() for line in compared_)


def test_the_largest_tensor_of_all() -> None:
    lines = shown(tables.layers(culprits(GPT, norm_type=float("inf")), width=None, ascii=False), terminal=False)
    assert lines[6].startswith("  > 100.0%")
    assert "share: how often the largest tensor of all is in this layer at the spikes" in lines[-1]


def test_tensors_of_no_layer_have_no_brackets() -> None:
    lines = shown(tables.layers(culprits(["scale", "shift", "a.weight"]), width=None, ascii=False), terminal=False)
    assert lines[6].endswith("  scale")


def test_nothing_to_compare_is_a_sentence() -> None:
    nothing = Culprits(
        peaks="largest", num_peaks=0, num_stable=0, norm_type=2.0, conclusion="Too few steps.",
        attribution=attribute(np.empty((0, 1)), np.empty((0, 1)), ["a"], 2.0), without_gradient=(), notes=(),
    )  # fmt: skip
    assert [line.plain for line in tables.layers(nothing, width=80, ascii=True)][2:] == ["  - Too few steps."]
