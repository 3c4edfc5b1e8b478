"""What `calibrate` chose by training: said, kept, stood by, verified; and arms that are given up."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import Result
from conftest import snapshot
from typer.testing import CliRunner

from clipcal.arms.pool import Arm, arm_name, train_arm
from clipcal.cli.main import app
from clipcal.run.trace import Trace, read_trace
from clipcal.sources.spec import load_spec
from clipcal.stats.losses import diverged_at, initial_loss

NAME = "toy_for_choosing"
TOY = """\
import torch


class Net(torch.nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))

    def forward(self, x):
        return self.layers(x)


def batches(seed, outliers=0.04):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(8, 1, generator=g)
    while True:
        x = torch.randn(32, 8, generator=g)
        y = x @ w + 0.1 * torch.randn(32, 1, generator=g)
        if torch.rand((), generator=g) < outliers:
            y = y + 30
        yield x, y


class Levels(torch.nn.Module):
    \"\"\"A loss that follows a list of [steps, level], whatever is learned.\"\"\"

    def __init__(self, levels):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(3))
        self.levels = [level for steps, level in levels for _ in range(steps)]

    def forward(self, x):
        return self.levels.pop(0) + 1e-4 * (self.w * x).sum()


def numbers(seed):
    g = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(3, generator=g)


def level(model, batch):
    return model(batch)
