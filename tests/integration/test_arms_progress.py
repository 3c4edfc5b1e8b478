"""What is told of arms that train in processes of their own."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from queue import Queue

from conftest import Project

from clipcal.arms import pool as module
from clipcal.arms.pool import Arm, Progress, arm_name, train_arms
from clipcal.sources.spec import load_spec


def test_every_arm_is_told_to_its_end(project: Project, tmp_path: Path) -> None:
    arms = [Arm(name=arm_name(t), max_norm=t, seed=0) for t in (None, 0.5, 1.0)]
    told: list[Progress] = []
    planned = [(arm, tmp_path / f"{arm.name}.jsonl") for arm in arms]
    train_arms(
        load_spec("spec.yaml").source(), planned, steps=20, device="cpu", threads=1, jobs=2, on_progress=told.append
    )
    assert {p.arm for p in told if p.done} == set(arms)
    assert {p.arm: p.steps for p in told if not p.done} == dict.fromkeys(arms, 20)


def test_what_an_arm_told_last_may_come_after_its_result() -> None:
    """Another thread of the worker sends it, on a busy machine a while later: a curve would lack its arm."""
    arm = Arm(name="max_norm=1", max_norm=1.0, seed=0)
    queue: Queue[Progress] = Queue()
    untold, told = {arm}, []

    def report(progress: Progress) -> None:
        told.append(progress)
        if progress.done:
            untold.discard(progress.arm)

    def late() -> None:
        for done in (False, True):
            time.sleep(0.3)
            queue.put(Progress(arm=arm, steps=20, loss=1.0, done=done))

    threading.Thread(target=late).start()
    module._hear_out(queue, report, untold)
    assert [p.done for p in told] == [False, True]
