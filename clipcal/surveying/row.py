"""One log or run as a survey shows it, and where it stands in the list."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from clipcal.checking.answer import Fits
from clipcal.recommendation.answer import Confidence, Verdict
from clipcal.run.jsonfile import plain

State = Literal["fits", "borderline", "too low", "too high", "does not fit", "cannot be told", "off", "none known"]
Group = Literal["does_not_fit", "unguarded", "borderline", "fits", "not_known", "unreadable"]
GROUPS: dict[Group, tuple[str, str]] = {
    "does_not_fit": ("does not fit", "do not fit"),
    "unguarded": ("unguarded", "unguarded"),
    "borderline": ("borderline", "borderline"),
    "fits": ("fits", "fit"),
    "not_known": ("not known", "not known"),
    "unreadable": ("unreadable", "unreadable"),
}
"""The groups of a survey in its order, and what they are called behind a one and behind another number."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What cannot be known is None. ``name`` is the run's own, or a guess from its path. ``rows`` are the norms that were judged, ``median``
    that of stable training; ``max_norm``, ``confidence`` and ``verdict`` are those of ``recommend``.

    ``in_use`` is the threshold in use (infinite: clipping was off), ``in_use_from`` where that was read, and ``state`` whether it fits, in a
    word; ``fits`` is that of ``check``. ``acts`` is the share of the ordinary steps that it clips, ``takes`` the share of their length that it
    takes, ``passes`` the share of the spikes that it lets pass. ``reason`` is the first of ``check`` or ``recommend``, ``notes`` what has to be known of the log, and
    ``problem`` says why a file could not be read.
    """

    path: str
    format: str | None = None
    name: str | None = None
    rows: int | None = None
    verdict: Verdict | None = None
    median: float | None = None
    spikes: int | None = None
    nonfinite: int | None = None
    in_use: float | None = None
    in_use_from: str | None = None
    state: State | None = None
    fits: Fits = None
    acts: float | None = None
    takes: float | None = None
    passes: float | None = None
    method: str | None = None
    max_norm: float | None = None
    confidence: Confidence | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def group(self) -> Group:
        """Where it stands. Unguarded is what spikes or diverges while clipping is off, or while no threshold is known."""
        if self.problem is not None:
            return "unreadable"
        if self.fits is False:
            return "does_not_fit"
        if self.state in ("off", "none known"):
            return "unguarded" if self.verdict == "diverging" or self.spikes else "not_known"
        if self.fits == "borderline":
            return "borderline"
        return "fits" if self.fits is True else "not_known"

    @property
    def order(self) -> tuple[Any, ...]:
        """What rows are sorted by, the worst first. A run that diverges is lost, and costs most. What else does not fit stands by what it
        takes of the ordinary steps (where that is not known, by how many it acts on), and then by the spikes that pass."""
        takes = self.takes if self.takes is not None else self.acts or 0.0
        return (
            list(GROUPS).index(self.group),
            self.verdict != "diverging",
            -takes,
            -(self.passes or 0.0),
            self.state != "off",
            -(self.spikes or 0),
            self.path,
        )

    def as_dict(self) -> dict[str, Any]:
        """The object of ``survey --json``; non-finite numbers are strings."""
        return {"group": self.group} | {f.name: plain(getattr(self, f.name)) for f in fields(self)}
