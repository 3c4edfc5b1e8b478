"""How long the commands that do not train keep a person waiting, and whether torch stays out of them.

Processes are started turn about, and timed from start to end: ``clipcal --help`` against a Python that imports only what
a command line of this kind needs, and ``clipcal recommend`` on a run of 1,000 steps that is made here.

Exits with 1 where a target is missed beyond its interval, or torch is loaded.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reporting import interval, judged, print_table, write_results

TARGET_HELP, TARGET_RECOMMEND = 1.5, 0.6
BUSY = 0.8  # CPU time per wall time below which a process was kept waiting by others
STEPS, SEED = 1000, 0
PYTHON = sys.executable
CLIPCAL = [PYTHON, "-m", "clipcal"]
FLOOR = "import typer, rich.console"
COMMANDS = ("--help", "recommend --help", "recommend", "recommend --json", "recommend --for pytorch")


def make_run(folder: Path) -> Path:
    """A run of 1,000 steps with a decaying loss, log-normal norms and a spike at every hundredth step or so."""
    from clipcal.run.directory import Replacement, RunInfo
    from clipcal.run.source import source_of
    from clipcal.run.step import Step
    from clipcal.run.trace import AppendOnly, lines_of

    draw = np.random.default_rng(SEED)
    norms = 1.5 * np.exp(0.15 * draw.standard_normal(STEPS)) * (1 + 4 * np.exp(-np.arange(STEPS) / 20))
    norms[draw.random(STEPS) < 0.01] *= 12
    losses = 2 + 2 * np.exp(-np.arange(STEPS) / 200) + 0.05 * draw.standard_normal(STEPS)
    source = {
        "kind": "spec",
        "path": "made.yaml",
        "folder": str(folder),
        "cwd": str(folder),
        "text": "",
        "overrides": {},
    }
    info = RunInfo(
        name="made",
        source=source_of(source),
        fingerprint="",
        steps=STEPS,
        seeds=[SEED],
        device="cpu",
        threads=1,
        status="complete",
    )
    run = Replacement(folder, info, force=False).run
    steps = [
        Step(step=i, loss=loss, grad_norm=norm, grad_max=norm / 10, lr=0.1, seconds=0.01)
        for i, (norm, loss) in enumerate(zip(norms.tolist(), losses.tolist(), strict=True))
    ]
    file = AppendOnly(run.trace)
    file.append(lines_of(steps))
    file.close()
    return folder


def start(command: Sequence[str]) -> tuple[float, float, bytes]:
    """Wall and CPU seconds of a process from start to end, and what it printed into the pipe."""
    before_cpu, before = _children_cpu(), time.perf_counter()
    # as for somebody who pipes the answer on: no terminal, and a width that nothing was told about
    done = subprocess.run(command, capture_output=True, env=_environment(), check=False)
    seconds = time.perf_counter() - before, _children_cpu() - before_cpu
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr.decode()}")
    return *seconds, done.stdout


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE")}


def loads(command: Sequence[str]) -> list[str]:
    """The packages, by their first name, that a clipcal command has loaded by its end."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr))\n"
        "from clipcal.cli.main import main\n"
        f"sys.argv = ['clipcal', *{list(command)!r}]\n"
        "main()\n"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"clipcal {' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    return done.stderr.splitlines()[-1].split()


def main() -> None:
    parser = argparse.ArgumentParser(description="Start-up of the commands that do not train.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    rounds = 7 if parser.parse_args().quick else 25
    with tempfile.TemporaryDirectory() as folder:
        run = str(make_run(Path(folder) / "run"))
        commands = {
            "python -c pass": [PYTHON, "-c", "pass"],
            "floor: typer and rich": [PYTHON, "-c", FLOOR],
            "clipcal --help": [*CLIPCAL, "--help"],
            "recommend RUN": [*CLIPCAL, "recommend", run],
            "recommend RUN --json": [*CLIPCAL, "recommend", run, "--json"],
        }
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        printed = {}
        for _ in range(rounds + 1):
            for name, command in commands.items():
                wall, cpu, printed[name] = start(command)
                seconds[name].append((wall, cpu))
        loaded = {
            c: loads([*c.split(), *([run] if c.startswith("recommend") and "help" not in c else [])]) for c in COMMANDS
        }
    # the first round reads the files from the disk and writes the byte code
    results: dict[str, Any] = {
        name: _summary(s[1:], seconds["floor: typer and rich"][1:]) for name, s in seconds.items()
    }
    head = [
        "process",
        "median ms",
        "95 % interval",
        "CPU ms",
        "x floor",
        "95 % interval",
        "x floor (CPU)",
        "bytes printed",
    ]
    rows = [head]
    for name, r in results.items():
        low, high = r["wall_interval"]
        rows.append(
            [
                name,
                f"{1e3 * r['wall']:.0f}",
                f"{1e3 * low:.0f} .. {1e3 * high:.0f}",
                f"{1e3 * r['cpu']:.0f}",
                f"{r['ratio']:.3f}",
                "{:.3f} .. {:.3f}".format(*r["ratio_interval"]),
                f"{r['cpu_ratio']:.3f}",
                str(len(printed[name])),
            ]
        )
    print_table(rows)
    heavy = ("torch", "pydantic", "yaml", "numpy", "rich", "markdown_it")
    rows = [["command", *heavy]]
    rows += [[f"clipcal {c}", *("loaded" if p in packages else "-" for p in heavy)] for c, packages in loaded.items()]
    print_table(rows)
    answers = []
    r = results["clipcal --help"]
    answer = judged(r["ratio"], *r["ratio_interval"], at_most=TARGET_HELP)
    answers.append(f"clipcal --help: x {r['ratio']:.3f} of the floor, target < {TARGET_HELP}: {answer}")
    r = results["recommend RUN"]
    answer = judged(r["wall"], *r["wall_interval"], at_most=TARGET_RECOMMEND)
    if answer != "met" and r["cpu"] < BUSY * r["wall"] and r["cpu"] < TARGET_RECOMMEND:
        # one thread that reads a small file waits for nothing but a processor
        answer += ", but met by CPU time: other processes had the machine"
    took = f"{r['wall']:.2f} s (CPU {r['cpu']:.2f} s)"
    answers.append(f"recommend on {STEPS} steps: {took}, target < {TARGET_RECOMMEND} s: {answer}")
    with_torch = [c for c, packages in loaded.items() if "torch" in packages]
    answers.append(
        f"torch is loaded by: {', '.join(with_torch) or 'none of them'}: {'missed' if with_torch else 'met'}"
    )
    print("\n".join(answers))
    write_results("startup", results | {"loads_torch": with_torch}, rounds=rounds, steps=STEPS, seed=SEED)
    if any(answer.endswith(": missed") for answer in answers):
        sys.exit(1)


def _summary(seconds: Sequence[tuple[float, float]], floor: Sequence[tuple[float, float]]) -> dict[str, Any]:
    wall = [w for w, _ in seconds]
    ratios = [w / f for w, (f, _) in zip(wall, floor, strict=True)]
    return {
        "wall": statistics.median(wall),
        "wall_interval": interval(wall),
        "cpu": statistics.median(cpu for _, cpu in seconds),
        "cpu_ratio": statistics.median(c / f for (_, c), (_, f) in zip(seconds, floor, strict=True)),
        "ratio": statistics.median(ratios),
        "ratio_interval": interval(ratios),
    }


if __name__ == "__main__":
    main()
