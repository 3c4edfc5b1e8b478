"""The golden runs -> answers.json, written anew with what the commands say today.

    PYTHONPATH=tests python -m golden.answers

Run it where a rule has changed on purpose, read the diff, and say in CHANGELOG.md what changed. What is read from a run (read.json) stays: a
difference there is a run that is not read any more as it was.
"""

from __future__ import annotations

from golden.reading import ANSWERS, golden_runs, record

if __name__ == "__main__":
    for golden in golden_runs():
        record(golden, what=(ANSWERS,))
