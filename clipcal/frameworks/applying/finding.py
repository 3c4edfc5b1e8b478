"""A document -> the one key in it that is to hold the threshold: named by the user, by the framework, or by its name; or why not."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from clipcal.errors import InputError, nearest
from clipcal.frameworks.applying.documents import Document, along
from clipcal.frameworks.applying.tree import Mapping, Node, Path, Scalar, behind, children, find, parse_key, show, walk
from clipcal.frameworks.keys import KEYS, MEANINGS, Key, known
from clipcal.frameworks.table import CONFIGS, FRAMEWORKS, config_of, recognise
from clipcal.run.records import Method

_SHOWN = 6
"""Keys that an error lists."""
_INSTEAD = (
    "calibrate again with `clip: {{method: {method}, norm_type: 2.0}}`, or paste the lines of `clipcal recommend RUN "
    "--for pytorch` into a training loop of your own"
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the threshold goes. ``key`` is None where nothing is known of a key that the user named; ``node`` is what stands
    there now, where the key was found by its name."""

    root: Node
    path: Path
    key: Key | None
    framework: str | None = None
    node: Node | None = None
    notes: list[str] = field(default_factory=list)


def named(document: Document, key: str, framework: str | None) -> Target:
    """The key that ``--key`` names: one that is there, or one more in a mapping that is there. Raises InputError."""
    path = parse_key(key)
    ways = [along(document, root, path) for root in document.roots]
    deepest = max(map(len, ways))
    roots, lasts = zip(*((way[0], way[-1]) for way in ways if len(way) == deepest), strict=True)
    keys = [name for name, _ in children(lasts[0])]
    if deepest < len(path) and (keys or isinstance(lasts[0], Mapping)):
        raise InputError(_no_parent(document, path, deepest - 1, keys))
    if len(roots) > 1:
        raise InputError(
            f"{document.file} holds {len(document.roots)} documents, and {show(path)} could be in {len(roots)} of them. "
            "Apply to a file with one document, or write the number by hand."
        )
    if deepest == len(path) and (near := _near(path[-1], keys)):
        raise InputError(
            f"{document.file} has no {show(path)}. Did you mean {show((*path[:-1], near))}? A key of a new name, so close to "
            "that, has to be put there by hand first."
        )
    name = config_of(framework) if framework else recognise(roots[0])
    if name and CONFIGS[name].path == path:
        return Target(root=roots[0], path=path, key=CONFIGS[name].key, framework=name)
    return Target(root=roots[0], path=path, key=known(path))


def found(document: Document, method: Method, framework: str | None) -> Target:
    """The key that the framework reads, there already or not, or else the only one that is one by its name.

    Raises InputError where there is none, and where there are several.
    """
    candidates = [c for root in document.roots for c in _candidates(root)]
    root = _only_root(document, candidates)
    name = config_of(framework) if framework else recognise(root)
    if name:
        return _of_framework(document, root, name, candidates)
    fitting = [c for c in candidates if c.key and method in c.key.methods]
    if len(fitting) > 1:
        raise InputError(
            f"{document.file} has {len(fitting)} keys that could hold the threshold: {_listed(document, fitting)}. Say "
            f"which, such as --key {show(fitting[0].path)}."
        )
    if candidates:
        best = (fitting or candidates)[0]
        return replace(best, notes=_others(document, [c for c in candidates if c is not best]))
    raise InputError(
        f"{document.file} has no key that is known to hold a clipping threshold, and does not look like the config of a "
        "framework that is known here. Name the key, such as --key train.max_grad_norm; if training is not configured in "
        "this file, `clipcal recommend RUN --for NAME` prints the lines to paste."
    )


def _of_framework(document: Document, root: Node, name: str, candidates: Sequence[Target]) -> Target:
    own = CONFIGS[name]
    there = find(root, own.path) is not None
    if not there and candidates:
        raise InputError(
            f"{document.file} looks like a config for {name}, which reads {show(own.path)}, not in the file yet; but "
            f"there is {_listed(document, candidates)} as well. Say which: --key {show(own.path)}, or --key "
            f"{show(candidates[0].path)}."
        )
    if not there and len(own.path) > 1 and not own.fits(root) and find(root, own.path[:1]) is None:
        raise InputError(
            f"{document.file} does not look like a config for {name}: it has no {own.path[0]}. Name the key with "
            "--key, or leave --for out."
        )
    notes = _others(document, [c for c in candidates if c.path != own.path])
    return Target(root=root, path=own.path, key=own.key, framework=name, notes=notes)


