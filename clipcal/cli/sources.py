"""The words of ``profile`` and ``calibrate`` -> what to train, a spec or a script, and where it is recorded."""

from __future__ import annotations

import difflib
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from clipcal.errors import InputError, need_torch

if TYPE_CHECKING:
    from clipcal.sources.script import Script
    from clipcal.sources.spec import Spec


class SourceCommand(TyperCommand):
    """A command that takes a spec, or a script whose arguments follow after ``--``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)  # they are taken apart while they are read
        try:
            return super().parse_args(ctx, args)
        except Exception as e:
            # typer has a click of its own in some versions, so the class is known by its name alone
            option = getattr(e, "option_name", None)
            script = next((i for i, word in enumerate(words) if word.endswith(".py")), None)
            meant = difflib.get_close_matches(str(option), getattr(e, "possibilities", None) or [], cutoff=0.75)
            if type(e).__name__ == "NoSuchOption" and not meant and script is not None and "--" not in words:
                example = shlex.join(["clipcal", str(self.name), words[script], "--", *_after(words, str(option))])
                e.message = f"No such option: {option}. A script's own arguments go after --: {example}"  # type: ignore[attr-defined]
                e.possibilities = None  # type: ignore[attr-defined]
            raise


def _after(words: list[str], option: str) -> list[Any]:
    """From the unknown option on."""
    at = next((i for i, word in enumerate(words) if word.startswith(option)), len(words))
    return words[at:]


def read_source(
    words: list[str],
    out: Path | None,
    *,
    steps: int | None,
    seed: int | None,
    device: str | None,
    threads: int | None,
    optimizer: str | None,
    scratch: bool,
    trackers: bool,
    command: str,
    resume: bool = False,
) -> tuple[Spec | Script, Path]:
    """What ``command`` is to train, and the run directory. A run that is gone on with keeps the number of steps that it was
    begun with, unless the spec wants more. Raises InputError."""
    first = Path(words[0])
    if first.suffix.lower() not in (".yaml", ".yml"):
        script = _read_script(words, steps, seed, device, threads, optimizer, scratch, trackers)
        folder = out or Path("runs") / script.name
        if resume and steps is None and (known := _steps_of(folder)):
            script = replace(script, steps=known)
        return script, folder
    if len(words) > 1:
        raise InputError(f"{first}: a spec takes no arguments of its own (found {words[1]!r}). Its values stand in it.")
    flags = {"--optimizer": optimizer, "--scratch": scratch, "--trackers": trackers}
    given = next((flag for flag, value in flags.items() if value), None)
    if given:
        raise InputError(f"{given} is for scripts, and {first} is a spec, which says by itself what is trained.")
    from clipcal.sources.spec import load_spec

    spec = load_spec(first, steps=steps, seed=seed, device=device)
    need_torch(f"`clipcal {command}` of a spec")
    folder = out or Path("runs") / spec.name
    if resume and steps is None and (_steps_of(folder) or 0) > spec.fields.steps:
        spec = load_spec(first, steps=_steps_of(folder), seed=seed, device=device)
    return spec, folder


def _steps_of(folder: Path) -> int | None:
    """How many steps a run was to have; None where that cannot be read."""
    from clipcal.run.directory import is_run, open_run

    return open_run(folder).info.steps or None if is_run(folder) else None


def _read_script(
    words: list[str],
    steps: int | None,
    seed: int | None,
    device: str | None,
    threads: int | None,
    optimizer: str | None,
    scratch: bool,
    trackers: bool,
) -> Script:
    from clipcal.sources.script import STEPS, from_words

    if device is not None:
        raise InputError(
            f"--device {device}: a script picks its device by itself; say so in its own arguments, after --."
        )
    if steps is not None and steps < 1:
        raise InputError(f"--steps {steps}: expected a number greater than 0.")
    return from_words(
        words,
        steps=STEPS if steps is None else steps,
        seed=seed or 0,
        optimizer=optimizer,
        scratch=scratch,
        trackers=trackers,
        threads=threads,
    )


def prepare(source: Spec | Script) -> None:
    """Have the process that workers are forked from import torch while this one profiles."""
    from clipcal.sources.script import Script

    if not isinstance(source, Script):
        from clipcal.arms.pool import warm_up
        from clipcal.training.building import pick_device

        warm_up(str(pick_device(source.fields.device)))


def resuming(source: Spec | Script, folder: Path) -> str:
    from clipcal.sources.ranks import called
    from clipcal.sources.script import Script

    if not isinstance(source, Script):
        return shlex.join([*called(), "profile", str(source.file), "--out", str(folder), "--resume"])
    is_file = source.words[0].endswith(".py")
    before, after = (source.words[:1], source.words[1:]) if is_file else ((), source.words)
    return shlex.join(
        ["clipcal", "profile", *before, "--out", str(folder), "--resume", *(["--", *after] if after else [])]
    )
