"""What the parent and the processes that it watches tell each other: a folder of small files."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE, SHIFT = "CLIPCAL_SESSION", "CLIPCAL_SEED_SHIFT"
CONFIG, STOP, ALIVE, STREAMS = "config.json", "stop", "alive", "streams"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a watched process is to do: record ``steps`` of one optimizer, unclipped or clipped at ``max_norm``, at ``lr_scale`` times
    its rate. ``optimizer`` is its number, 1 for the first that steps, its class' name, or None for the one with most parameters."""

    steps: int
    optimizer: int | str | None = None
    max_norm: float | None = None
    lr_scale: float = 1.0

    def write(self, session: Path) -> None:
        write(session / CONFIG, asdict(self))

    @staticmethod
    def read(session: Path) -> Config:
        return Config(**json.loads((session / CONFIG).read_text(encoding="utf-8")))


def write(path: Path, value: Any) -> None:
    """JSON, whole or not at all. ``value`` holds no floats that are not finite."""
    _write_whole(path, json.dumps(value))


def say(session: Path, kind: str, text: str) -> None:
    """Leave a file of this process that the parent reads: ``process``, ``torch``, ``refused``, ``failed``."""
    _write_whole(session / f"{kind}-{os.getpid()}", text)


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
