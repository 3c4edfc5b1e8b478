"""A training with a line in its script -> a run."""
