"""What the table holds of each framework: its names, the text to paste, and the key in its config files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from clipcal.frameworks.applying.tree import Node, Path, find
from clipcal.frameworks.keys import Key, spelled
from clipcal.run.records import Method

if TYPE_CHECKING:
    from clipcal.frameworks.applying.conflicts import Intent

Language = Literal["python", "yaml", "json", "toml", "shell"]

# What to do where a framework has no place for a rule of one's own.
AGAIN = "calibrate again with `clip: {method: norm, norm_type: 2.0}`"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Where the config files of a framework keep the threshold: ``key``, below the dotted keys of ``section``.

    A file is for this framework where all the dotted keys of one group of ``marks`` are in it, or where ``recognises`` says
    so of its root. ``conflicts`` gives sentences on what else in the file stands against the threshold, and raises InputError
    where writing it would be wrong. ``instead`` is for a threshold that the key cannot hold, where that is not what the
    framework says.
    """

    key: Key
    section: str = ""
    marks: tuple[str, ...] = ()
    recognises: Callable[[Node], bool] | None = None
    conflicts: Callable[[Intent], Iterable[str]] | None = None
    instead: str = ""

    @property
    def path(self) -> Path:
        return (*self.section.split("."), self.key.name) if self.section else (self.key.name,)

    def fits(self, root: Node) -> bool:
        """Whether a file is for this framework, by its content."""
        by_marks = any(all(find(root, tuple(key.split("."))) for key in group.split()) for group in self.marks)
        return by_marks or (self.recognises is not None and self.recognises(root))


@dataclass(frozen=True, kw_only=True)
class Framework:
    """One framework, or one of the ways to set it up, which share a ``config`` then.

    ``text`` has what to paste for each method that the framework can express, with ``{number}``, ``{norm_type}`` (its
    value in ``language``), ``{p}`` (torch's argument: ``, norm_type=...``, empty for L2) and ``{default}`` in it; ``shell``
    is a part of a command line. Comments start with ``#`` in every language; in ``json`` they stand outside of the object.
    ``default`` is what the framework clips at where nothing is said, None where it does not clip. ``instead`` completes
    "Instead, ..." where a threshold cannot be expressed.
    """

    title: str
    text: Mapping[Method, str]
    language: Language = "python"
    default: float | None = None
    instead: str = AGAIN
    aliases: tuple[str, ...] = ()
    config: Config | None = None

    @property
    def methods(self) -> tuple[Method, ...]:
        return tuple(self.text)

    @property
    def any_norm_type(self) -> bool:
        """Whether it clips by norms other than L2 too."""
        return any("{p}" in text or "{norm_type}" in text for text in self.text.values())

    def render(self, max_norm: float, method: Method, norm_type: float) -> str:
        """The text for a threshold that the framework can express."""
        p = repr(float(norm_type))
        if math.isinf(norm_type):
            p = ".inf" if self.language == "yaml" else 'float("inf")'
        argument = "" if norm_type == 2.0 else f", norm_type={p}"
        return self.text[method].format(number=spelled(max_norm), norm_type=p, p=argument, default=self.default)


def total_norm(text: str) -> dict[Method, str]:
    """The texts of a framework that clips by the total norm alone."""
    return {"norm": text}


def in_yaml(
    title: str,
    config: Config,
    note: str | Mapping[Method, str],
    *,
    only: tuple[Method, ...] | None = None,
    default: float | None = None,
    instead: str = AGAIN,
    aliases: tuple[str, ...] = (),
) -> Framework:
    """A framework that is set in a YAML file: the text has ``note``, the key, and the switches that say how it is meant.

    ``note`` is a comment, or one for each method, without a line break at its end; ``only`` the methods, where the key can
    hold the thresholds of others too.
    """
    texts: dict[Method, str] = {}
    *section, name = config.path
    for method in only or config.key.methods:
        lines = [note if isinstance(note, str) else note.get(method, "")]
        lines += [f"{'  ' * depth}{above}:" for depth, above in enumerate(section)]
        said = {name: "number"} | {s.name: s.wanted[method] for s in config.key.switches if method in s.wanted}
        for key, value in said.items():
            text = "true" if value is True else f"{{{value}}}" if value in ("number", "norm_type") else value
            lines.append(f"{'  ' * len(section)}{key}: {text}")
        texts[method] = "\n".join(line for line in lines if line)
    return Framework(
        title=title, text=texts, language="yaml", default=default, instead=instead, aliases=aliases, config=config
    )
