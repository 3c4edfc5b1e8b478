"""A small training inside Hugging Face's Trainer or Lightning -> CPU seconds per step, watched and not, and with their own logging.

All arms of a trainer run in one process, turn about, in an order that is drawn anew each round. A turn is a training of its own, with
a new model and a new trainer, of which the last steps are timed, from one callback to another: CPU seconds of the thread, so that
logging counts with what it formats and writes. A watched turn has a collector of its own, attached before the trainer begins.

Trainer: AdamW, its default clipping (max_grad_norm=1.0) in every arm, no reports and nothing printed: ``logging_steps=1`` then
costs less than with a terminal or a tracker. Lightning: no clipping; ``grad_norm`` in ``on_before_optimizer_step``, ``log_dict`` into a
CSVLogger, every 50 steps as by default, and every step, as clipcal records. The arms without have no logger.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.workloads import SEED

SKIPPED, TIMED = 50, 400
"""Steps of a turn: those in which trainer, optimizer and collector settle, and those that are timed."""
STEPS = SKIPPED + TIMED
BATCH_SIZE = 64

Turn = Callable[[Path], float]


def time_trainer(name: str, num_rounds: int) -> dict[str, list[float]] | None:
    """Seconds per step of each arm, one value per round, the arm that others are compared with first; None where the package is
    not installed."""
    package, arms_of = TRAINERS[name]
    if importlib.util.find_spec(package) is None:
        return None
    torch.set_num_threads(1)
    arms = arms_of()
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    draw = random.Random(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(1 + num_rounds):  # the first fills caches
            for arm in draw.sample(list(arms), len(arms)):
                with tempfile.TemporaryDirectory() as folder, only_new_garbage():
                    value = arms[arm](Path(folder))
                if turn:
                    seconds[arm].append(value)
    return seconds


def network() -> nn.Sequential:
    torch.manual_seed(SEED)
    layers = [layer for _ in range(3) for layer in (nn.Linear(192, 192), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(192, 10))


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    count = STEPS * BATCH_SIZE
    return torch.randn(count, 192, generator=generator), torch.randint(10, (count,), generator=generator)


@contextlib.contextmanager
def only_new_garbage() -> Iterator[None]:
    """A full collection over what the packages hold takes a tenth of a turn, and would fall on any arm."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def watched(folder: Path, yes: bool) -> Iterator[None]:
    if not yes:
        yield
        return
    from clipcal.scripts.child.collector import Collector
    from clipcal.scripts.child.session import Config

    collector = Collector(folder, Config(steps=10**9))
    collector.attach()
    try:
        yield
    finally:
        collector.detach()
    assert collector.picked is not None
    assert collector.picked.observer.step == STEPS


class Stopwatch:
    """``note`` is told how many steps are done."""

    def __init__(self) -> None:
        self._begin = self._end = 0.0

    def note(self, steps_done: int) -> None:
        if steps_done == SKIPPED:
            self._begin = time.thread_time()
        elif steps_done == STEPS:
            self._end = time.thread_time()

    def per_step(self) -> float:
        assert self._end > self._begin > 0
        return (self._end - self._begin) / TIMED


def huggingface() -> dict[str, Turn]:
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    inputs, labels = samples()
    data = [{"inputs": x, "labels": y} for x, y in zip(inputs, labels, strict=True)]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": F.cross_entropy(self.network(inputs), labels)}

    class Timing(TrainerCallback):
        """A step ends before it is logged: the log of one falls into the next, as many of them as there are steps."""

        def __init__(self) -> None:
            self.stopwatch = Stopwatch()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.stopwatch.note(state.global_step)

    def turn(folder: Path, *, every: int, watch: bool) -> float:
        timing = Timing()
        trainer = Trainer(
            model=Model(),
            args=TrainingArguments(
                output_dir=str(folder / "out"),
                max_steps=STEPS,
                per_device_train_batch_size=BATCH_SIZE,
                learning_rate=1e-3,
                logging_steps=every,
                report_to="none",
                save_strategy="no",
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=data,
            callbacks=[timing],
        )
        trainer.remove_callback(PrinterCallback)
        with watched(folder, watch):
            trainer.train()
        return timing.stopwatch.per_step()

    return {
        "logging_steps=500": lambda folder: turn(folder, every=500, watch=False),
        "logging_steps=500, watched": lambda folder: turn(folder, every=500, watch=True),
        "logging_steps=1": lambda folder: turn(folder, every=1, watch=False),
        "logging_steps=1, watched": lambda folder: turn(folder, every=1, watch=True),
    }


def lightning() -> dict[str, Turn]:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers import CSVLogger
    from lightning.pytorch.utilities import grad_norm

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # its import sets a level of its own
    batches = DataLoader(TensorDataset(*samples()), batch_size=BATCH_SIZE)

    class Plain(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            inputs, labels = batch
            return F.cross_entropy(self.network(inputs), labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    class Logging(Plain):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            self.log_dict(grad_norm(self.network, norm_type=2))

    class Timing(Callback):
        def __init__(self) -> None:
            self.stopwatch = Stopwatch()

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx < STEPS:
                self.stopwatch.note(batch_idx)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.stopwatch.note(STEPS)

    def turn(folder: Path, *, every: int | None = None, watch: bool = False) -> float:
        timing = Timing()
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=CSVLogger(str(folder)) if every else False,
            log_every_n_steps=every or 50,
            callbacks=[timing],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        with watched(folder, watch):
            trainer.fit(Logging() if every else Plain(), batches)
        return timing.stopwatch.per_step()

    return {
        "no logging": turn,
        "no logging, watched": lambda folder: turn(folder, watch=True),
        "grad_norm, every 50 steps": lambda folder: turn(folder, every=50),
        "grad_norm, every step": lambda folder: turn(folder, every=1),
    }


TRAINERS: dict[str, tuple[str, Callable[[], dict[str, Turn]]]] = {
    "Trainer (transformers)": ("transformers", huggingface),
    "Lightning": ("lightning", lightning),
}
