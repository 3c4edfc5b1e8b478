"""`clipcal survey` over a folder as a team has it: every log and run in a row, the worst first."""

from __future__ import annotations

import csv
import io
import os
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from conftest import Clipcal, Project, snapshot
from made_runs import make_run, quiet, spiky
from survey_samples import table, trainer_state


@pytest.fixture
def team(project: Project) -> Path:
    """Two trainings of Trainer, one of them braked; a table, a TensorBoard run, a run of clipcal's, a broken file, a picture."""
    folder = project.folder / "team"
    trainer_state(folder / "braked" / "checkpoint-200", spiky(200), 0.3)
    trainer_state(folder / "braked" / "checkpoint-400", spiky(), 0.3)
    trainer_state(folder / "good" / "checkpoint-400", spiky(), 3.0)
    table(folder / "table" / "metrics.csv", quiet())
    make_run(folder / "run", spiky(), name="mine", in_use=1.0e4)
    broken = folder / "broken" / "trainer_state.json"
    broken.parent.mkdir()
    broken.write_text('{"log_history": [{"st')
    (folder / "loss.png").write_bytes(b"\x89PNG\r\n")
    (folder / "train.py").write_text("grad_norm = 1.0\n")
    return folder


def test_the_worst_stands_first(clipcal: Clipcal, team: Path) -> None:
    before = snapshot(team)
    answer = clipcal("survey", "team", "--json")
    assert answer.code == 3
    assert answer.stderr == ""
    found = answer.json()
    rows = found["rows"]
    assert found["schema"] == "clipcal.survey/1"
    assert [(row["name"], row["group"], row["state"]) for row in rows] == [
        ("braked", "does_not_fit", "too low"),
        ("mine", "does_not_fit", "too high"),
        ("good", "fits", "fits"),
        ("table", "not_known", "none known"),
        ("broken", "unreadable", None),
    ]
    assert found["counts"] == {
        "does_not_fit": 2,
        "unguarded": 0,
        "borderline": 0,
        "fits": 1,
        "not_known": 1,
        "unreadable": 1,
    }
    assert found["passed_over"] == {"other": 2, "content": 3, "older": 1, "links": 0, "folders": 0}
    assert [row["in_use"] for row in rows] == [0.3, 1.0e4, 3.0, None, None]
    assert rows[0]["path"] == "team/braked/checkpoint-400/trainer_state.json"
    assert snapshot(team) == before, "a survey writes nothing"
    for row in rows[:3]:
        assert clipcal("check", row["path"], "--json").json()["fits"] == row["fits"]
        assert clipcal("recommend", row["path"], "--json").json()["max_norm"] == row["max_norm"]


