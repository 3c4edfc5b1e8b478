"""Where a line of a text log stands in training (``Epoch [3][50/100]``, ``step 7``, a progress bar) -> its step number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from clipcal.logs.names import STEPS, squashed, value_of


@dataclass(frozen=True, kw_only=True)
class Place:
    """``it`` of ``its`` iterations, of ``epoch`` where the line tells one.

    ``within``: it is certain that iterations are counted anew in every epoch, the first of which is ``first``. ``mean``: the
    framework that writes such lines averages its values. ``guess``: a number that may count something else. ``bar``: a progress bar's, which is drawn again
    and again with the same values.
    """

    it: float
    its: float | None = None
    epoch: float | None = None
    within: bool = False
    first: int = 0
    mean: bool = False
    guess: bool = False
    bar: bool = False


_Form = tuple[str, re.Pattern[str], dict[str, Any]]
# What a line has to hold, how it tells its place, and what is known of such lines. The words are looked for first: that is many
# times faster than a search.
_OPENMMLAB: Sequence[_Form] = (
    # mmcv: "Epoch [1][50/7330]"; MMEngine: "Epoch(train)  [1][  50/7330]", "Iter(train) [  50/80000]"
    (
        "Epoch",
        re.compile(r"\bEpoch(?:\(train\))?\s*\[(?P<epoch>\d+)\]\s*\[\s*(?P<it>\d+)/(?P<its>\d+)\]"),
        {"within": True, "first": 1, "mean": True},
    ),
    ("Iter", re.compile(r"\bIter(?:\(train\))?\s*\[\s*(?P<it>\d+)/\d+\]"), {"mean": True}),
)
_FRAMEWORKS: Sequence[_Form] = (
    # torchvision's and PyTorch's examples: "Epoch: [0][ 10/5005]"; timm: "Train: 0 [  50/1251 (  4%)]"
    (
        "poch",
        re.compile(r"\b[Ee]poch:?\s*\[(?P<epoch>\d+)(?:/\d+)?\][:,]?\s*\[\s*(?P<it>\d+)/(?P<its>\d+)\b"),
        {"within": True},
    ),
    ("Train: ", re.compile(r"\bTrain: (?P<epoch>\d+)[:,]?\s*\[\s*(?P<it>\d+)/(?P<its>\d+)\b"), {"within": True}),
    # Composer, above a block of values: "[epoch=2][batch=10/4800]:"
    (
        "[batch=",
        re.compile(r"^\s*(?:\[epoch=(?P<epoch>\d+)(?:/\d+)?\])?\[batch=(?P<it>\d+)(?:/(?P<its>\d+))?\]:\s*$"),
        {},
    ),
    # WeNet: "TRAIN | Batch 4/203700 loss 12.6 ... rank 0", the epoch and how many batches of it
    ("TRAIN", re.compile(r"\bTRAIN\b.{0,60}?\bBatch (?P<epoch>\d+)/(?P<it>\d+) loss "), {}),
)
# "Epoch:[4], Batch: [600]/[1327]", "Epoch 1/10 Batch 50/500", "epoch 3, batch 20, loss ..."
_BATCH = re.compile(r"\b[Bb]atch(?:_idx)?\W{0,3}(\d+)\]?(?:\s?(?:/|of)\s?\[?(\d+))?(?!\.\d)")
# PyTorch's first example and open_clip: "Train Epoch: 14 [41984/15007744 (0%)]" are samples
_SAMPLES = re.compile(r"\bTrain(?: Epoch)?:? \d+ \[\s*\d+/\d+ \(")
_BAR = re.compile(r"(?P<it>\d+)/(?:(?P<its>\d+)|\?) \[\d+:\d\d(?::\d\d)?<|^\s*(?P<at>\d+)/(?P<of>\d+) [━\[]")
_BAR_EPOCH = re.compile(r"[Ee]poch\W{0,3}(\d+)")
_OF = re.compile(r"(?<![\w/.:-])\[?\s?(\d+)\s?/\s?(\d+)\]?(?![\w/.-])")
_LEADING = re.compile(r"\s*\[?(\d+)\]?\s?[:|,\])-]\s")
_BEFORE_A_STEP = frozenset(
    ("train", "training", "learning", "total", "global", "current", "update", "optimizer", "main", "end", "after")
)
_TOTAL = frozenset(("total", "global"))
_ITS = re.compile(r"(?<![\w./])(\d{1,15})\s?/\s?(\d{1,15})\b")
EPOCH_RANK = -1
_PLURALS = frozenset(("steps", "updates", "iterations", "iters"))


def place_of(line: str, pairs: Sequence[tuple[str, str]]) -> Place | None:
    """Where a line stands; ``pairs`` are the names and values in it. None where it tells nothing."""
    told = _formed(line, _OPENMMLAB)
    if told is not None:
        return told
    bar = _BAR.search(line) if "/" in line and ("<" in line or "━" in line or "[" in line) else None
    named = _named(line, pairs)
    if named is not None:
        return replace(named, bar=True) if bar else named
    told = _formed(line, _FRAMEWORKS)
    if told is None and bar:
        epoch = _BAR_EPOCH.search(line[: bar.start()])
        told = Place(
            it=float(bar["it"] or bar["at"]),
            its=_float(bar["its"] or bar["of"]),
            epoch=_float(epoch and epoch[1]),
            bar=True,
        )
    if told is not None:
        return told
    found = _BATCH.search(line) if "atch" in line else None
    if not found:
        return None
    epochs = (value_of(text) for name, text in pairs if rank_of(name) == EPOCH_RANK)
    of = _BAR_EPOCH.search(line)
    at = next((v for v in epochs if v is not None and v % 1 == 0), _float(of and of[1]))
    return None if at is None else Place(it=float(found[1]), its=_float(found[2]), epoch=at)


def _formed(line: str, forms: Sequence[_Form]) -> Place | None:
    """By the first of the forms that the line has."""
    for word, form, facts in forms:
        found = form.search(line) if word in line else None
        if found:
            at: dict[str, Any] = {name: _float(text) for name, text in found.groupdict().items()}
            return Place(**at, **facts)
    return None


def _float(text: str | None) -> float | None:
    return None if text is None else float(text)


def guessed_place(line: str) -> Place | None:
    """Where a line may stand that names no step: ``[12/300]`` or a number at its start."""
    if _SAMPLES.search(line):
        return None
    found = _OF.search(line[:150])
    if found:
        epoch = _BAR_EPOCH.search(line[: found.start()])
        return Place(it=float(found[1]), its=float(found[2]), epoch=_float(epoch and epoch[1]), guess=True)
    found = _LEADING.match(line)
    return Place(it=float(found[1]), guess=True) if found else None


def _named(line: str, pairs: Sequence[tuple[str, str]]) -> Place | None:
    """By the most telling name of a step among the pairs, and by its epoch."""
    best: tuple[int, float, str] | None = None
    epoch = None
    for name, text in pairs:
        rank = rank_of(name)
        value = None if rank is None else value_of(text)
        if rank is None or value is None or value % 1 != 0:  # NaN and infinity leave no 0 either
            continue
        if rank == EPOCH_RANK:
            epoch = value
        elif best is None or rank < best[0]:
            best = (rank, value, text)
    if best is None:
        return None
    _, it, text = best
    of = _ITS.finditer(line) if f"{text}/" in line or f"{text} /" in line else ()
    its = next((float(found[2]) for found in of if float(found[1]) == it), None)
    return Place(it=it, its=its, epoch=epoch)


@lru_cache(maxsize=4096)
def rank_of(name: str) -> int | None:
    """How telling a name is as that of a step, 0 the most; None where it names neither a step nor an epoch."""
    whole = squashed(name)
    words = whole.split("_")
    if words[-1] == "epoch" and len(words) <= 2:
        return EPOCH_RANK
    if _TOTAL.intersection(words[:-1]) and words[-1] in STEPS:
        return 0
    if whole in STEPS:
        return STEPS.index(whole) + 1
    if words[-1] in STEPS and words[-1] not in _PLURALS and _BEFORE_A_STEP.issuperset(words[:-1]):
        return STEPS.index(words[-1]) + 1
    return None


class Steps:
    """Places, in the order of the file -> step numbers that go on from one epoch to the next."""

    def __init__(self) -> None:
        self._base = 0.0
        self._last: Place | None = None
        self.joined = False
        self.guessed = False

    @property
    def base(self) -> float:
        """What is added to the numbers of the present epoch."""
        return self._base

    def number(self, place: Place) -> float:
        """The step of a line that trains."""
        self.guessed = self.guessed or place.guess
        if place.within and place.epoch is not None and place.its is not None:
            return (place.epoch - place.first) * place.its + place.it
        last, self._last = self._last, place
        if last is not None and place.epoch is not None and last.epoch is not None:
            if place.epoch < last.epoch:  # another run
                self._base = 0.0
            elif place.epoch > last.epoch and (place.it < last.it or place.it == last.it == place.its):
                self._base += (place.epoch - last.epoch) * (last.its or last.it + 1)
                self.joined = True
        return self._base + place.it
