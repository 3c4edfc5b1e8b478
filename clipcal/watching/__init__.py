"""Watching a training from within, with a line in the script; and what it shares with watching one from outside."""
