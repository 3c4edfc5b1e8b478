"""clipcal's installed metadata -> the packages that it needs, and those of its optional parts, with the versions that are here."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from dataclasses import dataclass

EXTRAS = {
    "samples": "two of the sample trainings",
    "parquet": "logs in Parquet files",
    "wandb": "runs of W&B by their files",
    "plots": "pictures for papers: --plot",
    "tensorboard": "curves for TensorBoard: --tensorboard",
    "ray": "arms on a Ray cluster: --executor ray",
    "toml": "`clipcal apply` to TOML files",
}
"""The extras that users may want, and what for. The others are for those who work on clipcal."""

_NAME, _LEAST = re.compile(r"[A-Za-z0-9._-]+"), re.compile(r">=\s*([0-9.]+)")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_PYTHON = re.compile(r"""python_version\s*(<|>=)\s*["'](\d+)\.(\d+)["']""")


@dataclass(frozen=True, kw_only=True)
class Package:
    """``name`` as pip has it, ``least`` the lowest version that does (empty: any), ``version`` the one that is here, None without."""

    name: str
    least: str
    version: str | None

    @property
    def is_too_old(self) -> bool:
        return self.version is not None and bool(self.least) and numbers(self.version) < numbers(self.least)


@dataclass(frozen=True, kw_only=True)
class Extra:
    name: str
    purpose: str
    packages: tuple[Package, ...]

    @property
    def is_there(self) -> bool:
        return all(p.version is not None and not p.is_too_old for p in self.packages)

    @property
    def get(self) -> str:
        return f"pip install 'clipcal[{self.name}]'"


def needed() -> list[Package]:
    """What clipcal cannot do without, torch among them; empty where clipcal is not installed."""
    return [_package(line) for line in _requirements() if not _EXTRA.search(line)]


def extras() -> list[Extra]:
    """The optional parts; empty where clipcal is not installed."""
    lines = [(found[1], line) for line in _requirements() if (found := _EXTRA.search(line))]
    return [
        Extra(name=name, purpose=purpose, packages=tuple(_package(line) for extra, line in lines if extra == name))
        for name, purpose in EXTRAS.items()
        if any(extra == name for extra, _ in lines)
    ]


def version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """``2.6.0+cpu`` -> (2, 6): enough to compare with the lowest versions, which are releases."""
    release = re.match(r"[0-9.]*", version)
    parts = [int(part) for part in (release[0] if release else "").split(".") if part]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _requirements() -> list[str]:
    """Those lines of the metadata that hold for this Python."""
    try:
        lines = importlib.metadata.requires("clipcal") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [line for line in lines if all(_holds(*found) for found in _PYTHON.findall(line))]


def _holds(sign: str, major: str, minor: str) -> bool:
    is_older = sys.version_info[:2] < (int(major), int(minor))
    return is_older if sign == "<" else not is_older


def _package(line: str) -> Package:
    requirement = line.partition(";")[0]
    name, least = _NAME.match(requirement), _LEAST.search(requirement)
    assert name is not None
    return Package(name=name[0], least=least[1] if least else "", version=version_of(name[0]))
