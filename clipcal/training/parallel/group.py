"""This process among the ranks: the store through which rank 0 says what to train, and the collectives of a step."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from clipcal.errors import RankLost
from clipcal.sources.ranks import Ranks, ranks_here

_FOREVER = datetime.timedelta(days=7)
"""Rank 0 may read, write and compute between two arms, and the others wait."""


_GONE = re.compile(r"gloo|nccl|ProcessGroup|Connection (closed|reset|refused)|Broken pipe|Socket", re.IGNORECASE)
"""In what a collective raises, where the process at its other end is gone."""


class Group:
    """One per process. ``order`` and ``orders`` are the two ends of what rank 0 says to the others. ``is_lost``: a rank is gone, and that is
    being said."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        store, _, _ = next(rendezvous("env://"))
        # a restart finds what the processes before it have written
        self._store = PrefixStore(f"clipcal/{ranks.restarts}", store)
        self._num_orders = 0
        self._control: Any = None
        self.is_lost = False

    def order(self, **what: Any) -> None:
        """Of rank 0: what all of them do next."""
        self._store.set(f"order/{self._num_orders}", json.dumps(what))
        self._num_orders += 1

    def orders(self) -> Iterator[dict[str, Any]]:
        """Of the others: until rank 0 has nothing more to do."""
        for number in itertools.count():
            try:
                self._store.wait([f"order/{number}"], _FOREVER)
                what = json.loads(self._store.get(f"order/{number}"))
            except RuntimeError:  # the store is gone, and who keeps it with it
                raise self.lost() from None
            if what.get("end"):
                return
            yield what

    def begin(self, device: torch.device) -> None:
        """The process group, when something is to be trained; ``device`` says by which backend."""
        if not dist.is_initialized():
            if device.type == "cuda":
                torch.cuda.set_device(device)
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=PrefixStore("pg", self._store),
                rank=self.ranks.rank,
                world_size=self.ranks.world,
            )
            # what the host decides goes by the host: a broadcast on an accelerator would make it wait for the step
            self._control = dist.new_group(backend="gloo") if device.type == "cuda" else dist.group.WORLD

    def goes_on(self, wanted: bool = True) -> bool:
        """Asked by all before every step: whether rank 0 makes it. Raises RankLost."""
        flag = torch.tensor(int(wanted))
        with self.watched():
            dist.broadcast(flag, 0, group=self._control)
        return bool(flag.item())

    def gathered(self, values: Tensor) -> Tensor:
        """The values (k,) of every rank, (world, k)."""
        rows = values.new_empty(self.ranks.world, values.numel())
        with self.watched():
            dist.all_gather(list(rows.unbind()), values.contiguous())
        return rows

    def reduced(self, values: Tensor, how: Literal["sum", "max"]) -> Tensor:
        """The values (k,) put together over the ranks, in place."""
        with self.watched():
            dist.all_reduce(values, dist.ReduceOp.SUM if how == "sum" else dist.ReduceOp.MAX)
        return values

    def say_failed(self, why: str) -> None:
        with contextlib.suppress(Exception):
            self._store.set(f"failed/{self.ranks.rank}", why)

    def who_failed(self) -> str | None:
        """The reason of the first rank, but this one, that has said one."""
        for rank in range(self.ranks.world):
            if rank != self.ranks.rank:
                with contextlib.suppress(Exception):
                    if self._store.check([f"failed/{rank}"]):
                        return f"rank {rank} failed: {self._store.get(f'failed/{rank}').decode()}"
        return None

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """What a collective raises where another process is gone, in our words."""
        try:
            yield
        except RuntimeError:
            raise self.lost() from None

    def look_at(self, error: Exception) -> None:
        """Raises RankLost where an error is but the echo of another rank's."""
        if _GONE.search(str(error)):
            raise self.lost() from None

    def lost(self) -> RankLost:
        self.is_lost = True
        what = self.who_failed() or "another rank is gone, without saying why: killed, most likely, or out of memory"
        return RankLost(f"{what[:1].upper()}{what[1:]}. What was recorded is kept.")

    def close(self) -> None:
        if dist.is_initialized():
            with contextlib.suppress(Exception):
                dist.destroy_process_group()


@cache
def group_here() -> Group | None:
    """None where torchrun did not start this process."""
    ranks = ranks_here()
    return None if ranks is None else Group(ranks)


def dismiss() -> None:
    """Of rank 0, when its command is over: the others may go."""
    group = group_here()
    if group is not None:
        with contextlib.suppress(Exception):
            group.order(end=True)
        group.close()
