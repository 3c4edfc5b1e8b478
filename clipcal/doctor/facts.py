"""This process -> facts about it: versions, where clipcal and torch come from, and what there is to compute with.

Nothing is read from the environment, and no address that something was installed from is told: both may hold secrets.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

from clipcal.errors import has_torch
from clipcal.sources.usercode import first_line


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
