"""A config file and a threshold -> the plan of a change: its old and new text, and what should be said before it is made.

Nothing is written here but by ``write``.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clipcal.errors import InputError
from clipcal.frameworks.applying.conflicts import Intent
from clipcal.frameworks.applying.documents import FORMATS, LOOSE_JSON, Document, along, parse, set_value
from clipcal.frameworks.applying.files import read_text, refuse, replace_text
from clipcal.frameworks.applying.finding import Target, check_meaning, check_old, found, named
from clipcal.frameworks.applying.spelling import num_alike
from clipcal.frameworks.applying.tree import Alias, find, said, show, walk
from clipcal.frameworks.applying.tree import Path as KeyPath
from clipcal.frameworks.keys import MEANINGS, Switch, Value, check_threshold
from clipcal.frameworks.table import CONFIGS, config_of, recognise
from clipcal.run.records import Method

_CONTEXT = 3
_BOM = "\ufeff"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One key, as ``--key`` takes it, and the characters of its value; ``before`` is None where the key is new."""

    key: str
    before: str | None
    after: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """``changes`` has the threshold first, and then the keys that say how it is meant, where they have to change.

    ``framework`` is a key of ``CONFIGS``, None where the threshold was found by the name of its key, or named by the
    user. ``warnings`` are sentences.
    """

    path: Path
    framework: str | None
    changes: tuple[Change, ...]
    old_text: str
    new_text: str
    warnings: tuple[str, ...]

    @property
    def unchanged(self) -> bool:
        """Whether the file says all of it already."""
        return self.old_text == self.new_text


def plan(
    config: Path,
    *,
    max_norm: float,
    method: Method = "norm",
    norm_type: float = 2.0,
    key: str | None = None,
    framework: str | None = None,
) -> Plan:
    """What ``write`` would do to the file so that it clips at ``max_norm``, which is in the unit of ``method``.

    ``key`` is a path such as ``trainer.gradient_clip_val``; without one the key is found. ``framework`` is a key of
    ``FRAMEWORKS`` or an alias, for a config that does not show what it is for.

    Raises InputError: for a file that is no config, where the key is not there or not clear, and where the key would take
    the number for something else; the message says what to do instead.
    """
    check_threshold(max_norm, method, norm_type, of="A config")
    path = Path(config)
    if path.suffix.lower() not in FORMATS:
        refuse(path)
    old_text = read_text(path)
    mark = _BOM if old_text.startswith(_BOM) else ""
    document = _parsed(path, old_text.removeprefix(mark), framework)
    if not document.roots:
        raise InputError(
            f"{document.file} is empty; expected a config that has its keys already. `clipcal recommend RUN --for NAME` prints "
            "the lines to paste."
        )
    target = named(document, key, framework) if key is not None else found(document, method, framework)
    check_meaning(document, target, method, norm_type)
    warnings = list(target.notes)
    asked = key is not None
    if target.framework and (conflicts := CONFIGS[target.framework].conflicts):
        warnings += conflicts(
            Intent(document=document, root=target.root, path=target.path, max_norm=max_norm, method=method, asked=asked)
        )
    if target.key is None:
        warnings.append(
            f"What {show(target.path)} means is not known here; the number is {MEANINGS[method]}. Make sure that it is read so."
        )
    check_old(document, target, asked=asked)
    warnings += _shared(document, target)
    values: dict[KeyPath, Value] = {target.path: max_norm}
    for switch in target.key.switches if target.key else ():
        values |= _switched(target, switch, method, norm_type)
    index = next(i for i, root in enumerate(document.roots) if root is target.root)
    new = document
    for place, value in values.items():
        if not _same(said(new.roots[index], place), value):
            new = set_value(new, index, place, value)
    changes = [_change(document, new, index, place) for place in values]
    for place, change in list(zip(values, changes, strict=True))[1:]:
        if (says := said(target.root, place)) is not None:
            warnings.append(
                f"{change.key} was {says!r}, under which the number would mean something else; it becomes {change.after}."
            )
    return Plan(
        path=path,
        framework=target.framework,
        changes=tuple(changes),
        old_text=old_text,
        new_text=mark + new.text,
        warnings=tuple(warnings),
    )


