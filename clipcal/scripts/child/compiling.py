"""torch.compile -> the same, with our hooks left to Python: a compiled step breaks its graph where it meets them.

``fullgraph=True`` forbids that, so it is turned off. Nothing of the compiler is imported before the script does: it takes seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def prepare(leave_to_python: Callable[[], None]) -> Callable[[], None]:
    """Call ``leave_to_python`` before ``torch.compile`` is used, at each of its calls. Gives what takes this back."""
    compile = torch.compile

    @functools.wraps(compile)
    def watched(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("fullgraph", None)
        leave_to_python()
        return compile(*args, **kwargs)

    def take_back() -> None:
        torch.compile = compile

    torch.compile = watched
    return take_back
