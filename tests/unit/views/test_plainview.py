"""--plain: whatever the pictures and tables show is said, in words that are read out, and nothing else is printed."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clipcal.checking import check
from clipcal.cli.main import app
from clipcal.recommendation import calibration
from clipcal.recommendation.attribution import attribute
from clipcal.recommendation.culprits import Culprits
from clipcal.recommendation.evidence import load
from clipcal.recommendation.replay import replay
from clipcal.run.trace import Floats, Trace
from clipcal.verification.answer import ArmResult, Comparison, Verification
from clipcal.views.terminal import plainview
from clipcal.views.terminal.answers import verification as drawn

SPOKEN = re.compile(r"[A-Za-z0-9 .,:;()=_%/'`+*#<>\[\]-]*")
"""What a line may be made of; the last ones stand in names and in code."""

COLOURED = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "80"}


def norms(n: int = 400) -> Floats:
    return np.random.default_rng(0).lognormal(0.0, 0.2, n)


def spiky(at: dict[int, float]) -> Floats:
    x = norms()
    x[list(at)] = list(at.values())
    return x


def trace(values: Floats, first: int = 0) -> Trace:
    n = len(values)
    column = np.full(n, np.nan)
    return Trace(
        step=np.arange(first, first + n), loss=column, grad_norm=values, grad_max=column, lr=column, seconds=column, scale=column,
        skipped=np.zeros(n, dtype=np.bool_),
    )  # fmt: skip


def said(values: Floats, first: int = 0) -> dict[str, str]:
    r = calibration.recommend(values, steps=np.arange(first, first + len(values)))
    lines = plainview.recommendation(r, trace(values, first), values)
    assert all(SPOKEN.fullmatch(line) for line in lines), lines
    return dict(line.split(": ", 1) for line in lines)


def log(values: Floats, path: Path) -> Path:
    with path.open("w") as f:
        for i, v in enumerate(values):
            f.write(json.dumps({"step": i, "grad_norm": float(v) if math.isfinite(v) else "NaN"}) + "\n")
    return path


# --- recommend


def test_what_the_histogram_shows_is_said() -> None:
    values = spiky({50: 12.0, 120: 30.0, 200: 15.0, 260: 22.0})
    r = calibration.recommend(values)
    assert r.stable is not None
    answer = said(values)
    assert answer["max_norm"] == f"{r.max_norm:g}"
    assert answer["verdict"].startswith("spikes, ")
    assert answer["stable steps"].startswith(
        f"{r.stable.steps}, median norm {r.stable.median:.3g}, 95th percentile {r.stable.p95:.3g}, "
        f"99th percentile {r.stable.p99:.3g}"
    )
    assert answer["largest norm"] == "30 at step 120"
    assert answer["non-finite norms"] == "none"


def test_every_spike_is_named_with_its_step() -> None:
    answer = said(spiky({50: 12.0, 120: 30.0, 200: 15.0, 260: 22.0}), first=1000)
    assert answer["spikes"] == "4, from 12 to 30"
    assert [answer[f"spike at step {s:,}"] for s in (1050, 1120, 1200, 1260)] == [
        "norm 12",
        "norm 30",
        "norm 15",
        "norm 22",
    ]


def test_many_spikes_are_counted_and_not_listed() -> None:
    values = spiky(dict.fromkeys(range(30, 390, 15), 20.0))
    r = calibration.recommend(values)
    lines = plainview.recommendation(r, trace(values), values)
    assert sum(line.startswith("spike at step") for line in lines) == plainview.NAMED
    assert r.spikes.count > plainview.NAMED, "the premise"
    assert f"and {r.spikes.count - plainview.NAMED} more, the last at step {r.spikes.steps[-1]}" in lines


def test_warm_up_divergence_and_non_finite_steps_are_placed() -> None:
    values = norms()
    values[:20] *= np.geomspace(12, 1, 20)
    values[340:] *= 1.4 ** np.arange(60)
    values[390:] = math.nan
    answer = said(values)
    assert 10 <= int(answer["warm-up"].removeprefix("until step ")) <= 25
    assert 335 <= int(answer["diverging"].removeprefix("from step ")) <= 350
    assert answer["non-finite norms"] == "10, the first at step 390, the last at step 399"
    assert "drift" in answer


@pytest.mark.parametrize("values", [[], [1.0] * 5, [0.0] * 50, [math.nan] * 50, [1.0] * 90])
def test_where_there_is_no_threshold_it_says_none(values: list[float]) -> None:
    answer = said(np.array(values))
    assert answer["max_norm"] == "none"
    assert "interval" not in answer
    assert answer["steps"].startswith(f"{len(values)}, from step 0" if values else "none")


# --- signs


def test_a_minus_is_a_word() -> None:
    """A screen reader passes over a hyphen: -0.5% would be heard as a rise."""
    assert plainview.spoken("changed by -0.5%, interval -0.2 to -0.1") == (
        "changed by minus 0.5%, interval minus 0.2 to minus 0.1"
    )
    assert plainview.spoken("2.8 x their norm, the whole 3.7 x.") == "2.8 times their norm, the whole 3.7 times."
    for kept in ("--max-norm 1.0", "1e-09", "warm-up", "a 0x1f", "steps 4-7", "median-3"):
        assert plainview.spoken(kept) == kept


def arm(name: str, final: float, lost: int | None = None) -> ArmResult:
    return ArmResult(
        name=name, max_norm=2.4 if "2.4" in name else None, seed=0, steps=300, final_loss=final, diverged_at=lost, loss_spikes=1,
        clip_fraction=0.073, mean_scale=0.98,
    )  # fmt: skip


def test_arms_are_sentences() -> None:
    assert plainview.arm(arm("unclipped", 1.923)) == "arm unclipped, seed 0: final loss 1.923, not lost, 1 loss spike"
    assert plainview.arm(arm("unclipped", math.nan, 12)) == "arm unclipped, seed 0: lost at step 12, 1 loss spike"
    assert plainview.arm(arm("max_norm=2.4", 1.785)) == (
        "arm max_norm=2.4, seed 0: final loss 1.785, not lost, 1 loss spike, 7.3% of the steps clipped, mean scale 0.980"
    )


@pytest.mark.parametrize(
    ("difference", "words"), [(-0.31, "final loss lower by 0.31"), (0.2, "final loss higher by 0.2")]
)
def test_a_difference_has_a_direction(difference: float, words: str) -> None:
    v = Verification(
        verdict="holds",
        max_norm=2.4,
        arms=(arm("unclipped", 1.9), arm("max_norm=2.4", 1.6)),
        comparison=Comparison(loss_difference=difference, interval=(difference - 0.1, difference + 0.1), seeds=1),
        reasons=("Because.",),
    )
    lines = plainview.verification(v, method="norm")
    assert lines[:2] == ["max_norm: 2.4", "verdict: holds"]
    assert lines[2] == f"compared: {words} than unclipped, give or take 0.1, 1 seed"
    assert lines[-1] == "why: Because."
    table = [line.plain for line in drawn(v, ascii=True)]
    assert sum(line.startswith("arm ") for line in lines) == sum(" 0  " in line for line in table) == 2


# --- check and the tables


@pytest.mark.parametrize(("max_norm", "fits"), [(3.0, "yes"), (0.5, "no")])
def test_a_check_says_its_quarters(tmp_path: Path, max_norm: float, fits: str) -> None:
    evidence = load(log(spiky({50: 12.0, 120: 30.0, 200: 15.0}), tmp_path / "log.jsonl"))
    c = check(evidence, max_norm)
    lines = plainview.check(c, evidence.trace, evidence.norms)
    assert lines[:2] == [f"max_norm: {max_norm:g}", f"fits: {fits}"]
    for i, q in enumerate(c.quarters, start=1):
        start = (
            f"quarter {i}, steps {q.first_step} to {q.last_step}: median norm {q.median:.3g}, {q.clipped:.1%} clipped"
        )
        assert any(line.startswith(start) and line.endswith(str(q.verdict)) for line in lines)
    assert [line for line in lines if line.startswith("why: ")] == [f"why: {plainview.spoken(s)}" for s in c.reasons]


def test_every_rule_is_a_line() -> None:
    values = spiky({50: 12.0, 120: 30.0, 200: 15.0, 260: 22.0})
    rows = replay(calibration.recommend(values))
    lines = plainview.comparison(rows, method="norm")
    for r in rows:
        (line,) = (x for x in lines if re.match(rf"rule {re.escape(r.name)}[,:]", x))
        assert (", recommended" in line) == r.chosen
        assert f"clips {r.clipped:.1%} of the stable steps and {r.clipped_spikes:.1%} of the spikes" in line
        assert line.count(r.verdict) >= 1


def test_every_layer_is_a_line_and_the_one_that_makes_the_spikes_is_named() -> None:
    names = [f"layer{i}.weight" for i in range(14)]
    stable = np.random.default_rng(1).uniform(1.0, 2.0, (300, 14))
    peaks = stable[:5].copy()
    peaks[:, 3] *= 500.0
    found = attribute(peaks, stable, names, 2.0)
    c = Culprits(
        peaks="spikes", num_peaks=5, num_stable=300, norm_type=2.0, conclusion="One does.", attribution=found, without_gradient=(),
        notes=("A note.",),
    )  # fmt: skip
    lines = plainview.layers(c)
    assert lines[1:4] == ["layers at the 5 spikes, against 300 stable steps", "One does.", "A note."]
    assert lines[4].startswith("layer layer3, makes the spikes: ")
    assert sum(line.startswith("layer ") for line in lines) == 10
    assert lines[-1].startswith("4 other layers: ")


# --- the commands


@pytest.mark.parametrize("env", [{}, COLOURED])
@pytest.mark.parametrize("how", [("--plain",), ()])
@pytest.mark.parametrize(
    "command",
    [("recommend", "log.jsonl", "--compare"), ("check", "log.jsonl", "--max-norm", "3")],
    ids=lambda c: c[0],
)
def test_no_pictures_and_no_colours_by_the_flag_or_the_environment(
    command: tuple[str, ...],
    how: tuple[str, ...],
    env: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    log(spiky({50: 12.0, 120: 30.0, 200: 15.0, 260: 22.0}), Path("log.jsonl"))
    result = CliRunner().invoke(app, [*command, *how], env=env if how else env | {"CLIPCAL_PLAIN": "1"})
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("max_norm: ")
    assert all(SPOKEN.fullmatch(line) for line in lines), [line for line in lines if not SPOKEN.fullmatch(line)]
    assert not any("   " in line for line in lines), "a column"


def test_a_name_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    plainview.say(["layer a\x1b[31mb: größe"])
    out = capsys.readouterr().out
    assert out == "layer a?[31mb: größe\n"


def test_apply_says_the_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log(norms(), Path("log.jsonl"))
    config = Path("train.yaml")
    config.write_text("trainer:\n  gradient_clip_val: 1.0\n")
    shown = CliRunner().invoke(app, ["apply", "log.jsonl", "train.yaml", "--plain", "--yes"])
    after = config.read_text().split()[-1]
    assert shown.stdout == f"train.yaml: trainer.gradient_clip_val changes from 1.0 to {after}\n"
    again = CliRunner().invoke(app, ["apply", "log.jsonl", "train.yaml", "--plain"])
    assert again.stdout == ""
    assert "nothing to write" in again.stderr
