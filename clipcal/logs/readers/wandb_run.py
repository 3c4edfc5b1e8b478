"""A Weights & Biases offline run (``run-ID.wandb``) -> rows. Needs the wandb package for its messages, and no account.

wandb reads the frame, LevelDB's log, in a program of its own and has no Python for it any more; the messages within are read by
wandb's classes.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from typing import Any

from clipcal.errors import InputError
from clipcal.logs.leveldb import Records
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of
from clipcal.logs.readers.tensorboard import facts_of, is_mean_of, limit_of
from clipcal.logs.rows import Rows, flatten
from clipcal.logs.source import Source

TITLE = "W&B offline run"
_IDENT = b":W&B"


def _read(source: Source) -> Log:
    try:
        messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
        decode_error = importlib.import_module("google.protobuf.message").DecodeError
    except ImportError:
        raise InputError(
            f"{source.path}: is a W&B offline run, which is read with W&B's own package. Install it, and try again:\n"
            "pip install 'clipcal[wandb]'"
        ) from None
    records, rows = Records(source.chunks()), Rows()
    names: set[str] = set()
    means: list[
        dict[str, Any]
    ] = []  # over epochs: only at the end it is known whether the values of the steps stand beside them
    config: dict[str, Any] = {}
    num_bad, unknown = 0, False
    for data in records:
        try:
            record = messages.Record.FromString(data)
        except decode_error:
            num_bad += 1
            continue
        if record.HasField("run"):
            config |= _row(record.run.config.update)
        elif record.HasField("config"):
            config |= _row(record.config.update)
        elif record.HasField("history"):
            row = _row(record.history.item)
            unknown = unknown or (len(record.history.item) > 0 and not row)
            if record.history.HasField("step"):
                row.setdefault("_step", record.history.step.num)
            of_epoch = {name: row.pop(name) for name in [*row] if name.endswith("_epoch")}
            if of_epoch:
                means.append({name: value for name, value in row.items() if kind_of(name) == "step"} | of_epoch)
            names |= row.keys()
            rows.add(row)
    for row in means:
        rows.add({name: value for name, value in row.items() if not is_mean_of(name, names)})
        names |= row.keys()
    if records.num_damaged or num_bad:
        rows.notes.append("The file of the run is damaged in places, and rows are missing there.")
    if unknown:
        rows.notes.append("A newer wandb than the one installed wrote the run, and values are missing: update wandb.")
    config = {name: value for name, value in config.items() if not name.startswith("_wandb")}
    if limit := limit_of(config):
        rows.threshold(f"{limit[0]} in the run's config", limit[1])
    norms = {name for name in names if kind_of(name) == "norm" and not is_mean_of(name, names)}
    return rows.log(TITLE, **facts_of(norms, config))


def _row(items: Iterable[Any]) -> dict[str, Any]:
    """History or config items by their names; an object's members stand under its name, as W&B shows them."""
    row: dict[str, Any] = {}
    for item in items:
        name = ".".join(item.nested_key) or item.key
        text = item.value_json
        if not text:  # wandb 0.3x writes plain values as such too, and may come to write them alone
            kind = item.WhichOneof("value") if "value" in item.DESCRIPTOR.oneofs_by_name else None
            if kind is None:
                continue
            if kind != "json":
                row[name] = getattr(item, kind)
                continue
            text = item.json
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if not isinstance(value, dict):
            row[name] = value
        elif "_type" not in value:  # as histograms and pictures have it
            row |= {f"{name}.{inner}": v for inner, v in flatten(value).items()}
    return row


READER = Reader(
    title=TITLE,
    recognises=lambda source: source.head.startswith(_IDENT),
    read=_read,
    norms='call run.log({"train/grad_norm": norm, ...}) at every step, with the norm that clip_grad_norm_ returns',
)
