"""A run that was made from a script -> further arms of it, run one after another: they would write to the same files."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clipcal.arms.pool import Arm, OnProgress, grown
from clipcal.arms.trainers import ArmOptions
from clipcal.errors import InputError, UserCodeError
from clipcal.run.directory import Run
from clipcal.run.step import repeats
from clipcal.run.trace import read_trace
from clipcal.scripts.child.session import Config
from clipcal.scripts.running import ended, hint, run
from clipcal.sources.script import SEED, from_source
from clipcal.training.patience import Patience, is_finite

SELF_TEST = 10
"""Steps that are run again to see whether the script repeats."""
SHOWN = 40
"""Lines of a failed arm's output."""


class ScriptTrainer:
    """Before the first arm, the beginning of the profile is run once more: a script that does not repeat cannot be compared with
    itself. Other options than those of one arm at a time, here, are refused."""

    def __init__(self, run: Run, options: ArmOptions) -> None:
        if options.executor != "local":
            raise InputError(
                f"--executor {options.executor}: {run.folder} was made from a script, which runs from its own folder, with its own launcher "
                "and beside its own files. Leave --executor out, or write a spec of the training (`clipcal init`)."
            )
        if options.arm_gpus is not None:
            raise InputError("--arm-gpus is for --executor ray; a script picks its own devices.")
        if options.jobs not in (None, 1):
            raise InputError(
                "--jobs: the arms of a script are run one after another, since they write to the same files."
            )
        info = run.info
        self._run, self._script = run, from_source(info.source, record=run.folder / "run.json")
        self._first_seed = info.seeds[0]
        self.device = info.device
        self.same_machine = info.platform.startswith(platform.platform())
        self.machine = info.versions | {"platform": platform.platform(), "threads": str(info.threads)}
        self._tested = False

    def train(self, arms: Sequence[tuple[Arm, Path]], *, steps: int, report: OnProgress) -> None:
        if arms and self.same_machine and not self._tested:
            self._test(min(SELF_TEST, steps))
            self._tested = True
        # the unclipped ones first: they show whether seeds make a difference
        for arm, path in sorted(arms, key=lambda pair: pair[0].max_norm is not None):
            self._train(arm, path, steps, report)
            if arm.max_norm is None and arm.lr_scale == 1.0 and arm.seed != self._first_seed:
                self._check_seed(arm, path)

    def _test(self, steps: int) -> None:
        known = read_trace(self._run.trace).grad_norm[:steps]
        seen: list[float] = []
        script = replace(self._script, steps=steps)
        log = self._run.folder / "arms" / "self-test.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            run(
                script,
                Config(steps=steps, optimizer=script.optimizer),
                seed=self._first_seed,
                on_rows=lambda gathering, found, rows: seen.extend(s.grad_norm for s in found),
                output=output,
            )
        for step, (was, is_now) in enumerate(zip(known, seen, strict=False)):
            if not repeats(was, is_now, step=step, device=self.device):
                raise InputError(
                    f"{script.path} does not repeat: the grad norm of step {step} was {was:.9g} and is {is_now:.9g} now, so clipped and "
                    "unclipped training cannot be compared. Set its seeds (torch.manual_seed, numpy's, Python's), and look for what is "
                    "another one each time: a checkpoint that it goes on from, the time, the order of files. The recommendation stands."
                )
        log.unlink(missing_ok=True)

    def _check_seed(self, arm: Arm, path: Path) -> None:
        """Arms of another seed that are the same training would make an interval of no width."""
        first, other = read_trace(self._run.trace), read_trace(path)
        n = min(len(first), len(other), 3)
        if (first.grad_norm[:n] == other.grad_norm[:n]).all() and (first.loss[:n] == other.loss[:n]).all():
            path.unlink()
            raise InputError(
                f"{self._script.path} trains the same with seed {arm.seed} as with seed {self._first_seed}: it takes its randomness from "
                f"elsewhere. Write {SEED} where its arguments name the seed, or compare one seed with --seeds 1."
            )

    def _train(self, arm: Arm, path: Path, steps: int, report: OnProgress) -> None:
        log = path.with_suffix(".log")
        patience = Patience(give_up=True)
        script = replace(self._script, steps=steps)
        with grown(arm, path, steps, report) as growing:
            with log.open("wb") as output:
                ending = run(
                    script,
                    Config(steps=steps, optimizer=script.optimizer, max_norm=arm.max_norm, lr_scale=arm.lr_scale),
                    seed=arm.seed,
                    on_rows=lambda gathering, found, rows: growing.write(found, rows),
                    patience=patience,
                    output=output,
                )
            if patience.gone_at is None and ending.failed and (growing.last is None or is_finite(growing.last)):
                assert ending.code is not None
                text = log.read_text(encoding="utf-8", errors="replace").splitlines()
                raise UserCodeError(
                    f"`{script.shown()}` {ended(ending.code)} after {ending.steps} of {steps} steps, as the arm {arm.name} of seed {arm.seed}; "
                    f"its output is in {log}.{hint(script)}",
                    "\n".join(text[-SHOWN:]),
                )
            log.unlink(missing_ok=True)
