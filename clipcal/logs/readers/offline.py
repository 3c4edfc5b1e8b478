"""What ClearML, Comet and Neptune keep of a run that has no server: JSON, a message for each value -> rows.

ClearML writes arrays of messages into ``metrics.jsonl`` (2.1.12), Comet a message a line into ``messages.json`` (3.58.8), both within a
zip; Neptune's client writes an operation a line into ``data-1.log`` (1.14.0). A tracker that cannot keep what is not finite hides
explosions, so that is said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of, value_of
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source

Message = tuple[str, Any, float | None]
"""A name, a value, and its step; a parameter has the name of one and no step."""
_LOST = {
    "ClearML's offline metrics": "ClearML stores what is not finite as 0.0: {zeros} among the norms may stand for explosions.",
    "Neptune's offline operations": "Neptune's client drops what is not finite: {holes} without a norm may have been explosions.",
}


def _read(source: Source, title: str, messages: Iterator[Message]) -> Log:
    rows = Rows()
    norms: dict[float, float] = {}
    all_steps: set[float] = set()
    for name, raw, step in messages:
        kind = kind_of(name)
        if kind == "threshold":
            rows.threshold(f"{name} of the run", value_of(raw))
        elif kind in ("norm", "loss", "lr", "scale"):
            rows.add({name: raw}, step=step)
            value = value_of(raw)
            if step is not None and value is not None:
                all_steps.add(step)
                if kind == "norm":
                    norms[step] = value
    zeros = int(np.sum(np.array(list(norms.values())) == 0.0))
    holes = sum(min(norms, default=0) < step < max(norms, default=0) for step in all_steps - norms.keys())
    lost = _LOST.get(title, "")
    shown = {"zeros": (zeros, "zero"), "holes": (holes, "step")}
    said = [
        lost.format(**{what: f"{n:,} {noun}{'s' * (n != 1)}"})
        for what, (n, noun) in shown.items()
        if n and f"{{{what}}}" in lost
    ]
    return rows.log(title, notes=tuple(said) if norms else ())


def _objects(source: Source) -> Iterator[dict[str, Any]]:
    for line in source.lines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        yield from (row for row in (found if isinstance(found, list) else [found]) if isinstance(row, dict))


def _clearml(source: Source) -> Iterator[Message]:
    for row in _objects(source):
        if row.get("type") == "training_stats_scalar":
            yield f"{row.get('metric')}/{row.get('variant')}", row.get("value"), value_of(row.get("iter"))


def _comet(source: Source) -> Iterator[Message]:
    for row in _objects(source):
        payload = row.get("payload")
        metric, param = (payload.get(key) if isinstance(payload, dict) else None for key in ("metric", "param"))
        if isinstance(metric, dict):
            yield str(metric.get("metricName")), metric.get("metricValue"), value_of(metric.get("step"))
        elif isinstance(param, dict) and kind_of(str(param.get("paramName"))) == "threshold":
            yield str(param["paramName"]), param.get("paramValue"), None


def _neptune(source: Source) -> Iterator[Message]:
    for row in _objects(source):
        operation = row.get("obj")
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), list):
            continue
        name = "/".join(map(str, operation["path"]))
        if operation.get("type") == "LogFloats" and isinstance(operation.get("values"), list):
            points = (v for v in operation["values"] if isinstance(v, dict))
            yield from ((name, point.get("value"), value_of(point.get("step"))) for point in points)
        elif operation.get("type") in ("AssignFloat", "AssignInt") and kind_of(name) == "threshold":
            yield name, operation.get("value"), None


def _reader(title: str, sign: bytes, messages: Any, norms: str) -> Reader:
    found = re.compile(sign)
    return Reader(
        title=title,
        recognises=lambda source: source.opening in (b"{", b"[") and bool(found.search(source.head)),
        read=lambda source: _read(source, title, messages(source)),
        norms=norms,
    )


CLEARML = _reader(
    "ClearML's offline metrics",
    rb'"type": ?"training_stats_scalar"',
    _clearml,
    'call logger.report_scalar("train", "grad_norm", norm, step) at every step',
)
COMET = _reader(
    "Comet's offline messages",
    rb'"type": ?"(?:metric_msg|parameter_msg)"',
    _comet,
    'call experiment.log_metric("train/grad_norm", norm, step=step) at every step',
)
NEPTUNE = _reader(
    "Neptune's offline operations",
    rb'"obj": ?\{"type": ?"(?:LogFloats|Assign\w+)"',
    _neptune,
    'call run["train/grad_norm"].append(norm, step=step) at every step',
)
