"""A threshold -> paste-ready text for the user's framework, or a refusal where that would mean something else."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from clipcal._version import __version__
from clipcal.errors import InputError
from clipcal.frameworks.keys import check_threshold
from clipcal.frameworks.table import FRAMEWORKS, resolve
from clipcal.run.records import Method

if TYPE_CHECKING:
    from clipcal.recommendation.answer import Recommendation
    from clipcal.run.directory import Run


def snippet(
    name: str, *, max_norm: float, method: Method = "norm", norm_type: float = 2.0, provenance: str = ""
) -> str:
    """Paste-ready text that clips at ``max_norm``, without a newline at its end.

    ``name`` is a key of ``FRAMEWORKS`` or an alias. ``max_norm`` is in the unit of ``method``: a total norm, an absolute
    value of one element (``value``) or the norm of one tensor (``per_tensor``); ``norm_type`` does not matter for
    ``value``. ``provenance`` becomes a comment, the first line; in ``deepspeed`` it stands outside the JSON object.

    Raises InputError for an unknown name or method, for a threshold that is not a positive finite number, and where the
    framework cannot express the method or the norm type: the message says what to use instead.
    """
    entry = FRAMEWORKS[resolve(name)]
    check_threshold(max_norm, method, norm_type, of="A snippet")
    if method not in entry.methods:
        can = " and ".join(f"method {known!r}" for known in entry.methods)
        raise InputError(f"{entry.title} cannot clip by method {method!r}, only by {can}. Instead, {entry.instead}.")
    if method != "value" and norm_type != 2.0 and not entry.any_norm_type:
        raise InputError(
            f"{entry.title} can only clip by the L2 norm, and this threshold is for norm_type {norm_type!r}; the "
            f"number would mean something else. Instead, {entry.instead}."
        )
    # One line whatever it holds: a line break in a path would end the comment and become code.
    words = " ".join("".join(c if c.isprintable() else " " for c in provenance).split())
    return (f"# {words}\n" if words else "") + entry.render(max_norm, method, norm_type)


def provenance(
    *,
    version: str,
    source: str,
    steps: int,
    batch_size: int | None = None,
    accumulate: int = 1,
    num_ranks: int = 1,
    date: str = "",
) -> str:
    """``calibrated by clipcal 0.1.0 on 300 steps of configs/char_lstm.yaml, batch 8 x 4 accumulated, 2026-11-21``.

    ``source`` is a spec or a log, ``steps`` how many of its optimizer steps were read. ``batch_size`` is that of one
    micro-batch on one rank: a threshold is for the batch that it was calibrated on. ``date`` is when the steps were
    trained or the log was read, an ISO date, with or without a time.
    """
    parts = [f"calibrated by clipcal {version} on {steps} step{'s' * (steps != 1)} of {source}"]
    if batch_size is not None:
        accumulated = f" x {accumulate} accumulated" if accumulate > 1 else ""
        ranks = f" x {num_ranks} ranks" if num_ranks > 1 else ""
        parts.append(f"batch {batch_size}{accumulated}{ranks}")
    if date:
        parts.append(date[:10])
    return ", ".join(parts)


def known(framework: str) -> str:
    """The framework that a run's script lets clip, or that wrote a log, if there are words for it; else plain PyTorch."""
    return framework if framework in FRAMEWORKS else "pytorch"


def snippet_of(framework: str, recommendation: Recommendation, run: Run | None) -> str:
    """Paste-ready text with where it comes from. Raises InputError where that framework has no words for it."""
    assert recommendation.max_norm is not None
    batch, accumulate = run.info.source.batch if run else (None, 1)
    return snippet(
        framework,
        max_norm=recommendation.max_norm,
        method=recommendation.method,
        norm_type=recommendation.norm_type,
        provenance=provenance(
            version=__version__,
            source=run.info.source.path_or(run.folder) if run else str(recommendation.source),
            steps=recommendation.steps,
            batch_size=batch,
            accumulate=accumulate,
            num_ranks=run.info.world_size if run else 1,
            date=run.info.started if run else datetime.date.today().isoformat(),
        ),
    )
