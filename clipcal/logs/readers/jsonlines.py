"""JSON lines of metrics, or one JSON document that lists rows -> rows.

What most training loops write: W&B's history, ms-swift's logging.jsonl, detectron2's metrics.json, torchtitan, OLMo and any
``print(json.dumps(metrics))``, whatever a launcher puts before the brace.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from clipcal.errors import InputError
from clipcal.logs.json_templates import JsonTemplate, json_template
from clipcal.logs.lines import tell_beside
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import kind_of, value_of
from clipcal.logs.readers.huggingface import add_row
from clipcal.logs.rows import Rows, flatten
from clipcal.logs.source import Source

ENOUGH = 3
"""Rows with a gradient norm that make a text a log."""
_TOGETHER = 500  # lines
_SINGLY, _TRIES = 100, 20
"""Lines that are read singly before a template is taken, and how often that is tried."""
_MAX_BRACES = 8  # that may stand in what a launcher puts before the row
# what C, JavaScript and hand-made JSON write for numbers that JSON does not have
_BARE = re.compile(r"(?<=[:,\[\s])([+-]?)(?:1\.#)?(?:(nan|qnan|ind)|(inf(?:inity)?))(?=\s*[,}\]])", re.IGNORECASE)
_LIST = re.compile(r"\s*\[\s*[{\[]")
_SETTINGS = ("config/", "args/", "hparams/", "hyperparameters/", "settings/")
_SWIFT = "global_step/max_steps"
_LLAMA_FACTORY = {"current_steps", "total_steps", "percentage"}
_PHASES = ("phase", "split", "mode", "stage")
_HELD_OUT = ("val", "valid", "validation", "eval", "evaluation", "test")
_LONG_NAMES = ("name", "tag", "metric", "key")
_scan = json.JSONDecoder().raw_decode


def parsed(line: str) -> dict[str, Any] | None:
    """The JSON object in a line, with anything before and behind it; None where there is no whole one."""
    row = _first_object(line)
    if row is None and _BARE.search(line):
        row = _first_object(_BARE.sub(lambda m: "NaN" if m[2] else m[1].replace("+", "") + "Infinity", line))
    return row


def _first_object(line: str) -> dict[str, Any] | None:
    if _LIST.match(line):
        return None  # a document, not a line of one
    at = line.find("{")
    braces = 1 if not line[:at].strip() else _MAX_BRACES  # an object within one that is cut off is no row
    for _ in range(braces):
        if at == -1:
            break
        try:
            row, end = _scan(line, at)
        except (ValueError, RecursionError):
            at = line.find("{", at + 1)
            continue
        whole = braces == 1 or not line[end:].lstrip().startswith((":", ",", "]", "}"))
        return row if row and whole else None  # an empty one is a placeholder in a message
    return None


def is_rllib(names: Collection[str]) -> bool:
    """Whether these are keys of a result of RLlib, as in Tune's result.json and progress.csv (2.60; the last one is of the old API)."""
    counts = ("num_env_steps_sampled_lifetime", "num_env_steps_sampled", "timesteps_total")
    return "training_iteration" in names and any(count in names for count in counts)


class Objects:
    """The JSON objects in the lines of a source, flattened, in order. ``notes`` say afterwards what could not be read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._read = self._broken = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """The same in lists, for who can take many at once."""
        held: list[bytes] = []
        for raw in self._source.raw_lines():
            if b"{" in raw:
                held.append(raw)
                if len(held) == _TOGETHER:
                    yield self._objects(held)
                    held = []
        yield self._objects(held)

    def of_block(self, block: bytes) -> Iterator[list[dict[str, Any]]]:
        """The objects of whole lines, in lists."""
        lines = [raw for raw in block.split(b"\n") if b"{" in raw]
        for start in range(0, len(lines), _TOGETHER):
            yield self._objects(lines[start : start + _TOGETHER])

    def taken(self, lines: int) -> None:
        """So many lines were read in another way."""
        self._read += lines

    def _objects(self, lines: list[bytes]) -> list[dict[str, Any]]:
        """Many lines are parsed at once, which takes half the time, and one by one where they are not an object each."""
        if all(line[:1] == b"{" and line[-1:] == b"}" for line in lines):
            try:
                rows = json.loads(b"[" + b",".join(lines) + b"]")
            except (ValueError, RecursionError):
                rows = []
            if len(rows) == len(lines):
                self._read += len(rows)
                flat = all(raw.rfind(b"{") == 0 for raw in lines)
                return rows if flat else [_flat(row) for row in rows]
        found = [parsed(raw.decode("utf-8", "replace")) for raw in lines]
        whole = [_flat(row) for row in found if row is not None]
        self._read += len(whole)
        self._broken += len(found) - len(whole)
        return whole

    @property
    def notes(self) -> tuple[str, ...]:
        # one line is cut where the run was killed, and that is not worth a word
        if self._broken < 3 or self._broken < 0.01 * self._read:
            return ()
        total = self._read + self._broken
        return (f"{self._broken:,} of {total:,} lines with a brace are no whole JSON objects and were left out.",)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Nested objects as one row. Of settings that a run starts with only the threshold is kept: its rate is no step's."""
    flat = flatten(row)
    return {k: v for k, v in flat.items() if not k.startswith(_SETTINGS) or kind_of(k) == "threshold"}


def told(source: Source) -> Iterator[dict[str, Any]]:
    """The JSON objects among the telling lines of a source, flattened: what formats are recognised by."""
    for line in source.telling:
        if "{" in line:
            row = parsed(line)
            if row is not None:
                yield _flat(row)


