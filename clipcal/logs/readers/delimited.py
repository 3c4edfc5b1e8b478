"""CSV, TSV and other tables with a header; the CSV exports of W&B and TensorBoard -> rows.

W&B heads a column ``RUN - train/grad_norm`` and writes the least and largest value of each point beside it, as ``__MIN`` and
``__MAX``; TensorBoard's header is ``Wall time,Step,Value``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np

from clipcal.logs.account import together
from clipcal.logs.lines import tell_beside
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of, value_of
from clipcal.logs.readers.jsonlines import is_rllib
from clipcal.logs.readers.tensorboard_json import exported
from clipcal.logs.rows import Rows
from clipcal.logs.sheet import Sheet, records, sheet_of
from clipcal.logs.source import Source

_TITLE = "table with a header (CSV, TSV)"
_TENSORBOARD = ("wall time", "step", "value")
_BOUNDS = ("__MIN", "__MAX")
_OF_RUN = " - "
_AGAIN = re.compile(r" \(\d+\)$")
_NAMED, _VALUE = ("tag", "name", "metric", "key"), "value"


def _read(source: Source) -> Log:
    sheet = sheet_of(source)
    assert sheet is not None
    small = [name.lower() for name in sheet.header]
    if tuple(small) == _TENSORBOARD:
        points = ((row[1], row[2]) for _, row in records(source, sheet) if row is not None)
        return exported(source.path, "TensorBoard CSV export", points)
    if any(name.endswith(_BOUNDS) for name in sheet.header):
        return _read_wandb(source, sheet)
    long = _VALUE in small and any(name in small for name in _NAMED)
    return _read_long(source, sheet, small) if long else _read_wide(source, sheet, small)


def _read_wide(source: Source, sheet: Sheet, small: list[str]) -> Log:
    rows = Rows()
    # without a step, a column of epochs numbers the rows, if every row is another
    stepless = not any(kind_of(name) == "step" for name in sheet.header)
    at = next((i for i, name in enumerate(small) if name in ("epoch", "epochs")), None) if stepless else None
    numbered = not stepless or at is not None
    for line, cells in records(source, sheet):
        if cells is None:
            # a header stands again wherever a file is opened to go on: where rows are numbered, their numbers tell
            if numbered:
                rows.launched()
            else:
                rows.start_run()
        else:
            epoch = None if at is None else value_of(cells[at])
            rows.add(dict(zip(sheet.header, cells, strict=True)), step=epoch, line=line)
    if is_rllib(sheet.header):
        tell_beside(rows, source, "rllib")
        return rows.log("RLlib result", window="last", unit="iteration")
    log = rows.log(_TITLE)
    if at is None:
        return log
    if all(a != b and a == int(a) for series in log.series for a, b in pairwise(series.step) if not np.isnan(a)):
        return replace(log, unit="epoch")
    return replace(log, series=tuple(replace(s, step=np.full(len(s), np.nan)) for s in log.series))


def _read_wandb(source: Source, sheet: Sheet) -> Log:
    """W&B lays the runs side by side; each is read by itself, as its steps are others."""
    runs: dict[str, dict[int, str]] = {}
    shared: dict[int, str] = {}
    for i, name in enumerate(sheet.header):
        run, found, metric = name.rpartition(_OF_RUN)
        again = _AGAIN.search(metric)
        if again:  # two runs have one name
            run, metric = run + again[0], metric[: again.start()]
        if metric.endswith(_BOUNDS):
            continue
        if found:
            runs.setdefault(run, {})[i] = metric
        else:
            shared[i] = name
    rows = {run: Rows() for run in runs}
    for line, cells in records(source, sheet):
        if cells is None:
            continue
        for run, columns in runs.items():
            rows[run].add({name: cells[i] for i, name in (shared | columns).items()}, line=line)
    logs = {f"{run}{_OF_RUN}" if len(runs) > 1 else "": r.log("W&B CSV export") for run, r in rows.items()}
    series = tuple(replace(s, tag=of_run + s.tag) for of_run, log in logs.items() for s in log.series)
    return Log(
        format="W&B CSV export",
        series=series,
        account=together(log.account for log in logs.values()),
        notes=tuple(n for log in logs.values() for n in log.notes),
    )


def _read_long(source: Source, sheet: Sheet, small: list[str]) -> Log:
    """A row per value: ``step,tag,value``, as MLflow and TensorBoard's data frames have it."""
    name_at, value_at = next(small.index(n) for n in _NAMED if n in small), small.index(_VALUE)
    others = [(i, n) for i, n in enumerate(sheet.header) if i not in (name_at, value_at)]
    run_at = next((small.index(n) for n in ("run", "run_id", "run_uuid", "run_name") if n in small), None)
    rows, run = Rows(), ""
    for line, cells in records(source, sheet):
        if cells is None:
            rows.start_run()
            continue
        if run_at is not None and cells[run_at] != run:
            run = cells[run_at]
            rows.start_run()
        rows.add({n: cells[i] for i, n in others} | {cells[name_at]: cells[value_at]}, line=line)
    return rows.log(_TITLE)


READER = Reader(
    title=_TITLE,
    recognises=lambda source: sheet_of(source) is not None,
    read=_read,
    norms="write what torch.nn.utils.clip_grad_norm_ returns into a column grad_norm, beside step and loss",
)
