"""Arms of a spec -> their traces, each a task of a Ray cluster that is there already: on any of its machines, again where one is lost."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clipcal.arms.executors.connection import connected
from clipcal.arms.executors.folders import digest_of, is_small, packed
from clipcal.arms.executors.remote import Board, Order, Outcome, arm_task
from clipcal.arms.pool import Arm, OnProgress, Progress
from clipcal.arms.trainers import ArmOptions
from clipcal.errors import InputError
from clipcal.run.directory import Run
from clipcal.run.files import write_whole
from clipcal.run.jsonfile import number
from clipcal.sources.ranks import ranks_here

RETRIES = 3
"""How often an arm is begun again whose process or machine was lost: Ray's own default for a task."""


class RayExecutor:
    """``jobs``: how many arms are in the cluster at a time, None for all of them, as it has room. ``arm_gpus``: the part of a GPU that an
    arm is given, where the run's device is one.

    What a worker has to be is what the run was profiled on, wherever clipcal itself is started.
    """

    same_machine = True

    def __init__(self, run: Run, options: ArmOptions) -> None:
        info = run.info
        if info.world_size > 1 or ranks_here() is not None:
            raise InputError(
                f"--executor ray: trains each arm in one process, and {run.folder} was profiled on {info.world_size} rank"
                f"{'s' * (info.world_size > 1)}{'' if ranks_here() is None else ', with torchrun around this verify'}. Leave --executor out."
            )
        self._info, self._jobs = info, options.jobs
        self.device = info.device.partition(":")[0]  # Ray gives every task a GPU of its own, its number 0
        self._needs = {"num_cpus": float(info.threads), "num_gpus": _gpus(self.device, options.arm_gpus)}
        self.machine: dict[str, str] = info.versions | {"platform": info.platform, "threads": str(info.threads)}
        with connected() as ray:
            _check_room(ray, self._needs)

    def train(self, arms: Sequence[tuple[Arm, Path]], *, steps: int, report: OnProgress) -> None:
        if not arms:
            return
        source = self._info.source
        folders = [Path(f) for f in dict.fromkeys((source.folder, source.cwd)) if Path(f).is_dir()]
        code = {str(f): digest_of(f) for f in folders}
        orders = [
            Order(
                source=source,
                arm=arm,
                steps=steps,
                device=self.device,
                threads=self._info.threads,
                machine=self.machine,
                code=code,
                cwd=str(Path.cwd()),
            )
            for arm, _ in arms
        ]
        with connected() as ray, contextlib.closing(_Work(ray, self._needs, folders)) as work:
            waiting = deque(zip(range(len(arms)), orders, strict=True))
            while waiting or work.running:
                while waiting and len(work.running) < (self._jobs or len(arms)):
                    work.begin(*waiting.popleft())
                ended = work.ended()
                for told in work.progress(orders):
                    report(told)
                for n, outcome in ended:
                    if outcome.error is None:
                        _keep(outcome.trace, *arms[n], steps, report)
                for _, outcome in ended:
                    if outcome.error is not None:
                        raise outcome.error


