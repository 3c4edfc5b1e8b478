"""The environment that torchrun sets -> which of how many processes this one is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """``rank`` of ``world`` processes, ``local_rank`` on its machine. ``restarts``: how often torchrun has started all of them again."""

    rank: int
    world: int
    local_rank: int
    restarts: int = 0


def ranks_here(environ: Mapping[str, str] = os.environ) -> Ranks | None:
    """None where no launcher started this process, or none beside it."""
    try:
        found = Ranks(
            rank=int(environ["RANK"]),
            world=int(environ["WORLD_SIZE"]),
            local_rank=int(environ["LOCAL_RANK"]),
            restarts=int(environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
        )
    except (KeyError, ValueError):
        return None
    return found if found.world > 1 and "MASTER_ADDR" in environ else None
