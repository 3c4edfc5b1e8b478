"""recommend, check and apply on training logs, as a user calls them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Clipcal, Project, snapshot

from clipcal.logs.stores import STORES
from clipcal.logs.table import readers

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
NORMS = np.exp(RNG.normal(0.0, 0.2, 400))
NORMS[[100, 200, 333]] = 20.0


@pytest.fixture
def state(project: Project) -> Path:
    """What Trainer leaves behind: two checkpoints, of which the last holds the whole history."""
    for last in (200, 400):
        folder = project.folder / "outputs" / f"checkpoint-{last}"
        folder.mkdir(parents=True)
        rows = [
            {"step": i, "epoch": i / 400, "loss": 3.0 - i / 400, "grad_norm": float(n), "learning_rate": 1e-4}
            for i, n in enumerate(NORMS[:last], 1)
        ]
        history = [*rows, {"step": last, "eval_loss": 2.5}]
        (folder / "trainer_state.json").write_text(
            json.dumps({"global_step": last, "log_history": history, "logging_steps": 1})
        )
    return project.folder / "outputs"


def test_recommend_a_folder_of_checkpoints(clipcal: Clipcal, state: Path) -> None:
    answer = clipcal("recommend", state, "--json").ok()
    found = json.loads(answer.stdout)
    assert found["source"] == str(state)
    assert found["steps"] == 400
    assert found["verdict"] == "spikes"
    assert NORMS[NORMS < 10].max() < found["max_norm"] < 20
    assert found["spikes"]["steps"] == [101, 201, 334]
    assert any("checkpoint-400" in caveat for caveat in found["caveats"])


def test_the_snippet_says_what_it_was_read_from(clipcal: Clipcal, state: Path) -> None:
    text = clipcal("recommend", state, "--for", "huggingface-yaml").ok().stdout
    first, *rest = text.splitlines()
    assert re.fullmatch(
        rf"# calibrated by clipcal \S+ on 400 steps of {re.escape(str(state))}, \d{{4}}-\d\d-\d\d", first
    )
    threshold = json.loads(clipcal("recommend", state, "--json").stdout)["max_norm"]
    assert yaml.safe_load("\n".join(rest)) == {"max_grad_norm": threshold}


@pytest.mark.parametrize(
    ("max_norm", "code", "verdict"), [(3.0, 0, "guard"), (0.5, 3, "brake"), (100.0, 3, "inactive")]
)
def test_check_gates_on_its_exit_code(clipcal: Clipcal, state: Path, max_norm: float, code: int, verdict: str) -> None:
    answer = clipcal("check", state, "--max-norm", max_norm)
    assert answer.code == code
    assert verdict in answer.stdout.splitlines()[0]
    found = json.loads(clipcal("check", state, "--max-norm", max_norm, "--json").stdout)
    assert found["verdict"] == verdict
    assert found["fits"] is (code == 0)
    assert found["acts"]["share"] == pytest.approx(np.mean(max_norm < NORMS))


def test_apply_shows_the_change_and_makes_it_when_asked(clipcal: Clipcal, project: Project, state: Path) -> None:
    config = project.text(
        "# mine\nlearning_rate: 1.0e-4\nmax_grad_norm: 1.0  # copied\nnum_train_epochs: 3\n", "train.yaml"
    )
    before = snapshot(project.folder)
    shown = clipcal("apply", state, config).ok()
    assert snapshot(project.folder) == before
    assert "--yes" in shown.stderr
    threshold = json.loads(clipcal("recommend", state, "--json").stdout)["max_norm"]
    assert f"-max_grad_norm: 1.0  # copied\n+max_grad_norm: {threshold}  # copied\n" in shown.stdout
    clipcal("apply", state, config, "--yes").ok()
    assert (
        config.read_text()
        == f"# mine\nlearning_rate: 1.0e-4\nmax_grad_norm: {threshold}  # copied\nnum_train_epochs: 3\n"
    )
    again = json.loads(clipcal("apply", state, config, "--yes", "--json").ok().stdout)
    assert again["written"] is False
    assert again["reasons"] == json.loads(clipcal("recommend", state, "--json").stdout)["reasons"]
    assert again["changes"] == [{"key": "max_grad_norm", "before": str(threshold), "after": str(threshold)}]


def test_apply_writes_nothing_where_there_is_no_threshold(clipcal: Clipcal, project: Project) -> None:
    config = project.text("max_grad_norm: 1.0\n", "train.yaml")
    log = project.text('{"step": 1, "grad_norm": 1.0}\n{"step": 2, "grad_norm": 1.0}\n', "log.jsonl")
    answer = clipcal("apply", log, config, "--yes")
    assert answer.code == 3
    assert "no threshold to write" in answer.stderr
    answer = clipcal("apply", log, config, "--yes", "--json")
    assert answer.code == 3
    found = answer.json()
    assert (found["schema"], found["config"]) == ("clipcal.apply/1", str(config))
    assert (found["max_norm"], found["changes"], found["written"]) == (None, [], False)
    assert found["reasons"]
    assert config.read_text() == "max_grad_norm: 1.0\n"


def test_the_norm_the_run_and_the_pattern_can_be_chosen(clipcal: Clipcal, project: Project) -> None:
    two = [{"step": i % 200, "actor_grad_norm": n, "critic_grad_norm": 10 * n} for i, n in enumerate(NORMS.tolist())]
    log = project.text("".join(json.dumps(row) + "\n" for row in two), "metrics.jsonl")
    clipcal("recommend", log).refused("'actor_grad_norm' (400 rows)", "'critic_grad_norm' (400 rows)", "--tag")
    found = json.loads(clipcal("recommend", log, "--tag", "critic", "--run", 1, "--json").ok().stdout)
    assert found["steps"] == 200
    assert found["stable"]["median"] == pytest.approx(10 * np.median(NORMS[:200]), rel=0.05)
    clipcal("recommend", log, "--tag", "critic", "--run", 3).refused("2 runs", "--run")
    odd = project.text("".join(f"it {i} G<{n:.6f};\n" for i, n in enumerate(NORMS)), "odd.log")
    clipcal("recommend", odd).refused("no log that is known", "--pattern")
    found = json.loads(
        clipcal("recommend", odd, "--pattern", r"it (?P<step>\d+) .*<(?P<norm>[\d.]+);", "--json").ok().stdout
    )
    assert found["spikes"]["steps"] == [100, 200, 333]
    clipcal("recommend", "runs/spec", "--tag", "x").refused("no such run")


def test_options_for_logs_are_refused_for_runs_of_our_own(clipcal: Clipcal, project: Project) -> None:
    clipcal("profile", project.spec(), "--quiet").ok()
    for option in (("--tag", "x"), ("--run", 1), ("--pattern", "(?P<norm>.)")):
        clipcal("recommend", "runs/spec", *option).refused("--tag, --run and --pattern choose within a training log")
    assert clipcal("check", "runs/spec", "--max-norm", 1000).code in (0, 3)
    clipcal("check", "runs/spec").refused("--max-norm")
    clipcal("verify", project.text('{"step": 1, "grad_norm": 1.0}\n', "log.jsonl")).refused("cannot be trained again")


def test_a_log_on_standard_input(project: Project, environment: dict[str, str]) -> None:
    rows = "".join(json.dumps({"step": i, "grad_norm": n}) + "\n" for i, n in enumerate(NORMS.tolist()))
    for text, code in ((rows, 0), ("hello\n", 2), ("", 2)):
        command = [sys.executable, "-m", "clipcal", "check", "-", "--max-norm", "3"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == code, done.stderr
        assert ("max_norm 3 fits" in done.stdout) is (code == 0)
        assert done.stderr.startswith("error: standard input: " if code else "")


def test_names_in_a_log_cannot_drive_the_terminal(clipcal: Clipcal, project: Project) -> None:
    rows = [{"\x1b[2Jgrad_norm": 1.0, "\x1b]0;title\x07_grad_norm": 2.0, "step": i} for i in range(60)]
    log = project.text("".join(json.dumps(row) + "\n" for row in rows), "log.jsonl")
    answer = clipcal("recommend", log)
    assert answer.code == 2
    assert answer.stderr.rstrip("\n").isprintable()


def test_every_format_is_documented() -> None:
    text = (ROOT / "docs" / "logs.md").read_text()
    table = text[text.index("| --- |") : text.index("Any other text")]
    documented = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[1:] if line.startswith("|")]
    assert sorted(documented) == sorted([*(r.title for r in readers()), *(s.title for s in STORES), "RLlib result"])


def test_log_shows_what_is_read_and_how(project: Project, clipcal: Clipcal) -> None:
    path = project.folder / "train.log"
    path.write_text(
        "max_grad_norm: 2.0\n"
        + "".join(f"step {i} loss 2.5 grad_norm {n:.3f}\n" for i, n in enumerate(NORMS[:60]))
        + "step 60 loss 2.5 grad_norm: oops\n"
    )
    found = clipcal("log", str(path), "--json").ok().json()
    assert found["schema"] == "clipcal.log/1"
    assert (found["lines"], found["rows"], found["picked"], found["run"]) == (62, 60, "grad_norm", 1)
    assert found["norms"][0]["median"] == pytest.approx(np.median(NORMS[:60]), abs=1e-3)
    assert found["first"][0] == {"step": 0.0, "loss": 2.5, "lr": None, "grad_norm": pytest.approx(NORMS[0], abs=1e-3)}
    assert [row["step"] for row in found["last"]] == [57.0, 58.0, 59.0]
    assert (found["max_norm"], found["max_norm_from"]) == (2.0, "max_grad_norm")
    assert [passed["rows"] for passed in found["left_out"]] == [1]
    assert "oops" in found["left_out"][0]["first"]
    text = clipcal("log", str(path)).ok().stdout
    assert "1 row was left out: the norm is no number; it is 'grad_norm: oops'." in text
    assert "1 row was left out: the norm is no number" in clipcal("log", str(path), "--plain").ok().stdout
    assert "1 row was left out" in " ".join(clipcal("recommend", str(path), "--json").ok().json()["caveats"])


def test_log_lists_several_norms_and_refuses_what_is_none(project: Project, clipcal: Clipcal) -> None:
    path = project.folder / "gan.csv"
    path.write_text("step,loss,grad_norm_g,grad_norm_d\n" + "".join(f"{i},1.0,0.5,2.5\n" for i in range(20)))
    found = clipcal("log", str(path), "--json").ok().json()
    assert [norm["name"] for norm in found["norms"]] == ["grad_norm_g", "grad_norm_d"]
    assert found["picked"] is None
    assert "--tag" in found["choose"]
    assert clipcal("log", str(path), "--tag", "grad_norm_d", "--json").ok().json()["picked"] == "grad_norm_d"
    (project.folder / "empty.txt").write_text("nothing here\n")
    assert clipcal("log", "empty.txt").code == 2


def test_a_run_that_diverged_although_it_was_clipped_is_not_told_to_clip_less(
    project: Project, clipcal: Clipcal
) -> None:
    norms = [*(2.0 + 0.1 * np.sin(np.arange(120))), *(2.0 * 1.3 ** np.arange(30)), *[float("nan")] * 20]
    rows = "".join(f"step {i} loss {2.0 if i < 120 else 2.0 + i} grad_norm {n}\n" for i, n in enumerate(norms))
    path = project.folder / "train.log"
    path.write_text(f"max_grad_norm: 1.0\n{rows}")
    found = clipcal("recommend", str(path), "--json").json()
    assert found["verdict"] == "diverging"
    assert found["max_norm"] is None or "diverged although it was clipped at 1" in found["reasons"][0]
    checked = clipcal("check", str(path), "--json").json()
    assert checked["fits"] is False
    assert not any("Recommended instead" in reason for reason in checked["reasons"])
