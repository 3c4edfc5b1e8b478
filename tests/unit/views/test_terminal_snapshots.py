"""What every command shows, line by line: on a terminal of 80 columns with its colours, in a pipe, and with --plain.

A file of ``__snapshots__/test_terminal_snapshots`` is one case in all three; ``␛`` stands for the escape character. Where an
output is meant to change, write the files again and read the difference before it is committed::

    pytest tests/unit/views/test_terminal_snapshots.py --snapshot-update
    git diff tests/unit/__snapshots__

Traces are made by formulas and rounded, and the version and the date are masked, so that nothing here depends on the machine.
"""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
import typer.main
from rich.console import Console, RenderableType
from rich.text import Text
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from typer.testing import CliRunner

from clipcal.arms.pool import Arm, Progress
from clipcal.cli.main import app
from clipcal.run.step import Step
from clipcal.streams import Interrupt
from clipcal.verification.answer import ArmResult, Comparison, Verification
from clipcal.views.figures.meanwhile import Meanwhile
from clipcal.views.terminal import answers, console, live, plainview

NUM_STEPS = 300
SPIKES = {41: 6.8, 77: 12.0, 120: 93.0, 190: 31.0, 191: 9.0, 260: 55.0}

# None unsets a variable; FORCE_COLOR makes a terminal of what is none.
SHELL: dict[str, str | None] = dict.fromkeys(
    ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES", "CLIPCAL_PLAIN")
) | {"COLUMNS": "80", "TERM": "xterm"}
MODES: dict[str, tuple[dict[str, str | None], list[str]]] = {
    "on a terminal of 80 columns": ({"FORCE_COLOR": "1"}, []),
    "in a pipe": ({}, []),
    "--plain": ({}, ["--plain"]),
}
PINNED = re.search(r"^typer==(.*)$", (Path(__file__).parents[3] / "constraints.txt").read_text(), re.MULTILINE)
TYPERS_OWN_WORDS = pytest.mark.skipif(
    PINNED is None or typer.__version__ != PINNED[1], reason="in the words of the pinned typer"
)


class TextFile(SingleFileSnapshotExtension):
    _write_mode = WriteMode.TEXT
    file_extension = "txt"