class _Work:
    """The tasks of some arms in a cluster. ``close`` ends those that are not done."""

    def __init__(self, ray: Any, needs: dict[str, float], folders: Sequence[Path]) -> None:
        self._ray = ray
        self.running: dict[Any, tuple[int, Arm]] = {}
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        self._board = ray.remote(num_cpus=0, max_restarts=-1)(Board).options(scheduling_strategy=here).remote()
        self._latest = self._board.latest.remote()
        self._told: dict[int, tuple[int, float]] = {}
        self._sent = [ray.put(packed(small))] if (small := [f for f in folders if is_small(f)]) else []
        self._task = ray.remote(
            max_retries=RETRIES,
            retry_exceptions=False,  # what the user's code raises, it would raise again
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(round(needs["num_cpus"]))}},
            **needs,
        )(arm_task)

    def begin(self, n: int, order: Order) -> None:
        self.running[self._task.remote(order, self._sent, n, self._board)] = (n, order.arm)

    def ended(self) -> list[tuple[int, Outcome]]:
        """The arms that have ended since, after a moment's wait."""
        done, _ = self._ray.wait(list(self.running), num_returns=len(self.running), timeout=0.5)
        return [(n, self._outcome(ref, arm)) for ref in done for n, arm in [self.running.pop(ref)]]

    def _outcome(self, ref: Any, arm: Arm) -> Outcome:
        failures = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(ref)
            return outcome
        except failures.RayTaskError as e:
            if "failed to import" not in str(e):
                raise
            why = (
                "A node of the Ray cluster cannot import clipcal. Install the same clipcal on every node, in the Python that `ray start` is "
                "run with."
            )
        except failures.RayError as e:
            why = (
                f"--executor ray: the arm {arm.name} of seed {arm.seed} was begun {RETRIES + 1} times and lost each time "
                f"({type(e).__name__}): its process was killed, most likely because the memory was full, or ended by itself, or its node went away. "
                "Arms that had finished are kept. Try --jobs 1."
            )
        return Outcome(error=InputError(why))

    def progress(self, orders: Sequence[Order]) -> Iterator[Progress]:
        """What has changed since. The board is asked and not waited for: nothing hangs on it."""
        ready, _ = self._ray.wait([self._latest], timeout=0)
        if not ready:
            return
        with contextlib.suppress(self._ray.exceptions.RayError):
            for n, told in self._ray.get(self._latest).items():
                if self._told.get(n) != told and any(n == running for running, _ in self.running.values()):
                    self._told[n] = told
                    yield Progress(arm=orders[n].arm, steps=told[0], loss=told[1])
        self._latest = self._board.latest.remote()

    def close(self) -> None:
        for ref in self.running:
            with contextlib.suppress(Exception):  # one that ended meanwhile
                self._ray.cancel(ref, force=True)


def _keep(trace: bytes, arm: Arm, path: Path, steps: int, report: OnProgress) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".partial").unlink(missing_ok=True)  # of a process that was killed here
    write_whole(path, trace)
    last = json.loads(trace.splitlines()[-1])
    report(Progress(arm=arm, steps=int(last["step"]) + 1, loss=number(last["loss"])))
    report(Progress(arm=arm, steps=steps, loss=float("nan"), done=True))


def _gpus(device: str, arm_gpus: float | None) -> float:
    if device != "cuda":
        if arm_gpus is not None:
            raise InputError(f"--arm-gpus {arm_gpus:g}: the run was profiled on {device}, so its arms need no GPU.")
        return 0.0
    if arm_gpus is not None and not 0 < arm_gpus <= 1:
        raise InputError(f"--arm-gpus {arm_gpus:g}: expected the part of a GPU that an arm is given, such as 0.5.")
    return 1.0 if arm_gpus is None else arm_gpus


def _check_room(ray: Any, needs: dict[str, float]) -> None:
    """A task that no node has room for would wait for ever."""
    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    have = [(float(r.get("CPU", 0)), float(r.get("GPU", 0))) for r in nodes]
    cpus, gpus = needs["num_cpus"], needs["num_gpus"]
    if not any(c >= cpus and g >= gpus for c, g in have):
        wanted = f"{cpus:g} CPU{'s' * (cpus != 1)}" + (f" and {gpus:g} GPU" if gpus else "")
        there = ", ".join(f"{c:g} and {g:g}" if gpus else f"{c:g}" for c, g in sorted(set(have), reverse=True)[:3])
        raise InputError(
            f"--executor ray: an arm needs {wanted} on one node, as its run had, and the nodes of the cluster have {there or 'none'}. Start one "
            f"with `ray start --num-cpus {cpus:g}`, or profile again with fewer --threads."
        )