def diff(plan: Plan) -> str:
    """The change as a unified diff without colours, for reading: empty where nothing changes, line breaks all ``\\n``."""
    name = _printable(str(plan.path))
    old, new = _lines(plan.old_text), _lines(plan.new_text)
    # difflib gives up on lines that are often repeated, so it gets only those around the changes.
    skipped = max(0, num_alike(old, new) - _CONTEXT)
    end = max(0, num_alike(old[:skipped:-1], new[:skipped:-1]) - _CONTEXT)
    part, changed = old[skipped : len(old) - end], new[skipped : len(new) - end]
    diff = difflib.unified_diff(part, changed, name, name, lineterm="", n=_CONTEXT)
    return "".join(f"{_printable(_shifted(line, skipped))}\n" for line in diff)


def write(plan: Plan) -> None:
    """Make the change, in one step. Raises InputError where the file cannot be written, or is not what was planned for."""
    if not plan.unchanged:
        replace_text(plan.path, old=plan.old_text, new=plan.new_text)


def _parsed(path: Path, text: str, framework: str | None) -> Document:
    """DeepSpeed reads its JSON with hjson (deepspeed/runtime/config.py), so that its configs may have comments."""
    if path.suffix.lower() == ".json":
        with contextlib.suppress(InputError):
            loose = parse(path, text, LOOSE_JSON)
            if (config_of(framework) if framework else recognise(loose.roots[0])) == "deepspeed":
                return loose
    return parse(path, text)


def _lines(text: str) -> list[str]:
    """As editors count them; a byte order mark and the last line's break do not show."""
    lines = re.split(r"\r\n|\n|\r", text.removeprefix(_BOM))
    return lines if lines[-1] else lines[:-1]


def _shifted(line: str, by: int) -> str:
    """A line of a diff; one that starts with @@ names the lines of the whole file."""
    if not line.startswith("@@ "):
        return line
    return re.sub(r"(?<=[-+])\d+", lambda match: str(int(match[0]) + by), line)


def _shared(document: Document, target: Target) -> Iterator[str]:
    """YAML: what else a change of this key reaches, through ``*name`` and ``<<``, or does not reach any more."""
    nodes = along(document, target.root, target.path)
    uses = [n for _, n in walk(target.root) if isinstance(n, Alias) and any(n.target is node for node in nodes)]
    if uses:
        lines = ", ".join(str(document.line(n)) for n in uses[:6])
        yield f"This value is used again through *{uses[0].target.anchor} (line {lines}): it changes there too."
    if isinstance(nodes[-1], Alias):
        yield (
            f"{show(target.path)} was {document.raw(nodes[-1])}, the value of another key; it gets a number of its own, and "
            "that key stays."
        )


def _same(old: object, new: Value) -> bool:
    return isinstance(old, bool) == isinstance(new, bool) and old == new


def _change(old: Document, new: Document, index: int, path: KeyPath) -> Change:
    before = along(old, old.roots[index], path)
    return Change(
        key=show(path),
        before=old.raw(before[-1]) if len(before) > len(path) else None,
        after=new.raw(along(new, new.roots[index], path)[-1]),
    )


def _switched(target: Target, switch: Switch, method: Method, norm_type: float) -> dict[KeyPath, Value]:
    """What a key beside the threshold has to say for the method, where it does not say so already."""
    wanted = switch.wanted.get(method)
    value: Value | None = float(norm_type) if wanted == "norm_type" else wanted
    path = (*target.path[:-1], switch.name)
    says = said(target.root, path)
    if value is None or _same(switch.default if says is None else says, value):
        return {}
    return {path: value} if switch.add or find(target.root, path) else {}


def _printable(line: str) -> str:
    """Control characters would act on the terminal."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line)
