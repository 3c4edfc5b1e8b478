"""What was read from a log: its gradient norms as series, and how they were written; and what a reader of one format is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipcal.logs.account import NOTHING, Account
from clipcal.logs.source import Source

Floats = NDArray[np.float64]
Window = Literal["last", "mean", "sample"]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One gradient norm of a log, in the order of the file: 1-D arrays of equal length.

    ``step`` is NaN-free float64 of whole numbers, or all NaN where the log numbers nothing; ``loss`` and ``lr`` are NaN where
    unknown. ``place`` is the epoch of a row that has no step, or what else is counted; ``scale`` the loss scale, where there is one.
    ``starts`` are rows at which the log itself says that a run starts. ``..._from`` are what the log calls the other columns, ``step_how`` is
    what says that a number is the step.
    """

    tag: str
    step: Floats
    grad_norm: Floats
    loss: Floats
    lr: Floats
    place: Floats | None = None
    scale: Floats | None = None
    starts: tuple[int, ...] = ()
    step_from: str = ""
    step_how: str = "its name"
    place_from: str = ""
    loss_from: str = ""
    lr_from: str = ""

    def __len__(self) -> int:
        return len(self.grad_norm)


@dataclass(frozen=True, kw_only=True)
class Log:
    """``window``: what a line that stands for several steps holds: the norm of the ``last`` of them, their ``mean``, or that
    of a random ``sample``; None where every line is a step or nobody knows. ``max_norm``: the threshold that the run was
    clipped at, where the log or a config beside it tells (infinite: clipping was off), and ``max_norm_from`` where that was
    read. ``after``: the norms were taken after clipping; None where nobody knows. ``notes``: sentences about what was guessed,
    or has to be known of this format. ``unit``: what ``step`` counts; an iteration is many steps. ``account``: what became of its lines. ``framework``: what wrote it, as ``recommend --for`` calls it; empty where many write such logs.
    """

    format: str
    series: tuple[Series, ...]
    window: Window | None = None
    max_norm: float | None = None
    max_norm_from: str = ""
    after: bool | None = None
    notes: tuple[str, ...] = ()
    unit: Literal["step", "epoch", "iteration"] = "step"
    account: Account = NOTHING
    framework: str = ""

    @property
    def says(self) -> tuple[str, ...]:
        """What has to be said of the log beside any answer: what was left out first."""
        return (*self.account.notes, *self.notes)


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
