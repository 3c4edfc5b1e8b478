"""The norms of a trace are summarised once for each command, however much of the answer is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_races import FIELD, Training
from made_runs import Floats, make_run, quiet, runaway, spiky
from typer.testing import CliRunner

import clipcal.recommendation.calibration
import clipcal.stats
from clipcal.cli import showing, steps
from clipcal.cli.main import app
from clipcal.recommendation.calibration import recommend
from clipcal.recommendation.evidence import guard_for
from clipcal.recommendation.scaling.probed import header, line
from clipcal.verification.racing import race

Read = list[Floats]
LAYERS = ("a.weight", "a.bias", "b.weight", "b.bias")
TRACES = {"quiet": quiet(), "spiky": spiky(), "runaway": runaway(400)}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """The norms of every call of ``summarise``, wherever it is called."""
    summarise, seen = clipcal.stats.summarise, []

    def counted(norms: Floats, losses: Floats | None = None) -> object:
        seen.append(norms)
        return summarise(norms, losses)

    users = [m for name, m in sys.modules.items() if name.startswith("clipcal") and hasattr(m, "summarise")]
    assert clipcal.recommendation.calibration in users, "the premise"
    for module in users:
        monkeypatch.setattr(module, "summarise", counted)
    return seen


def run_of(folder: Path, norms: Floats) -> Path:
    run = make_run(folder / "run", norms, layers=LAYERS)
    rows = (line(i, 1.0, norm, [norm, norm]) for i, norm in enumerate(norms.tolist()))
    run.scale.write_bytes(header(2, "mean", batch_norm=False) + b"".join(rows))
    return run.folder


def run_command(*args: object) -> None:
    done = CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)
    assert done.exit_code in (0, 3), done.output


@pytest.mark.parametrize("norms", TRACES.values(), ids=TRACES)
@pytest.mark.parametrize(
    "command",
    [
        ["recommend", "RUN"],
        ["recommend", "RUN", "--compare"],
        ["recommend", "RUN", "--layers"],
        ["recommend", "RUN", "--plot", "FOLDER/picture.svg"],
        ["recommend", "RUN", "--json"],
        ["recommend", "RUN", "--plain"],
        ["recommend", "RUN", "--compare", "--layers", "--json", "--plot", "FOLDER/picture.svg"],
        ["recommend", "RUN", "--for", "pytorch"],
        ["check", "RUN", "--max-norm", "1.5"],
        ["check", "RUN", "--max-norm", "1.5", "--plot", "FOLDER/picture.svg"],
        ["check", "RUN", "--max-norm", "1.5", "--plain"],
        ["check", "RUN", "--max-norm", "1.5", "--json"],
        ["report", "RUN"],
        ["apply", "RUN", "FOLDER/config.yaml", "--key", "trainer.gradient_clip_val"],
    ],
    ids=" ".join,
)
def test_a_command_summarises_the_norms_once(tmp_path: Path, norms: Floats, command: list[str], read: Read) -> None:
    if any("picture" in part for part in command):
        pytest.importorskip("matplotlib")
    (tmp_path / "config.yaml").write_text("trainer:\n  gradient_clip_val: 1.0\n")
    run = run_of(tmp_path, norms)
    run_command(*(part.replace("RUN", str(run)).replace("FOLDER", str(tmp_path)) for part in command))
    (once,) = read
    np.testing.assert_array_equal(once, norms)


def test_a_log_that_several_runs_share_is_summarised_once_and_the_last_run_alone(tmp_path: Path, read: Read) -> None:
    log, last = tmp_path / "log.csv", spiky(120)
    rows = [*enumerate(quiet(90)), *enumerate(last)]
    log.write_text("step,grad_norm\n" + "".join(f"{step},{norm:.6g}\n" for step, norm in rows))
    run_command("report", log)
    (once,) = read
    assert once.size == last.size


def test_a_threshold_that_is_moved_reads_the_profile_and_the_probe(tmp_path: Path, read: Read) -> None:
    run_command("recommend", run_of(tmp_path, spiky()), "--scale", "batch=2")
    assert len(read) == 2, "two trainings"


@pytest.mark.parametrize("command", ["verify", "calibrate"])
def test_what_trains_reads_its_profile_once(
    tmp_path: Path, command: str, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training itself is left out: what it makes are traces of their own."""
    pytest.importorskip("torch")
    run = make_run(tmp_path / "run", spiky())
    stop = RuntimeError("nothing is trained here")

    def refused(*args: object, **options: object) -> None:
        raise stop

    def chosen(*args: object, **options: object) -> SimpleNamespace:
        choice = '{"schema": "clipcal.choice/1", "name": "default", "max_norm": 1.5, "reason": "It trains best."}'
        run.choice.write_text(choice)
        return SimpleNamespace(race=None, verification=None, choice=None)

    monkeypatch.setattr(steps, "run_verify", refused)
    monkeypatch.setattr(steps, "run_profile", lambda *args, **options: run)
    monkeypatch.setattr(steps, "run_choose", chosen)
    monkeypatch.setattr(steps, "prepare", lambda what: None)
    monkeypatch.setattr(showing, "show_verification", refused)
    spec = tmp_path / "spec.yaml"
    spec.write_text("model: {_target_: torch.nn.Linear, in_features: 2, out_features: 1}\nsteps: 400\n")
    spec.write_text(
        spec.read_text() + "data: {_target_: builtins.list}\noptimizer: {_target_: torch.optim.SGD, lr: 0.1}\n"
    )
    source = run.folder if command == "verify" else spec
    with pytest.raises(RuntimeError, match="nothing is trained here"):
        CliRunner().invoke(app, [command, str(source)], catch_exceptions=False)
    (once,) = read
    np.testing.assert_array_equal(once, spiky())


def test_a_run_that_is_not_lost_is_not_read_to_know_that(tmp_path: Path, read: Read) -> None:
    assert guard_for(make_run(tmp_path / "calm", spiky())) is None
    assert not read
    lost = quiet()
    lost[20:] = np.nan
    assert guard_for(make_run(tmp_path / "lost", lost)) is not None
    assert len(read) == 1


def test_a_race_reads_every_unclipped_arm_once(read: Read) -> None:
    training = Training({None: 1.0, 4.0: 1.0, 2.0: 1.0, 1.0: 1.0})
    race(FIELD, training, first_seed=0, seeds=3)
    assert len(read) == len({arm.seed for arm in training.asked})


@pytest.mark.parametrize("other", [lambda r: r, lambda r: r.as_dict(), repr], ids=["equal", "json", "repr"])
def test_what_was_read_is_no_part_of_the_answer_that_is_written_or_compared(other: Callable[..., object]) -> None:
    one = recommend(spiky())
    two = recommend(spiky())
    assert one.reading is not two.reading
    assert other(one) == other(two)
    assert "reading" not in repr(one)
    assert "reading" not in one.as_dict()
