"""transformers' Trainer, and what builds on it -> a run directory: ``Trainer(..., callbacks=[ClipcalCallback()])``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipcal.watching.watch import Watch, watch

try:
    from transformers import TrainerCallback
except ImportError as e:
    raise ImportError("clipcal.integrations.huggingface needs transformers: pip install transformers") from e


class ClipcalCallback(TrainerCallback):
    """Watches the trainer's optimizer from the first step to the last; ``watch`` has the arguments' meaning.

    ``watch`` is the clipcal.watching.watch.Watch, once training has begun.
    """

    def __init__(self, folder: Path | str | None = None, *, steps: int | None = None, force: bool = False) -> None:
        self._folder, self._steps, self._force = folder, steps, force
        self.watch: Watch | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.watch = watch(kwargs["model"], kwargs["optimizer"], self._folder, steps=self._steps, force=self._force)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.watch is not None:
            self.watch.close()
