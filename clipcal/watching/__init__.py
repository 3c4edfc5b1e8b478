"""Watching a training from within, with a line in the script."""

from __future__ import annotations

from clipcal.watching.watch import Watch, watch

__all__ = ["Watch", "watch"]
