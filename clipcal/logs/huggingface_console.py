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
from dataclasses import dataclass, field, replace

import numpy as np

from clipcal.logs.beside import threshold_beside
from clipcal.logs.huggingface import CONFIGS, add_row, is_training_row, swift_step
from clipcal.logs.log import Floats, Log
from clipcal.logs.names import STEPS, kind_of
from clipcal.logs.reader import Reader
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source
from clipcal.logs.values import NUMBER, value_of

TITLE = "Hugging Face Trainer's console output"
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


@dataclass(frozen=True, kw_only=True)
class _Bars:
    """Every drawing of a progress bar: how far it was, of how many, and how many training rows came before it."""

    n: array[int] = field(default_factory=lambda: array("q"))
    total: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("q"))


def _recognises(source: Source) -> bool:
    rows = (_row(match["dict"]) for match in _tokens(iter(source.telling)))
    # a config that is printed has names alike, and no epoch that it stands in
    return any(
        _names_norm(row) or ({"learning_rate", "epoch"} <= row.keys() and _is_number(row, "loss")) for row in rows
    )


def _read(source: Source) -> Log:
    rows, bars = Rows(), _Bars()
    own = array("d")
    of_trainer = ended = False
    for line in _lines_and_thresholds(source, rows):
        if "***** Running training *****" in line:
            rows.start_run()
            continue
        for match in _TOKEN.finditer(line):
            if not match["dict"]:
                bars.n.append(int(match["n"]))
                bars.total.append(int(match["total"]))
                bars.rows.append(len(own))
                continue
            row = _row(match["dict"])
            if "train_runtime" in row:
                ended = True
            elif is_training_row(row) or _names_norm(row):
                if ended:
                    rows.start_run()
                    ended = False
                of_trainer = of_trainer or ("learning_rate" in row and "epoch" in row)
                steps = (value_of(row[name]) for name in STEPS if name in row)
                step = swift_step(row) or next((s for s in steps if s is not None), math.nan)
                add_row(rows, row, step=float(len(own)))  # its place, until all bars are known
                own.append(step)
    beside = threshold_beside(source, CONFIGS, ("max_grad_norm",))
    if beside:
        rows.threshold(*beside)
    log = rows.log(TITLE, window="last", after=False) if of_trainer else rows.log("console output of Python dicts")
    steps_of = np.array(own)
    if len(own) and not np.isfinite(steps_of).all():
        steps_of = _steps(bars, len(own))
    return replace(log, series=tuple(replace(s, step=steps_of[s.step.astype(np.int64)]) for s in log.series))


def _lines_and_thresholds(source: Source, rows: Rows) -> Iterator[str]:
    """The lines with whole dicts or bars in them; what they say of the threshold is told to ``rows``."""
    for line in _joined(source.lines()):
        if "max_grad_norm" in line or "gradient_clipping" in line:
            found = _THRESHOLD.search(line)
            if found:
                rows.threshold(found["name"] or found["ds"], value_of(found["value"] or found["off"]))
        yield line


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


def _tokens(lines: Iterator[str]) -> Iterator[re.Match[str]]:
    for line in _joined(lines):
        yield from (match for match in _TOKEN.finditer(line) if match["dict"])


def _row(text: str) -> dict[str, str]:
    """A printed dict as names and texts of values. Nothing is evaluated."""
    if len(text) > _MAX_DICT:
        return {}
    return {m["name"]: m["text"] or m["wrapped"] or m["bare"] or "" for m in _PAIR.finditer(text)}


def _names_norm(row: Mapping[str, str]) -> bool:
    return any(kind_of(name) == "norm" and _is_number(row, name) for name in row)


def _is_number(row: Mapping[str, str], name: str) -> bool:
    return value_of(row.get(name)) is not None


def _steps(bars: _Bars, num_rows: int) -> Floats:
    """The step of every row by the bars between the rows, or all NaN where they do not fit one row each, evenly."""
    unknown = np.full(num_rows, np.nan)
    if not bars.n:
        return unknown
    n, total, at = np.array(bars.n), np.array(bars.total), np.array(bars.rows)
    # evaluation and downloads have bars too; that of training stands between the most rows
    beside = Counter(t for t, _ in {(int(t), int(r)) for t, r in zip(total, at, strict=True)})
    mine = total == beside.most_common(1)[0][0]
    n, at = n[mine].astype(np.float64), at[mine]
    for first, shift in ((True, 1), (False, 0)):
        # the bar is drawn again right after a row is printed; output that lost this has the bar before the row
        order = slice(None, None, -1) if first else slice(None)
        steps = np.full(num_rows + 1, np.nan)
        steps[at[order]] = n[order]
        steps = steps[shift : num_rows + shift].copy()
        if _even(steps):
            return steps
    return unknown


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


READER = Reader(
    title=TITLE,
    recognises=_recognises,
    read=_read,
    norms="use transformers 4.38 or newer, whose Trainer prints grad_norm, with logging_steps=1",
)
