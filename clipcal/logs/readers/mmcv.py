"""The JSON logs of mmcv (``*.log.json``) and MMEngine (``vis_data/*.json``): MMDetection, MMSegmentation, MMRotate -> rows.

mmcv's TextLoggerHook writes the place in the epoch, MMEngine's LoggerHook the step. Both average ``grad_norm``, which is what
``clip_grad_norm_`` returned, over the iterations since the last line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from clipcal.logs.in_use import TOLD, agreed, text_beside
from clipcal.logs.log import Floats, Log, Reader
from clipcal.logs.names import NUMBER, value_of
from clipcal.logs.readers.jsonlines import Objects, told
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source

_META = ("env_info", "exp_name", "hook_msgs", "mmdet_version", "mmseg_version", "config")
_CLIP = re.compile(
    rf"(?P<key>{TOLD['mmcv'].words})['\"]?\s*[=:]\s*(?:(?P<off>None|null)\b"
    rf"|(?:dict\(|\{{)[^)}}]{{0,200}}?\bmax_norm['\"]?\s*[=:]\s*(?P<max>{NUMBER}))"
)


def _is_own(row: Mapping[str, Any]) -> bool:
    return _is_train(row) or ("iter" in row and row.get("mode") == "val") or ("iter" not in row and "env_info" in row)


def _is_train(row: Mapping[str, Any]) -> bool:
    if "iter" not in row:
        return False  # what MMEngine writes after validation: its step is the epoch
    if "mode" in row:
        return row["mode"] == "train" and "epoch" in row
    return "step" in row and ("time" in row or "data_time" in row)


def _read(source: Source) -> Log:
    rows, objects = Rows(), Objects(source)
    steps = iter(_steps(Objects(source)))
    for row in objects:
        if not _is_train(row):
            if any(key in row for key in _META) and "iter" not in row:
                rows.start_run()
                _tell_threshold(rows, str(row.get("config", "")), "grad_clip in the log's first line")
            continue
        if first := next((name for name in row if name.startswith("lr/")), None):  # of several optimizers
            row["lr"] = row.pop(first)
        rows.add(row, step=next(steps))
    if not any("config" in row for row in told(source)):
        _tell_threshold(rows, text_beside(source, "config.py"), "clip_grad in config.py")  # MMEngine's
    return rows.log("mmcv JSON log", window="mean", after=False, notes=objects.notes, framework="mmengine")


def _steps(objects: Objects) -> list[float | None]:
    """The step of every training row.

    By epoch, ``iter`` starts again with each; how long one is does not stand there, and the largest ``iter`` comes close.
    By iteration (IterBasedRunner), ``iter`` goes on across epochs.
    """
    places = ([value_of(row.get(name)) for name in ("step", "epoch", "iter")] for row in objects if _is_train(row))
    found = np.array(list(places), dtype=np.float64)
    if not found.size:
        return []
    step, epoch, inner = found.T
    if np.isfinite(step).all() or not np.isfinite(epoch).any():
        counted = np.where(np.isfinite(step), step, inner)
    elif _goes_on(epoch, inner):
        counted = inner
    else:
        counted = (epoch - 1) * inner[np.isfinite(inner)].max(initial=0) + inner
    return [float(n) if np.isfinite(n) else None for n in counted]


def _goes_on(epoch: Floats, inner: Floats) -> bool:
    later = np.diff(epoch) > 0
    grows = np.diff(inner) > 0
    if later.any():
        return bool(grows[later].mean() > 0.5)
    # one epoch alone: an epoch that starts has its first line after as many iterations as lie between two lines
    return bool(grows.any() and inner[0] > np.diff(inner)[grows].min())


def _tell_threshold(rows: Rows, text: str, where: str) -> None:
    if found := agreed((m["key"], 0.0 if m["off"] else m["max"]) for m in _CLIP.finditer(text[:1_000_000])):
        rows.threshold(where, found[1])


READER = Reader(
    title="mmcv JSON log",
    recognises=lambda source: any(_is_own(row) for row in told(source)),
    read=_read,
    norms="set optimizer_config=dict(grad_clip=dict(max_norm=...)), in MMEngine optim_wrapper=dict(clip_grad=dict(max_norm=...)): "
    "both log grad_norm only where they clip, so take a max_norm that is never reached",
)
