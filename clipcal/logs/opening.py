"""A path -> its source: the file itself, the outputs of a Jupyter notebook's cells, or the metrics within a tracker's zip."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from clipcal.logs.archives import Member, metrics_in
from clipcal.logs.source import Source


class Notebook(Source):
    """A source whose bytes are the outputs of a notebook's cells, in their order."""

    def chunks(self) -> Iterator[bytes]:
        yield from self._printed

    @cached_property
    def _printed(self) -> tuple[bytes, ...]:
        cells = Source(self.path).document["cells"]
        return tuple(text.encode("utf-8", "replace") for cell in cells for text in _outputs(cell))


def opened(path: Path) -> Source:
    """The source of a file, of what a notebook printed, or of the metrics in a zip. Raises InputError where it cannot be read."""
    source = Source(path)
    if source.head.startswith(b"PK") and (name := metrics_in(path)) is not None:
        return Member(path, name)
    return Notebook(path) if path.suffix == ".ipynb" and _is_notebook(source.known_document) else source


def _is_notebook(document: Any) -> bool:
    """Whether a document has cells, and one of them has printed something."""
    cells = document.get("cells") if isinstance(document, dict) else None
    return isinstance(cells, list) and any(text.strip() for cell in cells for text in _outputs(cell))


def _outputs(cell: Any) -> Iterator[str]:
    """What a cell printed, each output ended by a newline; what is malformed is none."""
    outputs = cell.get("outputs") if isinstance(cell, dict) else None
    for output in outputs if isinstance(outputs, list) else ():
        if not isinstance(output, dict):
            continue
        data = output.get("data")
        text = output.get("text") or (data.get("text/plain") if isinstance(data, dict) else None)
        lines = text if isinstance(text, list) else [text]
        joined = "".join(line for line in lines if isinstance(line, str))
        if joined:
            yield joined if joined.endswith("\n") else f"{joined}\n"
