"""Logs that the installed frameworks write themselves, read back: the norms are those that the test saw in training."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from clipcal.logs.log import Log, Reader, Series
from clipcal.logs.readers import huggingface, huggingface_console, jsonlines, lightning, mmcv
from clipcal.logs.source import Source

STEPS = 12
MAX_NORM = 0.5  # below the norms: those after clipping would all be 0.5


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def total_norm(model: nn.Module) -> float:
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item()


def read(path: Path, reader: Reader) -> Log:
    source = Source(path)
    assert reader.recognises(source)
    return reader.read(source)


def only(log: Log) -> Series:
    assert len(log.series) == 1, [s.tag for s in log.series]
    return log.series[0]


def points(n: int = 4 * STEPS) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 4)
    return x, 3 * x.sum(1, keepdim=True) + torch.randn(n, 1)


def train_with_trainer(folder: Path, logging_steps: int) -> list[float]:
    """A run of transformers' Trainer: trainer_state.json and its console in ``folder``; the norms before clipping."""
    transformers = pytest.importorskip("transformers")
    norms: list[float] = []

    class Watched(transformers.Trainer):  # type: ignore[misc,name-defined]
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            norms.append(total_norm(self.model))
            return loss

    config = transformers.LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
    )
    tokens = torch.randint(0, 16, (2 * STEPS, 6))
    data: Any = [{"input_ids": row, "labels": row} for row in tokens]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        logging_steps=logging_steps,
        per_device_train_batch_size=2,
        max_grad_norm=MAX_NORM,
        learning_rate=0.01,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        eval_strategy="steps",
        eval_steps=4,
    )
    model = transformers.LlamaForCausalLM(config)
    with (folder / "console.log").open("w") as f, contextlib.redirect_stdout(f), contextlib.redirect_stderr(f):
        trainer = Watched(model=model, args=arguments, train_dataset=data, eval_dataset=data[:4])
        trainer.train()
    trainer.save_state()
    return norms


@pytest.mark.parametrize("logging_steps", [1, 3])
def test_transformers_trainer(tmp_path: Path, logging_steps: int) -> None:
    norms = train_with_trainer(tmp_path, logging_steps)
    assert min(norms) > MAX_NORM
    steps = np.arange(logging_steps, STEPS + 1, logging_steps)
    seen = np.array(norms)[steps - 1]

    (tmp_path / "training_args.json").write_text(json.dumps({"learning_rate": 0.01, "max_grad_norm": MAX_NORM}))
    state = read(tmp_path / "trainer_state.json", huggingface.READER)
    series = only(state)
    np.testing.assert_allclose(series.grad_norm, seen, rtol=1e-5)
    assert series.step.tolist() == steps.tolist()
    assert np.isfinite(series.loss).all()
    assert series.lr[0] > series.lr[-1] >= 0
    assert (state.window, state.after, state.max_norm) == ("last", False, MAX_NORM)

    console = read(tmp_path / "console.log", huggingface_console.READER)
    series = only(console)
    np.testing.assert_allclose(series.grad_norm, seen, rtol=1e-3)  # it prints four digits
    assert series.step.tolist() == steps.tolist()
    assert np.isfinite(series.loss).all()


@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("every", [1, 4])
def test_lightning_csv_logger(tmp_path: Path, every: int) -> None:
    framework = pytest.importorskip("lightning.pytorch")
    norms: list[float] = []
    losses: list[float] = []

    class Module(framework.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self, gradient_clip_val: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Linear(4, 1)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
            losses.append(loss.item())
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            norms.append(total_norm(self))
            self.log_dict(framework.utilities.grad_norm(self, norm_type=2))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    logger = framework.loggers.CSVLogger(tmp_path, name="run", version=0)
    loader: Any = DataLoader(TensorDataset(*points()), batch_size=4)
    trainer = framework.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=every,
        gradient_clip_val=MAX_NORM,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[framework.callbacks.LearningRateMonitor("step")],
    )
    trainer.fit(Module(MAX_NORM), loader, loader)

    log = read(Path(logger.log_dir) / "metrics.csv", lightning.READER)
    series = only(log)
    assert series.tag == "grad_2.0_norm_total"
    assert min(norms) > MAX_NORM
    np.testing.assert_allclose(series.grad_norm, norms[every - 1 :: every], rtol=1e-5)
    np.testing.assert_allclose(series.loss, losses[every - 1 :: every], rtol=1e-5)
    assert series.step.tolist() == list(range(every - 1, STEPS, every))
    assert series.lr.tolist() == [0.01] * len(series)
    assert (log.window, log.after, log.max_norm) == ("last", False, MAX_NORM)


