"""Logs as they are met in public, each with one habit, cut down to the lines that matter: what is right is known."""

# ruff: noqa: UP031 (braces are a part of many of these lines)

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipcal.logs.log import Series
from clipcal.logs.picking import pick
from clipcal.logs.reading import read_log
from clipcal.recommendation.evidence import load

NAN = math.nan
WILD: dict[str, tuple[str, dict[str, Any]]] = {}


def wild(name: str, text: str, **right: Any) -> None:
    """``right`` has norms, steps and losses of the norm that is picked, rows and runs, a word of a caveat, or bounds of max_norm."""
    WILD[name] = (text, right)


wild(
    "units_csv",
    "step,loss,grad_norm\n1,2.3,1.25\n2,2.2,2.15K\n3,2.2,1.2M\n",
    norms=[1.25, 2150, 1.2e6],
    steps=[1, 2, 3],
)
wild(
    "units_space",
    "step 1 | loss 2.3 | grad norm 1.25\nstep 2 | loss 2.3 | grad norm 3.4k\nstep 3 | loss 2.3 | grad norm 1.1\n",
    norms=[1.25, 3400, 1.1],
    steps=[1, 2, 3],
    losses=[2.3] * 3,
)
wild(
    "thousands",
    "step 1,000: loss 2.3, grad norm 1,250.5\nstep 2,000: loss 2.3, grad norm 1.5\nstep 3,000: loss 2.3, grad norm 1.5\n",
    norms=[1250.5, 1.5, 1.5],
    steps=[1000, 2000, 3000],
)
wild(
    "brackets",
    "step [1] loss [2.3] grad_norm [1.25]\nstep [2] loss [2.3] grad_norm [9.5]\nstep [3] loss [2.3] grad_norm [1.5]\n",
    norms=[1.25, 9.5, 1.5],
    steps=[1, 2, 3],
    losses=[2.3] * 3,
)
wild(
    "paren",
    "[Step 1] loss=(2.3) gnorm=(1.25)\n[Step 2] loss=(2.3) gnorm=(9.5)\n[Step 3] loss=(2.3) gnorm=(1.5)\n",
    norms=[1.25, 9.5, 1.5],
    steps=[1, 2, 3],
)
wild(
    "jsonl_train_runtime",
    '{"loss":2.3,"grad_norm":1.5,"step":1,"train_runtime":1.0,"eval_loss":1}\n{"loss":2.3,"grad_norm":1.6,"step":2,"train_runtime":1.0,"eval_loss":1}\n{"loss":2.3,"grad_norm":1.7,"step":3,"train_runtime":1.0,"eval_loss":1}\n',
    norms=[1.5, 1.6, 1.7],
    losses=[2.3] * 3,
    steps=[1, 2, 3],
)
wild(
    "hf_console_runtime",
    "".join(
        "{'loss': 2.3, 'grad_norm': %.1f, 'learning_rate': 1e-5, 'epoch': %.1f, 'train_runtime': 3.0}\n" % (x, x / 10)
        for x in (1, 2, 3, 4)
    ),
    norms=[1, 2, 3, 4],
    runs=1,
)
wild(
    "block_plain",
    "grad_norm: 1.5\nloss: 2.3\nstep: 1\n\ngrad_norm: 1.6\nloss: 2.2\nstep: 2\n\ngrad_norm: 1.7\nloss: 2.1\nstep: 3\n",
    norms=[1.5, 1.6, 1.7],
    steps=[1, 2, 3],
    losses=[2.3, 2.2, 2.1],
)
wild(
    "block_first",
    "step: 1\nloss: 2.3\ngrad_norm: 1.5\nstep: 2\nloss: 2.2\ngrad_norm: 1.6\nstep: 3\nloss: 2.1\ngrad_norm: 1.7\n",
    norms=[1.5, 1.6, 1.7],
    steps=[1, 2, 3],
    losses=[2.3, 2.2, 2.1],
)
wild(
    "sb3_block",
    "".join(
        "------------------------------------------\n| rollout/                |             |\n|    ep_rew_mean          | 21.4        |\n| time/                   |             |\n|    iterations           | %d           |\n|    total_timesteps      | %d        |\n| train/                  |             |\n|    grad_norm            | %.2f |\n|    loss                 | %.2f        |\n|    n_updates            | %d          |\n------------------------------------------\n"
        % (i, 2048 * i, 0.5 + i, 5 - i, 10 * i)
        for i in (1, 2, 3)
    ),
    norms=[1.5, 2.5, 3.5],
    losses=[4, 3, 2],
    steps=[1, 2, 3],
)
wild(
    "block_lr_dict",
    "iter: 10\ntrain:\n  loss: 2.3\n  grad norm: 1.5\niter: 20\ntrain:\n  loss: 2.2\n  grad norm: 1.6\niter: 30\ntrain:\n  loss: 2.1\n  grad norm: 1.7\n",
    norms=[1.5, 1.6, 1.7],
    steps=[10, 20, 30],
    losses=[2.3, 2.2, 2.1],
)
wild(
    "bare2",
    "12 2.31 gnorm 1.5\n13 2.21 gnorm 1.6\n14 2.11 gnorm 1.7\n15 2.01 gnorm 1.8\n",
    norms=[1.5, 1.6, 1.7, 1.8],
    steps=[12, 13, 14, 15],
)
wild(
    "bare_it",
    "it 100 7.31 grad 1.5\nit 200 7.21 grad 1.6\nit 300 7.1 grad 1.7\n",
    norms=[1.5, 1.6, 1.7],
    steps=[100, 200, 300],
)
wild(
    "valgrad",
    "Training loss 5 3.21 Gradient norm 0.7 lr 0.1\nTraining loss 6 3.11 Gradient norm 0.8 lr 0.1\nTraining loss 7 3.01 Gradient norm 0.9 lr 0.1\n",
    norms=[0.7, 0.8, 0.9],
    steps=[5, 6, 7],
    losses=[3.21, 3.11, 3.01],
)
wild("rounded_csv", "step,grad_norm\n" + "".join("1.0%de+04,%.1f\n" % (i // 3, 1 + i) for i in range(12)), rows=12)
wild(
    "restart_rank",
    "".join(
        "[rank0]: step %d loss 2.3 grad_norm %.1f\n[rank1]: step %d loss 2.3 grad_norm %.1f\n"
        % (i, 1 + i / 10, i, 7 + i)
        for i in range(5)
    ),
    norms=[1, 1.1, 1.2, 1.3, 1.4],
    steps=[0, 1, 2, 3, 4],
)
wild(
    "restart_pid_ranks",
    "".join(
        "(W pid=%d) step %d loss 2.3 grad_norm %.1f\n(W pid=%d) step %d loss 2.3 grad_norm %.1f\n"
        % (11 if i < 3 else 21, i, 1 + i / 10, 12 if i < 3 else 22, i, 7 + i)
        for i in range(6)
    ),
    norms=[1, 1.1, 1.2, 1.3, 1.4, 1.5],
    steps=[0, 1, 2, 3, 4, 5],
)
wild(
    "header_again",
    "epoch\tloss\tgrad_norm\n0\t2\t1\nepoch\tloss\tgrad_norm\n1\t2\t1.1\n2\t2\t1.2\nepoch\tloss\tgrad_norm\n3\t2\t1.3\n",
    norms=[1, 1.1, 1.2, 1.3],
    runs=1,
)
wild(
    "epoch_back_text",
    "".join("epoch: %.1f, loss: 2.3, grad_norm: %.1f\n" % (e / 10, 1 + e / 10) for r in range(3) for e in range(1, 12)),
    runs=3,
)
wild(
    "epoch_back_jsonl",
    "".join(
        '{"epoch": %.1f, "loss": 2.3, "grad_norm": %.1f}\n' % (e / 10, 1 + e / 10)
        for r in range(2)
        for e in range(1, 12)
    ),
    runs=2,
)
wild(
    "holes",
    "".join("step %d loss 2 grad_norm %.2f\n" % (s, 1 + s / 1000) for s in [*range(0, 300, 10), *range(400, 700, 10)]),
    says="missing",
)
wild(
    "total",
    "".join(
        "iter %d cls: 2.0, box: 3.0, total: %.1f, grad_norm: %.1f, aux_loss: 0.1\n" % (i, 9 - i, 1 + i)
        for i in range(4)
    ),
    losses=[9, 8, 7, 6],
)
wild(
    "total_sum",
    "step,loss_cls,loss_box,loss_all,grad_norm\n1,1,2,3,0.5\n2,1,1.5,2.5,0.6\n3,0.5,1,1.5,0.7\n4,0.5,0.5,1.0,0.7\n",
    losses=[3, 2.5, 1.5, 1],
)
wild(
    "aux_only",
    "".join("step %d aux_loss 0.1 grad_norm %.1f\n" % (i, 1 + i) for i in range(4)),
    losses=[NAN] * 4,
    says="auxiliary",
)
wild(
    "loss_nan_beside",
    "".join("step %d loss=nan train_loss=%.1f grad_norm=%.1f\n" % (i, 3 - i / 10, 1 + i) for i in range(4)),
    losses=[3, 2.9, 2.8, 2.7],
)
wild("raw", "step,loss,grad_norm,raw_grad_norm\n1,2,0.5,0.5\n2,2,1.0,7.5\n3,2,1.0,1.5\n", norms=[0.5, 7.5, 1.5])
wild(
    "clipped_unmarked",
    "step,loss,grad_norm,gnorm_used\n"
    + "".join(
        "%d,2,%.2f,%.2f\n" % (i, x, min(x, 1))
        for i, x in enumerate([0.5, 0.7, 3, 0.2, 0.9, 0.8, 1.5, 0.6, 0.4, 0.3, 2.0, 0.5])
    ),
    norms=[0.5, 0.7, 3, 0.2, 0.9, 0.8, 1.5, 0.6, 0.4, 0.3, 2.0, 0.5],
)
wild(
    "micro",
    "".join("step %d micro_grad_norm 0.3 grad_norm %.1f loss 2\n" % (i, 1 + i) for i in range(4)),
    norms=[1, 2, 3, 4],
)
wild(
    "tokens",
    "tokens,loss,grad_norm\n" + "".join("%d,2,%.2f\n" % (524288 * i, 1 + i / 100) for i in range(1, 60)),
    says="tokens",
)
wild(
    "frames_step",
    "step,loss,grad_norm\n"
    + "".join(
        "%d,2,%.2f\n" % (s, 1 + i / 100) for i, s in enumerate(np.cumsum([1024 + (i * 37) % 91 for i in range(80)]))
    ),
    says="frames",
)
wild(
    "markdown",
    "# Log\n\n| step | loss | grad_norm |\n|-----:|------|-----------|\n| 1 | 2.3 | 1.5 |\n| 2 | 2.2 | 1.6 |\n| 3 | 2.1 | 1.7 |\n",
    norms=[1.5, 1.6, 1.7],
    steps=[1, 2, 3],
    losses=[2.3, 2.2, 2.1],
)
wild(
    "mdfence",
    "# Log\n```\nstep 1 loss 2.3 grad_norm 1.5\nstep 2 loss 2.3 grad_norm 1.6\nstep 3 loss 2.3 grad_norm 1.7\n```\n",
    norms=[1.5, 1.6, 1.7],
    steps=[1, 2, 3],
)
wild(
    "mdquote",
    "> step 1 loss 2.3 grad_norm 1.5\n> step 2 loss 2.3 grad_norm 1.6\n> step 3 loss 2.3 grad_norm 1.7\n",
    norms=[1.5, 1.6, 1.7],
    steps=[1, 2, 3],
)
wild(
    "nb.ipynb",
    json.dumps(
        {
            "cells": [
                {
                    "cell_type": "code",
                    "source": ["train()"],
                    "outputs": [
                        {
                            "output_type": "stream",
                            "name": "stdout",
                            "text": ["step 1 loss 2.3 grad_norm 1.5\n", "step 2 loss 2.3 grad_norm 1.6\n"],
                        },
                        {"output_type": "stream", "name": "stdout", "text": ["step 3 loss 2.3 grad_norm 1.7\n"]},
                    ],
                }
            ],
            "nbformat": 4,
            "metadata": {},
        }
    ),
    norms=[1.5, 1.6, 1.7],
    steps=[1, 2, 3],
)
wild(
    "nb_hf.ipynb",
    json.dumps(
        {
            "cells": [
                {"cell_type": "markdown", "source": ["x"]},
                {
                    "cell_type": "code",
                    "source": ["train()"],
                    "outputs": [
                        {
                            "output_type": "stream",
                            "name": "stdout",
                            "text": "".join(
                                "{'loss': 2.3, 'grad_norm': %.1f, 'learning_rate': 1e-5, 'epoch': %.1f}\n" % (x, x / 10)
                                for x in (1, 2, 3, 4)
                            ),
                        }
                    ],
                },
            ],
            "nbformat": 4,
            "metadata": {},
        },
        indent=1,
    ),
    norms=[1, 2, 3, 4],
)
wild(
    "wrapped",
    "INFO step 1 loss 2.3 grad_norm:\n  1.5\nINFO step 2 loss 2.3 grad_norm:\n  1.6\nINFO step 3 loss 2.3 grad_norm:\n  1.7\n",
    norms=[1.5, 1.6, 1.7],
    steps=[1, 2, 3],
)
wild(
    "wrapped_rich",
    "".join(
        "[12:00:0%d] INFO     step %d | loss: 2.3 | lr: 1e-4 |          train.py:33\n                    grad_norm: %.1f | tps: 300               \n"
        % (i, i, 1 + i / 10)
        for i in range(5)
    ),
    norms=[1, 1.1, 1.2, 1.3, 1.4],
    steps=[0, 1, 2, 3, 4],
    losses=[2.3] * 5,
)
wild(
    "nabla", "".join("step %d loss 2.3 ∇ %.1f\n" % (i, 1 + i) for i in range(4)), norms=[1, 2, 3, 4], steps=[0, 1, 2, 3]
)
wild(
    "nabla2",
    "".join("step %d loss 2.3 |∇|=%.1f\n" % (i, 1 + i) for i in range(4)),
    norms=[1, 2, 3, 4],
    steps=[0, 1, 2, 3],
)
wild(
    "nabla3",
    "".join("step %d loss 2.3 ‖∇‖: %.1f\n" % (i, 1 + i) for i in range(4)),
    norms=[1, 2, 3, 4],
    steps=[0, 1, 2, 3],
)
wild(
    "Grad",
    "".join("Iter %d Loss 2.3 Grad %.1f\n" % (i, 1 + i) for i in range(4)),
    norms=[1, 2, 3, 4],
    steps=[0, 1, 2, 3],
)
wild(
    "grdn",
    "".join("[%d/100] loss=2.3 grdn=%.1f\n" % (i, 1 + i) for i in range(4)),
    norms=[1, 2, 3, 4],
    steps=[0, 1, 2, 3],
)
wild(
    "dict_log",
    "".join("INFO:train:{'step': %d, 'loss': 2.3, 'optim/total_grad_norm': %.1f}\n" % (i, 1 + i) for i in range(4)),
    norms=[1, 2, 3, 4],
    steps=[0, 1, 2, 3],
)
wild(
    "bracketed",
    "".join(
        "[2024-01-01 10:00:0%d,123][INFO][train.py:88] - [%d] gnorm 0.%d loss 7.6\n" % (i, 100 * i, i + 1)
        for i in range(5)
    ),
    norms=[0.1, 0.2, 0.3, 0.4, 0.5],
    steps=[0, 100, 200, 300, 400],
)
wild(
    "iter_colon",
    "".join("%05d: loss 2.3 gnorm %.1f\n" % (100 * i, 1 + i) for i in range(4)),
    norms=[1, 2, 3, 4],
    steps=[0, 100, 200, 300],
)
wild(
    "nanpad",
    "".join(
        "step %d | loss %s | gnorm %s | lr 1e-3\n"
        % (i, "   nan" if i > 2 else "2.3000", "      nan" if i > 2 else " 1.20000")
        for i in range(6)
    ),
    norms=[1.2, 1.2, 1.2, NAN, NAN, NAN],
)
wild(
    "micro_lines",
    "".join(
        "step %d micro 0 grad_norm 0.3\nstep %d micro 1 grad_norm 0.4\nstep %d loss 2 grad_norm %.1f\n"
        % (i, i, i, 1 + i)
        for i in range(6)
    ),
    rows=18,
)
wild(
    "scale_csv",
    "step,loss,scale,grad_norm\n"
    + "".join(
        "%d,2,%d,%.1f\n" % (i, s, s * (0.3 + 0.01 * (i % 7)))
        for i, s in enumerate([65536] * 15 + [32768] * 15 + [16384] * 15 + [32768] * 15)
    ),
    max_between=[0.2, 1.0],
    says="loss scale",
)
wild(
    "gpt_neox",
    "".join(
        " samples/sec: 3.1 | iteration %8d/  320000 | elapsed time per iteration (ms): 5.0 | learning rate: 1.0E-04 | approx flops per GPU: 2TFLOPS | lm_loss: %.6E | loss scale: 65536.0 | grad norm: %.3f | number of skipped iterations:   0 | number of nan iterations:   0 |\n"
        % (10 * i, 3 - i / 10, 1 + i)
        for i in range(4)
    ),
    norms=[1, 2, 3, 4],
    steps=[0, 10, 20, 30],
)
wild(
    "torchtitan",
    "".join(
        "[rank0]:[titan] 2025-01-01 10:00:00,1 - root - INFO - \x1b[31mstep: %2d  \x1b[32mloss: %7.4f  \x1b[38;2;180;60;0mgrad_norm: %7.4f  \x1b[33mmemory: 33.53GiB(42.34%%)  \x1b[34mtps: 7,091\x1b[39m\n"
        % (10 * i, 3 - i / 10, 1 + i)
        for i in range(4)
    ),
    norms=[1, 2, 3, 4],
    steps=[0, 10, 20, 30],
    losses=[3, 2.9, 2.8, 2.7],
)
wild(
    "nanochat",
    "".join(
        "step %05d/21400 (0.%d%%) | loss: 2.%d | grad norm: %.4f | lrm: 1.00 | dt: 1200.00ms | tok/sec: 436,906 | mfu: 47.95 | total time: 1.0m\n"
        % (i, i, i, 1 + i)
        for i in range(4)
    ),
    norms=[1, 2, 3, 4],
    steps=[0, 1, 2, 3],
    losses=[2, 2.1, 2.2, 2.3],
)
wild(
    "olmo-core",
    "".join(
        "2025-01-01T10:00:00.1Z host:0\tolmo_core.train.callbacks.console_logger:115\tINFO\t[step=%d/93009,epoch=1]\n    optim/LR (group 0)=0.0001\n    optim/total grad norm=%.3f\n    train/CE loss=%.3f\n    train/PPL=3,000\n"
        % (i, 1 + i, 3 - i / 10)
        for i in range(1, 5)
    ),
    norms=[2, 3, 4, 5],
    steps=[1, 2, 3, 4],
)
wild(
    "levanter_tqdm",
    "".join(
        "Progress on:train %d.00it/100kit rate:1.0it/s remaining:27:00:00 elapsed:00:01 postfix:loss=2.3, grad_norm=%.1f\n"
        % (i, 1 + i)
        for i in range(1, 5)
    ),
    norms=[2, 3, 4, 5],
)
wild(
    "keras",
    "".join("%d/100 [=====>....] - ETA: 3s - loss: 2.%d - grad_norm: %.4f\n" % (i, i, 1 + i) for i in range(1, 5)),
    norms=[2, 3, 4, 5],
    steps=[1, 2, 3, 4],
)
wild(
    "fastai_like",
    "epoch,train_loss,valid_loss,grad_norm,time\n0,2.3,2.2,1.5,00:03\n1,2.1,2.0,1.6,00:03\n2,2.0,1.9,1.7,00:03\n",
    norms=[1.5, 1.6, 1.7],
    losses=[2.3, 2.1, 2.0],
)
wild(
    "logfmt",
    "".join(
        'time="2025-01-01T10:00:00Z" level=info msg="step" step=%d loss=2.3 grad_norm=%.1f\n' % (i, 1 + i)
        for i in range(4)
    ),
    norms=[1, 2, 3, 4],
    steps=[0, 1, 2, 3],
)
wild(
    "yaml_rows",
    "".join("- step: %d\n  loss: 2.3\n  grad_norm: %.1f\n" % (i, 1 + i) for i in range(4)),
    norms=[1, 2, 3, 4],
    steps=[0, 1, 2, 3],
    losses=[2.3] * 4,
)
wild(
    "parens_avg",
    "".join("Step %d: loss 2.3 (2.4) grad_norm 1.%d (1.5) lr 1e-4\n" % (i, i) for i in range(4)),
    norms=[1, 1.1, 1.2, 1.3],
    steps=[0, 1, 2, 3],
    losses=[2.3] * 4,
)
wild(
    "percent_epoch",
    "".join("Epoch 1 [%d/100 (%d%%)] Loss: 2.3 Grad norm: %.1f\n" % (10 * i, 10 * i, 1 + i) for i in range(4)),
    norms=[1, 2, 3, 4],
    steps=[0, 10, 20, 30],
)
wild(
    "numpy_repr",
    "".join("step=%d loss=np.float32(2.3) grad_norm=tensor(%.1f, device='cuda:0')\n" % (i, 1 + i) for i in range(4)),
    norms=[1, 2, 3, 4],
    steps=[0, 1, 2, 3],
    losses=[2.3] * 4,
)
wild(
    "sci",
    "".join("Iteration %d, loss = 2.3e+00, |grad| = %.1fe-01\n" % (i, 1 + i) for i in range(4)),
    norms=[0.1, 0.2, 0.3, 0.4],
    steps=[0, 1, 2, 3],
)
wild(
    "verl_np",
    "".join(
        "step:%d - actor/pg_loss:0.1 - actor/kl_loss:0.001 - actor/grad_norm:%.1f - perf/total_num_tokens:1000\n"
        % (i, 1 + i)
        for i in range(4)
    ),
    norms=[1, 2, 3, 4],
    steps=[0, 1, 2, 3],
    losses=[0.1] * 4,
)
wild(
    "accelerate_tqdm",
    "Steps:   0%|  | 0/400 [00:00<?, ?it/s]"
    + "".join(
        "\rSteps: %d%%|#  | %d/400 [00:0%d<02:00, 3.0it/s, grad_norm=%.1f, loss=2.3, lr=1e-4]" % (i, i, i, 1 + i)
        for i in range(1, 5)
    )
    + "\n",
    norms=[2, 3, 4, 5],
    steps=[1, 2, 3, 4],
)
wild(
    "null_json",
    '{"step":1,"grad_norm":1.0,"loss":1}\n{"step":2,"grad_norm":null,"loss":1}\n{"step":3,"grad_norm":1.0,"loss":1}\n',
    norms=[1, 1],
    says="null",
)
wild(
    "string_K_json",
    '{"step":1,"grad_norm":"1.0","loss":1}\n{"step":2,"grad_norm":"2.15K","loss":1}\n{"step":3,"grad_norm":"1,234.5","loss":1}\n',
    norms=[1, 2150, 1234.5],
)
wild(
    "iter_slash_json",
    '{"iteration":"5/300","grad_norm":1.0,"loss":1}\n{"iteration":"6/300","grad_norm":1.5,"loss":1}\n{"iteration":"7/300","grad_norm":1.0,"loss":1}\n',
    norms=[1, 1.5, 1],
    steps=[5, 6, 7],
)


@pytest.mark.parametrize("name", WILD)
def test_it_is_read_right(tmp_path: Path, name: str) -> None:
    text, right = WILD[name]
    path = tmp_path / (name if "." in name else f"{name}.log")
    path.write_text(text)
    log = read_log(path)
    picked = pick(log, str(path))
    (series,) = [s for s in log.series if s.tag == picked.tag]
    _columns(series, right)
    assert picked.runs == right.get("runs", picked.runs)
    assert right.get("says", "") in " ".join(picked.caveats)
    if "max_between" in right:
        low, high = right["max_between"]
        threshold = load(path).recommend().max_norm
        assert threshold is not None
        assert low <= threshold <= high


def _columns(series: Series, right: dict[str, Any]) -> None:
    for column, name in ((series.grad_norm, "norms"), (series.step, "steps"), (series.loss, "losses")):
        if name in right:
            np.testing.assert_allclose(column, right[name], rtol=1e-5)
    assert len(series) == right.get("rows", len(series))
