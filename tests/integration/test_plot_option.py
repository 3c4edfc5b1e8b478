"""--plot, as a user calls it: what is written, what is refused before anything is read or trained, and what is kept."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from conftest import Clipcal, Project, snapshot

pytest.importorskip("matplotlib")

RNG = np.random.default_rng(0)
NORMS = np.exp(RNG.normal(0.0, 0.2, 400))
NORMS[[100, 200, 333]] = 20.0


@pytest.fixture
def log(project: Project) -> Path:
    path = project.folder / "log.jsonl"
    rows = ({"step": i, "grad_norm": float(n), "loss": 3.0 - i / 400} for i, n in enumerate(NORMS))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def words(svg: Path) -> list[str]:
    return ["".join(node.itertext()) for node in ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(
    ("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_recommend_draws_and_answers_the_same(clipcal: Clipcal, log: Path, suffix: str, begins: bytes) -> None:
    without = clipcal("recommend", log).ok()
    answer = clipcal("recommend", log, "--plot", f"norms{suffix}").ok()
    assert answer.stdout == without.stdout
    assert answer.stderr == f"wrote norms{suffix}\n"
    assert Path(f"norms{suffix}").read_bytes().startswith(begins)


def test_json_and_snippets_stay_alone_on_stdout(clipcal: Clipcal, log: Path) -> None:
    assert clipcal("recommend", log, "--json", "--plot", "a.svg").ok().json()["verdict"] == "spikes"
    snippet = clipcal("recommend", log, "--for", "pytorch", "--plot", "b.svg", "-q").ok()
    assert snippet.stdout == clipcal("recommend", log, "--for", "pytorch").stdout
    assert snippet.stderr == ""
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()


def test_check_marks_the_threshold_in_use(clipcal: Clipcal, log: Path) -> None:
    answer = clipcal("check", log, "--max-norm", "0.5", "--plot", "check.svg")
    assert answer.code == 3
    assert answer.stderr == "wrote check.svg\n"
    found = words(Path("check.svg"))
    assert "in use 0.5" in found
    assert "max_norm 0.5 does not fit" in found
    assert sum(text.endswith(", brake") for text in found) == 4


def test_a_run_has_its_layers_and_is_verified(clipcal: Clipcal, project: Project) -> None:
    clipcal("profile", project.spec(steps=40), "-q").ok()
    run = project.run()
    clipcal("recommend", run, "--plot", "run.svg")
    assert {"inner", "outer"} & {text.split(".")[0] for text in words(Path("run.svg"))}
    answer = clipcal("verify", run, "--max-norm", "0.5", "--seeds", "2", "--json", "-q", "--plot", "verify.svg")
    verdict = answer.json()["verdict"].replace("_", " ")
    assert answer.stderr == ""
    found = words(Path("verify.svg"))
    assert any(text.endswith(f": {verdict}") for text in found)
    assert {"unclipped", "max_norm=0.5"} <= set(found)


def nothing_done(folder: Path, before: dict[str, bytes]) -> None:
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("norms.jpg", [".png", ".svg", ".pdf", "'.jpg'"]),
        ("norms", [".png", ".svg", ".pdf", "no suffix"]),
        ("missing/norms.png", ["no folder", "'missing'"]),
        ("log.jsonl/norms.png", ["is no folder"]),
        ("folder.png", ["is a folder", "folder.png/norms.svg"]),
        ("photo.png", ["clipcal did not write it", "Name another file"]),
        ("x" * 300 + ".png", ["cannot be written"]),
    ],
)
@pytest.mark.parametrize("command", ["recommend", "check"])
def test_what_cannot_be_drawn_is_said_first(
    clipcal: Clipcal, project: Project, log: Path, command: str, name: str, expected: list[str]
) -> None:
    (project.folder / "folder.png").mkdir()
    (project.folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\nmine")
    before = snapshot(project.folder)
    clipcal(command, "there-is-no-such.log", "--plot", name).refused("--plot", *expected)
    nothing_done(project.folder, before)


def test_verify_refuses_before_it_trains(clipcal: Clipcal, project: Project) -> None:
    clipcal("profile", project.spec(steps=40), "-q").ok()
    before = snapshot(project.folder)
    clipcal("verify", project.run(), "--max-norm", "1", "--plot", "missing/v.svg").refused("no folder 'missing'")
    nothing_done(project.folder, before)


def test_our_own_picture_is_replaced(clipcal: Clipcal, log: Path) -> None:
    clipcal("recommend", log, "--plot", "a.pdf").ok()
    first = Path("a.pdf").read_bytes()
    assert clipcal("check", log, "--max-norm", "3", "--plot", "a.pdf").ok().stderr == "wrote a.pdf\n"
    assert Path("a.pdf").read_bytes() != first
    assert clipcal("recommend", log, "--plot", "a.pdf").ok()
    assert Path("a.pdf").read_bytes() == first


def test_follow_draws_no_picture(clipcal: Clipcal, log: Path) -> None:
    clipcal("check", log, "--follow", "--plot", "a.svg").refused("--follow", "--plot")


def test_without_matplotlib_the_extra_is_named(
    clipcal: Clipcal, monkeypatch: pytest.MonkeyPatch, project: Project
) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for command in ("recommend", "check", "verify"):
        clipcal(command, "there-is-no-such.log", "--plot", "a.svg").refused("pip install 'clipcal[plots]'")
    clipcal("recommend", "there-is-no-such.log", "--plot", "a.jpg").refused(".svg")


def test_matplotlib_is_loaded_for_a_picture_alone(project: Project, log: Path, environment: dict[str, str]) -> None:
    program = (
        "import sys\nfrom clipcal.cli.main import app\nsys.argv = ['clipcal', *sys.argv[1:]]\n"
        "try:\n    app(standalone_mode=False)\nexcept SystemExit:\n    pass\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules, 'torch' in sys.modules, file=sys.stderr)"
    )

    def loaded(*args: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, "recommend", str(log), "--json", *args],
            cwd=project.folder, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stderr.strip().splitlines()[-1]

    assert loaded() == "False False False"
    assert loaded("--plot", "a.svg") == "True False False"


def test_the_users_settings_and_display_do_not_matter(
    clipcal_process: Clipcal, project: Project, log: Path, environment: dict[str, str]
) -> None:
    clipcal_process("recommend", log, "--plot", "a.svg").ok()
    (project.folder / "matplotlibrc").write_text("font.size: 30\nsvg.fonttype: path\nbackend: tkagg\naxes.grid: True\n")
    environment.pop("DISPLAY", None)
    clipcal_process("recommend", log, "--plot", "b.svg").ok()
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="root may write everywhere")
def test_a_file_that_cannot_be_whole_is_not_there(clipcal_process: Clipcal, project: Project, log: Path) -> None:
    import resource

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    answer = clipcal_process("recommend", log, "--plot", "a.png", preexec_fn=small_files)
    assert answer.code == 2
    assert re.search(r"--plot a\.png: cannot be written \(File too large\).*Free some space", answer.stderr)
    assert sorted(p.name for p in project.folder.iterdir() if p.name.startswith((".clipcal", "a."))) == []
