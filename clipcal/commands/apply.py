"""``clipcal apply``: the threshold -> a config file that is there already."""

from __future__ import annotations


def apply() -> None:
    """Write the threshold into a config file."""
    raise NotImplementedError
