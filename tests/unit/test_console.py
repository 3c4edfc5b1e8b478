"""What the terminal shows: the answer first, nothing cut in a pipe, nothing but ASCII where that is all there is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from clipcal import calibration, console
from clipcal.recommendation import Choice, Recommendation
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


def test_a_safety_net_is_above_what_was_seen() -> None:
    """A threshold that training chose, or one below the largest norm, is no net above everything."""
    values = norms("stable")
    net = calibration.recommend(values)
    assert net.stable is not None
    assert net.max_norm is not None
    assert net.max_norm > net.stable.max, "the premise"
    assert console.headline(net)[1].plain.endswith("the threshold is a safety net above all stable steps")
    chosen = Choice(name="snug", max_norm=1.2, reason="Trained side by side.")
    line = console.headline(calibration.recommend(values, choice=chosen))[1].plain
    assert "safety net" not in line
    assert line.endswith(f"the threshold acts on {100 * float(np.mean(values > 1.2)):.0f}% of the stable steps")


def test_a_handful_of_steps_is_not_drawn() -> None:
    for n, drawn in ((1, False), (2, False), (9, False), (10, True)):
        _, text = shown(norms("stable")[:n], terminal=False)
        assert ("M stable median" in text or "│" in text) is drawn
        assert "Why" in text


def arms(*final: tuple[str, int, int | None]) -> tuple[ArmResult, ...]:
    """Arms by name, seed, and the step from which they are lost."""
    return tuple(
        ArmResult(
            name=name, max_norm=2.4 if "2.4" in name else None, seed=seed, steps=300,
            final_loss=1.9 if lost is None else float("nan"), diverged_at=lost, loss_spikes=0, clip_fraction=0.0, mean_scale=1.0,
        )
        for name, seed, lost in final
    )  # fmt: skip


@pytest.mark.parametrize(
    ("results", "interval", "expected"),
    [
        (
            arms(("unclipped", 0, 12), ("max_norm=2.4", 0, 40), ("unclipped", 1, 9), ("max_norm=2.4", 1, 31)),
            None,
            "every arm is lost, the first at step 9, the last at step 40",
        ),
        (arms(("unclipped", 0, 12), ("max_norm=2.4", 0, 12)), None, "every arm is lost at step 12"),
        (
            arms(("unclipped", 0, 12), ("max_norm=2.4", 0, 40), ("unclipped_lr=0.1", 0, None)),
            None,
            "lost unclipped and clipped, the first at step 12, the last at step 40",
        ),
    ],
)
def test_where_every_arm_is_lost_there_is_no_difference_to_show(
    results: tuple[ArmResult, ...], interval: None, expected: str
) -> None:
    v = Verification(
        verdict="fails",
        max_norm=2.4,
        arms=results,
        comparison=Comparison(loss_difference=None, interval=interval, seeds=len(results) // 2),
        reasons=("Because.",),
    )
    assert console.verification(v, ascii=True)[0].plain == f"max_norm 2.4: fails   {expected}"


def test_a_difference_without_an_interval() -> None:
    v = Verification(
        verdict="holds",
        max_norm=2.4,
        arms=arms(("unclipped", 0, 12), ("max_norm=2.4", 0, None)),
        comparison=Comparison(loss_difference=-1.2, interval=None, seeds=1),
        reasons=("Because.",),
    )
    assert (
        console.verification(v, ascii=True)[0].plain
        == "max_norm 2.4: holds   final loss -1.2 against unclipped, 1 seed"
    )
