"""Sacred's ``info.json`` (lists ``x`` and ``x_T``) and ``metrics.json`` (``{x: {"steps": [...], "values": [...]}}``) -> rows.

PyMARL and its descendants write the first through Sacred's info, with the environment's steps in ``x_T``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clipcal.errors import InputError
from clipcal.logs.lines import tell_beside
from clipcal.logs.log import Log, Reader
from clipcal.logs.pickled import tensor_value
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import value_of

_STEPS = "_T"


def _recognises(source: Source) -> bool:
    if source.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
        return False
    if not (b'_T"' in source.head or b'"steps"' in source.head):
        return False
    try:
        return any(True for _ in _lists(source.document))
    except InputError:
        return False


def _lists(document: Any) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Name, steps and values of every metric."""
    if not isinstance(document, dict):
        return
    if isinstance(document.get("info"), dict):  # a run as the MongoDB observer keeps it
        document = document["info"]
    for name, held in document.items():
        if isinstance(held, dict):
            steps, values = held.get("steps"), held.get("values")
        else:
            steps, values = document.get(name + _STEPS), held
        if isinstance(steps, list) and isinstance(values, list):
            yield name, steps, values


def _read(source: Source) -> Log:
    # lists that were written together have the same steps, and make rows; others are joined by step
    together: dict[tuple[float | None, ...], dict[str, list[Any]]] = {}
    cut = False
    for name, steps, values in _lists(source.document):
        cut = cut or len(steps) != len(values)
        n = min(len(steps), len(values))
        together.setdefault(tuple(value_of(step) for step in steps[:n]), {})[name] = values[:n]
    rows = Rows()
    for numbers, columns in together.items():
        for i, step in enumerate(numbers):
            rows.add({name: _plain(values[i]) for name, values in columns.items()}, step=step)
    tell_beside(rows, source, "sacred")
    notes = ("Some values have no step, or some steps no value; they were left out.",) if cut else ()
    return rows.log("Sacred metrics", notes=notes)


def _plain(value: Any) -> Any:
    number = tensor_value(value) if isinstance(value, dict) else None
    return value if number is None else number


READER = Reader(
    title="Sacred metrics",
    recognises=_recognises,
    read=_read,
    norms='call _run.log_scalar("training.grad_norm", norm, step) with what torch.nn.utils.clip_grad_norm_ returns',
)