def test_accelerate_tracker(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    path = tmp_path / "metrics.jsonl"

    class Lines(pytest.importorskip("accelerate.tracking").GeneralTracker):  # type: ignore[misc]
        name = "lines"
        requires_logging_directory = False

        def __init__(self) -> None:
            super().__init__()

        @property
        def tracker(self) -> Path:
            return path

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            with path.open("a") as f:
                f.write(json.dumps({"config": values}) + "\n")

        def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
            with path.open("a") as f:
                f.write(json.dumps({"step": step} | values) + "\n")

    accelerator = accelerate.Accelerator(cpu=True, log_with=Lines())
    accelerator.init_trackers("project", config={"max_norm": MAX_NORM})
    net = nn.Linear(4, 1)
    model, optimizer, loader = accelerator.prepare(
        net, torch.optim.SGD(net.parameters(), lr=0.01), DataLoader(TensorDataset(*points()), batch_size=4)
    )
    norms, losses = [], []
    for step, (x, y) in enumerate(loader):
        loss = nn.functional.mse_loss(model(x), y)
        accelerator.backward(loss)
        norms.append(total_norm(net))
        losses.append(loss.item())
        logged = accelerator.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()
        accelerator.log({"train/loss": loss.item(), "train/grad_norm": logged.item(), "val/loss": 0.0}, step=step)
    accelerator.end_training()

    series = only(read(path, jsonlines.READER))
    assert min(norms) > MAX_NORM
    np.testing.assert_allclose(series.grad_norm, norms, rtol=1e-5)
    np.testing.assert_allclose(series.loss, losses, rtol=1e-5)
    assert series.step.tolist() == list(range(STEPS))


def test_mmengine_logger_hook(tmp_path: Path) -> None:
    config = pytest.importorskip("mmengine.config").Config
    norms: list[float] = []

    class Net(pytest.importorskip("mmengine.model").BaseModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 1)
            # the last gradient of a step that arrives: then all are there, and clipping has not begun
            for p in self.parameters():
                p.register_post_accumulate_grad_hook(self._arrived)

        def _arrived(self, _: torch.Tensor) -> None:
            if all(p.grad is not None for p in self.parameters()):
                norms.append(total_norm(self))

        def forward(self, x: torch.Tensor, y: torch.Tensor, mode: str = "loss") -> dict[str, torch.Tensor]:
            return {"loss": nn.functional.mse_loss(self.net(x), y)}

    optim_wrapper = {"optimizer": {"type": "SGD", "lr": 0.01}, "clip_grad": {"max_norm": MAX_NORM}}
    runner = pytest.importorskip("mmengine.runner").Runner(
        model=Net(),
        cfg=config({"optim_wrapper": optim_wrapper}),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(TensorDataset(*points()), batch_size=8),
        train_cfg={"by_epoch": True, "max_epochs": 2},
        optim_wrapper=optim_wrapper,
        log_processor={"window_size": 2},
        default_hooks={"logger": {"type": "LoggerHook", "interval": 2}},
        visualizer={"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend"}]},
        log_level="ERROR",
    )
    runner.train()

    log = read(next(tmp_path.rglob("scalars.json")), mmcv.READER)
    series = only(log)
    assert len(norms) == STEPS
    np.testing.assert_allclose(series.grad_norm, np.array(norms).reshape(-1, 2).mean(1), rtol=1e-4)
    assert series.step.tolist() == list(range(2, STEPS + 1, 2))
    assert np.isfinite(series.loss).all()
    assert series.lr.tolist() == [0.01] * len(series)
    assert (log.window, log.after, log.max_norm) == ("mean", False, MAX_NORM)