@pytest.fixture
def shown(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(TextFile)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- traces


def drawn(i: int) -> float:
    """A standard normal number of a step's own: the same on every machine, in no order that would be a drift."""
    share = (0.754877666 * i + 0.569840291 * i * i) % 1.0
    return NormalDist().inv_cdf(min(max(share, 1e-6), 1 - 1e-6))


def usual(i: int) -> float:
    """A level of 1.31, after a warm-up of 18 steps from 12 times that."""
    return 1.31 * math.exp(0.17 * drawn(i)) * (12 ** (1 - i / 17) if i < 18 else 1)


def spiky(i: int) -> float:
    return SPIKES.get(i, usual(i))


def heavy(i: int) -> float:
    return 0.22 * math.exp(0.15 * drawn(i) + (abs(drawn(i + 1000)) if i % 7 == 0 else 0))


def diverging(i: int) -> float:
    return math.nan if i >= 280 else usual(i) * 1.4 ** max(i - 240, 0)


TRACES: dict[str, tuple[int, Callable[[int], float]]] = {
    "spikes": (NUM_STEPS, spiky),
    "stable": (NUM_STEPS, usual),
    "heavy_tail": (NUM_STEPS, heavy),
    "diverging": (NUM_STEPS, diverging),
    "vanishing": (NUM_STEPS, lambda i: usual(i) * 0.9**i),
    "clipped": (NUM_STEPS, lambda i: min(usual(i), 1.0)),
    "insufficient": (6, usual),
}


def write_log(verdict: str) -> None:
    """``log.jsonl``, with losses that fall, in the folder that the command runs in."""
    count, norm = TRACES[verdict]
    with Path("log.jsonl").open("w") as f:
        for i in range(count):
            loss = round(2.5 * math.exp(-i / 150) + 0.05 * drawn(i + 7), 4)
            value = norm(i)
            said = float(f"{value:.4g}") if math.isfinite(value) else "NaN"
            f.write(json.dumps({"step": i, "loss": loss, "grad_norm": said}) + "\n")


# --- commands


def ran(*args: str, modes: Iterable[str] = MODES) -> str:
    """What a command line says, in each of the modes."""
    parts = []
    for mode in modes:
        env, more = MODES[mode]
        result = CliRunner().invoke(app, [*args, *more], env=SHELL | env)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        parts.append(f"===== {mode}: exit code {result.exit_code}\n{result.stdout}")
        parts += [f"----- stderr\n{result.stderr}"] if result.stderr else []
    return masked("".join(parts))


def masked(text: str) -> str:
    text = re.sub(r"\b(clipcal) \d+\.\d+\.\d+\w*", r"\1 VERSION", text)
    return re.sub(r"\b\d{4}-\d\d-\d\d\b", "DATE", text).replace("\x1b", "␛")


@pytest.mark.parametrize("verdict", TRACES)
def test_recommend(verdict: str, shown: SnapshotAssertion) -> None:
    write_log(verdict)
    text = ran("recommend", "log.jsonl")
    assert verdict in text.splitlines()[1], "the premise"
    assert text == shown


def test_recommend_compare(shown: SnapshotAssertion) -> None:
    write_log("spikes")
    assert ran("recommend", "log.jsonl", "--compare") == shown


def test_recommend_on_a_wide_terminal(shown: SnapshotAssertion) -> None:
    write_log("spikes")
    result = CliRunner().invoke(
        app, ["recommend", "log.jsonl", "--compare"], env=SHELL | {"FORCE_COLOR": "1", "COLUMNS": "200"}
    )
    assert masked(result.output) == shown


@pytest.mark.parametrize(
    ("verdict", "trace", "max_norm"),
    [
        ("inactive", "stable", "20"),
        ("guard", "spikes", "4"),
        ("limiter", "spikes", "1.6"),
        ("brake", "spikes", "0.5"),
        ("unknown", "clipped", "4"),
    ],
)
def test_check(verdict: str, trace: str, max_norm: str, shown: SnapshotAssertion) -> None:
    write_log(trace)
    text = ran("check", "log.jsonl", "--max-norm", max_norm)
    assert verdict in text.splitlines()[1], "the premise"
    assert text == shown


def test_apply(shown: SnapshotAssertion) -> None:
    write_log("spikes")
    Path("train.yaml").write_text("trainer:\n  max_steps: 300\n  gradient_clip_val: 1.0  # everybody's\n")
    assert ran("apply", "log.jsonl", "train.yaml") == shown


def test_init(shown: SnapshotAssertion) -> None:
    assert ran("init", "train.yaml", modes=["on a terminal of 80 columns"]) == shown
    assert Path("train.yaml").exists()


@pytest.mark.parametrize(
    "args",
    [
        ("recommend", "nothing.jsonl"),
        ("recommend", "log.jsonl", "--for", "lightening"),
        ("recommend", "log.jsonl", "--for", "keras", "--compare"),
        pytest.param(("recommend", "log.jsonl", "--tagg", "x"), marks=TYPERS_OWN_WORDS),
        ("check", "log.jsonl"),
        ("check", "log.jsonl", "--follow", "--json"),
        ("profile", "spec.yaml"),
        ("verify", "log.jsonl"),
        ("apply", "log.jsonl", "nothing.yaml"),
    ],
    ids=lambda args: "_".join(word.strip("-") for word in args),
)
def test_errors(args: tuple[str, ...], shown: SnapshotAssertion) -> None:
    write_log("spikes")
    Path("spec.yaml").write_text("model: {_target_: torch.nn.Linear}\nstpes: 3\n")
    assert ran(*args, modes=["on a terminal of 80 columns"]) == shown


@TYPERS_OWN_WORDS
@pytest.mark.parametrize("command", ["", *typer.main.get_command(app).commands])  # type: ignore[attr-defined]
def test_help(command: str, shown: SnapshotAssertion) -> None:
    assert ran(*command.split(), "--help", modes=["on a terminal of 80 columns"]) == shown


# --- what only training shows


def rendered(*parts: RenderableType, terminal: bool = True) -> str:
    out = io.StringIO()
    screen = Console(
        file=out, width=80, force_terminal=terminal, color_system="standard" if terminal else None, highlight=False,
        emoji=False, markup=False, legacy_windows=False, no_color=False,
    )  # fmt: skip
    for part in parts:
        if isinstance(part, Text):
            console.show(screen, [part])
        else:
            screen.print(part)
    return out.getvalue().replace("\x1b", "␛")


def in_every_mode(words: Callable[[bool], list[Text]], said: list[str]) -> str:
    """``words`` is given whether the terminal has ASCII alone."""
    modes = {
        "on a terminal of 80 columns": rendered(*words(False)),
        "in a pipe of ASCII": rendered(*words(True), terminal=False),
        "--plain": "".join(f"{line}\n" for line in said),
    }
    return "".join(f"===== {mode}\n{text}" for mode, text in modes.items())


def arm(name: str, seed: int, final: float, *, lost: int | None = None, clipped: float = 0.0) -> ArmResult:
    clips = name.startswith("max_norm")
    return ArmResult(
        name=name, max_norm=float(name.partition("=")[2]) if clips else None, seed=seed, steps=300, final_loss=final,
        diverged_at=lost, loss_spikes=5 * (not clips), clip_fraction=clipped, mean_scale=1 - clipped / 3,
    )  # fmt: skip


def verified(verdict: Any, difference: float | None, *arms: ArmResult, reason: str) -> Verification:
    interval = None if difference is None else (difference - 0.0511, difference + 0.0511)
    return Verification(
        verdict=verdict,
        max_norm=2.4,
        arms=arms,
        comparison=Comparison(loss_difference=difference, interval=interval, seeds=2),
        reasons=(reason, "It clipped 7.7% of the steps, and left 97.5% of the gradient's length on average."),
    )


NAN = float("nan")
VERIFICATIONS = {
    "holds": verified(
        "holds", -0.116, arm("unclipped", 0, 1.923), arm("max_norm=2.4", 0, 1.785, clipped=0.073),
        arm("unclipped", 1, NAN, lost=120), arm("max_norm=2.4", 1, 1.841, clipped=0.083),
        reason="The final loss is lower by 0.116 with clipping (about 90% interval -0.167 to -0.0646, 2 seeds).",
    ),
    "no_difference": verified(
        "no_difference", 0.0044, arm("unclipped", 0, 1.781), arm("max_norm=2.4", 0, 1.785),
        reason="The final losses are alike.",
    ),
    "costs": verified(
        "costs", 0.31, arm("unclipped", 0, 1.47), arm("max_norm=2.4", 0, 1.785, clipped=0.93),
        reason="The final loss is higher by 0.31 with clipping.",
    ),
    "fails": verified(
        "fails", None, arm("unclipped", 0, NAN, lost=12), arm("max_norm=2.4", 0, NAN, lost=40, clipped=0.93),
        reason="Training is lost all the same.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("verdict", VERIFICATIONS)
def test_verify(verdict: str, shown: SnapshotAssertion) -> None:
    v = VERIFICATIONS[verdict]
    text = in_every_mode(lambda ascii: answers.verification(v, ascii=ascii), plainview.verification(v, method="norm"))
    assert text == shown


def steps(count: int) -> list[Step]:
    return [
        Step(step=i, loss=round(2.5 - i / 200, 3), grad_norm=round(spiky(i), 3), grad_max=0.2, lr=1.0, seconds=0.08)
        for i in range(count)
    ]


def test_profile_on_a_terminal(shown: SnapshotAssertion) -> None:
    course, long = Meanwhile(NUM_STEPS), Meanwhile(1_000_000)
    views: list[RenderableType] = [live.profile_screen(course, width=80, ascii=False, stopping=False)]
    course.add(steps(140))
    long.add(steps(290))
    views += [live.profile_screen(c, width=80, ascii=False, stopping=False) for c in (course, long)]
    views.append(live.profile_screen(course, width=80, ascii=True, stopping=True))
    assert rendered(*views) == shown


@pytest.mark.parametrize("spoken", [False, True], ids=["in_a_pipe", "plain"])
def test_profile(spoken: bool, shown: SnapshotAssertion) -> None:
    out = io.StringIO()
    pipe = Console(file=out, width=80, force_terminal=False)
    with live.profile_view(pipe, NUM_STEPS, asked=Interrupt(), quiet=False, spoken=spoken) as (on_steps, on_guard):
        for step in steps(60):
            on_steps([step])
        on_guard(26.2)
        for step in steps(NUM_STEPS):
            on_steps([step])
    assert out.getvalue() == shown


ARMS = [Arm(name="unclipped", max_norm=None, seed=0), Arm(name="max_norm=2.4", max_norm=2.4, seed=0)]


def test_arms_on_a_terminal(shown: SnapshotAssertion) -> None:
    state = {
        ARMS[0]: Progress(arm=ARMS[0], steps=NUM_STEPS, loss=1.923, done=True),
        ARMS[1]: Progress(arm=ARMS[1], steps=75, loss=2.131),
    }
    assert rendered(live.arms_screen(state, NUM_STEPS)) == shown


def test_arms_in_a_pipe_and_plain(shown: SnapshotAssertion) -> None:
    out = io.StringIO()
    with live.arms_view(Console(file=out, width=80, force_terminal=False), NUM_STEPS, quiet=False) as (plan, progress):
        plan(ARMS[1:], ARMS[:1])
        progress(Progress(arm=ARMS[1], steps=75, loss=2.131))
        progress(Progress(arm=ARMS[1], steps=NUM_STEPS, loss=1.785, done=False))
        progress(Progress(arm=ARMS[1], steps=NUM_STEPS, loss=NAN, done=True))
    assert out.getvalue() == shown


def test_nothing_of_this_loads_torch() -> None:
    program = "import test_terminal_snapshots, sys\nassert 'torch' not in sys.modules"
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
