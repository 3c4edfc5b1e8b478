"""A threshold -> the arguments of Lightning's Trainer, Fabric's call, or LitGPT's setting.

Run against lightning 2.6; LitGPT read in its sources.
"""

from __future__ import annotations

from clipcal.frameworks.snippets.entry import AGAIN, Snippet, Threshold

_INSTEAD = (
    "paste the clip line of the `pytorch` snippet into your LightningModule's `on_before_optimizer_step` (with `self` "
    f"for `model`) and leave gradient_clip_val out, or {AGAIN}"
)

_TRAPS = """\
# Automatic optimization only. With the FSDP strategy "norm" raises an error: there, override the module's
# configure_gradient_clipping and call self.trainer.model.clip_grad_norm_({number}).
"""


def _lightning(threshold: Threshold) -> str:
    algorithm = "value" if threshold.method == "value" else "norm"
    traps = _TRAPS.format(number=threshold.number) if algorithm == "norm" else ""
    return f"""\
{traps}from lightning.pytorch import Trainer

trainer = Trainer(
    gradient_clip_val={threshold.number},  # beside your own arguments; left out, Lightning does not clip
    gradient_clip_algorithm="{algorithm}",
)"""


LIGHTNING = Snippet(
    title="Lightning Trainer",
    language="python",
    render=_lightning,
    instead=_INSTEAD,
    aliases=("pytorch-lightning", "pl"),
    methods=("norm", "value"),
)


def _lightning_yaml(threshold: Threshold) -> str:
    algorithm = "value" if threshold.method == "value" else "norm"
    traps = _TRAPS.format(number=threshold.number) if algorithm == "norm" else ""
    return f"""\
{traps}trainer:
  gradient_clip_val: {threshold.number}
  gradient_clip_algorithm: {algorithm}"""


LIGHTNING_YAML = Snippet(
    title="LightningCLI config file",
    language="yaml",
    render=_lightning_yaml,
    instead=_INSTEAD,
    aliases=("lightning-cli", "pl-yaml"),
    methods=("norm", "value"),
)


def _fabric(threshold: Threshold) -> str:
    if threshold.method == "value":
        traps = "# Unscales fp16 first. Under DeepSpeed this call raises an error: it cannot clip by value."
        arguments = f"clip_val={threshold.number}"
    else:
        # "16-mixed" overflows at its start, until the scale has come down.
        traps = """\
# Unscales fp16 first. Under DeepSpeed this call raises an error: set "gradient_clipping" in its config instead. Under
# FSDP give it the module that fabric.setup returned. By default it stops the run at the first norm that overflows."""
        arguments = f"max_norm={threshold.number}{threshold.norm_type_argument}, error_if_nonfinite=False"
    return f"""\
fabric.backward(loss)  # when accumulating: clip once, after the last micro-batch
{traps}
fabric.clip_gradients(model, optimizer, {arguments})
optimizer.step()
optimizer.zero_grad()"""


FABRIC = Snippet(
    title="Lightning Fabric loop",
    language="python",
    render=_fabric,
    instead=(
        "take the clip lines of the `pytorch` snippet between `fabric.backward` and `optimizer.step`; this holds for "
        "fp32 and bf16 on one device or DDP"
    ),
    aliases=("lightning-fabric",),
    methods=("norm", "value"),
    any_norm_type=True,
)


def _litgpt(threshold: Threshold) -> str:
    return f"""\
# For `litgpt pretrain --config FILE`, or --train.max_norm {threshold.number} on its command line; left out, it clips at 1.0.
# The finetune commands never clip, and stop with an error where max_norm is set.
train:
  max_norm: {threshold.number}"""


LITGPT = Snippet(
    title="LitGPT pretraining config file",
    language="yaml",
    render=_litgpt,
    instead=AGAIN,
    aliases=("lit-gpt",),
)
