"""One file per format: a log as its framework wrote it -> its series."""
