"""TensorBoard event files -> rows: those that torch, TensorFlow, Keras, Lightning, mmcv, Trainer and others write."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from clipcal.errors import InputError
from clipcal.logs.events import Scalars, is_event_file, read_scalars
from clipcal.logs.in_use import agreed
from clipcal.logs.lines import tell_beside
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import NUMBER, kind_of, value_of
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source

TITLE = "TensorBoard event file"
# one setting in a text: of a JSON object, a Markdown table, YAML or Namespace(...)
_SETTING = re.compile(rf"""(?<![\w./-])([A-Za-z][\w./-]*)["']?[ \t]*[:=|][ \t]*["']?({NUMBER})(?![\w.])""")

# what lightning.pytorch.utilities.grad_norm and, in 1.x, track_grad_norm call their norms: always before clipping
LIGHTNING = re.compile(r"(?:.*/)?grad_(?:[\d.]+|inf)_norm(?:_total|/).*")


def read_folder(paths: Sequence[Path]) -> Log:
    """The event files of one run's directory as one log, in the order in which they were started, since a restart goes on in
    a new file. Files that are empty or no event files are left out; raises InputError where that leaves none."""
    parts: list[tuple[float, list[tuple[int, str]], Scalars, Source]] = []
    refused: list[str] = []
    for path in paths:
        try:
            source = Source(path)
            if not is_event_file(source.head):
                raise InputError(f"{path}: is no TensorBoard event file, or breaks off in its first record.")
        except InputError as e:
            refused.append(str(e))
            continue
        scalars = _named(read_scalars(source.chunks(), _wanted_in(path.parent)), path.parent)
        # the name decides where the times are equal: a number in it counts as a number
        numbers = [(int(digits or -1), text) for digits, text in re.findall(r"(\d{1,20})|(\D+)", path.name)]
        parts.append((scalars.started, numbers, scalars, source))
    if not parts:
        raise InputError(refused[0] if refused else "There is no TensorBoard event file here. Name a training log.")
    parts.sort(key=lambda part: part[:2])
    files = [scalars for _, _, scalars, _ in parts]
    notes = []
    if refused:
        notes.append(f"{len(refused)} of {len(paths)} event files were left out. {refused[0]}")
    if any(a.ended > b.started and _norms([a]) & _norms([b]) for a, b in pairwise(files)):
        notes.append("Event files of this directory were written at the same time: they may be of different runs.")
    return _log(parts[-1][3], files, notes)


def run_of(path: Path) -> Path:
    """The folder of the run that an event file belongs to: its own, or the one above where add_scalars made it."""
    folder = path.parent
    try:
        head = Source(path).head
    except InputError:
        return folder
    if "_" not in folder.name or not is_event_file(head):
        return folder
    tags = read_scalars([head], lambda tag: True).tags
    return folder.parent if tags and all(_key(tag, folder) for tag in tags) else folder


def _key(tag: str, folder: Path) -> str:
    """What add_scalars calls a value: it writes each into a folder of its own, named by the tag and the key, under the tag alone."""
    main = tag.replace("/", "_") + "_"
    return folder.name.removeprefix(main) if folder.name.startswith(main) and len(folder.name) > len(main) else ""


def _named(scalars: Scalars, folder: Path) -> Scalars:
    """With the whole names of what add_scalars wrote."""
    scalars.tags = [f"{tag}/{key}" if (key := _key(tag, folder)) else tag for tag in scalars.tags]
    return scalars


def _wanted_in(folder: Path) -> Callable[[str], bool]:
    """Which tags of a file in a folder are read."""

    def wanted(tag: str) -> bool:
        key = _key(tag, folder)
        return kind_of(f"{tag}/{key}" if key else tag) in _KINDS or tag.startswith(_IGNITE)

    return wanted


_KINDS = ("norm", "loss", "lr", "scale", "threshold")
_IGNITE = "grads_norm/"
"""ignite's GradsScalarHandler writes the norm of each parameter's gradient under it."""


def _norms(files: Sequence[Scalars]) -> set[str]:
    tags = {tag for file in files for tag in file.tags if kind_of(tag) == "norm"}
    return {tag for tag in tags if not is_mean_of(tag, tags)}


def _log(source: Source, files: Sequence[Scalars], notes: list[str]) -> Log:
    rows = Rows()
    of_parameters = [] if _norms(files) else [tag for file in files for tag in file.tags if tag.startswith(_IGNITE)]
    if of_parameters:
        files = [_total(file) for file in files]
        notes.append(
            f"The norm is the root of the squares of {len(set(of_parameters))} parameters' norms, which the log has in its place."
        )
    # add_scalar writes step 0 each time that it is given none
    numbered = any(any(file.step) for file in files) or all(len(file.tag) == len(file.tags) for file in files)
    tags = {tag for file in files for tag in file.tags}
    for file in files:
        _add(rows, file, left_out=[is_mean_of(tag, tags) for tag in file.tags], numbered=numbered)
        if file.damaged_at is not None:
            notes.append(f"The event file is damaged at byte {file.damaged_at:,}: what stands behind was not read.")
        if file.num_bad:
            notes.append(f"Of the records of the event file {file.num_bad:,} are damaged and were left out.")
    # Trainer writes its arguments as a text, and many scripts their options
    settings = {
        name.rpartition(".")[2]: (value, tag)
        for file in files
        for tag, text in file.texts.items()
        if not tag.startswith("model_config")
        for name, number in _SETTING.findall(text)
        if (value := value_of(number)) is not None
    }
    limit = limit_of({name: value for name, (value, _) in settings.items()})
    if limit:
        rows.threshold(f"{limit[0]} in its text {settings[limit[0]][1]}", limit[1])
    else:
        tell_beside(rows, source, "lightning")
    return rows.log(TITLE, notes=tuple(notes), **facts_of(_norms(files), settings))


def _total(file: Scalars) -> Scalars:
    """With the norm of all parameters' gradients in place of those of each."""
    whole = Scalars(
        texts=file.texts, started=file.started, ended=file.ended, num_bad=file.num_bad, damaged_at=file.damaged_at
    )
    whole.tags = [*file.tags, f"{_IGNITE}total"]
    squares: dict[int, float] = {}
    for tag, step, value in zip(file.tag, file.step, file.value, strict=True):
        if file.tags[tag].startswith(_IGNITE):
            squares[step] = squares.get(step, 0.0) + value * value
        else:
            whole.tag.append(tag)
            whole.step.append(step)
            whole.value.append(value)
    for step, square in squares.items():
        whole.tag.append(len(whole.tags) - 1)
        whole.step.append(step)
        whole.value.append(math.sqrt(square))
    return whole


def limit_of(settings: Mapping[str, Any]) -> tuple[str, float] | None:
    """The setting that is a clipping threshold; None where there is none, and where several contradict one another."""
    if any(name.endswith("gradient_clip_algorithm") and value == "value" for name, value in settings.items()):
        return None  # Lightning clips element by element then: its number is no norm
    # to kind_of, the end of gradient_clip_val stands for validation
    return agreed((name, raw) for name, raw in settings.items() if kind_of(name.removesuffix("_val")) == "threshold")


def is_mean_of(name: str, names: Collection[str]) -> bool:
    """Whether Lightning wrote the value as a mean over the epoch, beside those of the steps."""
    return name.endswith("_epoch") and f"{name.removesuffix('_epoch')}_step" in names


def facts_of(norms: Collection[str], settings: Collection[str]) -> dict[str, Any]:
    """Fields of Log that follow from the names of the norms and of the run's settings, whatever they were logged with."""
    if not norms:
        return {}
    of_trainer = {"max_grad_norm", "logging_steps"} <= set(settings)  # the arguments of Hugging Face's Trainer
    if of_trainer or all(LIGHTNING.fullmatch(name) for name in norms):
        return {"window": "last", "after": False}
    if all(name.endswith("_epoch") for name in norms):  # Lightning's, numbered by steps
        return {"window": "mean"}
    by_epoch = all(name.rpartition("/")[2].startswith("epoch_") for name in norms)  # Keras'
    return {"unit": "epoch"} if by_epoch else {}


def _add(rows: Rows, file: Scalars, *, left_out: Sequence[bool], numbered: bool) -> None:
    """What one training step wrote stands side by side, a value at a time: a row ends with the step, or where a tag repeats."""
    row: dict[str, float] = {}
    tags, last = file.tags, 0
    for tag, step, value in zip(file.tag, file.step, file.value, strict=True):
        if left_out[tag]:
            continue
        name = tags[tag]
        if step != last or name in row:
            if row:
                rows.add(row, step=float(last) if numbered else None)
            row, last = {}, step
        row[name] = value
    if row:
        rows.add(row, step=float(last) if numbered else None)


READER = Reader(
    title=TITLE,
    recognises=lambda source: is_event_file(source.head),
    read=lambda source: read_folder([source.path]),
    norms='call writer.add_scalar("train/grad_norm", norm, step) at every step, with the norm that clip_grad_norm_ returns',
)
