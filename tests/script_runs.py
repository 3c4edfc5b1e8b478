"""A training script of a user's -> what it does by itself, edited by hand, and watched: norms, weights, rows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import rows_of
from nursery import PYTHON, REAL, run_forked
from torch import Tensor

from clipcal.run.directory import Run, open_run
from clipcal.scripts.child.session import Config
from clipcal.scripts.gathering import Gathering
from clipcal.scripts.running import run
from clipcal.sources.script import from_words

PROLOGUE = '''\
import argparse, json, math
import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--clip", type=float, default=0.0)  # 0: the line is not there
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--norms")  # the instrumented copy writes them here
parser.add_argument("--weights")
args = parser.parse_args()
torch.manual_seed(0)
norms = []


def note(parameters):
    """What the instrumented copy has in front of optimizer.step()."""
    if args.norms:
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])))


def finish(model):
    if args.norms:
        json.dump(norms, open(args.norms, "w"))
    if args.weights:
        torch.save(model.state_dict(), args.weights)
'''
"""How the scripts here begin: what a hand-edited copy differs by is an argument."""


@dataclass(frozen=True)
class Kind:
    """A script in ``folder``, and how its users launch it: ``launch`` are the words of Python's before its file."""

    folder: Path
    file: str
    launch: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    steps: int = 12

    def words(self, python: str, clip: float, *more: str) -> list[str]:
        """What clipcal is given: a script, or a whole command."""
        own = [self.file, "--clip", str(clip), "--steps", str(self.steps), *self.arguments, *more]
        return [python, *self.launch, *own] if self.launch else own

    def by_itself(self, clip: float, *more: str) -> None:
        """Run it without clipcal. Raises where it fails."""
        words = self.words(str(PYTHON), clip, *more)
        run_forked(words[1:] if self.launch else words, self.folder, environment()).check_returncode()

    def profiled(self, clip: float, *more: str, options: Sequence[str] = (), real: bool = True) -> Run:
        """``clipcal profile`` of it, for more steps than it has. ``real``: its interpreters are started as a user's are."""
        words = self.words(sys.executable if real else str(PYTHON), clip, *more)
        out = self.folder / "run"
        own = ["-n", str(self.steps + 5), "--out", str(out), "--force", *options]
        words = ["--", *words] if self.launch else [words[0], "--", *words[1:]]
        done = run_forked(
            ["-m", "clipcal", "profile", *own, *words], self.folder, environment() | ({REAL: "1"} if real else {})
        )
        assert done.returncode == 0, done.stderr
        return open_run(out)

    def forced(self, max_norm: float, clip: float, *more: str, optimizer: int = 1) -> Gathering:
        """The script as `verify` runs it, clipped at ``max_norm`` whatever it says itself."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment().items():
                patch.setenv(name, value)
            patch.setattr(sys, "executable", str(PYTHON))
            script = from_words(self.words(str(PYTHON), clip, *more), cwd=self.folder)
            ending = run(
                script,
                Config(steps=self.steps + 5, optimizer=optimizer, max_norm=max_norm),
                seed=0,
                on_rows=lambda gathering, steps, rows: None,
            )
        assert ending.code == 0
        return ending.gathering


def environment() -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CLIPCAL_", "PYTEST_"))}
    return inherited | {
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def weights(path: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = torch.load(path, weights_only=True)
    return loaded


def same_weights(one: Path, other: Path) -> bool:
    """Bit for bit."""
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def check(
    kind: Kind,
    *,
    clip: float,
    force: float,
    optimizer: int = 1,
    owns: Sequence[float] | None = None,
    real: bool = True,
) -> Run:
    """What must hold for every script: with clipping off its weights are those of the script without its clip line, its norms are
    those of an instrumented copy, and forced to clip it trains as the script does that clips there, whether it has no threshold of its
    own or ``clip`` (``owns``: the ones to try). ``real``: the profiled one is started as a user starts it. Gives the profile."""
    folder = kind.folder
    kind.by_itself(0.0, "--weights", "unclipped.pt", "--norms", "norms.json")
    run = kind.profiled(clip, "--weights", "off.pt", real=real)
    seen = rows_of(run.trace)
    expected = json.loads((folder / "norms.json").read_text())
    assert [row["step"] for row in seen] == list(range(kind.steps))
    np.testing.assert_allclose([float(row["grad_norm"]) for row in seen], expected, rtol=1e-6)
    assert np.isfinite([row["loss"] for row in seen]).all()
    assert same_weights(folder / "unclipped.pt", folder / "off.pt")
    kind.by_itself(force, "--weights", "clipped.pt")
    assert not same_weights(folder / "clipped.pt", folder / "unclipped.pt"), "this threshold never acts"
    for own in (0.0, clip) if owns is None else owns:
        (folder / "forced.pt").unlink(missing_ok=True)  # clipcal would put it back
        gathering = kind.forced(force, own, "--weights", "forced.pt", optimizer=optimizer)
        assert [len(rank.steps) for rank in gathering.picked] == [kind.steps] * len(gathering.picked)
        assert same_weights(folder / "clipped.pt", folder / "forced.pt")
    return run
