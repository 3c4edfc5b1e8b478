"""Kills ``clipcal profile`` at random moments, and counts what is lost: no step that was reported may be.

Each round starts the command in a process of its own and sends SIGKILL at a random moment: one round in five before there
is a run directory, the others within the time that training takes once there is one. Then the directory has to keep four
promises:

1. every step that a progress line on stderr had reported is in trace.jsonl, whole and in order;
2. layers.f32 has a row for each of them;
3. ``clipcal recommend`` reads what is there (exit 0 or 3), or says in a sentence that there is no step (exit 2);
4. ``clipcal profile --resume``, or where there is no run yet ``clipcal profile``, ends with the trace of a run that was
   never killed, bit for bit in every column but ``seconds``.

Exits with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.reporting import print_table, write_results
from clipcal.run.layers import read_layers

MODEL = """\
import time

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, x):
        time.sleep(0.002)  # so that there is something to be killed in
        return self.body(x)


def batches(seed):
    g = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(8, 4, generator=g)
        yield x, x.sum(1, keepdim=True)
"""
SPEC = """\
model: {_target_: kill9_model.Net}
data: {_target_: kill9_model.batches}
loss: {_target_: torch.nn.MSELoss}
optimizer: {_target_: torch.optim.SGD, lr: 0.05, momentum: 0.9}
device: cpu
"""
COMMAND = (sys.executable, "-m", "clipcal")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One round. ``after`` is in seconds from the start, or ``from_run`` from when run.json was there; ``broken`` names
    the promises that were."""

    after: float
    from_run: bool
    reported: int
    kept: int
    cut: bool
    recommend: int
    broken: tuple[str, ...]


def clipcal(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=ENVIRONMENT, text=True, capture_output=True, check=False
    )


def killed(folder: Path, run: str, steps: int, after: float, *, from_run: bool) -> int:
    """Profile into ``run``, kill it ``after`` seconds, and give the last step that it had reported."""
    with tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            [*COMMAND, "profile", "spec.yaml", "--out", run, "--steps", str(steps)],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        while from_run and not (folder / run / "run.json").exists() and process.poll() is None:
            time.sleep(0.001)
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        stderr.seek(0)
        return max((int(n) for n in re.findall(r"^step (\d+)/", stderr.read(), re.MULTILINE)), default=0)


def rows(trace: Path) -> list[dict[str, Any]]:
    """The whole lines of a trace, without the one key that differs between two runs."""
    if not trace.exists():
        return []
    parsed = [json.loads(line) for line in trace.read_bytes().split(b"\n")[:-1]]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in parsed]


def seconds(trace: Path) -> list[float]:
    return [json.loads(line)["seconds"] for line in trace.read_text().splitlines()]


def one_round(
    folder: Path, run: str, steps: int, whole: Sequence[dict[str, Any]], *, after: float, from_run: bool
) -> Kill:
    reported = killed(folder, run, steps, after, from_run=from_run)
    trace, layers = folder / run / "trace.jsonl", folder / run / "layers.f32"
    kept = rows(trace)
    cut = trace.exists() and not trace.read_bytes().endswith(b"\n") and trace.stat().st_size > 0
    broken = []
    if len(kept) < reported or kept != list(whole[: len(kept)]):
        broken.append("steps lost")
    if kept and len(read_layers(layers).norms) < len(kept):
        broken.append("layers lost")
    answer = clipcal(folder, "recommend", run, "--json")
    said = answer.stderr.strip().splitlines()
    if (answer.returncode not in (0, 3)) if kept else (answer.returncode != 2 or len(said) != 1):
        broken.append("not read")
    resumed = clipcal(folder, "profile", "spec.yaml", "--out", run, "--steps", str(steps), "--resume")
    if resumed.returncode == 2:  # nothing to go on with, or nothing left to do
        clipcal(folder, "profile", "spec.yaml", "--out", run, "--steps", str(steps))
    if rows(trace) != list(whole):
        broken.append("not resumed")
    return Kill(
        after=round(after, 3),
        from_run=from_run,
        reported=reported,
        kept=len(kept),
        cut=cut,
        recommend=answer.returncode,
        broken=tuple(broken),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "kill9_model.py").write_text(MODEL)
        (folder / "spec.yaml").write_text(SPEC)
        clipcal(folder, "profile", "spec.yaml", "--out", "whole", "--steps", str(options.steps))
        whole = rows(folder / "whole" / "trace.jsonl")
        if len(whole) != options.steps:
            sys.exit("the run that is not killed did not train")
        training = sum(seconds(folder / "whole" / "trace.jsonl"))
        kills = []
        for i in range(options.kills):
            early = i % 5 == 0
            after = draw.uniform(0.5, 2.5) if early else draw.uniform(0, training)
            kills.append(one_round(folder, f"run{i}", options.steps, whole, after=after, from_run=not early))
    print_table(
        [
            ("killed", "reported", "in the trace", "cut line", "recommend", "promises"),
            *(
                (
                    f"{k.after:.3f} s after {'run.json' if k.from_run else 'the start'}",
                    str(k.reported),
                    str(k.kept),
                    "yes" if k.cut else "no",
                    f"exit {k.recommend}",
                    ", ".join(k.broken) or "kept",
                )
                for k in kills
            ),
        ]
    )
    broken = sum(bool(k.broken) for k in kills)
    print(f"{len(kills)} kills, {broken} with a broken promise")
    write_results("kill9", {"kills": [asdict(k) for k in kills], "broken": broken}, **vars(options))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
