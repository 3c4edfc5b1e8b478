"""What a rank does -> its exit code, and the end of its process."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from clipcal.sources.ranks import ranks_here


def end_with(act: Callable[[], object]) -> NoReturn:
    """Act, let the other ranks go, and end without Python's own shutdown: now and then a thread of gloo's outlives it, which aborts the
    process, and torchrun takes that for a failure of the training."""
    code = 1
    try:
        done = act()
        code = done if isinstance(done, int) else 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
    except BaseException:
        traceback.print_exc()
    ranks = ranks_here()
    if ranks is not None and ranks.rank == 0:
        from clipcal.training.parallel.group import dismiss

        dismiss()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
