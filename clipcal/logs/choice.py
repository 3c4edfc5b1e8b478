"""What the user chooses within a log: the norm, the run, and where a line of unknown text holds its norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LogChoice:
    """``tag``: one of several norms. ``run``: one of several runs that were appended, from 1, or from the end where it is
    negative. ``pattern``: a regular expression with a group named ``norm``, for text in no known format."""

    tag: str | None = None
    run: int | None = None
    pattern: str | None = None

    @property
    def is_made(self) -> bool:
        """Whether anything was chosen."""
        return any(value is not None for value in (self.tag, self.run, self.pattern))

    @property
    def options(self) -> list[str]:
        """As typed behind a command."""
        given = {"--tag": self.tag, "--run": self.run, "--pattern": self.pattern}
        return [word for option, value in given.items() if value for word in (option, str(value))]


NO_CHOICE = LogChoice()


def listed(names: Sequence[str], *, most: int = 10) -> str:
    """What there is to choose from, as an error shows it."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
