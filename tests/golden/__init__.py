"""Runs of every version that was released, and what is read from them."""
