"""Lightning's Trainer -> a run directory: ``Trainer(..., callbacks=[ClipcalCallback()])``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcal.errors import InputError
from clipcal.watching.watch import Watch, watch

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
else:
    try:
        from lightning.pytorch.callbacks import Callback
    except ImportError:  # the same under its older name
        try:
            from pytorch_lightning.callbacks import Callback
        except ImportError as e:
            raise ImportError("clipcal.integrations.lightning needs Lightning: pip install lightning") from e


class ClipcalCallback(Callback):
    """Watches one of the trainer's optimizers while it fits; ``watch`` has the arguments' meaning.

    ``optimizer`` is its place in what configure_optimizers returns. ``watch`` is the clipcal.watching.watch.Watch, once training has
    begun. Raises InputError where there is no such optimizer.
    """

    def __init__(
        self, folder: Path | str | None = None, *, steps: int | None = None, force: bool = False, optimizer: int = 0
    ) -> None:
        self._folder, self._steps, self._force, self._optimizer = folder, steps, force, optimizer
        self.watch: Watch | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if not 0 <= self._optimizer < len(trainer.optimizers):
            raise InputError(f"optimizer={self._optimizer}: the trainer has {len(trainer.optimizers)}, counted from 0.")
        self.watch = watch(
            pl_module, trainer.optimizers[self._optimizer], self._folder, steps=self._steps, force=self._force
        )

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.watch is not None:
            self.watch.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self.watch is not None:
            self.watch.__exit__(type(exception), exception, exception.__traceback__)
