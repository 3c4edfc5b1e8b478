"""A training log as its framework wrote it -> its gradient norms."""
