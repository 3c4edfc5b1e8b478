"""verify --executor ray, on a cluster of two nodes on this machine: the same arms as here, wherever they are trained and whatever is lost."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import Answer, Clipcal, Project, snapshot
from made_runs import spiky
from survey_samples import table, trainer_state

from clipcal.arms.executors.folders import digest_of, packed
from clipcal.arms.executors.remote import Order
from clipcal.arms.pool import Arm
from clipcal.run.directory import open_run

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs ray"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"),
]

WATCHED = """
import os, sys, time

def watched(seed=0):
    '''Says which node it is on. Waits in the middle, once, where it finds a file `hold`.'''
    with open("begun", "a") as f:
        f.write(f"{seed}\\n")
    if "ray" in sys.modules:
        open("node-" + sys.modules["ray"].get_runtime_context().get_node_id(), "w").close()
    for i, batch in enumerate(batches(seed=seed)):
        if seed == 1 and i == 25 and os.path.exists("hold"):
            os.rename("hold", f"held-{os.getpid()}")
            time.sleep(60)
        x, y = batch
        yield x, 20 * y if i == 6 else y  # above the threshold: an arm that clips nothing is not trained

def broken(seed=0):
    for i, batch in enumerate(watched(seed=seed)):
        if seed == 1 and i == 10:
            raise ValueError("a broken record")
        yield batch
"""
THREE_ARMS = ("--seeds", 2)
"""Beside the profile: the other unclipped one, and two that are clipped at the recommended threshold, which a step reaches."""
START = ("start", "--block", "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats")
ENDS_WITH_US = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # where the tests are killed, nobody else would end it
os.execv(sys.argv[1], sys.argv[1:])
"""


