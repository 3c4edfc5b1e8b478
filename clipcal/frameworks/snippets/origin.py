"""What a threshold was calibrated on -> the one line of provenance above a snippet."""

from __future__ import annotations


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
