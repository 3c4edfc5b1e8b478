"""What the terminal shows: the answer first, nothing cut in a pipe, nothing but ASCII where that is all there is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from clipcal import calibration, console
from clipcal.recommendation import Recommendation
from clipcal.trace import Floats, Trace
from clipcal.verification import ArmResult, Comparison, Verification


def norms(kind: str) -> Floats:
    x = np.random.default_rng(0).lognormal(0.0, 0.2, 300)
    if kind == "spikes":
        x[[50, 120, 200, 260]] = [12.0, 30.0, 15.0, 22.0]
    elif kind == "diverging":
        x[250:] = np.inf
    elif kind == "insufficient":
        x = x[:5]
    return x


def trace(values: Floats) -> Trace:
    n = len(values)
    column = np.full(n, np.nan)
    return Trace(
        step=np.arange(n), loss=column, grad_norm=values, grad_max=column, lr=column, seconds=column, scale=column,
        skipped=np.zeros(n, dtype=np.bool_),
    )  # fmt: skip


def shown(values: Floats, *, terminal: bool, width: int = 80, encoding: str = "utf-8") -> tuple[Recommendation, str]:
    r = calibration.recommend(values)
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    screen = Console(
        file=out, force_terminal=terminal, width=width, highlight=False, emoji=False, markup=False, color_system=None
    )
    picture = width if terminal else console.PIPE_WIDTH
    ascii = console.is_ascii(screen)
    console.show(screen, console.recommendation(r, trace(values), values, width=picture, ascii=ascii))
    out.flush()
    return r, out.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("kind", ["spikes", "stable", "diverging", "insufficient"])
@pytest.mark.parametrize("width", [80, 200])
def test_the_answer_is_the_first_line_and_no_line_is_too_wide(kind: str, width: int) -> None:
    r, text = shown(norms(kind), terminal=True, width=width)
    lines = text.splitlines()
    assert r.verdict == kind
    wanted = "no threshold" if r.max_norm is None else f"max_norm {r.max_norm:g}"
    assert lines[0].startswith(f"{wanted}   {kind}")
    assert len(lines[0]) <= 80
    assert max(map(len, lines)) <= width
    assert any(line == "Why" for line in lines)


def test_in_a_pipe_a_sentence_is_one_line() -> None:
    r, text = shown(norms("spikes"), terminal=False)
    for sentence in (*r.reasons, *r.caveats):
        assert f"  • {sentence}" in text.splitlines()


def test_ascii_where_the_terminal_has_nothing_else() -> None:
    _, text = shown(norms("spikes"), terminal=True, encoding="ascii")
    assert text.isascii()
    assert "Why" in text


def test_hostile_names_are_shown_as_text() -> None:
    r = calibration.recommend(norms("stable"), caveats=["[red]markup[/red] :smile: \x1b[31m"])
    out = io.StringIO()
    screen = Console(file=out, force_terminal=False, width=80, highlight=False, emoji=False, markup=False)
    console.show(screen, console.bullets("Keep in mind", r.caveats, ascii=False))
    assert "[red]markup[/red] :smile:" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_arms_stand_in_columns() -> None:
    def arm(name: str, max_norm: float | None, lost: int | None) -> ArmResult:
        return ArmResult(
            name=name, max_norm=max_norm, seed=0, steps=300, final_loss=1.9431, diverged_at=lost, loss_spikes=5, clip_fraction=0.0625,
            mean_scale=0.97,
        )  # fmt: skip

    v = Verification(
        verdict="holds",
        max_norm=2.4,
        arms=(arm("unclipped", None, 120), arm("max_norm=2.4", 2.4, None)),
        comparison=Comparison(loss_difference=-0.31, interval=(-0.44, -0.18), seeds=3),
        reasons=("Because.",),
    )
    lines = [line.plain for line in console.verification(v, ascii=True)]
    assert lines[0] == "max_norm 2.4: holds   final loss -0.31 +/- 0.13 against unclipped, 3 seeds"
    table = [line for line in lines if line.startswith("  ") and "Because" not in line]
    assert [row.split() for row in table] == [
        ["arm", "seed", "final", "loss", "lost", "at", "loss", "spikes", "clipped", "mean", "scale"],
        ["unclipped", "0", "lost", "step", "120", "5", "-", "-"],
        ["max_norm=2.4", "0", "1.943", "-", "5", "6.2%", "0.970"],
    ]
    assert len({len(row) for row in table}) == 1
