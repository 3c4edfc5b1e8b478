"""This process -> facts about it: versions, the packages that clipcal needs, where they come from, and what there is to compute with.

Nothing is read from the environment, and no address that something was installed from is told: both may hold secrets.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

from clipcal.errors import has_torch
from clipcal.sources.usercode import first_line

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


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The folder that a package is imported from. ``kind``: ``installed`` (a wheel, in site-packages), ``editable``, or ``path``: found
    on Python's path alone, such as a checkout, while ``beside`` is the version of another one that is installed."""

    path: str
    kind: str
    beside: str | None = None


@dataclass(frozen=True, kw_only=True)
class Torch:
    """``build`` in words: of which CUDA, ROCm or of none. ``failure`` says why it cannot be loaded; the rest is empty then."""

    version: str = ""
    build: str = ""
    origin: Origin | None = None
    threads: int = 0
    cuda: list[str] = field(default_factory=list)
    mps: bool = False
    warnings: list[str] = field(default_factory=list)
    failure: str | None = None


def needed() -> list[Package]:
    """What clipcal cannot do without, torch among them; empty where clipcal is not installed."""
    return [_package(line) for extra, line in _requirements() if extra is None]


def extras() -> list[Extra]:
    """The optional parts; empty where clipcal is not installed."""
    lines = _requirements()
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


def _requirements() -> list[tuple[str | None, str]]:
    """Those lines of the metadata that hold for this Python, each with the extra that it is of."""
    try:
        lines = importlib.metadata.requires("clipcal") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    here = sys.version_info[:2]
    return [
        (found[1] if (found := _EXTRA.search(line)) else None, line)
        for line in lines
        if all((here < (int(major), int(minor))) == (sign == "<") for sign, major, minor in _PYTHON.findall(line))
    ]


def _package(line: str) -> Package:
    requirement = line.partition(";")[0]
    name, least = _NAME.match(requirement), _LEAST.search(requirement)
    assert name is not None
    return Package(name=name[0], least=least[1] if least else "", version=version_of(name[0]))


def origin_of(package: str, file: str) -> Origin:
    """``file`` is the package's __init__.py."""
    folder = Path(file).parent
    try:
        installed = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return Origin(path=str(folder), kind="path")
    if Path(str(installed.locate_file(package))).resolve() == folder.resolve():
        return Origin(path=str(folder), kind="installed")
    project = _editable_project(installed)
    if project is not None and folder.resolve().is_relative_to(project.resolve()):
        return Origin(path=str(folder), kind="editable")
    return Origin(path=str(folder), kind="path", beside=installed.version)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def torch_here() -> Torch | None:
    """None where it is not installed. It is imported, which may take seconds, and fail."""
    if not has_torch():
        return None
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            import torch

            found = Torch(
                version=str(torch.__version__),
                build=_build(torch.version.cuda, getattr(torch.version, "hip", None)),
                origin=origin_of("torch", str(torch.__file__)),
                threads=torch.get_num_threads(),
                cuda=[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
                mps=torch.backends.mps.is_available(),
            )
        except Exception as e:  # a library that is missing, a driver that does not fit, a file that is half there
            return Torch(failure=f"{type(e).__name__}: {first_line(e)}")
    found.warnings.extend(dict.fromkeys(str(w.message).splitlines()[0] for w in heard if str(w.message)))
    return found


def _build(cuda: str | None, hip: str | None) -> str:
    return f"for CUDA {cuda}" if cuda else f"for ROCm {hip}" if hip else "without CUDA"


def _editable_project(installed: importlib.metadata.Distribution) -> Path | None:
    """The folder that a distribution was installed from with ``pip install -e``."""
    try:
        said = json.loads(installed.read_text("direct_url.json") or "{}")
        is_editable, address = said["dir_info"]["editable"], urlparse(said["url"])
    except (KeyError, TypeError, ValueError):
        return None
    return Path(unquote(address.path)) if is_editable and address.scheme == "file" else None
