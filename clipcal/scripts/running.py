"""A script and a clipping rule -> one run of it, watched to its end: steps as they come, and how it ended."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from clipcal.errors import ClipcalError, InputError, UserCodeError
from clipcal.run.step import Step, clip_scale
from clipcal.scripts.child import session as talk
from clipcal.scripts.child.session import Config
from clipcal.scripts.gathering import Gathering, Rows
from clipcal.scripts.processes import Clock, Processes
from clipcal.scripts.saved import notes_on, put_back
from clipcal.sources.script import Script
from clipcal.training.patience import Patience

OnRows = Callable[[Gathering, Sequence[Step], Rows], None]

GRACE = 10.0
"""Seconds that a script may take to end after its last step, or after it was refused: to clean up, not to evaluate or to save a large
model."""
LAUNCHER = 3.0
"""Seconds that a launcher (torchrun, accelerate) may take after the processes that trained are gone: one that is told to end prints a
traceback. A shell gets none: it would go on with its next line."""
LOOK = 0.05
SITE = Path(talk.__file__).with_name("site")

TRACKERS = {
    "WANDB_MODE": "disabled",
    "HF_HUB_OFFLINE": "1",
    "COMET_MODE": "disabled",
    "NEPTUNE_MODE": "debug",
    "CLEARML_OFFLINE_MODE": "1",
    "SWANLAB_MODE": "disabled",
    "DISABLE_MLFLOW_INTEGRATION": "TRUE",
}
"""A calibration is no experiment that anybody wants in a dashboard, and nothing of it is to be uploaded."""


@dataclass(kw_only=True)
class Ending:
    """``status``: "complete" when all steps were seen, or the script ended by itself; "stopped" when the caller wanted no more;
    ``failed`` when it ended with an error. ``code`` is the exit code, negative for a signal, None where it was ended from here."""

    gathering: Gathering
    steps: int
    code: int | None
    failed: bool
    notes: list[str] = field(default_factory=list)


def run(
    script: Script,
    config: Config,
    *,
    seed: int,
    on_rows: OnRows,
    should_stop: Callable[[], bool] = lambda: False,
    patience: Patience | None = None,
    output: IO[bytes] | int = 2,
) -> Ending:
    """Run the script once, and tell ``on_rows`` of its steps until there are enough, ``patience`` has run out, ``should_stop``, or it ends.

    ``seed``: another one than 0 shifts every seed that the script sets by as much, or stands where its arguments say ``{seed}``.
    Whatever ends this function, no process is left. Raises InputError where the script cannot be watched, UserCodeError where it
    fails before its first step, and whatever ``on_rows`` raises.
    """

    def is_over() -> bool:
        return should_stop() or (patience is not None and patience.gone_at is not None)

    def tell(gathering: Gathering, steps: Sequence[Step], rows: Rows) -> None:
        kept = len(steps) if patience is None else patience.kept(steps)
        if config.max_norm is not None:
            steps = [replace(s, scale=clip_scale(s.grad_norm, config.max_norm)) for s in steps[:kept]]
        if kept:
            on_rows(gathering, steps[:kept], rows[:kept])

    with _session(config) as session, _directory(script) as cwd:
        env = _environment(script, session, seed)
        try:
            mark = f"{talk.VARIABLE}={session}"
            processes = Processes(script.argv(seed), cwd=cwd, env=env, mark=mark, output=output)
        except OSError as e:
            raise InputError(f"{script.words[0]}: cannot be started ({e.strerror}).") from None
        gathering = Gathering(session)
        try:
            code = _watch(session, processes, gathering, config.steps, tell, is_over)
        finally:
            try:
                processes.end()
            finally:
                saved = put_back(session)
        tell(gathering, *gathering.poll())
        _raise_refusal(session)
        enough = gathering.given >= config.steps or is_over()
        failed = not enough and code != 0
        if not gathering.given and should_stop():
            raise KeyboardInterrupt
        if not gathering.given:
            raise _nothing_seen(script, session, gathering, code)
        return Ending(
            gathering=gathering, steps=gathering.given, code=code, failed=failed, notes=notes_on(script, saved)
        )


def _watch(
    session: Path,
    processes: Processes,
    gathering: Gathering,
    steps: int,
    on_rows: OnRows,
    should_stop: Callable[[], bool],
) -> int | None:
    """The exit code, or None where there was none in time."""
    over: Clock | None = None
    left: Clock | None = None
    leave = 0.0 if processes.is_shell else LAUNCHER
    while True:
        code = processes.ended()
        found = gathering.poll()
        if found[0]:
            on_rows(gathering, *found)
        if code is not None:
            return code
        refusing = [int(p.name.rpartition("-")[2]) for kind in ("refused", "failed") for p in _said(session, kind)]
        if over is None and (refusing or should_stop() or gathering.given >= steps):
            over = Clock(processes)
            (session / talk.STOP).touch()
        if over is not None:
            if left is None and not processes.is_running([int(r.about["pid"]) for r in gathering.picked] + refusing):
                left = Clock(processes)
            if over.read() > GRACE or (left is not None and left.read() > leave):
                return None
        time.sleep(LOOK)


def _said(session: Path, kind: str) -> list[Path]:
    """The files of this kind that processes left, each with the number of its process."""
    return sorted(path for path in session.glob(f"{kind}-*") if path.suffix != ".partial")


@contextlib.contextmanager
def _session(config: Config) -> Iterator[Path]:
    """A folder for what parent and children tell each other, and a lock that children wait for: when it is free, we are gone."""
    folder = Path(tempfile.mkdtemp(prefix="clipcal-"))
    try:
        config.write(folder)
        with (folder / talk.ALIVE).open("w") as alive:
            with contextlib.suppress(ImportError):
                import fcntl

                fcntl.flock(alive, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _directory(script: Script) -> Iterator[Path]:
    """Where it runs: where it was called, or an empty directory that is dropped at the end."""
    if not script.scratch:
        yield Path(script.cwd)
        return
    with tempfile.TemporaryDirectory(prefix="clipcal-scratch-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _environment(script: Script, session: Path, seed: int) -> dict[str, str]:
    env = dict(os.environ)
    shift = 0 if script.takes_seed else seed
    env |= {talk.VARIABLE: str(session), talk.SHIFT: str(shift)}
    env["PYTHONPATH"] = os.pathsep.join([str(SITE), *filter(None, [env.get("PYTHONPATH")])])
    env.setdefault("PYTHONHASHSEED", "0")  # a vocabulary made from a set has another order in every process
    if script.threads is not None:
        env["OMP_NUM_THREADS"] = str(script.threads)
    if not script.trackers:
        env |= TRACKERS
        env["MLFLOW_TRACKING_URI"] = (session / "mlruns").as_uri()
    return env


def _raise_refusal(session: Path) -> None:
    for path in _said(session, "refused"):
        raise InputError(path.read_text(encoding="utf-8"))
    for path in _said(session, "failed"):
        text = path.read_text(encoding="utf-8")
        raise ClipcalError(f"Recording the script ended with an error of clipcal's own: {text}")


def _nothing_seen(script: Script, session: Path, gathering: Gathering, code: int | None) -> ClipcalError:
    """Why no step was recorded, with what to do."""
    python, torch = (len(list(session.glob(f"{kind}-*"))) for kind in ("process", "torch"))
    blind = None if torch else next(session.glob("no-torch-*"), None)  # one may be without, beside others
    if blind is not None and code != 0:
        return InputError(_without_torch(script, blind.read_text(encoding="utf-8")))
    if code is not None and code != 0:
        return UserCodeError(f"`{script.shown()}` {ended(code)} before its first optimizer step.{hint(script)}")
    if not python:
        why = (
            "no Python process in it loaded clipcal. It runs Python with -I, -E or -S, resets PYTHONPATH, or runs elsewhere (a container, "
            "another machine). Run the training command itself, or add `clipcal.watch(model, optimizer)` to the script"
        )
    elif not torch:
        why = "none of its Python processes imported torch"
    elif gathering.ranks and not gathering.picked:
        why = f"it has no optimizer {script.optimizer}; there are: {'; '.join(gathering.optimizers())}. Choose with --optimizer"
    elif gathering.picked:
        seen = ", ".join(str(r.rank) for r in gathering.picked)
        why = (
            f"only rank {seen} of {gathering.world} can be seen from this machine; run it with all ranks on one machine"
        )
    else:
        why = (
            "no torch optimizer made a step with gradients in it. If it trains with an optimizer of its own, log the norms and give the log "
            "to `clipcal recommend`"
        )
    return InputError(f"`{script.shown()}` ended, and nothing was recorded: {why}.")


def _without_torch(script: Script, python: str) -> str:
    words = script.words if script.words[0].endswith(".py") else [Path(script.path).name]
    return (
        f"`{script.shown()}` needs torch, which is not installed for {python}. Name the Python that has it "
        f"(`clipcal profile -- /its/bin/python {shlex.join(words)}`), or install the build for your machine there (pip install torch)."
    )


def ended(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def hint(script: Script) -> str:
    """What clipcal changed in the environment of a script that failed."""
    if script.trackers:
        return ""
    return " It ran with trackers and the Hugging Face hub switched off (WANDB_MODE, HF_HUB_OFFLINE, ...); --trackers leaves them on."
