"""Where a log shows that its script was launched -> whether a run starts there, or goes on from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipcal.logs.rows import Rows


class Launches:
    """Rows of a script that writes a header whenever it is launched.

    A launch whose first row stands at or below the first step of the run before it started anew. Any other may have loaded
    a checkpoint: the steps themselves tell, to whoever splits the series.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._first: float | None = None
        self._launched = False

    def launched(self) -> None:
        """The header stands here."""
        self._launched = True

    def add(self, row: Mapping[str, Any], *, step: float | None) -> None:
        if step is not None and (self._first is None or step <= self._first):
            if self._launched and self._first is not None:
                self._rows.start_run()
            self._first = step
        self._launched = False
        self._rows.add(row, step=step)
