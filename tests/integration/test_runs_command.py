"""`clipcal runs` on real runs, as a person has them in a project."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from conftest import Answer, Clipcal, Project, snapshot

SCRIPT = """\
import sys, torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=float(sys.argv[2]))
for _ in range(30):
    x = torch.randn(8, 4)
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)).backward()
    optimizer.step()
"""


def test_runs_from_making_them_to_changing_their_source(clipcal: Clipcal, project: Project) -> None:
    clipcal("profile", "spec.yaml", "-n", 60).ok()
    clipcal("recommend", "runs/spec").ok()
    spec = yaml.safe_load((project.folder / "spec.yaml").read_text())
    spec["optimizer"]["lr"] = 0.01
    (project.folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    clipcal("profile", "spec.yaml", "-n", 60, "-o", "runs/slower").ok()
    before = snapshot(project.folder / "runs")

    rows = {row["path"]: row for row in clipcal("runs", "--json").ok().json()["runs"]}
    assert set(rows) == {"runs/spec", "runs/slower"}
    old, new = rows["runs/spec"], rows["runs/slower"]
    assert (old["stale"], old["source_now"], old["changed_keys"]) == (True, "changed", ["optimizer.lr"])
    assert (new["stale"], new["verdict"], new["next"]) == (False, None, "clipcal recommend runs/slower")
    assert old["max_norm"] == json.loads((project.run() / "recommendation.json").read_text())["max_norm"]
    assert (old["recorded"], old["status"], old["source"]) == (60, "complete", "spec.yaml")

    shown = clipcal("runs").ok()
    assert shown.stderr == ""
    assert "changed: optimizer.lr" in shown.stdout
    assert "`clipcal recommend runs/slower`" in shown.stdout
    assert "source since changed: optimizer.lr" in clipcal("runs", "--plain").ok().stdout

    assert "the spec differs in optimizer.lr." in clipcal("runs", "runs/spec", "runs/slower").ok().stdout
    both = clipcal("runs", "runs/spec", "runs/slower", "--json").ok().json()
    assert both["schema"] == "clipcal.runs/1"
    assert [row["path"] for row in both["runs"]] == ["runs/spec", "runs/slower"]
    assert both["comparison"]["settings"] == [{"field": "optimizer.lr", "a": 0.05, "b": 0.01}]
    assert both["comparison"]["same_source"] is False
    assert snapshot(project.folder / "runs") == before


def test_a_script_with_its_picked_optimizer_is_not_stale(clipcal_process: Clipcal, project: Project) -> None:
    script = project.code(SCRIPT, "train.py")
    clipcal_process("profile", "train.py", "-q", "--", "--lr", "0.1").ok()
    (row,) = clipcal_process("runs", "--json").ok().json()["runs"]
    assert (row["path"], row["source"], row["stale"]) == ("runs/train", "train.py --lr 0.1", False)
    script.write_text(SCRIPT.replace("range(30)", "range(40)"))
    (row,) = clipcal_process("runs", "--json").ok().json()["runs"]
    assert (row["stale"], row["source_now"]) == (True, "changed")


@pytest.mark.parametrize("make", [(), ("runs",)])
def test_without_a_run_it_says_what_to_do(clipcal: Clipcal, project: Project, make: tuple[str, ...]) -> None:
    for folder in make:
        (project.folder / folder).mkdir()
    shown = clipcal("runs").ok()
    assert shown.stdout.startswith(f"no runs in {make[0] if make else '.'}\n")
    assert "clipcal calibrate" in shown.stdout
    assert clipcal("runs", "--json").ok().json() == {
        "schema": "clipcal.runs/1",
        "folder": make[0] if make else ".",
        "runs": [],
    }


def test_what_is_refused(clipcal: Clipcal, project: Project) -> None:
    clipcal("runs", "runs/a", "runs/b", "runs/c").refused(
        "a folder, or two run directories", "3 were given", "clipcal runs runs"
    )
    clipcal("runs", "nowhere").refused("nowhere: no such folder")
    clipcal("runs", "spec.yaml").refused("is a file")
    clipcal("runs", ".", ".").refused("no run directory", "`clipcal runs .`")


def test_a_folder_whose_name_is_no_text(clipcal_process: Clipcal, project: Project) -> None:
    clipcal_process("profile", "spec.yaml", "-q").ok()
    try:
        os.rename(project.run(), os.fsencode(project.run()) + b"\xff")
    except OSError:
        pytest.skip("this file system takes no such name")
    (row,) = clipcal_process("runs", "--json").ok().json()["runs"]
    assert row["path"] == "runs/spec?"
    assert "runs/spec?" in clipcal_process("runs").ok().stdout


def test_five_hundred_runs_without_torch(clipcal: Clipcal, project: Project) -> None:
    clipcal("profile", "spec.yaml").ok()
    run = json.loads((project.run() / "run.json").read_text())
    for i in range(500):
        folder = project.folder / "runs" / f"r{i}"
        folder.mkdir()
        text = run["source"]["text"].replace("steps: 20", f"steps: 20\naccumulate: {i + 1}")
        other = {"source": run["source"] | {"text": text}, "fingerprint": f"sha256:{i}"}
        (folder / "run.json").write_text(json.dumps(run | other))
        (folder / "trace.jsonl").write_bytes((project.run() / "trace.jsonl").read_bytes())
    program = (
        "import sys\nfrom clipcal.cli.main import app\nsys.argv = ['clipcal', 'runs']\napp(standalone_mode=False)\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    answer = Answer(done.returncode, done.stdout, done.stderr).ok()
    table, _, remarks = answer.stdout.partition("\n\n")
    assert len(table.splitlines()) == 502
    assert table.count("  changed: accumulate") == 499  # the one with accumulate: 1 says what is the default
    assert len(remarks.splitlines()) == 7  # five by name, how many more, and what "changed" means
