"""What the script saves with ``torch.save`` -> a list for the parent, which puts back what was there before.

A run of a few hundred steps must not replace the checkpoint of a long one: a file that is older than the run is set aside before it is
written over.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from clipcal.attaching.session import SAVED

ASIDE = ".before-clipcal"


def keep_what_is_there(session: Path) -> None:
    """Look at every ``torch.save`` from now on."""
    save, since = torch.save, time.time()
    seen: set[str] = set()

    @functools.wraps(save)
    def watched(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(OSError, ValueError):
            if isinstance(f, (str, os.PathLike)):
                _note(session, Path(os.path.abspath(f)), since, seen)
        return save(obj, f, *args, **kwargs)

    torch.save = watched


def _note(session: Path, path: Path, since: float, seen: set[str]) -> None:
    if str(path) in seen:
        return
    seen.add(str(path))
    aside = path.with_name(path.name + ASIDE)
    old = path.is_file() and not aside.exists() and path.stat().st_mtime < since
    with (session / f"{SAVED}-{os.getpid()}").open("a", encoding="utf-8") as f:
        f.write(json.dumps({"path": str(path), "aside": str(aside) if old else None}) + "\n")
    if old:
        path.rename(aside)
