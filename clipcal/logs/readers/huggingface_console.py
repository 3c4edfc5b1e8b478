"""The console output of Hugging Face's Trainer, Python dicts among progress bars and tracebacks -> rows.

transformers 4 prints numbers (``{'loss': 2.3, 'grad_norm': nan, ...}``), 5 prints four digits as text (``'grad_norm':
'1.234'``). No dict has its step; the progress bar that is drawn again after each has it, as long as nothing was lost.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from clipcal.logs.lines import tell_beside
from clipcal.logs.log import Floats, Log, Reader, Series
from clipcal.logs.names import NUMBER, STEPS, kind_of, value_of
from clipcal.logs.readers.huggingface import add_row, is_training_row, swift_step
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source

TITLE = "Hugging Face Trainer's console output"
ENOUGH = 3
"""Dicts with a gradient norm, but no epoch and rate as Trainer's have, that make a file a log."""
_TOKEN = re.compile(r"(?P<n>\d{1,15})/(?P<total>\d{1,15}) \[\d[\d:]*<|(?P<dict>\{\s*'[^{}]*\})")
_PAIR = re.compile(
    r"'(?P<name>[^'\\]{1,200})':\s*"
    r"(?:'(?P<text>[^'\\]*)'|(?P<wrapped>\w[\w.]{0,20}\([^)]*\))|(?P<bare>[^\s,'\"{}\[\]()]+))(?=\s*[,}])"
)
# the arguments, as examples print them; a command line; DeepSpeed's dump of its config
_THRESHOLD = re.compile(
    rf"\b(?P<name>max_grad_norm)['\"]?\s*[=: ]\s*['\"]?(?P<value>{NUMBER})|(?P<ds>gradient_clipping) \.{{3,}} (?P<off>{NUMBER})"
)
_MAX_DICT = 20_000  # characters: a dict that is printed over several lines ends before


def _recognises(source: Source) -> bool:
    seen = 0
    for match in (match for line in _joined(iter(source.telling)) for match in _TOKEN.finditer(line) if match["dict"]):
        row = _row(match["dict"])
        # a config that is printed has names alike, and no epoch that it stands in; code has a dict or two
        if {"learning_rate", "epoch"} <= row.keys() and (value_of(row.get("loss")) is not None or _names_norm(row)):
            return True
        seen += _names_norm(row)
        if seen >= ENOUGH:
            return True
    return False


def _read(source: Source) -> Log:
    rows = Rows()
    # every drawing of a bar: how far it was, of how many, and how many rows came before it
    bars, own, epochs = array("q"), array("d"), array("d")
    of_trainer = ended = False
    for line in _joined(source.lines()):
        if ("max_grad_norm" in line or "gradient_clipping" in line) and (limit := _THRESHOLD.search(line)):
            rows.threshold(limit["name"] or limit["ds"], value_of(limit["value"] or limit["off"]))
        if "***** Running training *****" in line:
            rows.start_run()
            continue
        for match in _TOKEN.finditer(line):
            if not match["dict"]:
                bars.extend((int(match["n"]), int(match["total"]), len(own)))
                continue
            row = _row(match["dict"])
            if "train_runtime" in row and not _names_norm(row):
                ended = True
            elif is_training_row(row) or _names_norm(row):
                if ended:
                    rows.start_run()
                    ended = False
                of_trainer = of_trainer or ("learning_rate" in row and "epoch" in row)
                if not _names_norm(row):
                    continue  # LLaMA-Factory's callback prints each row once more, without the norm
                numbers = (value_of(row[name]) for name in STEPS if name in row)
                step = swift_step(row) or next((n for n in numbers if n is not None), math.nan)
                add_row(rows, row, step=float(len(own)))  # its place, until all bars are known
                own.append(step)
                epoch = value_of(row.get("epoch"))
                epochs.append(math.nan if epoch is None else epoch)
    if of_trainer:
        tell_beside(rows, source, "huggingface")
    log = rows.log(TITLE, window="last", after=False) if of_trainer else rows.log("console output of Python dicts")
    steps = np.array(own)
    if len(own) and not np.isfinite(steps).all():
        steps = _steps_of(bars, np.array(epochs))
    return replace(log, series=tuple(_numbered(s, steps, np.array(epochs)) for s in log.series))