def names_norm(row: Mapping[str, Any]) -> bool:
    """Whether a flat row names a gradient norm, as a key or as the value of a key such as "tag"."""
    return any(kind_of(name) == "norm" for name in row) or kind_of(_long_name(row) or "") == "norm"


def _recognises(source: Source) -> bool:
    if not source.is_text:
        return False
    num_rows = num_norms = 0
    for row in told(source):
        num_rows += 1
        num_norms += names_norm(row)
        if num_norms >= ENOUGH:
            return True
    # rows without a norm are JSON lines all the same, if there is little else; one in a text may be an example
    if num_rows > 0.5 * len(source.telling):
        return True
    return any(names_norm(row) for row in _listed(source))


def _read(source: Source) -> Log:
    rows, objects = Rows(), Objects(source)
    template: JsonTemplate | None = None
    tries = 0
    for block in source.blocks():
        first, _, rest = (block, b"", b"") if template is not None or tries > _TRIES else _parted(block)
        if first and (template is None or not _wholesale(rows, objects, template, first)):
            _singly(rows, objects, first)
        if rest:
            tries += 1
            template = json_template(rest.rpartition(b"\n")[2], but=("value", _SWIFT, *_PHASES, *_SETTINGS))
            if template is None or not _wholesale(rows, objects, template, rest):
                _singly(rows, objects, rest)
    names = rows.names
    if len(rows) == 1 and "_runtime" in names:
        raise InputError(
            f"{source.path}: is a W&B summary, which has the last value of each metric alone. Name the .wandb file of the run, "
            "or export the run's history to CSV."
        )
    if names >= _LLAMA_FACTORY and not any(kind_of(name) == "norm" for name in names):
        raise InputError(
            f"{source.path}: is LLaMA-Factory's trainer_log.jsonl, which has no gradient norms. Name the trainer_state.json "
            "beside it, which has."
        )
    if len(rows):
        if is_rllib(names):
            tell_beside(rows, source, "rllib")
            return rows.log("RLlib result", notes=objects.notes, window="last", unit="iteration")
        if _SWIFT in names:
            tell_beside(rows, source, "huggingface")
        return rows.log("JSON lines", notes=objects.notes)
    return _document(source, rows)


def _parted(block: bytes) -> tuple[bytes, bytes, bytes]:
    """The first lines of a block, which are read singly, and the others."""
    at = 0
    for _ in range(_SINGLY):
        at = block.find(b"\n", at) + 1
        if at == 0:
            return block, b"", b""
    return block[: at - 1], b"\n", block[at:]


def _wholesale(rows: Rows, objects: Objects, template: JsonTemplate, block: bytes) -> bool:
    """Take all lines of a block at once, if they are of the template's form."""
    columns = template.rows(block)
    if columns is None:
        return False
    steps = columns.pop(template.step)
    rows.add_columns(columns, steps=steps, named=template.step)
    objects.taken(len(steps))
    return True


def _singly(rows: Rows, objects: Objects, block: bytes) -> None:
    for batch in objects.of_block(block):
        if not rows.add_alike(batch, but=("value", _SWIFT, *_PHASES)):
            for row in batch:
                _add(rows, row)


def _document(source: Source, rows: Rows) -> Log:
    """The log of one JSON document. What stands beside its lists may tell the threshold."""
    listed = list(_listed(source))
    if isinstance(source.document, dict):
        rows.add({name: v for name, v in flatten(source.document).items() if kind_of(name) == "threshold"})
    by_epoch = counts_epochs(row for row in listed if names_norm(row))
    for row in listed:
        if by_epoch:
            rows.add(row, step=whole_epoch(row))
        else:
            _add(rows, row)
    return rows.log("JSON rows", unit="epoch" if by_epoch else "step")


def whole_epoch(row: Mapping[str, Any]) -> float | None:
    """The epoch of a row that has no step, a whole number; Trainer and others have fractions of an epoch."""
    if any(kind_of(name) == "step" for name in row):
        return None
    epoch = value_of(row.get("epoch"))
    return epoch if epoch is not None and epoch.is_integer() else None


def counts_epochs(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether there are rows, of an epoch each, another than that of the row before, and none has a step."""
    epochs = [whole_epoch(row) for row in rows]
    return bool(epochs) and None not in epochs and all(a != b for a, b in pairwise(epochs))


def _add(rows: Rows, row: dict[str, Any]) -> None:
    if any(str(row[name]).lower() in _HELD_OUT for name in _PHASES if name in row):
        return
    if "value" in row and (name := _long_name(row)):
        row = {k: v for k, v in row.items() if k not in (*_LONG_NAMES, "value")} | {name: row["value"]}
    if _SWIFT in row:
        add_row(rows, row)
    else:
        rows.add(row)


def _long_name(row: Mapping[str, Any]) -> str | None:
    """The name in a row of one value each: ``{"tag": "grad_norm", "step": 3, "value": 1.5}``."""
    return next((row[k] for k in _LONG_NAMES if isinstance(row.get(k), str)), None) if "value" in row else None


def _listed(source: Source) -> Iterator[dict[str, Any]]:
    """The rows of a document: a list of objects, or the lists of objects that its keys hold."""
    document = source.known_document
    lists = [document, *document.values()] if isinstance(document, dict) else [document]
    for rows in lists:
        if isinstance(rows, list):
            yield from (_flat(row) for row in rows if isinstance(row, dict))


READER = Reader(
    title="JSON lines",
    recognises=_recognises,
    read=_read,
    norms='write what torch.nn.utils.clip_grad_norm_ returns at every step, as {"step": 1, "loss": 2.3, "grad_norm": 0.8}',
)