"""
GOOD = ("holds", "no_difference")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("choosing")
    (path / f"{NAME}.py").write_text(TOY)
    return path


def spec(folder: Path, file: str = "spec.yaml", **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "name": "toy",
        "model": {"_target_": f"{NAME}.Net"},
        "data": {"_target_": f"{NAME}.batches"},
        "loss": {"_target_": "torch.nn.MSELoss"},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.05},
        "steps": 120,
        "device": "cpu",
    } | changes
    path = folder / file
    path.write_text(yaml.safe_dump({k: v for k, v in fields.items() if v is not None}))
    return path


def clipcal(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)  # type: ignore[return-value]


def parsed(result: Result) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(result.stdout, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    return answer


Calibrated = tuple[Result, dict[str, Any], Path]


@pytest.fixture(scope="module")
def calibrated(folder: Path) -> Calibrated:
    """What `calibrate --json` came to, and the run; tests copy it before they change anything."""
    out = folder / "runs" / "toy"
    result = clipcal("calibrate", spec(folder), "-o", out, "--seeds", 2, "--json", "--max-norm", 0.3)
    return result, parsed(result), out


@pytest.fixture
def copied(calibrated: Calibrated, tmp_path: Path) -> Path:
    return Path(shutil.copytree(calibrated[2], tmp_path / "run"))


def arms(run: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted((run / "arms").glob("*.jsonl"))}


# What calibrate says


def test_one_threshold_is_said_everywhere(calibrated: Calibrated) -> None:
    result, whole, run = calibrated
    choice = whole["choice"]
    assert set(choice) == {"name", "max_norm", "reason", "alike"}
    assert whole["max_norm"] == choice["max_norm"]
    assert whole["recommendation"]["max_norm"] == whole["verification"]["max_norm"] == choice["max_norm"]
    assert choice["reason"] in whole["recommendation"]["reasons"]
    assert choice["reason"].startswith("Trained side by side on ")
    assert choice["name"] in choice["reason"].partition(";")[2]
    assert result.exit_code == (0 if whole["verification"]["verdict"] in GOOD else 3)
    kept = json.loads((run / "choice.json").read_text())
    assert {k: kept[k] for k in choice} == choice
    assert json.loads((run / "recommendation.json").read_text()) == whole["recommendation"]
    assert json.loads((run / "verification.json").read_text()) == whole["verification"]


def test_the_recommendation_around_the_choice_is_sound(calibrated: Calibrated) -> None:
    r = calibrated[1]["recommendation"]
    assert r["interval"][0] <= r["max_norm"] <= r["interval"][1]
    assert r["corridor"][0] < r["max_norm"]
    norms = read_trace(calibrated[2] / "trace.jsonl").grad_norm[r["stable"]["first_step"] :]
    above = r["clipped"]["stable"] * r["stable"]["steps"] + (r["clipped"]["spikes"] or 0) * r["spikes"]["count"]
    assert above == pytest.approx(np.sum(norms > r["max_norm"]))


def test_the_candidates_are_kept_with_what_their_arms_came_to(calibrated: Calibrated) -> None:
    run = calibrated[2]
    kept = json.loads((run / "choice.json").read_text())
    assert kept["schema"] == "clipcal.choice/1"
    assert kept["name"] in [c["name"] for c in kept["candidates"]]
    values = [c["max_norm"] for c in kept["candidates"]]
    assert values == sorted(values, reverse=True)
    assert 0.3 not in values, "what is shown beside is no candidate"
    trained = json.loads((run / "verification.json").read_text())["arms"]
    for candidate in kept["candidates"]:
        files = [run / "arms" / f"{arm_name(candidate['max_norm'])}-seed{s}.jsonl" for s in range(candidate["seeds"])]
        finals = [np.median(read_trace(f).loss[-24:]) for f in files]  # a fifth of 120
        assert candidate["loss"] == pytest.approx(np.mean(finals), rel=1e-12)
        assert candidate["lost"] == 0
        assert [a["final_loss"] for a in trained if a["max_norm"] == candidate["max_norm"]] == pytest.approx(finals)
    assert {a["seed"] for a in trained if a["max_norm"] == 0.3} == set(range(kept["seeds"]))


def test_without_json_the_choice_is_shown_with_its_reason(folder: Path, calibrated: Calibrated, tmp_path: Path) -> None:
    _, whole, _ = calibrated
    result = clipcal("calibrate", spec(folder), "-o", tmp_path / "run", "--seeds", 2, "-q")
    lines = result.stdout.splitlines()
    choice = whole["choice"]
    r, v = whole["recommendation"], whole["verification"]
    assert lines[0] == f"{r['headline'].rstrip('.')};{v['headline'].partition(':')[2]}", "the one answer comes first"
    thresholds = {line.split()[1].rstrip(":") for line in lines if line.startswith("max_norm ")}
    assert thresholds == {f"{choice['max_norm']:g}"}, "and no other one"
    assert any(choice["reason"] in line for line in lines)
    assert f"max_norm={float(choice['max_norm'])!r}" in result.stdout
    assert json.loads((tmp_path / "run" / "choice.json").read_text())["max_norm"] == choice["max_norm"], "repeats"
    assert result.stderr == ""


@pytest.mark.parametrize("seed", [0, 5])
def test_one_seed_is_enough_for_an_answer(folder: Path, tmp_path: Path, seed: int) -> None:
    out = tmp_path / "run"
    result = clipcal("calibrate", spec(folder), "-o", out, "--seeds", 1, "--seed", seed, "-n", 60, "--json", "-q")
    whole = parsed(result)
    assert result.exit_code == (0 if whole["verification"]["verdict"] in GOOD else 3)
    assert {a["seed"] for a in whole["verification"]["arms"]} == {seed}
    assert all(name.endswith(f"-seed{seed}.jsonl") for name in arms(out))
    assert not (out / "arms" / f"unclipped-seed{seed}.jsonl").exists(), "that is the profile's own trace"
    assert "on 1 seed:" in whole["choice"]["reason"]


# What stands by it


def test_recommend_stands_by_the_choice(calibrated: Calibrated, copied: Path) -> None:
    chosen = calibrated[1]["recommendation"]
    again = parsed(clipcal("recommend", copied, "--json"))
    assert again | {"source": None} == chosen | {"source": None}
    snippet = clipcal("recommend", copied, "--for", "pytorch")
    assert f"max_norm={float(chosen['max_norm'])!r}" in snippet.stdout
    text = clipcal("recommend", copied)
    assert text.stdout.startswith(f"max_norm {chosen['max_norm']:g} ")
    assert calibrated[1]["choice"]["reason"] in text.stdout


def test_another_choice_would_be_stood_by_too(calibrated: Calibrated, copied: Path) -> None:
    """So that the tests above do not pass because the norms alone say the same."""
    kept = json.loads((copied / "choice.json").read_text())
    other = next(c for c in kept["candidates"] if c["max_norm"] != kept["max_norm"])
    (copied / "choice.json").write_text(json.dumps(kept | {k: other[k] for k in ("name", "max_norm")}))
    assert parsed(clipcal("recommend", copied, "--json"))["max_norm"] == other["max_norm"]
    before = arms(copied)
    result = clipcal("verify", copied, "--seeds", 2, "--json")
    assert parsed(result)["max_norm"] == other["max_norm"]
    assert arms(copied) == before


def test_verify_verifies_the_chosen_one_with_the_arms_that_are_there(calibrated: Calibrated, copied: Path) -> None:
    _, whole, _ = calibrated
    before = arms(copied)
    result = clipcal("verify", copied, "--seeds", whole["verification"]["comparison"]["seeds"], "--json")
    v = parsed(result)
    assert "training" not in result.stderr
    assert arms(copied) == before
    assert v["max_norm"] == whole["max_norm"]
    assert v["verdict"] == whole["verification"]["verdict"]
    assert v["comparison"] == whole["verification"]["comparison"]
    assert result.exit_code == (0 if v["verdict"] in GOOD else 3)
    assert {a["name"] for a in v["arms"]} <= {a["name"] for a in whole["verification"]["arms"]}


WHOLE = {"name": "firm", "max_norm": 2.5, "reason": "Because."}
DAMAGED: dict[str, str | bytes] = {
    "empty": "",
    "cut": json.dumps(WHOLE)[:-20],
    "not-json": "max_norm: 2.5",
    "not-utf8": b"\xff\xfe\x00",
    "null": "null",
    "a-list": "[1, 2]",
    "a-number": "3.5",
    "a-string": '"firm"',
    "no-max-norm": json.dumps({"name": "firm", "reason": "Because."}),
    "no-reason": json.dumps({"name": "firm", "max_norm": 2.5}),
    "max-norm-is-a-list": json.dumps(WHOLE | {"max_norm": [2.5]}),
    "max-norm-is-text": json.dumps(WHOLE | {"max_norm": "2.5"}),
    "max-norm-is-true": json.dumps(WHOLE | {"max_norm": True}),
    "max-norm-is-null": json.dumps(WHOLE | {"max_norm": None}),
    "nan": json.dumps(WHOLE | {"max_norm": math.nan}),
    "nan-as-text": json.dumps(WHOLE | {"max_norm": "NaN"}),
    "infinite": json.dumps(WHOLE | {"max_norm": math.inf}),
    "zero": json.dumps(WHOLE | {"max_norm": 0}),
    "negative": json.dumps(WHOLE | {"max_norm": -2.5}),
    "huge": '{"name": "firm", "max_norm": 1e999, "reason": "Because."}',
    "longer-than-python-reads": '{"name": "firm", "max_norm": 1' + 5000 * "0" + ', "reason": "Because."}',
    "deep": 100_000 * "[",
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_choice_is_refused(copied: Path, damage: str) -> None:
    """Ignored, it would silently make the threshold another one."""
    assert_refused(copied, DAMAGED[damage])


def test_a_choice_larger_than_any_float_is_refused(copied: Path) -> None:
    assert_refused(copied, '{"name": "firm", "max_norm": 1' + 400 * "0" + ', "reason": "Because."}')


@pytest.mark.parametrize("change", [{"reason": None}, {"reason": ["Because."]}, {"name": 5}], ids=str)
def test_a_choice_whose_words_are_none_is_refused(copied: Path, change: dict[str, Any]) -> None:
    assert_refused(copied, json.dumps(WHOLE | change))


def assert_refused(run: Path, text: str | bytes) -> None:
    """With this in choice.json there is no answer, and the advice in the refusal leads to one."""
    (run / "choice.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    result = clipcal("recommend", run, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {run / 'choice.json'}: ")
    assert "Delete it" in result.stderr
    (run / "choice.json").unlink()
    assert clipcal("recommend", run, "--json").exit_code in (0, 3)


def test_a_choice_that_cannot_be_opened_is_refused(copied: Path) -> None:
    (copied / "choice.json").unlink()
    (copied / "choice.json").mkdir()
    result = clipcal("recommend", copied, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "choice.json: cannot be read (Is a directory)" in result.stderr


# What is refused


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_calibrate_refuses_thresholds_that_are_none(folder: Path, tmp_path: Path, value: str) -> None:
    result = clipcal("calibrate", spec(folder), "-o", tmp_path / "run", "-n", 60, "--seeds", 1, f"--max-norm={value}")
    assert result.exit_code == 2
    assert "--max-norm" in result.stderr


def test_a_threshold_next_to_the_chosen_one_is_the_same_arm(calibrated: Calibrated, copied: Path) -> None:
    near = calibrated[1]["max_norm"] * (1 + 1e-8)
    result = clipcal("verify", copied, "--seeds", 2, "--max-norm", repr(near), "--json")
    assert result.exit_code in (0, 3)


# Arms that are given up


def levels(folder: Path, tmp_path: Path, *steps: tuple[int, float]) -> Path:
    """A spec whose loss follows these levels."""
    return spec(
        folder,
        f"{tmp_path.name}.yaml",
        model={"_target_": f"{NAME}.Levels", "levels": [list(s) for s in steps]},
        data={"_target_": f"{NAME}.numbers"},
        loss=None,
        training_step={"_target_": f"{NAME}.level"},
        optimizer={"_target_": "torch.optim.SGD", "lr": 1e-3},
        steps=sum(n for n, _ in steps),
    )


def arm_of(path: Path, tmp_path: Path) -> Trace:
    out = tmp_path / "arm.jsonl"
    train_arm(load_spec(path), Arm(name="unclipped", max_norm=None, seed=0), None, out, "cpu")
    assert not out.with_name("arm.jsonl.partial").exists()
    return read_trace(out)


@pytest.mark.parametrize(
    ("course", "rows"),
    [
        ([(10, 1.0), (100, 25.0)], 40),  # after thirty steps of it
        ([(10, -1.0), (100, 25.0)], 40),  # a loss below zero has a size too
        ([(4, 1.0), (1, 2.0), (105, 45.0)], 35),  # measured by the largest of the first five
        ([(4, 1.0), (1, 2.0), (105, 35.0)], 110),
        ([(10, 1.0), (100, 15.0)], 110),  # high, and not hopeless
        ([(10, 1.0), (29, 25.0), (1, 1.0), (29, 25.0), (41, 1.0)], 110),  # comes back, twice
        ([(10, 1.0), (20, 25.0), (1, 1.0), (79, 25.0)], 61),  # and then does not
        ([(10, 1.0), (100, -500.0)], 110),  # far below is not lost
    ],
)
def test_an_arm_whose_loss_stays_hopelessly_high_stops_early(
    folder: Path, tmp_path: Path, course: list[tuple[int, float]], rows: int
) -> None:
    arm = arm_of(levels(folder, tmp_path, *course), tmp_path)
    assert list(arm.step) == list(range(rows))
    expected = [level for n, level in course for _ in range(n)][:rows]
    np.testing.assert_allclose(arm.loss, expected, atol=0.01)
    assert (diverged_at(arm.loss, floor=initial_loss(arm.loss)) is not None) is (rows < 110 or course[-1][1] > 10)


def test_an_arm_that_is_given_up_late_is_lost(folder: Path, tmp_path: Path) -> None:
    course = (100, 3.0), (300, 1.0), (300, 90.0)
    arm = arm_of(levels(folder, tmp_path, *course), tmp_path)
    assert len(arm) == 430
    to_its_end = np.repeat([level for _, level in course], [n for n, _ in course])
    assert diverged_at(to_its_end, floor=1.0) == 400, "the premise: trained to its end it is lost"
    assert diverged_at(arm.loss, floor=1.0) == 400


def test_a_profile_is_never_given_up(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    path = levels(folder, tmp_path, (10, 1.0), (100, 25.0))
    assert clipcal("profile", path, "-o", out).exit_code == 0
    assert len(read_trace(out / "trace.jsonl")) == 110
    assert json.loads((out / "run.json").read_text())["status"] == "complete"


def test_verify_gives_up_an_arm_and_says_that_it_is_lost(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    path = levels(folder, tmp_path, (10, 1.0), (100, 25.0))
    clipcal("profile", path, "-o", out)
    before = snapshot(out)
    result = clipcal("verify", out, "--seeds", 1, "--max-norm", 1.0, "--json")
    assert result.exit_code == 3
    found = {(a["name"], a["seed"]): a for a in parsed(result)["arms"]}
    assert found["unclipped", 0]["steps"] == 110, "the profile's own trace"
    assert found["max_norm=1", 0]["steps"] == 40
    assert found["max_norm=1", 0]["diverged_at"] == found["unclipped", 0]["diverged_at"] == 10
    assert snapshot(out)["trace.jsonl"] == before["trace.jsonl"]