def is_open(node: Node) -> bool:
    """Whether a value is a number, or nothing yet: what a threshold may take the place of without asking."""
    node = behind(node)
    if not isinstance(node, Scalar) or node.tag.rpartition(":")[2] not in ("", "float"):
        return False
    value = node.value
    if value is None or value == "":
        return node.resolve is not None
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return not isinstance(value, bool)


def _candidates(root: Node) -> list[Target]:
    """One for each path: a key that stands twice is told of when it comes to be changed."""
    by_path = {
        path: Target(root=root, path=path, key=key, node=node)
        for path, node in walk(root)
        if (key := known(path)) and is_open(node)
    }
    return list(by_path.values())


def _only_root(document: Document, candidates: Sequence[Target]) -> Node:
    roots = [r for r in document.roots if len(document.roots) == 1 or any(c.root is r for c in candidates)]
    if len(roots) != 1:
        raise InputError(
            f"{document.file} holds {len(document.roots)} documents, {len(roots) or 'none'} of them with a threshold; expected "
            "one. Name the key with --key, or write the number by hand."
        )
    return roots[0]


def _others(document: Document, others: Sequence[Target]) -> list[str]:
    return [f"Left as it is: {_listed(document, others)}. Look whether that clips too."] if others else []


def _listed(document: Document, candidates: Sequence[Target]) -> str:
    shown = []
    for c in candidates[:_SHOWN]:
        assert c.node is not None
        assert c.key is not None
        meaning = f" ({MEANINGS[c.key.methods[0]]})" if c.key.methods[0] != "norm" else ""
        shown.append(f"{show(c.path)} on line {document.line(c.node)}{meaning}")
    more = f", and {len(candidates) - _SHOWN} more" if len(candidates) > _SHOWN else ""
    return ", ".join(shown) + more


def _no_parent(document: Document, path: Path, depth: int, keys: Sequence[str]) -> str:
    """That a mapping on the way is missing; ``keys`` are there in its place, behind the first ``depth`` of the path."""
    missing = show(path[: depth + 1])
    hint = nearest(path[depth], keys)
    if not hint.startswith(" Did you mean"):
        shown = f"{', '.join(map(repr, keys[:12]))}{', ...' if len(keys) > 12 else ''}"
        has = "It has no keys" if not keys else "Its only key" if len(keys) == 1 else "Its keys"
        are = "" if not keys else f" is {shown}" if len(keys) == 1 else f" are {shown}"
        there = f"under {show(path[:depth])}" if depth else "at the top"
        hint = f" {has} {there}{are}. Add {missing} there by hand first, or name another place with --key."
    return f"{document.file} has no {missing}, so {path[-1]} cannot be put there.{hint}"


def _near(leaf: str, keys: Sequence[str]) -> str:
    """One of the keys that are there, or one that is known to hold a threshold, that the new one may be a slip of."""
    if leaf.lower().replace("-", "_") in KEYS or any(config.key.name == leaf for config in CONFIGS.values()):
        return ""
    return next(iter(difflib.get_close_matches(leaf, [*keys, *KEYS], n=1, cutoff=0.85)), "")


def check_meaning(document: Document, target: Target, method: Method, norm_type: float) -> None:
    """Refuse a key that would take the number for something else."""
    key, own = target.key, target.framework
    if key is None:
        return
    instead = (CONFIGS[own].instead or FRAMEWORKS[own].instead) if own else ""
    if method not in key.methods:
        can = " or ".join(MEANINGS[m] for m in key.methods)
        raise InputError(
            f"{document.file}: {show(target.path)} is {can}, and this threshold is {MEANINGS[method]}; the number would "
            f"mean something else. Instead, {instead or _INSTEAD.format(method=key.methods[0])}."
        )
    says = [s for s in key.switches if s.wanted.get(method) == "norm_type"]
    sayable = any(s.add or find(target.root, (*target.path[:-1], s.name)) for s in says)
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
