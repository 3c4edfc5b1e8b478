"""Frameworks' own trainers, watched by a callback or a line: the norms of every step, before their clipping."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

import clipcal


class Listening(torch.optim.AdamW):
    """Notes the total norm of its gradients at each step, and the step's own clip factor."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.after: list[float] = []

    def step(self, closure: Any = None) -> Any:
        def look() -> Any:
            loss = closure() if closure is not None else None
            grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
            self.after.append(float(get_total_norm(grads)))
            return loss

        return super().step(look)


def check(folder: Path, after: list[float], limit: float) -> None:
    """The recorded norms, clipped by hand, are those that reached the optimizer."""
    trace = clipcal.read_trace(folder / "trace.jsonl")
    assert trace.step.tolist() == list(range(len(after)))
    scale = np.minimum(1.0, limit / (trace.grad_norm + 1e-6))
    np.testing.assert_allclose(trace.grad_norm * scale, after, rtol=1e-5)
    assert (trace.grad_norm > limit).any()
    assert np.isfinite(trace.loss).all()


def test_huggingface_trainer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from clipcal.integrations.huggingface import ClipcalCallback

    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    rows = [{"input_ids": x, "labels": x} for x in torch.randint(0, 32, (32, 16))]
    optimizer = Listening(model.parameters(), lr=1e-2)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=6,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_grad_norm=0.5,
        logging_steps=1,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    callback = ClipcalCallback(tmp_path / "run")
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, optimizers=(optimizer, None), callbacks=[callback]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    check(tmp_path / "run", optimizer.after, 0.5)
    trace = clipcal.read_trace(tmp_path / "run" / "trace.jsonl")
    logged = [row for row in trainer.state.log_history if "grad_norm" in row]
    np.testing.assert_allclose(trace.grad_norm, [float(row["grad_norm"]) for row in logged], rtol=1e-5)
    np.testing.assert_allclose(trace.loss, [float(row["loss"]) for row in logged], atol=1e-4)
    assert callback.watch is not None
    assert callback.watch.run is not None
    assert callback.watch.run.info.in_use == 0.5


@pytest.mark.parametrize("automatic", [True, False], ids=["automatic", "manual"])
def test_lightning(tmp_path: Path, automatic: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning = pytest.importorskip("lightning")
        from clipcal.integrations.lightning import ClipcalCallback

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
            self.automatic_optimization = automatic

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            loss = nn.functional.mse_loss(self.net(batch[0]), batch[0].sum(1, keepdim=True))
            if not automatic:
                optimizer = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
                optimizer.step()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            self.mine = Listening(self.parameters(), lr=1e-2)
            return self.mine

    torch.manual_seed(0)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(64, 8)), batch_size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_steps=8,
            accelerator="cpu",
            gradient_clip_val=0.5 if automatic else None,
            callbacks=[ClipcalCallback(tmp_path / "run")],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        module = Module()
        trainer.fit(module, data)
    check(tmp_path / "run", module.mine.after, 0.5)


@pytest.mark.parametrize("by", ["objects", "accelerator"])
def test_accelerate(tmp_path: Path, by: str) -> None:
    accelerate = pytest.importorskip("accelerate")
    from clipcal.integrations.accelerate import watch

    torch.manual_seed(0)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    listening = Listening(net.parameters(), lr=1e-2)
    with pytest.raises(clipcal.InputError, match="0 models and 0 optimizers"):
        watch(accelerator, tmp_path / "run")
    model, optimizer = accelerator.prepare(net, listening)
    folder = tmp_path / "run"
    with watch(accelerator, folder) if by == "accelerator" else clipcal.watch(model, optimizer, folder):
        for _ in range(12):
            with accelerator.accumulate(model):
                x = torch.randn(16, 8)
                accelerator.backward(nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
                optimizer.zero_grad()
    assert len(listening.after) == 6
    check(tmp_path / "run", listening.after, 0.5)