def _numbered(series: Series, steps: Floats, epochs: Floats) -> Series:
    """With the steps of its rows, and their epochs where no step is known; its own are their places among all rows."""
    rows = series.step.astype(np.int64)
    return replace(series, step=steps[rows], place=epochs[rows], place_from="epoch")


def _joined(lines: Iterator[str]) -> Iterator[str]:
    """Puts a dict that was printed over several lines into one, unless another begins before it ends."""
    held = ""
    for line in lines:
        if held:
            if "}" in line and "{" not in line.partition("}")[0]:
                line, held = f"{held} {line}", ""
            elif "{" in line or len(held) + len(line) > _MAX_DICT:
                yield held
                held = ""
            else:
                held = f"{held} {line}"
                continue
        opened = line.rfind("{")
        if opened != -1 and "}" not in line[opened:] and line[opened + 1 :].lstrip()[:1] in ("'", ""):
            held = line
        else:
            yield line
    if held:
        yield held


def _row(text: str) -> dict[str, str]:
    """A printed dict as names and texts of values. Nothing is evaluated."""
    if len(text) > _MAX_DICT:
        return {}
    return {m["name"]: m["text"] or m["wrapped"] or m["bare"] or "" for m in _PAIR.finditer(text)}


def _names_norm(row: Mapping[str, str]) -> bool:
    return any(kind_of(name) == "norm" and value_of(text) is not None for name, text in row.items())


def _steps_of(bars: array[int], epochs: Floats) -> Floats:
    """The step of every row by the bars between the rows, or all NaN where they do not fit one row each, evenly."""
    num_rows = len(epochs)
    unknown = np.full(num_rows, np.nan)
    if not bars:
        return unknown
    n, total, at = np.array(bars).reshape(-1, 3).T
    # evaluation and downloads have bars too; that of training stands between the most rows
    whole = Counter(t for t, _ in dict.fromkeys(zip(total.tolist(), at.tolist(), strict=True))).most_common(1)[0][0]
    mine = total == whole
    n, at = n[mine].astype(np.float64), at[mine]
    # the bar is drawn again right after a row is printed; output that lost this has the bar before the row
    after = np.full(num_rows + 1, np.nan)
    after[at[::-1]] = n[::-1]
    before = np.full(num_rows + 1, np.nan)
    before[at] = n
    found = [steps for steps in (after[1:], before[:-1]) if _even(steps) and steps.max() <= whole]
    if len(found) == 2 and _starts_later(found[0], found[1], epochs):
        return found[1]
    return found[0] if found else unknown


def _even(steps: Floats) -> bool:
    """Whether the steps are known and grow evenly, but for one in ten: run starts and a first step logged by itself. Fills
    what is missing."""
    known = np.isfinite(steps)
    both = known[1:] & known[:-1]
    if known.sum() < max(0.9 * len(steps), 1) or (len(steps) > 1 and not both.any()):
        return False
    if len(steps) > 1:
        gaps = np.diff(steps)[both]
        values, counts = np.unique(gaps, return_counts=True)
        stride = float(values[np.argmax(counts)])
        odd = len(gaps) - int(counts.max())
        if stride <= 0 or odd > max(1, len(gaps) // 10):
            return False
        for i in np.flatnonzero(~known):
            steps[i] = steps[i - 1] + stride if i else steps[int(np.flatnonzero(known)[0])] - stride
    return True


def _starts_later(steps: Floats, others: Floats, epochs: Floats) -> bool:
    """Whether ``steps`` are a stride ahead of the epochs, which start at 0 with the steps, and ``others`` are not."""
    whole = np.isfinite(epochs)
    back = np.flatnonzero(np.diff(epochs) < 0)
    whole[int(back[0]) + 1 if back.size else len(epochs) :] = False  # the first run alone
    x = epochs[whole]
    if len(x) < 3 or np.ptp(x) == 0:
        return False

    def ahead(y: Floats) -> tuple[float, float]:
        """The step at epoch 0 by a straight line, and its standard error: epochs are rounded."""
        (_, start), covariance = np.polyfit(x, y, 1, cov=True)
        return float(start), float(np.sqrt(covariance[1, 1]))

    start, _ = ahead(steps[whole])
    other, unsure = ahead(others[whole])
    return abs(other) + 3 * unsure < abs(start)


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="use transformers 4.38 or newer, whose Trainer prints grad_norm, with logging_steps=1",
)
