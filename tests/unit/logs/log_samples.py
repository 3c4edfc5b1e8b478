"""One small log of every format that is known, each with the same gradient norms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import tracker_files

NORMS = (1.5, 0.25, 7.0, 2.0, 0.75, 3.0)
COLUMNS = {"train/grad_norm": NORMS, "train/loss": (9.0,) * 6}


def _lines(line: Callable[[int, float], str], *, head: str = "") -> bytes:
    return (head + "".join(line(i, norm) + "\n" for i, norm in enumerate(NORMS, start=1))).encode()


def event_file(folder: Path) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for step, norm in enumerate(NORMS, start=1):
        values = [
            Summary.Value(tag="train/grad_norm", simple_value=norm),
            Summary.Value(tag="train/loss", simple_value=9.0),
        ]
        writer.add_event(Event(step=step, wall_time=float(step), summary=Summary(value=values)))
    writer.close()
    (path,) = folder.glob("events.out.tfevents.*")
    return path.read_bytes()


def wandb_run(folder: Path) -> bytes:
    from wandb_files import framed, history

    return framed([history(step, grad_norm=norm, loss=9.0) for step, norm in enumerate(NORMS, start=1)])


def parquet(folder: Path) -> bytes:
    import pyarrow
    import pyarrow.parquet

    path = folder / "metrics.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"step": range(1, 7), "grad_norm": NORMS, "loss": [9.0] * 6}), path)
    return path.read_bytes()


TEXTS: dict[str, bytes] = {
    "Hugging Face trainer_state.json": json.dumps(
        {
            "best_metric": None,
            "global_step": 6,
            "log_history": [
                *(
                    {"epoch": 0.1, "grad_norm": norm, "learning_rate": 1e-4, "loss": 9.0, "step": i}
                    for i, norm in enumerate(NORMS, 1)
                ),
                {"eval_loss": 8.0, "step": 6},
                {"train_runtime": 1.0, "train_loss": 8.5, "step": 6},
            ],
            "logging_steps": 1,
        },
        indent=2,
    ).encode(),
    "TensorBoard JSON export": json.dumps([[100.0 + i, i, norm] for i, norm in enumerate(NORMS, 1)]).encode(),
    "Sacred metrics": json.dumps(
        {"grad_norm": NORMS, "grad_norm_T": [1, 2, 3, 4, 5, 6], "loss": [9.0] * 6, "loss_T": [1, 2, 3, 4, 5, 6]}
    ).encode(),
    "JSON columns": json.dumps({"loss": [9.0] * 6, "grad_norm": NORMS}).encode(),
    "mmcv JSON log": _lines(
        lambda i, norm: json.dumps(
            {"mode": "train", "epoch": 1, "iter": i, "lr": 0.1, "loss": 9.0, "grad_norm": norm, "time": 0.5}
        ),
        head='{"env_info": "sys.platform: linux", "seed": 0}\n',
    ),
    "log of one JSON object per epoch": _lines(
        lambda i, norm: json.dumps(
            {"train_lr": 0.1, "train_loss": 9.0, "train_grad_norm": norm, "test_loss": 8.0, "epoch": i}
        )
    ),
    "fairseq log": _lines(
        lambda i, norm: (
            "[2023-02-03 04:05:06,789][train_inner][INFO] - "
            + json.dumps(
                {
                    "epoch": 1,
                    "update": 0.1,
                    "loss": "9.0",
                    "num_updates": str(i),
                    "lr": "1e-4",
                    "gnorm": str(norm),
                    "clip": "0",
                }
            )
        ),
    ),
    "Marian train.log": _lines(
        lambda i, norm: (
            f"[2023-02-03 04:05:06] Ep. 1 : Up. {i} : Sen. 7,000 : Cost 9.0 : Time 0.3s : 3000.00 words/s : gNorm {norm} : L.r. 1.0e-04"
        ),
        head="[2023-02-03 04:05:06] [marian] Marian v1.10.25\n",
    ),
    "llm.c log": _lines(lambda i, norm: f"s:{i} trl:9.0 lr:0.0001 norm:{norm}"),
    "Coqui TTS trainer log": _lines(
        lambda i, norm: (
            f"\x1b[1m   --> TIME: 2022-01-01 10:00:00 -- STEP: {i}/9 -- GLOBAL_STEP: {i}\x1b[0m\n"
            f"     | > loss: 9.0  (9.5)\n     | > grad_norm: {norm}  (2.0)\n     | > current_lr: 0.0001 \n"
        )
    ),
    "Swin Transformer log": _lines(
        lambda i, norm: (
            f"[2023-02-03 04:05:06 swin_base] (main.py 257): INFO Train: [0/300][{i}/40]\teta 0:00:03 lr 0.0001\t wd 0.0500\t"
            f"time 0.9 (0.9)\tloss 9.0 (9.0)\tgrad_norm {norm} (2.0)\tloss_scale 65536.0 (65536.0)\tmem 3277MB"
        )
    ),
    "Megatron-LM console": _lines(
        lambda i, norm: (
            f" iteration {i:8d}/    1000 | consumed samples: {i * 8:12d} | elapsed time per iteration (ms): 100.0 | "
            f"learning rate: 1.0E-04 | global batch size:     8 | lm loss: 9.0E+00 | loss scale: 1.0 | grad norm: {norm} | "
            "number of skipped iterations:   0 | number of nan iterations:   0 |"
        )
    ),
    "ESPnet2 train.log": _lines(
        lambda i, norm: (
            f"[gpu01:0/2] 2023-04-22 13:52:12,339 (trainer:732) INFO: 1epoch:train:{5 * i - 4}-{5 * i}batch: iter_time=0.070, "
            f"loss=9.0, backward_time=0.294, grad_norm={norm}, clip=100.000, loss_scale=1.000, optim0_lr0=3.7e-04, train_time=1.1"
        )
    ),
    "ParlAI console": _lines(
        lambda i, norm: (
            f"12:18:15 | time:{65 * i}s total_exs:{7 * i} total_steps:{7 * i} epochs:0.00 time_left:834949s\n"
            f"    clip  exs  gnorm  loss    lr  total_train_updates  ups\n"
            f"       1    7  {norm:5}   9.0 1e-05  {7 * i:19} .1084\n"
        )
    ),
    "Hugging Face Trainer's console output": _lines(
        lambda i, norm: str({"loss": 9.0, "grad_norm": norm, "learning_rate": 1e-4, "epoch": 0.1}),
        head="  0%|     | 0/6 [00:00<?, ?it/s]\r",
    ),
    "MetricLogger console (DeiT, BEiT, MAE, DINO and others)": _lines(
        lambda i, norm: (
            f"Epoch: [0]  [{i:4d}/1000]  eta: 0:01:00  lr: 0.000100  loss: 9.0000 (9.1000)  grad_norm: {norm} (2.0)  time: 0.5  data: 0.1  max mem: 900"
        )
    ),
    "JSON lines": _lines(lambda i, norm: json.dumps({"step": i, "train": {"loss": 9.0, "grad_norm": norm}})),
    "Lightning metrics.csv": _lines(
        lambda i, norm: f"0,{norm},{i},9.0", head="epoch,grad_2.0_norm_total,step,train_loss\n"
    ),
    "table with a header (CSV, TSV)": _lines(lambda i, norm: f"{i},9.0,{norm}", head="iteration,loss,grad_norm\n"),
    "ClearML's offline metrics": tracker_files.clearml(COLUMNS, first=1),
    "Comet's offline messages": tracker_files.comet(COLUMNS, {}, first=1),
    "Neptune's offline operations": tracker_files.neptune(COLUMNS, {}, first=1),
    "skorch history": tracker_files.skorch(COLUMNS),
    "text log of named values": _lines(
        lambda i, norm: (
            f"[titan] 2024-06-01 10:00:00,000 - root - INFO - step: {i:2d}  loss: 9.0  grad_norm: {norm}  memory: 3.1GiB"
        )
    ),
}
BINARY: dict[str, Callable[[Path], bytes]] = {
    "TensorBoard event file": event_file,
    "W&B offline run": wandb_run,
    "Parquet table": parquet,
    "SwanLab record": lambda folder: tracker_files.swanlab(COLUMNS, first=1),
    "VisualDL record": lambda folder: tracker_files.visualdl(COLUMNS, first=1),
    "MLflow database": lambda folder: tracker_files.mlflow(
        folder / "a.db", {"a": COLUMNS}, params={"lr": "1"}, first=1
    ),
    "trackio database": lambda folder: tracker_files.trackio(folder / "a.db", COLUMNS, config={"lr": 1.0}, first=1),
    "Neptune's offline database": lambda folder: tracker_files.neptune_scale(folder / "a.db", COLUMNS, first=1),
}
