"""What became of the lines of a log: which were used, and which were passed over and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class PassedOver:
    """Rows or lines that hold a norm, or seem to, and were not used. ``why`` completes "N rows: ...", and ``first`` shows the first of
    them. ``is_lost``: what stood there may have been a norm, so that the answer has to say it."""

    rows: int
    why: str
    first: str = ""
    is_lost: bool = True

    def __str__(self) -> str:
        rows = "1 row was" if self.rows == 1 else f"{self.rows:,} rows were"
        which = "it is" if self.rows == 1 else "the first is"
        return f"{rows} left out: {self.why}{f'; {which} {self.first}' if self.first else ''}."


@dataclass(frozen=True, kw_only=True)
class Account:
    """``rows`` are those that were used."""

    rows: int = 0
    passed: tuple[PassedOver, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What an answer has to say."""
        return tuple(str(passed) for passed in self.passed if passed.is_lost)


NOTHING = Account()


def together(accounts: Iterable[Account]) -> Account:
    """One account of what was read in several parts."""
    found = tuple(accounts)
    return Account(rows=sum(a.rows for a in found), passed=tuple(passed for a in found for passed in a.passed))


@dataclass(kw_only=True)
class Counting:
    """Counts what is passed over while a log is read."""

    _reasons: dict[str, tuple[int, str, bool]] = field(default_factory=dict)

    def pass_over(self, why: str, first: str = "", *, rows: int = 1, is_lost: bool = True) -> None:
        """One more row, or ``rows``, for a reason. ``first`` is kept of the first."""
        before, kept, lost = self._reasons.get(why, (0, _cut(first), is_lost))
        self._reasons[why] = (before + rows, kept, lost)

    @property
    def passed(self) -> tuple[PassedOver, ...]:
        return tuple(
            PassedOver(rows=n, why=why, first=first, is_lost=lost)
            for why, (n, first, lost) in self._reasons.items()
            if n
        )


def _cut(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 2 * _SHOWN else f"{text[: 2 * _SHOWN]}..."
