"""A threshold and a config file -> the same file with the threshold in it, and every other character as it was."""
