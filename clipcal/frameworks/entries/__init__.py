"""The frameworks that are known, a file for each family."""
