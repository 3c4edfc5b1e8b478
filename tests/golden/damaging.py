"""A golden run -> the same with a field less or of another kind, and what a command says to that."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import typer.main

from clipcal.arms import pool as arms
from clipcal.arms import trainers
from clipcal.cli import sources, steps
from clipcal.cli.main import app
from clipcal.run.directory import Run
from clipcal.sources.script import from_source as script_of
from clipcal.sources.spec import from_source as spec_of

OTHERS: tuple[Any, ...] = (5, "a\0b", None, True, -1.5, [None], {})
"""What a field is made instead: one of them is of another kind, whatever the field is."""


class WouldTrain(Exception):
    """As far as `verify` goes in these tests: what it would train for is read by then."""


@dataclass(frozen=True)
class Change:
    """``field`` is the path of what was changed, as a sentence names it."""

    field: str
    how: str
    value: Any

    def __str__(self) -> str:
        return f"{self.field}: {self.how}"


def changes(value: dict[str, Any], *, others: tuple[Any, ...] = OTHERS) -> Iterator[Change]:
    """The object with each of its fields removed, and of other kinds; of a list the first item stands for all."""
    for where in _paths(value):
        if isinstance(where[-1], str):
            yield Change(_named(where), "removed", _with(value, where, None))
        for other in others:
            if type(other) is not type(_at(value, where)) or other == "a\0b":
                yield Change(_named(where), f"is {other!r}", _with(value, where, (other,)))


def _paths(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    keys: list[str | int] = [*value] if isinstance(value, dict) else [0] if isinstance(value, list) and value else []
    for key in keys:
        yield (*above, key)
        yield from _paths(value[key], (*above, key))


def _named(where: tuple[str | int, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in where)[1:]


def _at(value: Any, where: tuple[str | int, ...]) -> Any:
    for key in where:
        value = value[key]
    return value


def _with(value: dict[str, Any], where: tuple[str | int, ...], other: tuple[Any] | None) -> dict[str, Any]:
    """With another value there, or with none."""
    changed = copy.deepcopy(value)
    at = _at(changed, where[:-1])
    if other is None:
        del at[where[-1]]
    else:
        at[where[-1]] = other[0]
    return changed


@dataclass(frozen=True)
class Said:
    code: int
    stdout: str
    stderr: str


@dataclass
class NoTrainer:
    """In the place of what trains arms."""

    run: Run
    first_seed: int = 0
    device: str = "cpu"
    same_machine: bool = True

    @property
    def machine(self) -> dict[str, str]:
        path = self.run.folder / "arms" / "arms.json"
        machine: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["machine"] if path.exists() else {}
        return machine

    def train(self, planned: Any, **options: Any) -> None:
        if planned:
            raise WouldTrain


def train_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_spec(run: Run, *options: Any) -> NoTrainer:
        return NoTrainer(run, first_seed=spec_of(run.info.source).fields.seed)

    def of_script(run: Run, *options: Any) -> NoTrainer:
        script_of(run.info.source, record=run.folder / "run.json")
        return NoTrainer(run, first_seed=run.info.seeds[0])

    monkeypatch.setitem(trainers.TRAINERS, "spec", of_spec)
    monkeypatch.setitem(trainers.TRAINERS, "script", of_script)
    monkeypatch.setattr(arms, "warm_up", lambda device: None)
    for asking in (trainers, sources, steps):  # nothing is trained, so no torch is needed
        monkeypatch.setattr(asking, "need_torch", lambda what: None)


COMMAND = typer.main.get_command(app)
"""Built once: CliRunner builds it anew for each call, which takes longer than a refusal."""


def said(*words: object) -> Said:
    """The command, in this process. An exception fails the test, but for this one."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = COMMAND.main(args=[str(word) for word in words], prog_name="clipcal", standalone_mode=False)
        except WouldTrain:
            return Said(0, "", "")
    return Said(code or 0, out.getvalue(), err.getvalue())


COMMANDS: Mapping[str, tuple[str, ...]] = {
    "recommend": ("--json",),
    "check": ("--max-norm", "1", "--json"),
    "report": ("--json",),
    "apply": ("conf.yaml", "--key", "gradient_clip_val", "--json"),
    "verify": ("--json", "-q"),
}


def refusal(found: Said, file: str, field: str | None) -> str | None:
    """What is not as a refusal has to be."""
    lines = found.stderr.strip().splitlines()
    if found.code != 2 or found.stdout or len(lines) != 1:
        return f"exit {found.code}: {found.stdout[:80]}{found.stderr}"
    if not lines[0].startswith("error: ") or file not in lines[0] or len(lines[0]) > 600:
        return f"does not name {file} in a short paragraph: {lines[0]}"
    return None if names(lines[0], file, field) else f"does not name {field}: {lines[0]}"


def _prefixes(field: str) -> list[str]:
    """A list that is too short is named by itself, and not by what it lacks."""
    return [field[:n] for n in range(1, len(field) + 1) if n == len(field) or field[n] in ".["]


def names(sentence: str, file: str, field: str | None) -> bool:
    return field is None or (file in sentence and any(f"'{part}'" in sentence for part in _prefixes(field)))
