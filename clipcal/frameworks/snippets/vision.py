"""A threshold -> the setting of a library that trains vision models.

Run against mmengine 0.10; fastai 2.8, timm 1.0 and detectron2 0.6 read in their sources.
"""

from __future__ import annotations

import math

from clipcal.frameworks.snippets.entry import AGAIN, Snippet, Threshold
from clipcal.recommendation.answer import METHODS


def _timm(threshold: Threshold) -> str:
    mode = "value" if threshold.method == "value" else "norm"
    return f"""\
# Part of the command line of train.py; left out, timm does not clip. Not --clip-mode agc: there --clip-grad is a share
# of each weight's own norm.
--clip-grad {threshold.number} --clip-mode {mode}"""


TIMM = Snippet(
    title="timm's train.py command line",
    language="shell",
    render=_timm,
    instead="change the clip line of train.py to the one of the `pytorch` snippet",
    aliases=("pytorch-image-models",),
    methods=("norm", "value"),
)


def _fastai(threshold: Threshold) -> str:
    return f"""\
from fastai.callback.training import GradientClip

learn.add_cb(GradientClip(max_norm={threshold.number}{threshold.norm_type_argument}))  # once; it stays for every later fit"""


FASTAI = Snippet(
    title="fastai callback",
    language="python",
    render=_fastai,
    instead=(
        "write a Callback with GradientClip's `order` whose `before_step` has the clip lines of the `pytorch` snippet, "
        "with `self.parameters()`"
    ),
    any_norm_type=True,
)


def _detectron2(threshold: Threshold) -> str:
    if threshold.method == "value":
        clip = f"torch.nn.utils.clip_grad_value_(parameters, clip_value={threshold.number})"
    elif threshold.method == "per_tensor":
        clip = f"""\
for parameter in parameters:  # each tensor by its own norm, not the total
                torch.nn.utils.clip_grad_norm_(parameter, max_norm={threshold.number}{threshold.norm_type_argument})"""
    else:
        clip = f"torch.nn.utils.clip_grad_norm_(parameters, max_norm={threshold.number}{threshold.norm_type_argument})"
    trap = """\
# SOLVER.CLIP_GRADIENTS cannot do this: its CLIP_TYPE "norm" clips each parameter by its own norm. Leave it off.
# Projects whose train_net.py knows CLIP_TYPE "full_model" (Mask2Former and others) take the number as CLIP_VALUE there.
"""
    return f"""\
{trap if threshold.method == "norm" else ""}import torch
from detectron2.engine import DefaultTrainer


class Trainer(DefaultTrainer):
    @classmethod
    def build_optimizer(cls, cfg, model):
        optimizer = super().build_optimizer(cfg, model)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]

        def clip(*_):  # called before each step, after a GradScaler's unscaling
            {clip}

        optimizer.register_step_pre_hook(clip)
        return optimizer"""


DETECTRON2 = Snippet(
    title="detectron2 trainer",
    language="python",
    render=_detectron2,
    aliases=("detectron",),
    methods=METHODS,
    any_norm_type=True,
)


def _detectron2_yaml(threshold: Threshold) -> str:
    if threshold.method == "value":
        rest = ""
    else:
        p = ".inf" if math.isinf(threshold.norm_type) else repr(threshold.norm_type)
        rest = f"\n    NORM_TYPE: {p}"
    kind, why = {
        "value": ("value", "every gradient element"),
        "per_tensor": ("norm", "each parameter by its own norm, not the total"),
    }[threshold.method]
    return f"""\
SOLVER:
  CLIP_GRADIENTS:
    ENABLED: true
    CLIP_TYPE: {kind}  # {why}
    CLIP_VALUE: {threshold.number}{rest}"""


DETECTRON2_YAML = Snippet(
    title="A detectron2 config file",
    language="yaml",
    render=_detectron2_yaml,
    instead=(
        "take the `detectron2` snippet, which clips by the total norm in the trainer; in the config file, CLIP_TYPE norm "
        "clips each parameter by its own norm"
    ),
    methods=("value", "per_tensor"),
    any_norm_type=True,
)


def _mmengine(threshold: Threshold) -> str:
    if threshold.method == "value":
        clip = f'type="value", clip_value={threshold.number}'
        traps = '# A _base_ that clips otherwise: _delete_=True beside type="value".'
    else:
        clip = f"max_norm={threshold.number}, norm_type={threshold.norm_type_number}"
        traps = """\
# A _base_ that clips otherwise, or says None: _delete_=True beside max_norm. Under DeepSpeedStrategy give it
# gradient_clipping=... instead. FSDPStrategy is not for this: each rank would clip by the norm of its own shard."""
    return f"""\
{traps}
optim_wrapper = dict(  # beside its type and its optimizer; left out, MMEngine does not clip
    clip_grad=dict({clip}),
)"""


MMENGINE = Snippet(
    title="MMEngine config file",
    language="python",
    render=_mmengine,
    instead=f"{AGAIN}, or write an OptimWrapper of your own with the clip lines of the `pytorch` snippet in `_clip_grad`",
    aliases=("mmdet", "mmdetection", "mmseg", "mmsegmentation", "mmpretrain", "openmmlab"),
    methods=("norm", "value"),
    any_norm_type=True,
)
