"""The steps of one optimizer in one process -> a file that grows, ``steps``, of rows of one length: numbers and the norm of every
tensor. ``stream.json`` says whose they are, ``seen.json`` what else was seen of it."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipcal.hooks.listening import ClipSite
from clipcal.hooks.observing import Observer, rank_and_world
from clipcal.scripts.child.growing import GrowingRows, row_of
from clipcal.scripts.child.naming import Naming
from clipcal.scripts.child.session import STREAMS, write
from clipcal.training.fetching import fetch, tensor_norms, together
from clipcal.training.gradnorm import Readings
from clipcal.training.loop import Observation

BATCH, SECONDS = 64, 0.25
"""An accelerator waits for a fetch, so it is done for so many steps, or after so long."""
EARLY = 16
"""Steps after each of which everything that was seen is told: whether a script can be watched at all shows in them."""
OFTEN, RARELY = 10, 50
"""Steps at whose beginning all gradients are looked at for a change by hand, and how often later."""
ALWAYS, SOMETIMES = 200, 4
"""Steps in all of which one element is looked at, and how often later."""
INNER = ("clip_threshold", "max_grad_norm", "clip_grad_norm", "clipping", "grad_clip", "clip_grad", "gradient_clipping")
"""Options by which optimizers clip by themselves, inside ``step`` (Adafactor, Lamb and others)."""


class Stream:
    """``number`` is the optimizer's, 1 for the first that stepped in this process."""

    def __init__(
        self,
        session: Path,
        optimizer: torch.optim.Optimizer,
        number: int,
        *,
        on_flush: Callable[[], None],
        on_error: Callable[[Exception], None],
        on_gradients: Callable[[Stream], None] | None,
    ) -> None:
        self.number = number
        self.observer = Observer(optimizer, sink=self._add, on_error=on_error, on_gradients=self._gradients_are_there)
        self.params = list(self.observer.params)
        self.ids = {id(p) for p in self.params}
        self.num_parameters = sum(p.numel() for p in self.params)
        self.naming = Naming(names=[], order=self.params)
        self.rank, self.world = rank_and_world()  # now: many scripts leave their process group before they end
        self.clips: list[ClipSite] = []
        self.changes = Changes(self.params)
        self._session, self._on_flush, self._on_gradients = session, on_flush, on_gradients
        self._folder: Path | None = None
        self._told: dict[str, Any] = {}
        self._file: GrowingRows | None = None
        self._row = row_of(len(self.params))
        self._pending: list[Observation] = []
        self._flushed, self._since = time.monotonic(), 0

    def flush(self, *, picked: bool) -> None:
        """Write what is pending, and what was seen. ``picked``: this is the optimizer that the threshold is for."""
        pending, self._pending = self._pending, []
        self._flushed, self._since = time.monotonic(), 0
        for s, o, norms in zip(fetch(pending), pending, tensor_norms(pending), strict=True):
            self._append(o, Readings(s.grad_norm, norms, s.grad_max), s.loss, s.lr, s.skipped)
        seen = {"picked": picked, "clips": [vars(c) for c in self.clips], "changes": self.changes.summary()}
        if self._folder is not None and seen != self._told:
            write(self._folder / "seen.json", seen)
            self._told = seen

    def _append(self, o: Observation, norms: Readings, loss: float, lr: float, skipped: bool) -> None:
        file = self._file or self._open()
        values = norms.per_tensor
        if o.with_grad is not None or len(values) != len(self.params):
            values = self._spread(values, o.with_grad)
        file.append(o.step, loss, norms.total, norms.grad_max, lr, o.seconds, skipped, *values)

    def _gradients_are_there(self) -> None:
        self.changes.compare()
        if self._on_gradients is not None:
            self._on_gradients(self)

    def _add(self, o: Observation) -> None:
        self._since += 1
        norms, loss = o.norms, o.loss
        if isinstance(norms, Readings) and isinstance(loss, float):
            # nothing to wait for, and a process that is killed or hangs leaves every step
            skipped = o.scaled and not math.isfinite(norms.grad_max)
            self._append(o, norms, loss, float(o.lr), skipped)
        else:
            self._pending.append(o)
        if o.step < EARLY or self._since >= BATCH or time.monotonic() - self._flushed >= SECONDS:
            self._on_flush()

    def _spread(self, values: list[float], with_grad: Sequence[int] | None) -> list[float]:
        row = [0.0] * len(self.params)
        for i, value in zip(range(len(values)) if with_grad is None else with_grad, values, strict=True):
            if i < len(row):  # parameters that were added later have a part in the total alone
                row[i] = value
        return row

    def _open(self) -> GrowingRows:
        folder = self._session / STREAMS / f"{self.rank}-{os.getpid()}-{self.number}"
        folder.mkdir(parents=True, exist_ok=True)
        optimizer = self.observer.optimizer
        self._folder, self._file = folder, GrowingRows(folder / "steps", self._row)
        write(
            folder / "stream.json",
            {
                "number": self.number,
                "pid": os.getpid(),
                "rank": self.rank,
                "world": self.world,
                "optimizer": type(optimizer).__name__,
                "inner_clipping": {
                    k: str(v) for k, v in optimizer.defaults.items() if k in INNER and v not in (None, 0, 0.0, False)
                },
                "num_parameters": self.num_parameters,
                "names": self.naming.names,
                "counts": [_counts(p, self.rank) for p in self.params],
                "sharded": any(hasattr(p, "placements") for p in self.params),
                "device": str(self.params[0].device),
                "threads": torch.get_num_threads(),
                "versions": {"python": platform.python_version(), "torch": torch.__version__},
                "capability": torch.backends.cpu.get_cpu_capability(),
            },
        )
        return self._file


