"""skorch's ``history.json`` (1.4): a list of epochs, each with a list of its batches -> a row for each batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source


def _batches(source: Source) -> Iterator[dict[str, Any]]:
    document = source.known_document if source.opening == b"[" else None
    for epoch in document if isinstance(document, list) else ():
        batches = epoch.get("batches") if isinstance(epoch, dict) else None
        yield from (batch for batch in (batches if isinstance(batches, list) else ()) if isinstance(batch, dict))


def _read(source: Source) -> Log:
    rows = Rows()
    trained = (batch for batch in _batches(source) if "train_loss" in batch or any(kind_of(n) == "norm" for n in batch))
    for step, batch in enumerate(trained):
        rows.add({name: value for name, value in batch.items() if not name.startswith("valid")}, step=float(step))
    rows.step_how = "the place of the batch"
    return rows.log("skorch history")


READER = Reader(
    title="skorch history",
    recognises=lambda source: any(True for _ in _batches(source)),
    read=_read,
    norms="record it in a callback's on_grad_computed, as in net.history.record_batch('grad_norm', norm)",
)
