"""torch.compile -> the same, with our hooks left to Python: a compiled step breaks its graph where it meets them.

``fullgraph=True`` forbids that, so it is turned off. Nothing of the compiler is imported before the script does: it takes seconds.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from clipcal.watching import listening


def prepare() -> None:
    """Look at every call of ``torch.compile`` from now on."""
    compile = torch.compile

    @functools.wraps(compile)
    def watched(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("fullgraph", None)
        listening.leave_to_python()
        return compile(*args, **kwargs)

    torch.compile = watched
