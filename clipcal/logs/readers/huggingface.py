"""Hugging Face Trainer's ``trainer_state.json`` -> rows. TRL, Unsloth, axolotl and LLaMA-Factory write it too.

Read in transformers 4.38 to 5.23: ``Trainer.log`` appends a row per logging window, whose ``grad_norm`` is what
``clip_grad_norm_`` returned at the window's last step, the norm before clipping.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from clipcal.errors import InputError
from clipcal.logs.lines import tell_beside
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import value_of
from clipcal.logs.rows import Rows, flatten
from clipcal.logs.source import Source, is_object, not_json

TITLE = "Hugging Face trainer_state.json"
HOW = "use transformers 4.38 or newer, whose Trainer logs grad_norm, with logging_steps=1"
OVERFLOWN = "Norms of -1 are DeepSpeed's way to say that a norm was not finite; they are read as NaN."
_KEY = '"log_history"'


def is_training_row(row: Mapping[str, Any]) -> bool:
    """A row that holds a norm is one of training, whatever else stands in it: Trainer writes train_runtime into every row where
    include_num_input_tokens_seen is set. Rows of eval_* values, and the last one, hold nothing of a step."""
    return "grad_norm" in row or ("loss" in row and "train_runtime" not in row)


def add_row(rows: Rows, row: dict[str, Any], step: float | None = None) -> None:
    """Add a row of Trainer's; ms-swift writes its step as ``"global_step/max_steps": "12/500"``."""
    if value_of(row.get("grad_norm")) == -1.0:
        row["grad_norm"] = "nan"
        if OVERFLOWN not in rows.notes:
            rows.notes.append(OVERFLOWN)
    if step is None:
        step = swift_step(row)
    rows.add(row, step=step)


def swift_step(row: Mapping[str, Any]) -> float | None:
    """The step of an ms-swift row; None in others."""
    number = str(row.get("global_step/max_steps", "")).partition("/")[0].strip()
    return float(number) if number.isascii() and number.isdigit() and len(number) < 19 else None


def _recognises(source: Source) -> bool:
    key, (first, ended, _) = _KEY.encode(), source.head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    # ms-swift's logging.jsonl ends with the state, history and all: there the first line is an object of its own
    is_lines = ended and key not in first and is_object(first)
    return source.opening == b"{" and key in source.head and not is_lines


def _read(source: Source) -> Log:
    rows = Rows()
    for row in _history(source, rows):
        if isinstance(row, dict) and is_training_row(row):
            add_row(rows, flatten(row))
    tell_beside(rows, source, "huggingface")
    return rows.log(TITLE, window="last", after=False)


def _history(source: Source, rows: Rows) -> list[Any]:
    document = source.document
    if isinstance(document, dict):
        history = document.get("log_history")
        if not isinstance(history, list):
            raise InputError(
                f"{source.path}: its log_history is no list of rows, as Trainer writes it. Name another checkpoint's."
            )
        return history
    # killed while it was written, or copied in part
    text = source.whole().decode("utf-8", "replace")
    at = text.find("[", text.find(_KEY))
    found: list[Any] = []
    with contextlib.suppress(ValueError, RecursionError):  # where it breaks off
        while at != -1:
            row, at = json.JSONDecoder().raw_decode(text, text.find("{", at))
            found.append(row)
    fault = source.fault
    if not found:
        raise not_json(source)
    where = "" if fault is None else f" from line {fault.lineno}, column {fault.colno} on"
    rows.notes.append(f"The file is not valid JSON{where} (cut off?); the rows that could be read were.")
    return found


READER = Reader(title=TITLE, recognises=_recognises, read=_read, norms=HOW)