class Cluster:
    """Two nodes of one CPU each, each a session of its own: whatever comes of them is found by it, and ended."""

    def __init__(self, folder: Path) -> None:
        ports = [_free_port() for _ in range(3)]
        self.address = f"127.0.0.1:{ports[0]}"
        self._folder = folder
        self._log = (folder / "log").open("wb")
        self._nodes: list[subprocess.Popen[bytes]] = []
        head = ["--head", f"--port={ports[0]}", f"--ray-client-server-port={ports[1]}", f"--dashboard-port={ports[2]}"]
        try:
            self._start(*head, "--include-dashboard=false", f"--temp-dir={folder}")
            self._until(lambda: _answers(ports[0]))
            self._start(f"--address={self.address}")
            self._until(lambda: sum(b"raylet/raylet" in _command(pid).split(b"\0")[0] for pid in self.left()) == 2)
        except BaseException:
            self.end()
            raise

    def _start(self, *options: str) -> None:
        node = subprocess.Popen(
            [sys.executable, "-c", ENDS_WITH_US, Path(sys.executable).with_name("ray"), *START, *options],
            env=os.environ | {"TMPDIR": str(self._folder), "RAY_prestart_worker_first_driver": "0"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._nodes.append(node)

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, Path(self._log.name).read_text()
            time.sleep(0.1)

    def left(self) -> list[int]:
        """The processes of the cluster that run."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
                if int(session) in [node.pid for node in self._nodes] and state != "Z":
                    found.append(int(stat.parent.name))
        return found

    def tasks(self) -> list[int]:
        """The processes that train, or wait for more of the same work."""
        titles = {pid: _command(pid) for pid in self.left()}
        return [pid for pid, title in titles.items() if title.startswith(b"ray::") and b"Agent" not in title]

    def end(self) -> None:
        deadline = time.monotonic() + 30
        while pids := self.left():
            for pid in pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < deadline, f"cannot be ended: {pids}"
            time.sleep(0.05)
        for node in self._nodes:
            node.wait(timeout=10)
        self._log.close()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(
        tempfile.mkdtemp(prefix="ray-")
    )  # a socket's path is 107 bytes at most, and pytest's folders are deep
    try:
        made = Cluster(folder)
        yield made
        made.end()
        assert made.left() == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def run(project: Project, clipcal: Clipcal) -> Path:
    """A recorded run whose arms say where they are trained."""
    project.code(WATCHED)
    project.spec(data={"_target_": "toy.watched"}, steps=30)
    clipcal("profile", "spec.yaml", "--threads", 1).ok()
    (project.folder / "begun").unlink()
    return project.run()


def arms_of(run: Path) -> dict[str, bytes]:
    """What is in the folder of the arms, but for the one thing that is not the same twice."""
    return {name: re.sub(rb'"seconds": [^,}]+', b"", text) for name, text in snapshot(run / "arms").items()}


def begun(project: Project) -> dict[int, int]:
    """How often arms of a seed were begun."""
    seeds = (project.folder / "begun").read_text().split()
    return {int(seed): seeds.count(seed) for seed in seeds}


# Where there is a cluster


def test_arms_spread_over_nodes_and_a_killed_one_is_trained_again_to_the_same_result(
    project: Project, clipcal: Clipcal, environment: dict[str, str], cluster: Cluster, run: Path
) -> None:
    here = project.run("here")
    shutil.copytree(run, here)
    expected = clipcal("verify", "runs/here", *THREE_ARMS)
    (project.folder / "begun").unlink()
    (project.folder / "hold").touch()
    started = start(project, environment, cluster, *THREE_ARMS)
    try:
        wait_for(started, lambda: len(list(project.folder.glob("node-*"))) == 2 and held(project) is not None)
        os.kill(held(project) or 0, signal.SIGKILL)
        stdout, stderr = started.communicate(timeout=60)
    finally:
        end(started)
    assert started.returncode == expected.code, stderr
    assert stdout == expected.stdout.replace("runs/here", "runs/spec")
    assert begun(project) == {0: 1, 1: 3}, "the arm of seed 1 that was killed has begun once more"
    assert sorted(stderr.splitlines()) == sorted(expected.stderr.splitlines()), "said as it is here"
    assert arms_of(run) == arms_of(here)
    assert (run / "verification.json").read_bytes() == (here / "verification.json").read_bytes()


def test_what_the_users_code_raises_is_told_as_it_is_here_and_not_tried_again(
    project: Project, clipcal: Clipcal, clipcal_process: Clipcal, environment: dict[str, str], cluster: Cluster
) -> None:
    file = project.code(WATCHED)
    project.spec(data={"_target_": "toy.broken"})
    clipcal("profile", "spec.yaml", "--threads", 1).ok()
    environment["RAY_ADDRESS"] = cluster.address
    answer = clipcal_process("verify", "runs/spec", *THREE_ARMS, "--executor", "ray", "--jobs", 1)
    answer.blamed_user(
        "The data raised ValueError", "a broken record", file=file, line='raise ValueError("a broken record")'
    )
    assert begun(project) == {0: 2, 1: 1}, "the profile, the arm of seed 0, and one of seed 1"
    assert [path.name[-11:] for path in (project.run() / "arms").glob("*.jsonl")] == ["seed0.jsonl"]


def test_ctrl_c_keeps_the_finished_arms_and_leaves_no_task(
    project: Project, environment: dict[str, str], cluster: Cluster, run: Path
) -> None:
    (project.folder / "hold").touch()
    started = start(project, environment, cluster, *THREE_ARMS)
    try:
        wait_for(started, lambda: held(project) is not None and any(run.glob("arms/*-seed0.jsonl")))
        os.killpg(started.pid, signal.SIGINT)
        stdout, stderr = started.communicate(timeout=60)
    finally:
        end(started)
    assert started.returncode == 130, stderr
    assert stdout == ""
    assert "keeps the profile and the arms that had ended" in stderr
    assert "Traceback" not in stderr
    assert any(run.glob("arms/*-seed0.jsonl"))
    assert not any(run.glob("arms/*.partial"))
    deadline = time.monotonic() + 10
    while cluster.tasks() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert cluster.tasks() == []


def test_a_node_that_is_not_what_the_run_was_profiled_on_is_refused(
    clipcal_process: Clipcal, environment: dict[str, str], cluster: Cluster, run: Path
) -> None:
    info = json.loads((run / "run.json").read_text())
    info["versions"]["torch"] = "2.0.0"
    (run / "run.json").write_text(json.dumps(info))
    environment["RAY_ADDRESS"] = cluster.address
    answer = clipcal_process("verify", "runs/spec", *THREE_ARMS, "--executor", "ray", "--jobs", 1, "--quiet")
    answer.refused(f"The Ray node {socket.gethostname()} (", "instead of 2.0.0", "profile again on the cluster")


def test_an_arm_that_no_node_has_room_for_is_refused(
    clipcal_process: Clipcal, environment: dict[str, str], cluster: Cluster, run: Path
) -> None:
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"threads": 3}))
    environment["RAY_ADDRESS"] = cluster.address
    answer = clipcal_process("verify", "runs/spec", *THREE_ARMS, "--executor", "ray")
    answer.refused("an arm needs 3 CPUs on one node", "--num-cpus 3", "--threads")


def held(project: Project) -> int | None:
    """The process of the arm that waits in the middle."""
    return next((int(path.name.removeprefix("held-")) for path in project.folder.glob("held-*")), None)


def start(project: Project, environment: dict[str, str], cluster: Cluster, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clipcal", "verify", "runs/spec", "--executor", "ray", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=project.folder,
        env=environment | {"RAY_ADDRESS": cluster.address},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(started: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.05)


def end(started: subprocess.Popen[str]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(started.pid, signal.SIGKILL)
    started.communicate()


# Where there is none, or no way to use it


def test_without_a_cluster_it_says_how_to_start_one_and_drops_nothing(
    clipcal: Clipcal, clipcal_process: Clipcal, environment: dict[str, str], run: Path
) -> None:
    (run / "arms").mkdir()
    (run / "arms" / "max_norm=4-seed0.jsonl").write_bytes((run / "trace.jsonl").read_bytes())
    environment["RAY_ADDRESS"] = f"127.0.0.1:{_free_port()}"
    answer = clipcal_process("verify", "runs/spec", *THREE_ARMS, "--executor", "ray", "--force")
    answer.refused("there is no Ray cluster", "ray start --head", "RAY_ADDRESS=127.0.0.1")
    assert (run / "arms" / "max_norm=4-seed0.jsonl").exists()


def test_without_the_package_it_names_the_extra(
    project: Project, clipcal_process: Clipcal, environment: dict[str, str], run: Path
) -> None:
    project.code("raise ImportError('as where it is not installed')", "missing/ray/__init__.py")
    environment["PYTHONPATH"] = str(project.folder / "missing")
    answer = clipcal_process("verify", "runs/spec", *THREE_ARMS, "--executor", "ray")
    answer.refused("pip install 'clipcal[ray]'")


def test_what_cannot_be_spread_is_refused(clipcal: Clipcal, run: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    ray = ("verify", "runs/spec", *THREE_ARMS, "--executor", "ray")
    (run / "run.json").write_text(json.dumps(info | {"source": info["source"] | {"kind": "script"}}))
    clipcal(*ray).refused("was made from a script", "Leave --executor out", "write a spec")
    (run / "run.json").write_text(json.dumps(info | {"world_size": 2}))
    clipcal(*ray).refused("one process", "2 ranks", "Leave --executor out")
    (run / "run.json").write_text(json.dumps(info))
    clipcal(*ray, "--arm-gpus", 0.5).refused("--arm-gpus 0.5", "profiled on cpu")
    clipcal(*ray[:-2], "--arm-gpus", 0.5).refused("--arm-gpus", "--executor ray")
    clipcal(*ray[:-1], "slurm").refused("--executor slurm", "local or ray")


# What a node does that does not have the code


def test_code_is_sent_to_a_node_without_it(
    project: Project, clipcal: Clipcal, environment: dict[str, str], run: Path
) -> None:
    """In another process and with the folder moved away: what Ray adds is the way there."""
    clipcal("verify", "runs/spec", "--max-norm", 4, "--seeds", 1)
    info = open_run(run).info
    (project.folder / "weights.bin").write_bytes(b"data")
    orders = [
        Order(
            source=info.source.changed(text=info.source.text.replace("toy.watched", factory)),
            arm=Arm(name="max_norm=4", max_norm=4.0, seed=seed),
            steps=info.steps,
            device="cpu",
            threads=1,
            machine=info.versions | {"platform": info.platform},
            code={str(project.folder): digest_of(project.folder)},
            cwd=str(project.folder),
        )
        for factory, seed in (("toy.watched", 0), ("toy.broken", 1))
    ]
    sent = packed([project.folder])
    assert b"weights.bin" not in sent
    assert b"trace.jsonl" not in sent
    away = project.folder.rename(project.folder.with_name("away"))
    try:
        done = subprocess.run(
            [sys.executable, "-c", THERE],
            input=pickle.dumps((orders, sent)),
            cwd="/",
            env=environment | {"TMPDIR": str(away)},
            capture_output=True,
            check=True,
        )
    finally:
        away.rename(project.folder)
    trained, failed = pickle.loads(done.stdout)
    assert trained.error is None
    assert re.sub(rb'"seconds": [^,}]+', b"", trained.trace) == arms_of(run)["max_norm=4-seed0.jsonl"]
    told = Answer(failed.error.exit_code, "", f"{failed.error.user_traceback}\nerror: {failed.error}")
    told.blamed_user("a broken record", file=project.folder / "toy.py", line='raise ValueError("a broken record")')


THERE = """
import pickle, sys
from clipcal.arms.executors.remote import train_there
orders, sent = pickle.load(sys.stdin.buffer)
outcomes = [train_there(order, "node", lambda: sent, lambda progress: None) for order in orders]
sys.stdout.buffer.write(pickle.dumps(outcomes))
"""


def test_a_survey_reads_the_same_rows_in_the_cluster(
    clipcal_process: Clipcal, environment: dict[str, str], project: Project, cluster: Cluster
) -> None:
    table(project.folder / "team" / "a.csv", spiky())
    trainer_state(project.folder / "team" / "b" / "checkpoint-400", spiky(), 0.3)
    (project.folder / "team" / "b" / "broken.log").touch()
    here = clipcal_process("survey", "team", "--json")
    environment["RAY_ADDRESS"] = cluster.address
    there = clipcal_process("survey", "team", "--json", "--executor", "ray")
    assert (there.code, there.stdout) == (here.code, here.stdout)
    assert here.code == 3
    assert [row["group"] for row in here.json()["rows"]] == ["does_not_fit", "unguarded", "unreadable"]
