"""A source and a test -> whether one of its earlier lines passes: what a format is recognised by where its log starts with
long dumps of a configuration or a model."""

from __future__ import annotations

from collections.abc import Callable

from clipcal.errors import InputError
from clipcal.logs.source import Source

EARLY = 32 * 2**20
"""Bytes. The dumps of a run that was restarted fifty times come to less."""


def early_line(source: Source, needle: bytes, test: Callable[[str], object]) -> bool:
    """Whether ``test`` is true of a line in the first 32 MiB. It sees only lines that contain ``needle``, cut to 20,000
    characters."""
    if not source.is_text:
        return False
    left = EARLY
    try:
        for raw in source.raw_lines():
            if needle in raw:
                parts = raw.decode("utf-8", "replace").split("\r")
                if any(test(part[:20_000]) for part in parts if part):
                    return True
            left -= len(raw) + 1
            if left < 0:
                break
    except InputError:  # unreadable further on: whoever reads the file says so
        return False
    return False
