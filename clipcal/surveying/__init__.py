"""Folders of logs and runs -> a row for each, the worst first."""
