"""The stack of a clip call -> the place that people know it by: the line of their script, and the package that it calls there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from clipcal.sources.usercode import package_of

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parents[1])
_STANDARD = str(Path(os.__file__).parent)
_COMMANDS = os.path.join(sys.prefix, "bin") + os.sep


def place() -> str:
    """``train.py:12``, or ``train.py:40 (transformers)`` where a trainer clips. Where all of the stack is installed, or the program
    is a command, the nearest place that is neither torch's nor ours."""
    frame = sys._getframe(1)
    nearest, package = None, ""
    while frame.f_back is not None:
        frame = frame.f_back
        file = frame.f_code.co_filename
        if file.startswith((_TORCH, _OURS)):
            continue
        here = f"{Path(file).name}:{frame.f_lineno}"
        is_program = frame.f_globals.get("__name__") == "__main__" and not file.startswith(_COMMANDS)
        if is_program or not (package_of(file) or file.startswith((_STANDARD, _COMMANDS, "<frozen "))):
            return f"{here} ({package})" if package else here
        nearest, package = nearest or here, package_of(file) or package
    return nearest or "an unknown place"
