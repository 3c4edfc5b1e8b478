"""A tiny script of our own, run as ``clipcal profile`` runs a user's -> whether what was recorded of it is true."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipcal.errors import ClipcalError, UserCodeError
from clipcal.run.step import Step

STEPS = 8
NEAR = 1e-5
"""Relative: the script sums in another order than clipcal does."""

SCRIPT = f'''\
"""Trains for {STEPS} steps, and writes the norm of every one as it computes it itself. Its own clipping would act on all."""
import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with open("norms.txt", "w") as norms:
    for step in range({STEPS}):
        x = torch.randn(16, 4)
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True)).pow(2).mean().backward()
        squares = [float(element) ** 2 for p in model.parameters() for element in p.grad.flatten()]
        print(sum(squares) ** 0.5, file=norms, flush=True)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-6)
        optimizer.step()
'''
"""Only what every torch has, in plain words: a failure is to be clipcal's, or this machine's."""


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """``status``: ``passed``, ``failed`` or ``skipped``; ``reason`` says why where it did not pass."""

    status: str
    reason: str | None = None
    steps: int = 0
    seconds: float = 0.0


def run_self_test() -> SelfTest:
    """Takes as long as a Python process needs to import torch."""
    from clipcal.scripts.child.session import Config
    from clipcal.scripts.running import run
    from clipcal.sources.script import from_words

    began = time.perf_counter()
    recorded: list[float] = []

    def take(gathering: Any, steps: Sequence[Step], rows: Any) -> None:
        recorded.extend(step.grad_norm for step in steps)

    with tempfile.TemporaryDirectory(prefix="clipcal-doctor-") as name:
        folder = Path(name)
        (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
        try:
            script = from_words(["train.py"], cwd=folder, steps=STEPS, threads=1)
            with (folder / "output.txt").open("wb") as output:
                run(script, Config(steps=STEPS), seed=0, on_rows=take, output=output)
            computed = [float(line) for line in (folder / "norms.txt").read_text(encoding="utf-8").split()]
        except UserCodeError as e:  # it is our own code here, and its output names the fault
            return SelfTest(status="failed", reason=f"{e.message} {_last_line(folder / 'output.txt')}".strip())
        except (ClipcalError, OSError, ValueError) as e:
            return SelfTest(status="failed", reason=str(e))
    reason = difference(recorded, computed)
    seconds = time.perf_counter() - began
    return SelfTest(
        status="passed" if reason is None else "failed", reason=reason, steps=len(recorded), seconds=seconds
    )


def difference(recorded: Sequence[float], computed: Sequence[float]) -> str | None:
    """In which step they are apart; None where they are the same norms."""
    if len(recorded) != STEPS or len(computed) != STEPS:
        return f"{len(recorded)} of {STEPS} steps were recorded, and the script made {len(computed)}."
    for step, (norm, true) in enumerate(zip(recorded, computed, strict=True)):
        if not math.isclose(norm, true, rel_tol=NEAR):
            return f"the norm of step {step} was recorded as {norm:.9g}, and the script computed {true:.9g}."
    return None


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
