"""Ranks under torchrun -> one arm that all of them train. Rank 0 leads: it alone reads the command, writes and prints."""
