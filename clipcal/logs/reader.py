"""What a reader of one log format is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clipcal.logs.log import Log
from clipcal.logs.source import Source


@dataclass(frozen=True, kw_only=True)
class Reader:
    """``recognises`` looks at the content, never at the name, and is cheap; ``read`` may raise InputError.

    ``title`` is the format as a person would say it, and ``norms`` says how its framework comes to write a gradient norm:
    it completes "To have it logged, ..." where a log holds none.
    """

    title: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source], Log]
    norms: str
