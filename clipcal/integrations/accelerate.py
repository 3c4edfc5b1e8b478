"""Accelerate's prepared objects -> a run directory: ``with watch(accelerator): ...`` around the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipcal.errors import InputError
from clipcal.watching import watch as watching


def watch(
    accelerator: Any,
    folder: Path | str | None = None,
    *,
    optimizer: int = 0,
    steps: int | None = None,
    force: bool = False,
) -> watching.Watch:
    """Record the gradient norms of one of the optimizers that ``accelerator.prepare`` was given, from now on.

    ``optimizer`` is its place among them. The rest is as in ``clipcal.watch``, which takes model and optimizer themselves and does as
    well. Raises InputError where nothing was prepared.
    """
    optimizers, models = list(accelerator._optimizers), list(accelerator._models)
    if not 0 <= optimizer < len(optimizers) or not models:
        raise InputError(
            f"optimizer={optimizer}: the accelerator has prepared {len(models)} models and {len(optimizers)} optimizers. Call "
            "accelerator.prepare(model, optimizer) first."
        )
    wanted = {id(p) for group in optimizers[optimizer].param_groups for p in group["params"]}
    model = max(models, key=lambda m: sum(id(p) in wanted for p in m.parameters()))
    return watching.watch(model, optimizers[optimizer], folder, steps=steps, force=force)
