"""The options and arguments that several commands share, and what they are together."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True)
class Display:
    """How an answer is shown: in words alone (``plain``), or as one JSON object; ``quiet``: without progress and notes."""

    plain: bool = False
    json: bool = False
    quiet: bool = False

    def note(self, text: str) -> None:
        """A line for stderr."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class ScriptOptions:
    """How a script is watched: which of its optimizers, whether in an empty folder, and whether its trackers stay on."""

    optimizer: str | None
    scratch: bool
    trackers: bool


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a source is profiled, and where to. None: as the source says. ``resume`` continues the run that is there."""

    out: Path | None
    steps: int | None
    seed: int | None
    device: str | None
    threads: int | None
    force: bool
    script: ScriptOptions
    resume: bool = False


@dataclass(frozen=True, kw_only=True)
class ArmOptions:
    """Which arms are trained, and how. ``others`` are further thresholds; ``steps`` None: as many as the profile has."""

    others: list[float]
    seeds: int
    jobs: int | None
    steps: int | None = None
    executor: str = "local"
    arm_gpus: float | None = None
    force: bool = False


Source = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="What to train: a YAML spec (`clipcal init` writes one), a script with its arguments after --, or after -- a whole "
        "command: `-- torchrun --nproc-per-node 2 train.py`.",
    ),
]
RunArg = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
RunOrLog = Annotated[
    Path,
    typer.Argument(
        metavar="RUN|LOG",
        help="A run directory, or a training log as its framework wrote it; - reads one from standard input.",
    ),
]
Tag = Annotated[str | None, typer.Option("--tag", help="Which gradient norm of the log, where it holds several.")]
WhichRun = Annotated[
    int | None,
    typer.Option(
        "--run", help="Which run of the log, where several were appended: 1, 2, ... or -1.  [default: the last]"
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        "--pattern",
        metavar="REGEX",
        help="For text in no known format: a regular expression with the groups norm and, if you like, step, loss, lr.",
    ),
]
Steps = Annotated[
    int | None, typer.Option("--steps", "-n", help="Optimizer steps to train.  [default: the spec's; 300 of a script]")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the first run.  [default: the spec's]")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="How many seeds to train each arm with.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.  [default: the spec's]")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The run directory.  [default: runs/<name>]")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Plain = Annotated[
    bool,
    typer.Option(
        "--plain",
        envvar="CLIPCAL_PLAIN",
        help="Words instead of pictures, tables, colours and live views: for screen readers and logs.",
    ),
]
TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        help="Also write the curves there, live, as TensorBoard event files: a run each for the profile and the arms.",
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Also draw it for a paper, as .png, .svg or .pdf. Needs matplotlib: the extra plots.",
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(
        "--scale",
        metavar="batch=K",
        help="Of a spec: train it once more with K (2 to 16) times the batch, so that `recommend --scale` can move the threshold.",
    ),
]
ScaleTo = Annotated[
    str | None,
    typer.Option(
        "--scale", metavar="batch=M", help="For M times the batch of the run, which was profiled with --scale."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads per run.  [default: half the cores; a script's own]")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Arms trained side by side.  [default: cores / threads]")
]
Executor = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="NAME",
        help="Where arms are trained: local, or ray: a Ray cluster that runs already (RAY_ADDRESS). The extra ray.",
    ),
]
ArmGpus = Annotated[
    float | None,
    typer.Option("--arm-gpus", help="With --executor ray, the part of a GPU that an arm is given.  [default: 1]"),
]
Others = Annotated[
    list[float] | None,
    typer.Option("--max-norm", metavar="FLOAT", help="Another threshold to train beside; may be repeated."),
]
For = Annotated[str | None, typer.Option("--for", help="Print only the snippet for this framework.")]
Compare = Annotated[
    bool, typer.Option("--compare", help="Also show what the rules that others use would have clipped.")
]
LayersToo = Annotated[bool, typer.Option("--layers", help="Also show which layers make the spikes.")]
Optimizer = Annotated[
    str | None,
    typer.Option(
        "--optimizer",
        help="Of a script with several: which one, by its number or class.  [default: the one with most parameters]",
    ),
]
Scratch = Annotated[
    bool, typer.Option("--scratch", help="Run a script in an empty temporary directory, which is dropped at the end.")
]
Trackers = Annotated[
    bool, typer.Option("--trackers", help="Leave a script's trackers and the Hugging Face hub on (W&B and others).")
]


def check_plot(plot: Path | None) -> None:
    """Raise InputError, before anything is read or trained, where no picture could be drawn there."""
    if plot is not None:
        from clipcal.views.image.saving import check_file

        check_file(plot)
