"""The words of a command line -> a Script: what to run, where, and how it is watched; and from run.json the same again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from clipcal.errors import InputError, nearest
from clipcal.run.directory import is_run
from clipcal.run.source import ScriptSource, Source

STEPS = 300
"""Optimizer steps to observe where nobody says how many: 200 after the warm-up are adequate."""
SEED = "{seed}"
_PYTHON = ("python", "pypy")
_WITH_VALUE = ("W", "X")
_LAUNCHERS = ("torch.distributed", "accelerate.commands")
"""Modules whose words name the script that they run."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """A command that trains. ``words`` are its own, with ``{seed}`` where it takes the seed; ``cwd`` is where it runs.

    ``optimizer``: its number (1 for the first that steps) or class, None for the one with most parameters. ``scratch``: run in
    an empty temporary directory. ``trackers``: leave W&B and others on. ``threads``: OMP_NUM_THREADS, None for the script's own.
    """

    words: tuple[str, ...]
    cwd: str
    steps: int = STEPS
    seed: int = 0
    optimizer: int | str | None = None
    scratch: bool = False
    trackers: bool = False
    threads: int | None = None

    @property
    def path(self) -> str:
        """What people call it: the script, the module, or the command."""
        for i, word in enumerate(self.words):
            if word.endswith(".py"):
                return word
            if word == "-m" and i and _is_python(self.words[i - 1]) and i + 1 < len(self.words):
                if self.words[i + 1].startswith(_LAUNCHERS):
                    continue
                return self.words[i + 1]
        return self.words[0]

    @property
    def name(self) -> str:
        """What its run directory is called."""
        stem = Path(self.path).stem if self.path.endswith((".py", ".sh")) else self.path.rsplit(".", 1)[-1]
        return "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(stem).name) or "script"

    @property
    def takes_seed(self) -> bool:
        return any(SEED in word for word in self.words)

    @property
    def fingerprint(self) -> str:
        """Of the command and of the script's text, where it is a file that can be read."""
        digest = hashlib.sha256(repr((self.words, self.seed, self.optimizer)).encode())
        with contextlib.suppress(OSError):
            digest.update((Path(self.cwd) / self.path).read_bytes())
        return digest.hexdigest()[:16]

    def argv(self, seed: int) -> list[str]:
        """What is executed for one arm."""
        words = [word.replace(SEED, str(seed)) for word in self.words]
        if self.scratch:  # relative paths that are there must still be found
            words = [_absolute(word, self.cwd) for word in words]
        return [sys.executable, *words] if self.words[0].endswith(".py") else words

    def source(self) -> ScriptSource:
        """What run.json keeps: enough to run it again."""
        return ScriptSource.of(path=self.path, **asdict(self))

    def resuming(self, folder: Path) -> str:
        """What continues a run of it that was cut short."""
        is_file = self.words[0].endswith(".py")
        before, after = (self.words[:1], self.words[1:]) if is_file else ((), self.words)
        options = ["--out", str(folder), "--resume"]
        return shlex.join(["clipcal", "profile", *before, *options, *(["--", *after] if after else [])])

    def shown(self) -> str:
        return shlex.join(self.words)


def from_source(source: Source, *, record: Path | str = "run.json", **changes: Any) -> Script:
    """The script of a run; ``record`` is its run.json. Raises InputError where it lacks something that a script needs."""
    assert isinstance(source, ScriptSource)
    if source.missing is not None:
        raise InputError(
            f"{record}: {source.missing}, so the script cannot be run again. Profile it again into another directory."
        )
    return replace(Script(**source.fields()), **changes)


def from_words(words: Sequence[str], *, cwd: Path | None = None, **fields: Any) -> Script:
    """A script and its arguments, or a whole command. Raises InputError where it cannot be run or watched."""
    here = cwd or Path.cwd()
    first = words[0]
    if first.endswith(".py"):
        if not (here / first).is_file():
            siblings = [p.name for p in (here / first).parent.glob("*.py")]
            raise InputError(f"{first}: there is no such script.{nearest(Path(first).name, siblings)}")
    elif not _is_command(first, here):
        raise InputError(_not_a_command(first, here))
    blind = _isolated(words)
    if blind:
        raise InputError(
            f"`{blind}` in `{shlex.join(words)}` keeps Python from reading its environment, which is how clipcal attaches to a script. "
            f"Run it without {blind.split()[-1]}, or add `clipcal.watch(model, optimizer)` to the script."
        )
    optimizer = fields.pop("optimizer", None)
    number = int(optimizer) if isinstance(optimizer, str) and optimizer.isdigit() else optimizer
    return Script(words=tuple(words), cwd=str(here), optimizer=number, **fields)


def _is_command(first: str, here: Path) -> bool:
    path = here / first
    found = path.is_file() and os.access(path, os.X_OK) and os.sep in first
    return found or shutil.which(first, path=os.environ.get("PATH", os.defpath)) is not None


def _not_a_command(first: str, here: Path) -> str:
    path = here / first
    if path.is_file():
        return (
            f"{first}: is neither a spec (.yaml; `clipcal init` writes one), a script (.py), nor a command that may be executed. Put what "
            f"runs it in front: `clipcal profile -- bash {first}`."
        )
    if path.is_dir() and is_run(path):
        return f"{first}: is a run directory. Did you mean `clipcal recommend {first}`?"
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".py"))
        hint = f", such as {Path(first) / inside[0]}" if inside else ""
        return f"{first}: is a directory; name the spec or the script in it{hint}."
    return (
        f"{first}: there is no such spec, script or command. Expected a spec (.yaml; `clipcal init` writes one), a script with its "
        "arguments after `--` (`clipcal profile train.py -- --lr 0.1`), or a whole command after `--` "
        "(`clipcal profile -- torchrun --nproc-per-node 2 train.py`)."
    )


def _is_python(word: str) -> bool:
    return Path(word).name.startswith(_PYTHON)


def _isolated(words: Sequence[str]) -> str | None:
    """``python -I``, ``-E`` or ``-S`` in a command, as it stands there."""
    for i, word in enumerate(words):
        if not _is_python(word):
            continue
        options = iter(words[i + 1 :])
        for option in options:
            if not option.startswith("-") or option.startswith("--") or option[1:2] in ("m", "c", ""):
                break
            flag = next((c for c in option[1:] if c in "IES"), None)
            if flag:
                return f"{word} -{flag}"
            if option[1:] in _WITH_VALUE:
                next(options, None)
    return None


def _absolute(word: str, cwd: str) -> str:
    path = Path(cwd) / word
    is_relative = not os.path.isabs(word) and not word.startswith("-") and (os.sep in word or "." in word)
    return str(path) if is_relative and path.exists() else word
