"""The words of ``profile`` and ``calibrate`` -> what to train, a spec or a script, and where it is recorded."""

from __future__ import annotations

import difflib
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from clipcal.cli.options import RunOptions
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
                own = next((i for i, word in enumerate(words) if word.startswith(str(option))), len(words))
                example = shlex.join(["clipcal", str(self.name), words[script], "--", *words[own:]])
                e.message = f"No such option: {option}. A script's own arguments go after --: {example}"  # type: ignore[attr-defined]
                e.possibilities = None  # type: ignore[attr-defined]
            raise


def read_source(words: list[str], asked: RunOptions, *, command: str) -> tuple[Spec | Script, Path]:
    """What ``command`` is to train, and the run directory. A run that is resumed keeps the number of steps that it was begun with, unless
    the spec wants more. Raises InputError."""
    first = Path(words[0])
    if first.suffix.lower() not in (".yaml", ".yml"):
        script = _read_script(words, asked)
        folder = asked.out or Path("runs") / script.name
        return replace(script, steps=_steps_of(folder, asked) or script.steps), folder
    if len(words) > 1:
        raise InputError(f"{first}: a spec takes no arguments of its own (found {words[1]!r}). Its values stand in it.")
    flags = {"--optimizer": asked.optimizer, "--scratch": asked.scratch, "--trackers": asked.trackers}
    given = next((flag for flag, value in flags.items() if value), None)
    if given:
        raise InputError(f"{given} is for scripts, and {first} is a spec, which says by itself what is trained.")
    from clipcal.sources.spec import load_spec

    spec = load_spec(first, steps=asked.steps, seed=asked.seed, device=asked.device)
    need_torch(f"`clipcal {command}` of a spec")
    folder = asked.out or Path("runs") / spec.name
    begun = _steps_of(folder, asked)
    if begun is not None and begun > spec.steps:
        spec = load_spec(first, steps=begun, seed=asked.seed, device=asked.device)
    return spec, folder


def _steps_of(folder: Path, asked: RunOptions) -> int | None:
    """How many steps the run that is resumed was to have; None where that cannot be read, or is asked for."""
    if not asked.resume or asked.steps is not None:
        return None
    from clipcal.run.directory import is_run, open_run

    return open_run(folder).info.steps or None if is_run(folder) else None


def _read_script(words: list[str], asked: RunOptions) -> Script:
    from clipcal.sources.script import STEPS, from_words

    if asked.device is not None:
        raise InputError(
            f"--device {asked.device}: a script picks its device by itself; say so in its own arguments, after --."
        )
    if asked.steps is not None and asked.steps < 1:
        raise InputError(f"--steps {asked.steps}: expected a number greater than 0.")
    return from_words(
        words,
        steps=STEPS if asked.steps is None else asked.steps,
        seed=asked.seed or 0,
        threads=asked.threads,
        optimizer=asked.optimizer,
        scratch=asked.scratch,
        trackers=asked.trackers,
    )
