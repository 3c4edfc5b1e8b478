"""Sacred's ``info.json`` (lists ``x`` and ``x_T``) and ``metrics.json`` (``{x: {"steps": [...], "values": [...]}}``) -> rows.

PyMARL and its descendants write the first through Sacred's info, with the environment's steps in ``x_T``. They log what
``clip_grad_norm_`` returned, a tensor since PyTorch 1.5; Sacred then writes torch's pickle of it, in base64. Nothing is unpickled:
the bytes of its storage are the last ones, how many elements, 8 bytes, and the elements.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from typing import Any

from clipcal.logs.lines import tell_beside
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import value_of
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source

_STEPS = "_T"
_ENCODED = re.compile(r'"py/b64": "([^"]{0,4096})"')
_STORAGE = re.compile(rb"ctorch\n(Float|Double|Half|BFloat16)Storage\n")
_ONE = struct.pack("<q", 1)
_FORMATS = {b"Float": "<f", b"Double": "<d", b"Half": "<e", b"BFloat16": "<H"}  # the last is the upper half of a float


def _recognises(source: Source) -> bool:
    named = source.opening == b"{" and (b'_T"' in source.head or b'"steps"' in source.head)
    return named and any(True for _ in _lists(source.known_document))


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
            row = {n: _number(v) if (v := values[i]).__class__ is dict else v for n, values in columns.items()}
            rows.add(row, step=step)
    tell_beside(rows, source, "sacred")
    notes = ("Some values have no step, or some steps no value; they were left out.",) if cut else ()
    return rows.log("Sacred metrics", notes=notes)


def _number(raw: dict[str, Any]) -> Any:
    number = tensor_value(raw)
    return raw if number is None else number


def tensor_value(raw: Any) -> float | None:
    """The number in a pickled tensor; None for anything else, and for a tensor of several numbers."""
    if not isinstance(raw, dict) or "py/reduce" not in raw:
        return None
    try:
        encoded = _ENCODED.search(json.dumps(raw))
        data = base64.b64decode(encoded[1], validate=True) if encoded else b""
    except (RecursionError, ValueError):
        return None
    found = _STORAGE.search(data)
    form = _FORMATS[found[1]] if found else ""
    size = struct.calcsize(form)
    if not found or data[-size - 8 : -size] != _ONE:
        return None
    return float(struct.unpack("<f", b"\0\0" + data[-2:])[0] if form == "<H" else struct.unpack(form, data[-size:])[0])


READER = Reader(
    title="Sacred metrics",
    recognises=_recognises,
    read=_read,
    norms='call _run.log_scalar("training.grad_norm", norm, step) with what torch.nn.utils.clip_grad_norm_ returns',
)
