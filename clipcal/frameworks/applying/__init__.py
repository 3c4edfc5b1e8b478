"""A threshold and a config file -> the same file with the threshold in it, and every other character as it was."""

from __future__ import annotations

from clipcal.frameworks.applying.frameworks import FRAMEWORKS
from clipcal.frameworks.applying.planning import Change, Plan, diff, plan, write

__all__ = ["FRAMEWORKS", "Change", "Plan", "diff", "plan", "write"]
