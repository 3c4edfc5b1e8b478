"""A threshold -> the setting of a library that trains vision models, of a reinforcement learner, or of an optimizer outside of torch's.

Run against mmengine 0.10, stable-baselines3 2.9, keras 3.15 and optax 0.2.8; fastai 2.8, timm 1.0, detectron2 0.6 and Swin
Transformer read in their sources.
"""

from __future__ import annotations

from clipcal.frameworks.applying import conflicts
from clipcal.frameworks.keys import CLIP_GRAD_OF_SWIN, CLIP_GRAD_OF_TIMM, CLIP_VALUE
from clipcal.frameworks.record import AGAIN, Config, Framework, in_yaml, total_norm

_COMMAND_LINE = """\
# Part of the command line of train.py; left out, timm does not clip. Not --clip-mode agc: there --clip-grad is a share
# of each weight's own norm.
--clip-grad {number} --clip-mode """
_DETECTRON2 = Config(
    section="SOLVER.CLIP_GRADIENTS",
    key=CLIP_VALUE,
    marks=("SOLVER.CLIP_GRADIENTS", "SOLVER.BASE_LR", "SOLVER.IMS_PER_BATCH", "SOLVER.MAX_ITER"),
    conflicts=conflicts.detectron2,
)


def _hooked(clip: str) -> str:
    return f"""\
import torch
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


def _wrapped(trap: str, clip: str) -> str:
    return f"""\
{trap}
optim_wrapper = dict(  # beside its type and its optimizer; left out, MMEngine does not clip
    clip_grad=dict({clip}),
)"""


def _optimizer(key: str, why: str) -> str:
    return f"""\
import keras

optimizer = keras.optimizers.Adam(  # or your own, with its arguments; inside a LossScaleOptimizer, not on it
    {key}={{number}},  # {why}
)"""


def _chained(clip: str) -> str:
    return f"""\
import optax

# Around the optimizer that you have. Clip first: gradients, not updates. optax.MultiSteps goes around the chain; under
# pmap or shard_map, average the gradients before.
optimizer = optax.chain(optax.{clip}, optimizer)"""


FRAMEWORKS: dict[str, Framework] = {
    "timm": Framework(
        title="timm's train.py command line",
        language="shell",
        text={"norm": f"{_COMMAND_LINE}norm", "value": f"{_COMMAND_LINE}value"},
        instead="change the clip line of train.py to the one of the `pytorch` snippet",
        aliases=("pytorch-image-models",),
        config=Config(
            key=CLIP_GRAD_OF_TIMM, marks=("clip_mode", "opt sched model drop_path", "opt sched warmup_epochs")
        ),
    ),
    "swin": in_yaml(
        "Swin Transformer config file",
        Config(
            section="TRAIN", key=CLIP_GRAD_OF_SWIN, marks=("TRAIN.CLIP_GRAD", "TRAIN.BASE_LR", "TRAIN.WARMUP_EPOCHS")
        ),
        "# Left out, Swin Transformer clips at {default}, and so does most that was made from its main.py.",
        default=5.0,
    ),
    "fastai": Framework(
        title="fastai callback",
        text=total_norm("""\
from fastai.callback.training import GradientClip

learn.add_cb(GradientClip(max_norm={number}{p}))  # once; it stays for every later fit"""),
        instead=(
            "write a Callback with GradientClip's `order` whose `before_step` has the clip lines of the `pytorch` snippet, "
            "with `self.parameters()`"
        ),
    ),
    "detectron2": Framework(
        title="detectron2 trainer",
        text={
            "norm": f"""\
# SOLVER.CLIP_GRADIENTS cannot do this: its CLIP_TYPE "norm" clips each parameter by its own norm. Leave it off.
# Projects whose train_net.py knows CLIP_TYPE "full_model" (Mask2Former and others) take the number as CLIP_VALUE there.
{_hooked("torch.nn.utils.clip_grad_norm_(parameters, max_norm={number}{p})")}""",
            "value": _hooked("torch.nn.utils.clip_grad_value_(parameters, clip_value={number})"),
            "per_tensor": _hooked("""\
for parameter in parameters:  # each tensor by its own norm, not the total
                torch.nn.utils.clip_grad_norm_(parameter, max_norm={number}{p})"""),
        },
        aliases=("detectron",),
        config=_DETECTRON2,
    ),
    "detectron2-yaml": in_yaml(
        "A detectron2 config file",
        _DETECTRON2,
        {
            "value": "# CLIP_TYPE value: every gradient element.",
            "per_tensor": "# CLIP_TYPE norm: each parameter by its own norm, not the total.",
        },
        only=("value", "per_tensor"),
        instead=(
            "take the `detectron2` snippet, which clips by the total norm in the trainer; in the config file, CLIP_TYPE norm "
            "clips each parameter by its own norm"
        ),
    ),
    "mmengine": Framework(
        title="MMEngine config file",
        text={
            "norm": _wrapped(
                """\
# A _base_ that clips otherwise, or says None: _delete_=True beside max_norm. Under DeepSpeedStrategy give it
# gradient_clipping=... instead. FSDPStrategy is not for this: each rank would clip by the norm of its own shard.""",
                "max_norm={number}, norm_type={norm_type}",
            ),
            "value": _wrapped(
                '# A _base_ that clips otherwise: _delete_=True beside type="value".',
                'type="value", clip_value={number}',
            ),
        },
        instead=f"{AGAIN}, or write an OptimWrapper of your own with the clip lines of the `pytorch` snippet in `_clip_grad`",
        aliases=("mmdet", "mmdetection", "mmseg", "mmsegmentation", "mmpretrain", "openmmlab"),
    ),
    "stable-baselines3": Framework(
        title="Stable-Baselines3 PPO, A2C and DQN",
        text=total_norm("""\
# PPO, A2C and DQN take max_grad_norm; left out, they clip at {default}, {default} and 10. SAC, TD3 and DDPG do not clip at all.
# A saved model keeps its own: PPO.load(path, max_grad_norm={number}).
from stable_baselines3 import PPO

model = PPO("MlpPolicy", env, max_grad_norm={number})  # beside your own arguments"""),
        default=0.5,
        instead=f"{AGAIN}; Stable-Baselines3 clips inside `train()`, by the total L2 norm only",
        aliases=("sb3", "stablebaselines3"),
    ),
    "keras": Framework(
        title="Keras 3 optimizer",
        text={
            "norm": _optimizer("global_clipnorm", "the total norm; clipnorm would clip every variable by itself"),
            "value": _optimizer("clipvalue", "every gradient element"),
            "per_tensor": _optimizer("clipnorm", "every variable by its own norm; global_clipnorm would be the total"),
        },
        instead=f"{AGAIN}, or train with the torch backend and a loop of your own around the `pytorch` snippet",
    ),
    "optax": Framework(
        title="optax chain",
        text={
            "norm": _chained("clip_by_global_norm(max_norm={number})"),
            "value": _chained("clip(max_delta={number})"),
            "per_tensor": """\
import jax.numpy as jnp
import optax


# Each tensor by its own norm. optax.clip_by_block_rms is something else: the norm over the root of the tensor's size.
def clip_tensor(g, _, max_norm={number}):
    return g * (max_norm / jnp.maximum(jnp.linalg.norm(g.ravel()), max_norm))


optimizer = optax.chain(optax.stateless_with_tree_map(clip_tensor), optimizer)  # clip first: gradients, not updates""",
        },
        instead=f"{AGAIN}; optax clips by L2 norms only",
        aliases=("jax", "flax"),
    ),
}