class Changes:
    """Whether somebody changes the gradients between the backward pass and the step, by other means than a clip call.

    One element is looked at in most steps, since clipping scales all of them, and all norms in the first steps and rarely later. A
    GradScaler's unscaling is none, nor is a factor that is the same in every step (a mean over micro-batches): which it is, the
    ratios tell.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        self._params = params
        vectors = [p for p in params if p.dim() == 1 and p.numel()]
        self._probe = [*(p for p in params if p.numel()), *vectors][
            -1
        ]  # a bias, where there is one: no row of it is unused
        self._element: Tensor | float | None = None
        self._norm: Tensor | None = None
        self._pairs: list[tuple[Tensor | float, Tensor | float]] = []
        self._ratios: list[float] = []
        self._steps = self._compared = self._changed = 0

    def look(self) -> None:
        """The backward pass is over, or the gradients were unscaled."""
        if self._steps < ALWAYS or self._steps % SOMETIMES == 0:
            self._element = self._one()
            self._norm = self._all() if self._steps < OFTEN or self._steps % RARELY == 0 else None

    def compare(self) -> None:
        """The optimizer is about to step."""
        self._steps += 1
        if self._element is None:
            return
        self._compared += 1
        now = self._one()
        if now is not None and now is not self._element:
            self._keep(self._element, now)
        if self._norm is not None and (norm := self._all()) is not None:
            self._keep(self._norm, norm)
        self._element = self._norm = None

    def _keep(self, before: Tensor | float, after: Tensor | float) -> None:
        if isinstance(before, Tensor) or before != after:
            self._pairs.append((before, after))

    def summary(self) -> dict[str, Any]:
        values = iter(together([value for pair in self._pairs for value in pair]))
        for was, is_now in zip(values, values, strict=True):
            if was == is_now or not 0 < abs(was) < float("inf") or not abs(is_now) < float("inf"):
                continue
            self._changed += 1
            self._ratios.append(is_now / was)
        self._pairs.clear()
        del self._ratios[1000:]
        if not self._changed:
            return {}
        return {
            "compared": self._compared,
            "changed": self._changed,
            "lowest": min(self._ratios, default=1.0),
            "highest": max(self._ratios, default=1.0),
        }

    def _one(self) -> Tensor | float | None:
        grad = self._probe.grad
        if grad is None or grad.is_sparse or (type(grad) is not Tensor and hasattr(grad, "to_local")):
            return None
        last = grad[-1] if grad.dim() == 1 else grad.detach()[(-1,) * grad.dim()]
        return last.item() if grad.is_cpu else last.detach().clone()

    def _all(self) -> Tensor | None:
        grads = [g for p in self._params if (g := p.grad) is not None]
        if not grads or any(g.is_sparse or hasattr(g, "to_local") for g in grads):
            return None
        total: Tensor = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(g.detach().float()) for g in grads])
        )
        return total


def _counts(p: Tensor, rank: int) -> bool:
    """Whether this rank's part of a tensor counts in the total: every shard once, and of copies the first."""
    placements = getattr(p, "placements", None)
    if placements is None:
        return rank == 0
    coordinate = p.device_mesh.get_coordinate()  # type: ignore[attr-defined]
    if coordinate is None:
        return False
    return all(placement.is_shard() or at == 0 for placement, at in zip(placements, coordinate, strict=True))
