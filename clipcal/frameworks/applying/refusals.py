"""A threshold, a file and a key -> nothing, or the reason why the one must not be written into the other."""

from __future__ import annotations

from os.path import exists
from pathlib import Path

from clipcal.errors import InputError
from clipcal.frameworks.applying.documents import FORMATS, Document, along
from clipcal.frameworks.applying.files import read_text
from clipcal.frameworks.applying.finding import Target, is_open
from clipcal.frameworks.applying.tree import Scalar, find, show, walk
from clipcal.frameworks.keys import MEANINGS
from clipcal.frameworks.table import FRAMEWORKS
from clipcal.run.records import Method

_INSTEAD = (
    "calibrate again with `clip: {{method: {method}, norm_type: 2.0}}`, or paste the lines of `clipcal recommend RUN "
    "--for pytorch` into a training loop of your own"
)
# Words that stand in training code -> the snippet for it.
CODE = (
    ("optim_wrapper", "mmengine"),
    ("torchtitan", "torchtitan-python"),
    ("TrainingArguments", "huggingface"),
    ("lightning", "lightning"),
    ("stable_baselines3", "stable-baselines3"),
    ("detectron2", "detectron2"),
    ("fastai", "fastai"),
    ("keras", "keras"),
    ("optax", "optax"),
    ("accelerate", "accelerate"),
    ("torch", "pytorch"),
)
"""In this order: the first word that stands in the file."""


def unsupported(path: Path) -> str:
    endings = ", ".join(FORMATS)
    if not path.suffix or not exists(path):
        return f"{path} is no config file that can be edited; expected one that exists, with a name that ends in {endings}."
    try:
        text = read_text(path)
    except InputError as e:
        return str(e)
    name = next((name for word, name in CODE if word in text), "NAME")
    return (
        f"{path} cannot be edited: expected a config in YAML, JSON or TOML, by a name that ends in {endings}. "
        f"`clipcal recommend RUN --for {name}` prints the lines to paste."
    )


def check_meaning(document: Document, target: Target, method: Method, norm_type: float) -> None:
    """Refuse a key that would take the number for something else."""
    key = target.key
    if key is None:
        return
    own = FRAMEWORKS[target.framework] if target.framework else None
    instead = (own.config.instead if own and own.config else "") or (own.instead if own else "")
    if method not in key.methods:
        can = " or ".join(MEANINGS[m] for m in key.methods)
        raise InputError(
            f"{document.file}: {show(target.path)} is {can}, and this threshold is {MEANINGS[method]}; the number would "
            f"mean something else. Instead, {instead or _INSTEAD.format(method=key.methods[0])}."
        )
    says = [s for s in key.switches if s.wanted.get(method) == "norm_type"]
    sayable = key.any_norm_type and any(s.add or find(target.root, (*target.path[:-1], s.name)) for s in says)
    if method != "value" and norm_type != 2.0 and not sayable:
        raise InputError(
            f"{document.file}: {show(target.path)} is for the L2 norm, and this threshold is for norm_type {norm_type!r}; the "
            f"number would mean something else. Instead, {instead or _INSTEAD.format(method='norm')}."
        )


def check_old(document: Document, target: Target, *, asked: bool) -> None:
    """Refuse to overwrite what is no number, unless the user named the key, and it is a plain value at least."""
    nodes = along(document, target.root, target.path)
    if len(nodes) <= len(target.path):
        return
    node = find(target.root, target.path)
    old = nodes[-1]
    where = f"{document.where(old)}: {show(target.path)}"
    if not isinstance(node, Scalar):
        inside = [p for p, n in walk(old) if len(p) == 1]
        hint = f" It holds {', '.join(show((*target.path, *p)) for p in inside[:5])}." if inside else ""
        raise InputError(f"{where} is not a single value, so it cannot become a number.{hint} Name the key with --key.")
    if node.tag and not is_open(node):
        raise InputError(
            f"{where} is tagged {node.tag!r}, so a number there would be read in some way of its own. Write it by hand."
        )
    if isinstance(node.value, bool):
        raise InputError(
            f"{where} is a switch, {document.raw(old)}, not a number. Name the key of the threshold with --key."
        )
    if node.lines or not (asked or is_open(node)):
        raise InputError(
            f"{where} is {document.raw(old)[:60]!r}, not a number, and something may fill it in. If it is to become the "
            f"number all the same: --key {show(target.path)}."
        )