def test_a_tensorboard_folder_is_a_row(clipcal: Clipcal, team: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    writer = tensorboard.SummaryWriter(str(team / "tb"))
    for step, norm in enumerate(spiky().tolist()):
        writer.add_scalar("train/grad_norm", norm, step)
    writer.close()
    rows = clipcal("survey", "team/tb", "team/good", "--json").ok().json()["rows"]
    assert [(row["path"], row["group"], row["spikes"]) for row in rows] == [
        ("team/tb", "unguarded", 7),
        ("team/good/checkpoint-400/trainer_state.json", "fits", 7),
    ]


def test_all_forms_show_the_same_rows(clipcal: Clipcal, team: Path) -> None:
    shown = clipcal("survey", "team", "--csv", "all.csv", "--html", "all.html")
    assert shown.code == 3
    assert shown.stderr == "wrote all.csv\nwrote all.html\n"
    lines = shown.stdout.splitlines()
    assert lines[0] == "5 logs and runs: 2 do not fit, 1 fits, 1 not known, 1 unreadable"
    assert lines[3].split()[:2] == ["too", "low"]
    assert any("team/broken/trainer_state.json" in line and "is not valid JSON" in line for line in lines)
    assert "1 older checkpoint of the same training" in lines[-1]
    written = list(csv.DictReader(io.StringIO(Path("all.csv").read_text())))
    rows = clipcal("survey", "team", "--json").json()["rows"]
    assert [line["path"] for line in written] == [row["path"] for row in rows]
    assert [line["fits"] for line in written] == ["false", "false", "true", "", ""]
    assert clipcal("survey", "team", "--csv", "-").stdout == Path("all.csv").read_text()
    page = Path("all.html").read_text()
    assert all(row["path"] in page for row in rows)
    spoken = clipcal("survey", "team", "--plain").stdout.splitlines()
    assert spoken[0] == lines[0]
    assert spoken[1].startswith(
        "team/braked/checkpoint-400/trainer_state.json: threshold in use 0.3, too low, acts on 100%"
    )


def test_a_long_list_is_cut_where_nobody_asked_for_all(clipcal: Clipcal, project: Project) -> None:
    for n in range(53):
        table(project.folder / "many" / f"{n}.csv", quiet(60, n))
    assert "and 3 rows more; --all shows them" in clipcal("survey", "many").ok().stdout
    assert "more;" not in clipcal("survey", "many", "--all").ok().stdout


def test_what_stands_in_a_log_cannot_drive_the_page_or_the_spreadsheet(clipcal: Clipcal, project: Project) -> None:
    name = "=1+1<script>alert(1)</script>\x1b[2J"
    table(project.folder / "odd" / f"{name.replace('/', '_')}.csv", quiet())
    shown = clipcal("survey", "odd", "--html", "odd.html", "--csv", "odd.csv").ok()
    assert "\x1b" not in shown.stdout
    page = Path("odd.html").read_text()
    assert "<script" not in page
    (line,) = csv.DictReader(io.StringIO(Path("odd.csv").read_text()))
    assert line["name"].startswith("'=1+1")


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_a_name_that_is_no_text_is_shown_in_every_form(clipcal: Clipcal, project: Project) -> None:
    table(project.folder / "odd" / os.fsdecode(b"\xff.csv"), quiet())
    clipcal("survey", "odd", "--html", "odd.html", "--csv", "odd.csv").ok()
    assert clipcal("survey", "odd", "--json").ok().json()["rows"][0]["path"] == "odd/?.csv"
    assert "odd/?.csv" in Path("odd.csv").read_text()
    assert "odd/?.csv" in Path("odd.html").read_text()
    assert clipcal("survey", "odd", "--plain").ok().stdout.splitlines()[1].startswith("odd/?.csv: ")


def test_a_file_of_others_is_kept(clipcal: Clipcal, team: Path) -> None:
    for option, name in (("--csv", "mine.csv"), ("--html", "mine.html")):
        Path(name).write_text("mine")
        clipcal("survey", "team", option, name).refused(name, "is there already", "--force")
        assert Path(name).read_text() == "mine"
        assert clipcal("survey", "team", option, name, "--force").code == 3
        assert clipcal("survey", "team", option, name).code == 3, "its own is written again"


def test_bad_usage(clipcal: Clipcal, team: Path) -> None:
    clipcal("survey", "taem").refused("taem", "no such folder", "Did you mean 'team'")
    clipcal("survey", "team", "--executor", "rey").refused("--executor rey", "local or ray", "'ray'")
    clipcal("survey", "team", "--csv", "-", "--json").refused("--csv -", "--json")
    clipcal("survey", "team", "--csv", "no/where.csv").refused("there is no folder 'no'")
    assert clipcal("survey").code == 2


def test_nothing_there_is_no_error(clipcal: Clipcal, project: Project) -> None:
    (project.folder / "empty").mkdir()
    assert clipcal("survey", "empty").ok().stdout == "no log and no run\n"
    assert clipcal("survey", "empty", "--json").ok().json()["rows"] == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_ctrl_c_ends_it_at_once_with_its_workers(project: Project) -> None:
    for n in range(40):
        table(project.folder / "many" / f"{n}.csv", spiky(20_000, n))
    command = [sys.executable, "-m", "clipcal", "survey", "many", "--jobs", "2"]
    process = Popen(command, cwd=project.folder, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True)
    while len(_session(process.pid)) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "stopped\n")
    assert not _session(process.pid)


def _session(session: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
