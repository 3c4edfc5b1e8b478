"""The losses and learning rates that a log names -> which of them belongs to which gradient norm."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from clipcal.logs.names import squashed

Column = tuple["array[int]", "array[float]"]
"""The rows that the values of one name stand in, and the values."""

_USUAL = (
    "loss",
    "train_loss",
    "training_loss",
    "total_loss",
    "loss_total",
    "total",
    "lm_loss",
    "trl",
    "cost",
    "nll_loss",
    "loss_avg",
    "avg_loss",
    "global_avg_loss",
    "mean_loss",
    "cross_entropy_loss",
    "ce_loss",
    "ce",
    "mse_loss",
    "nll",
    "objective",
)
_AUXILIARY = re.compile(
    r"(?:^|_)(?:aux(?:iliary)?|z|router|(?:load_?)?balanc\w*|ent|(?<!cross_)entropy|kl|reg|regulari[sz]\w*|l2|penalty|commit\w*)(?:_|$)"
)
"""Terms that are added to a loss to keep something in bounds, and say nothing of how training goes."""
_STEM = {
    "norm": re.compile(r"grad(ient)?s?_?(l2_?|total_?|global_?)?norms?|g_?norm|total_norm|norm"),
    "loss": re.compile(r"loss|cost"),
    "lr": re.compile(r"(current_)?(lr|learning_?rate)s?"),
}
_NEARLY = 1e-3
"""The relative difference between a sum and its terms as they are printed."""


def paired(norms: Mapping[str, Column], others: Mapping[str, Column], kind: Literal["loss", "lr"]) -> dict[str, str]:
    """Which loss (or learning rate) belongs to which norm: the one that is named alike, else the usual one, else the sum of the
    others, else the only one that is left and is no auxiliary term. A loss that is never a number is none, if another is."""
    alive = {name: column for name, column in others.items() if np.isfinite(np.array(column[1])).any()}
    names = list(alive or others)
    found = _alike(norms, names, kind)
    lone = [tag for tag in norms if tag not in found]
    if kind == "lr":
        return found | (dict.fromkeys(lone, names[0]) if names else {})
    usual = [name for word in _USUAL for name in names if _last(name) == word and not _is_constant(word, others[name])]
    for tag in lone:
        if usual and usual[0] not in found.values():
            found[tag] = usual[0]
    lone = [tag for tag in lone if tag not in found]
    left = [name for name in names if name not in found.values() and not is_auxiliary(name) and _last(name) != "total"]
    if len(lone) == 1 and left:
        sums = _sum_of_others(left, others) if len(left) > 2 else None
        if sums is not None or len(left) == 1:
            found[lone[0]] = sums or left[0]
    return found


def remarks(found: Mapping[str, str], losses: Sequence[str]) -> list[str]:
    """What has to be said where a term was read as the loss, or none was."""
    partial = [name for name in dict.fromkeys(found.values()) if _is_term(name, found)]
    said = [f"{name[:80]!r} was read as the loss, as no other is named: it may be a part of it." for name in partial]
    auxiliary = [name for name in losses if is_auxiliary(name)]
    if not found and auxiliary and len(auxiliary) == len(losses):
        said.append(f"{auxiliary[0][:80]!r} is an auxiliary term, and the loss itself is not named: none was read.")
    return said


def is_auxiliary(name: str) -> bool:
    return bool(_AUXILIARY.search(_last(name)))


def _is_term(name: str, found: Mapping[str, str]) -> bool:
    """Whether a loss is neither a usual one nor named like its norm, nor of the same model as it ("actor/pg_loss")."""
    tag = next(tag for tag, loss in found.items() if loss == name)
    group = name.rpartition("/")[0]
    if group and group == tag.rpartition("/")[0] and group not in ("train", "training", "Train"):
        return False
    return _last(name) not in _USUAL and _stem(name, "loss") not in ("", "train", "training", _stem(tag, "norm"))


def _alike(norms: Mapping[str, Column], names: Sequence[str], kind: str) -> dict[str, str]:
    stems = {name: _stem(name, kind) for name in names}
    found: dict[str, str] = {}
    for tag in norms:
        alike = [name for name, stem in stems.items() if stem == _stem(tag, "norm")]
        if alike:
            found[tag] = alike[0]
    return found


def _is_constant(word: str, column: Column) -> bool:
    """A total that never changes counts something, such as the steps to do."""
    return word == "total" and len(set(column[1][:1000])) < 2


def _sum_of_others(names: Sequence[str], columns: Mapping[str, Column]) -> str | None:
    """The name whose value is the sum of all others, in every row that has them all."""
    rows = columns[names[0]][0]
    if any(columns[name][0] != rows for name in names):
        return None
    values = np.array([columns[name][1] for name in names])
    values = values[:, np.isfinite(values).all(axis=0)]
    if values.shape[1] < 3:
        return None
    whole = values.sum(axis=0)
    for name, column in zip(names, values, strict=True):
        if np.allclose(whole - column, column, rtol=_NEARLY, atol=1e-9):
            return name
    return None


def _last(name: str) -> str:
    return re.split("[/.]", squashed(name))[-1]


def _stem(name: str, kind: str) -> str:
    return re.sub(r"_+", "_", _STEM[kind].sub("", squashed(name), count=1)).strip("_/.")
