"""Watching a log that is being written: every growth is judged, nothing else is printed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clipcal.errors import InputError
from clipcal.logs.choice import LogChoice
from clipcal.views.terminal.following import follow


def append(path: Path, norms: Sequence[float], **row: Any) -> None:
    start = path.read_text().count("\n") if path.exists() else 0
    with path.open("a") as f:
        for i, norm in enumerate(norms, start=start):
            f.write(json.dumps({"step": i, "grad_norm": norm} | row) + "\n")


class Screen(io.StringIO):
    """A terminal, as far as rich asks."""

    def isatty(self) -> bool:
        return True


def watched(path: Path, events: Sequence[Callable[[], None]], *, terminal: bool = False, **options: Any) -> str:
    """What is printed while ``events`` happen, one between two looks, and then Ctrl-C."""
    out = Screen() if terminal else io.StringIO()
    pending = list(events)

    def sleep(seconds: float) -> None:
        assert seconds >= 1.0
        if not pending:
            raise KeyboardInterrupt
        pending.pop(0)()

    console = Console(file=out, force_terminal=terminal, width=100, color_system=None)
    with pytest.raises(KeyboardInterrupt):
        follow(path, console=console, sleep=sleep, **({"max_norm": 3.0} | options))
    return out.getvalue()


CALM = [1.0 + 0.1 * ((7 * i) % 11 - 5) / 5 for i in range(100)]


def test_a_line_whenever_the_log_has_grown(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append(log, CALM)
    grow = [lambda: append(log, CALM), lambda: None, lambda: append(log, [9.0] * 300)]
    lines = watched(log, grow).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("step 99   inactive   fits")
    assert lines[1].startswith("step 199   inactive   fits")
    assert "step 499" in lines[2]
    assert "does not fit" in lines[2]
    assert "acts on 60.0% of 500 steps" in lines[2]


def test_a_log_without_a_norm_yet_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("")
    lines = watched(log, [lambda: append(log, CALM)]).splitlines()
    assert lines[0].startswith("waiting for a gradient norm: ")
    assert "is empty" in lines[0]
    assert lines[1].startswith("step 99   inactive   fits")


def test_a_line_cut_in_the_middle_is_read_when_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append(log, CALM)
    half, rest = '{"step": 100, "grad', '_norm": 50.0}\n'

    def add(text: str) -> None:
        with log.open("a") as f:
            f.write(text)

    lines = watched(log, [lambda: add(half), lambda: add(rest)]).splitlines()
    assert [line.split("   ")[0] for line in lines] == ["step 99", "step 99", "step 100"]


def test_a_folder_is_watched_as_its_file_is(tmp_path: Path) -> None:
    log = tmp_path / "run" / "metrics.jsonl"
    log.parent.mkdir()
    append(log, CALM)
    lines = watched(log.parent, [lambda: append(log, CALM)]).splitlines()
    assert [line.split("   ")[0] for line in lines] == ["step 99", "step 199"]


def test_what_only_the_user_can_answer_ends_the_watch(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append(log, CALM, other_grad_norm=1.0)
    console = Console(file=io.StringIO())
    with pytest.raises(InputError, match="--tag"):
        follow(log, max_norm=3.0, console=console)
    with pytest.raises(InputError, match="--max-norm"):
        follow(log, max_norm=None, choice=LogChoice(tag="other_grad_norm"), console=console)
    with pytest.raises(InputError, match="is not there"):
        follow(tmp_path / "none", max_norm=3.0, console=console)


def test_a_dumb_terminal_gets_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    log = tmp_path / "log.jsonl"
    append(log, CALM)
    lines = watched(log, [lambda: append(log, CALM)], terminal=True).splitlines()
    assert [line.split("   ")[0] for line in lines] == ["step 99", "step 199"]


def test_on_a_terminal_the_picture_is_drawn_again(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append(log, CALM)
    shown = watched(log, [lambda: append(log, [9.0] * 300)], terminal=True)
    first, last = shown.index("max_norm 3 fits"), shown.index("max_norm 3 does not fit")
    assert first < last
    assert "median norm" in shown
    assert "Why" in shown
