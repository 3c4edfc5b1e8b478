"""The options and arguments that several commands share, and what they are together."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from clipcal.logs.choice import LogChoice

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
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was cut short, or make it longer.")]


@dataclass(frozen=True, kw_only=True)
class Display:
    """How an answer is shown: in words alone (``plain``), or as one JSON object; ``quiet``: without progress and notes."""

    plain: Plain = False
    json: Json = False
    quiet: Quiet = False

    def note(self, text: str) -> None:
        """A line for stderr."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a source is profiled, and where to. None: as the source says. ``optimizer``, ``scratch`` and ``trackers`` are for scripts."""

    out: Out = None
    steps: Steps = None
    seed: Seed = None
    device: Device = None
    threads: Threads = None
    optimizer: Optimizer = None
    scratch: Scratch = False
    trackers: Trackers = False
    resume: Resume = False
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class ArmOptions:
    """Which arms are trained, and how. ``other`` are further thresholds; ``steps`` None: as many as the profile has."""

    other: Others = None
    seeds: Seeds = 3
    steps: Steps = None
    jobs: Jobs = None
    executor: Executor = "local"
    arm_gpus: ArmGpus = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class Within(LogChoice):
    """The choice within a log, as flags."""

    tag: Tag = None
    run: WhichRun = None
    pattern: Pattern = None


Command = Callable[..., None]


def flags(order: str = "") -> Callable[[Command], Command]:
    """A command that takes objects of the kinds above -> the same with a flag for each of their fields, as typer needs it.

    ``order`` are the names of its parameters as the help lists them; a field that is not among them keeps its default. Without, the fields
    stand where their object does.
    """

    def expanded(command: Command) -> Command:
        kinds: dict[str, Any] = {}
        known: dict[str, inspect.Parameter] = {}
        own: list[str] = []
        hints = get_type_hints(command, include_extras=True)
        for name, parameter in inspect.signature(command).parameters.items():
            if not is_dataclass(hints[name]):
                known[name] = parameter.replace(annotation=hints[name])
                own.append(name)
                continue
            kinds[name] = hints[name]
            inner = get_type_hints(hints[name], include_extras=True)
            for f in fields(kinds[name]):
                known[f.name] = parameter.replace(name=f.name, default=f.default, annotation=inner[f.name])

        @functools.wraps(command)
        def called(**given: Any) -> None:
            objects = {
                name: kind(**{f.name: given[f.name] for f in fields(kind) if f.name in given})
                for name, kind in kinds.items()
            }
            command(**objects, **{name: given[name] for name in own})

        chosen = [known[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in order.split() or known]
        vars(called)["__signature__"] = inspect.Signature(chosen)
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in chosen}
        return called

    return expanded


def check_plot(plot: Path | None) -> None:
    """Raise InputError, before anything is read or trained, where no picture could be drawn there."""
    if plot is not None:
        from clipcal.views.image.saving import check_file

        check_file(plot)
