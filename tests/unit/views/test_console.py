"""What the terminal shows: the answer first, nothing cut in a pipe, nothing but ASCII where that is all there is."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from clipcal.arms.pool import Arm
from clipcal.frameworks.snippets import snippet
from clipcal.frameworks.table import FRAMEWORKS
from clipcal.recommendation import calibration
from clipcal.recommendation.answer import Choice, Recommendation
from clipcal.run.step import Step
from clipcal.run.trace import Floats
from clipcal.streams import Interrupt
from clipcal.verification.answer import ArmResult, Comparison, Verification
from clipcal.views.figures.course import course
from clipcal.views.figures.meanwhile import Meanwhile
from clipcal.views.terminal import answers, console, live


def norms(kind: str) -> Floats:
    x = np.random.default_rng(0).lognormal(0.0, 0.2, 300)
    if kind == "spikes":
        x[[50, 120, 200, 260]] = [12.0, 30.0, 15.0, 22.0]
    elif kind == "diverging":
        x[250:] = np.inf
    elif kind == "insufficient":
        x = x[:5]
    return x


def shown(values: Floats, *, terminal: bool, width: int = 80, encoding: str = "utf-8") -> tuple[Recommendation, str]:
    r = calibration.recommend(values)
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    screen = Console(
        file=out, force_terminal=terminal, width=width, highlight=False, emoji=False, markup=False, color_system=None
    )
    picture = width if terminal else console.PIPE_WIDTH
    ascii = console.is_ascii(screen)
    console.show(screen, answers.recommendation(r, course(r), width=picture, ascii=ascii))
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
    lines = [line.plain for line in answers.verification(v, ascii=True)]
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
    assert answers.recommendation_head(net)[1].plain.startswith(
        "a safety net that clips none of the ordinary steps; no"
    )
    chosen = Choice(name="snug", max_norm=1.2, reason="Trained side by side.")
    line = answers.recommendation_head(calibration.recommend(values, choice=chosen))[1].plain
    assert "safety net" not in line
    assert line.startswith(f"clips {100 * float(np.mean(values > 1.2)):.0f}% of the ordinary steps; no spikes")


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
            "2 of 2 unclipped runs were lost, 2 of 2 clipped runs were lost",
        ),
        (
            arms(("unclipped", 0, 12), ("max_norm=2.4", 0, 12)),
            None,
            "the unclipped run was lost, the clipped run was lost",
        ),
        (
            arms(("unclipped", 0, 12), ("max_norm=2.4", 0, 40), ("unclipped_lr=0.1", 0, None)),
            None,
            "the unclipped run was lost, the clipped run was lost",
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
    assert answers.verification(v, ascii=True)[0].plain == f"max_norm 2.4: fails   {expected}"


def test_a_difference_without_an_interval() -> None:
    v = Verification(
        verdict="holds",
        max_norm=2.4,
        arms=arms(("unclipped", 0, 12), ("max_norm=2.4", 0, None)),
        comparison=Comparison(loss_difference=-1.2, interval=None, seeds=1),
        reasons=("Because.",),
    )
    assert (
        answers.verification(v, ascii=True)[0].plain
        == "max_norm 2.4: holds   final loss -1.2 against unclipped, 1 seed"
    )


# --- what is too long for a line


def test_a_headline_goes_on_at_a_field() -> None:
    line = Text.assemble(
        ("max_norm 0.1 does not fit", "bold red"), "   brake   acts on 100% of the stable steps   leaves 45%"
    )
    assert [part.plain for part in console.folded(line, 80)] == [
        "max_norm 0.1 does not fit   brake   acts on 100% of the stable steps",
        "  leaves 45%",
    ]
    for width in range(1, 120):
        parts = console.folded(line, width)
        assert "".join(p.plain for p in parts).replace(" ", "") == line.plain.replace(" ", "")
        if width > 20:
            assert max(p.cell_len for p in parts) <= width
        bold = [p.plain[s.start : s.end] for p in parts for s in p.spans if s.style == "bold red"]
        assert "".join(bold).replace(" ", "") == "max_norm0.1doesnotfit"


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("framework", [name for name in FRAMEWORKS if name != "detectron2-yaml"])  # no norm there
def test_a_snippet_on_a_narrow_terminal_is_pasted_as_it_was(framework: str, width: int) -> None:
    """Lines of comments may break, as comments; a line of code that breaks would be another program."""
    text = snippet(framework, max_norm=0.34, provenance="calibrated by clipcal on 300 steps of configs/char_lstm.yaml")
    out = io.StringIO()
    screen = Console(file=out, force_terminal=True, width=width, highlight=False, emoji=False, color_system=None)
    console.show(screen, answers.pasted("It", text, []))
    pasted = [line.removeprefix("  ") for line in out.getvalue().splitlines()[2:-1]]

    def code(lines: list[str]) -> list[str]:
        return [line for line in lines if line.strip() and not line.strip().startswith("#")]

    def comments(lines: list[str]) -> str:
        return " ".join(line.strip().lstrip("# ") for line in lines if line.strip().startswith("#"))

    assert code(pasted) == code(text.splitlines())
    assert comments(pasted) == comments(text.splitlines())


def test_sentences_are_no_wider_than_the_pictures_beside_them() -> None:
    out = io.StringIO()
    screen = Console(file=out, force_terminal=True, width=200, color_system=None)
    console.show(screen, [*console.points(["word " * 100], ascii=False)])
    assert 100 < max(map(len, out.getvalue().splitlines())) <= 120


# --- where lines can be drawn over


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def profiled(out: io.StringIO, **env: str) -> str:
    screen = Console(file=out, width=80, highlight=False, _environ=env)
    with live.profile_view(screen, 10, asked=Interrupt(), quiet=False) as (on_steps, _):
        for i in range(10):
            on_steps([Step(step=i, loss=2.0, grad_norm=1.0, grad_max=0.1, lr=1.0, seconds=0.1)])
    return out.getvalue()


def test_a_live_view_is_for_a_terminal_that_can_be_drawn_over() -> None:
    assert "\x1b[" in profiled(Terminal(), TERM="xterm")
    for text in (
        profiled(io.StringIO()),
        profiled(Terminal(), TERM="dumb"),
        profiled(io.StringIO(), TERM="xterm", FORCE_COLOR="1"),  # a log that is coloured
    ):
        assert "\x1b" not in text
        assert text.splitlines()[-1].startswith("step 10/10: loss 2, norm 1, ")


def test_a_live_view_has_the_terminals_own_colours() -> None:
    out = Terminal()
    screen = Console(file=out, width=80, _environ={"TERM": "xterm", "COLORTERM": "truecolor"})
    course = Meanwhile(10)
    course.add([Step(step=i, loss=2.0, grad_norm=1.0, grad_max=0.1, lr=1.0, seconds=0.1) for i in range(5)])
    screen.print(live.profile_screen(course, width=80, ascii=False, stopping=False))
    codes = set(re.findall(r"\x1b\[([0-9;]*)m", out.getvalue()))
    assert codes
    assert not any(code.startswith(("38", "48")) for code in codes), "a colour that is chosen for one ground"


def test_where_there_is_nothing_to_train_no_view_is_drawn() -> None:
    out = Terminal()
    screen = Console(file=out, width=80, _environ={"TERM": "xterm"})
    with live.arms_view(screen, 10, quiet=False) as (plan, _):
        plan([], [Arm(name="unclipped", max_norm=None, seed=0)])
    assert out.getvalue() == ""
