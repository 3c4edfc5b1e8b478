"""One JSON object of columns, such as Keras' ``History.history`` or pandas' ``DataFrame.to_json`` -> rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of, value_of
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source

_MAX_DEPTH = 3
_EPOCHS = ("epoch", "epochs")


def _recognises(source: Source) -> bool:
    tables = _tables(source.known_document) if source.opening == b"{" else []
    return any(kind_of(name) in ("norm", "loss") for columns, _ in tables for name in columns)


def _tables(document: Any) -> list[tuple[dict[str, list[Any]], int]]:
    """Every object in the document that holds columns: those of equal length, and how many stood beside them. Keys above are
    not part of the names, unless several have norms."""
    found: list[tuple[str, dict[str, list[Any]]]] = []
    pending = [("", document, 0)] if isinstance(document, dict) else []
    while pending:
        prefix, inner, depth = pending.pop()
        columns = {name: column for name, raw in inner.items() if (column := _column(raw)) is not None}
        if columns:
            found.append((prefix, columns))
        if depth < _MAX_DEPTH:
            pending += [
                (f"{prefix}{name}/", v, depth + 1)
                for name, v in inner.items()
                if isinstance(v, dict) and name not in columns
            ]
    several = sum(any(kind_of(name) == "norm" for name in columns) for _, columns in found) > 1
    return [_table(prefix if several else "", columns) for prefix, columns in found]


def _column(raw: Any) -> list[Any] | None:
    """The values of a column: a list of numbers, or pandas' object of row numbers and values."""
    if isinstance(raw, dict) and "0" in raw and all(isinstance(k, str) and k.isdigit() for k in raw):
        raw = list(raw.values())
    if not isinstance(raw, list) or not raw or not any(value_of(v) is not None for v in raw[:1000]):
        return None
    return raw


def _table(prefix: str, columns: dict[str, list[Any]]) -> tuple[dict[str, list[Any]], int]:
    # the norms decide how long it is, or else the most columns
    lengths = [len(v) for name, v in columns.items() if kind_of(name) == "norm"] or [len(v) for v in columns.values()]
    n = max(set(lengths), key=lengths.count)
    kept = {name: v for name, v in columns.items() if len(v) == n or kind_of(name) == "norm"}
    named = {prefix + name if kind_of(name) == "norm" else name: v for name, v in kept.items()}
    return named, sum(kind_of(name) in ("loss", "lr") for name in columns.keys() - kept.keys())


def _read(source: Source) -> Log:
    rows = Rows()
    tables = _tables(source.document)
    per_epoch = False
    for columns, _ in tables:
        if not any(kind_of(name) == "norm" for name in columns):
            continue
        rows.start_run()
        length = max(len(v) for v in columns.values())
        counted = any(kind_of(name) == "step" for name in columns)
        epochs = None if counted else next((columns[e] for e in _EPOCHS if e in columns), None)
        if epochs is None and not counted and any(name.startswith("val_") for name in columns):
            epochs = list(range(length))  # Keras: one value an epoch
        per_epoch = per_epoch or epochs is not None
        for i in range(length):
            row: Mapping[str, Any] = {name: v[i] for name, v in columns.items() if i < len(v)}
            rows.add(row, step=value_of(epochs[i]) if epochs is not None and i < len(epochs) else None)
    others = sum(num for _, num in tables)
    notes = (f"{others} columns of losses or rates are of another length than the norms and were left out.",)
    return rows.log("JSON columns", notes=notes if others else (), unit="epoch" if per_epoch else "step")


READER = Reader(
    title="JSON columns",
    recognises=_recognises,
    read=_read,
    norms="append what torch.nn.utils.clip_grad_norm_ returns to a list at every step, and write it as "
    '{"step": [...], "loss": [...], "grad_norm": [...]}',
)
