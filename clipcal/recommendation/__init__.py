"""Norms, and losses where there are any -> a threshold, with its evidence and its limits."""
