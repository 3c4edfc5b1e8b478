"""A threshold -> the lines that clip in a training loop, plain, sharded or Fabric's; or the setting of Lightning's Trainer, of LitGPT,
and of NeMo's speech models.

Run against torch 2.13, the sharded ones on two processes, and lightning 2.6; LitGPT and NeMo read in their sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from clipcal.frameworks.applying import conflicts
from clipcal.frameworks.applying.tree import Node, said
from clipcal.frameworks.keys import GRADIENT_CLIP_VAL, MAX_NORM
from clipcal.frameworks.record import AGAIN, Config, Framework, in_yaml
from clipcal.run.records import Method

_BY_NORM = "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={number}{p})"
_BY_VALUE = "torch.nn.utils.clip_grad_value_(model.parameters(), clip_value={number})"
_PER_TENSOR = """\
for parameter in model.parameters():  # each tensor by its own norm, not the total
    torch.nn.utils.clip_grad_norm_(parameter, max_norm={number}{p})"""
_SHARDED = f"{_BY_VALUE}  # element by element: shards do not matter"
_UNSCALE = "# With a SCALER (fp16), call scaler.unscale_(optimizer) here: the threshold is for unscaled gradients.\n"


def _loop(clip: Mapping[Method, str], *, library: str = "", scaler: str = "", step: str = "") -> dict[Method, str]:
    """The lines that clip -> the training loop around them; ``library`` is what its backward pass goes through."""
    backward = f"{library}.backward(loss)" if library else "loss.backward()"
    unscale = _UNSCALE.replace("SCALER", scaler) if scaler else ""
    return {
        method: f"""\
{backward}  # when accumulating: clip once, after the last micro-batch
{unscale}{lines}
optimizer.step(){step}
optimizer.zero_grad()"""
        for method, lines in clip.items()
    }


_KEY = GRADIENT_CLIP_VAL.name
_ALGORITHM = GRADIENT_CLIP_VAL.switches[0].name
_INSTEAD = (
    "paste the clip line of the `pytorch` snippet into your LightningModule's `on_before_optimizer_step` (with `self` "
    f"for `model`) and leave {_KEY} out, or {AGAIN}"
)
_TRAPS = """\
# Automatic optimization only. With the FSDP strategy "norm" raises an error: there, override the module's
# configure_gradient_clipping and call self.trainer.model.clip_grad_norm_({number})."""
_OF_TRAINER = ("max_epochs", "accelerator", "accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval")


def _is_trainer(root: Node) -> bool:
    target = str(said(root, "_target_"))
    return "lightning" in target and target.endswith(".Trainer")


_SECTION = Config(
    section="trainer",
    key=GRADIENT_CLIP_VAL,
    marks=(
        *(f"trainer.{key}" for key in (*_OF_TRAINER, _KEY, _ALGORITHM)),
        *(f"trainer.devices trainer.{key}" for key in ("max_steps", "strategy", "precision", "num_nodes")),
    ),
    conflicts=conflicts.lightning,
)


def _arguments(algorithm: str, traps: str = "") -> str:
    return f"""\
{traps}from lightning.pytorch import Trainer

trainer = Trainer(
    {_KEY}={{number}},  # beside your own arguments; left out, Lightning does not clip
    {_ALGORITHM}="{algorithm}",
)"""


FRAMEWORKS: dict[str, Framework] = {
    "pytorch": Framework(
        title="A plain PyTorch loop",
        text=_loop(
            {
                "norm": f"# DDP and FSDP2: as it stands. FSDP1: model.clip_grad_norm_ instead, or each rank sees only its shard.\n{_BY_NORM}",
                "value": _BY_VALUE,
                "per_tensor": _PER_TENSOR,
            },
            scaler="GradScaler",
            step="  # with a GradScaler: scaler.step(optimizer), then scaler.update()",
        ),
        aliases=("torch", "loop", "ddp"),
    ),
    "fsdp": Framework(
        title="FSDP1 (FullyShardedDataParallel)",
        text=_loop(
            {
                "norm": """\
# The method of the outermost FullyShardedDataParallel, on every rank: it sums over the shards. With
# torch.nn.utils.clip_grad_norm_ each rank would clip by the norm of its own shard.
model.clip_grad_norm_(max_norm={number}{p})""",
                "value": _SHARDED,
            },
            scaler="ShardedGradScaler",
        ),
        instead=(
            "shard with `fully_shard` and take the `fsdp2` snippet: FSDP1 flattens its parameters, so a rank does not see "
            "whole tensors"
        ),
        aliases=("fsdp1",),
    ),
    "fsdp2": Framework(
        title="FSDP2 (fully_shard)",
        text=_loop(
            {
                "norm": f"""\
# The gradients are DTensors: torch's own function takes the norm over all shards. All have to lie on one mesh; with
# experts on another, or unsharded parameters, combine the norms first, as torchtitan does, and so with pipeline stages.
grad_norm = {_BY_NORM}
# To log it, before clipping: grad_norm.full_tensor(), on every rank.""",
                "value": _SHARDED,
                "per_tensor": _PER_TENSOR,
            }
        ),
        aliases=("fully-shard",),
    ),
    "lightning": Framework(
        title="Lightning Trainer",
        text={"norm": _arguments("norm", f"{_TRAPS}\n"), "value": _arguments("value")},
        instead=_INSTEAD,
        aliases=("pytorch-lightning", "pl"),
        config=_SECTION,
    ),
    "lightning-yaml": in_yaml(
        "LightningCLI config file",
        _SECTION,
        {"norm": _TRAPS},
        instead=_INSTEAD,
        aliases=("lightning-cli", "pl-yaml"),
    ),
    "lightning-trainer": in_yaml(
        "Lightning's Trainer in a Hydra file of its own",
        Config(key=GRADIENT_CLIP_VAL, recognises=_is_trainer, conflicts=conflicts.lightning),
        {"norm": _TRAPS},
        instead=_INSTEAD,
    ),
    "fabric": Framework(
        title="Lightning Fabric loop",
        text=_loop(
            {
                # "16-mixed" overflows at its start, until the scale has come down.
                "norm": """\
# Unscales fp16 first. Under DeepSpeed this call raises an error: set "gradient_clipping" in its config instead. Under
# FSDP give it the module that fabric.setup returned. By default it stops the run at the first norm that overflows.
fabric.clip_gradients(model, optimizer, max_norm={number}{p}, error_if_nonfinite=False)""",
                "value": """\
# Unscales fp16 first. Under DeepSpeed this call raises an error: it cannot clip by value.
fabric.clip_gradients(model, optimizer, clip_val={number})""",
            },
            library="fabric",
        ),
        instead=(
            "take the clip lines of the `pytorch` snippet between `fabric.backward` and `optimizer.step`; this holds for "
            "fp32 and bf16 on one device or DDP"
        ),
        aliases=("lightning-fabric",),
    ),
    "litgpt": in_yaml(
        "LitGPT pretraining config file",
        Config(
            section="train",
            key=MAX_NORM,
            marks=("train.micro_batch_size out_dir", "train.global_batch_size eval"),
            conflicts=conflicts.litgpt,
        ),
        """\
# For `litgpt pretrain --config FILE`, or --train.max_norm {number} on its command line; left out, it clips at {default}.
# The finetune commands never clip, and stop with an error where max_norm is set.""",
        default=1.0,
        aliases=("lit-gpt",),
    ),
    "nemo-yaml": in_yaml(
        "NeMo config file with Lightning's trainer",
        # NeMo 1's own clipping takes the number for a norm, whatever the algorithm says.
        replace(_SECTION, key=replace(GRADIENT_CLIP_VAL, methods=("norm",)), marks=()),
        "# For NeMo's speech models and NeMo 1. With NeMo 2's MegatronStrategy this key raises an error: the `nemo` snippet.",
        aliases=("nemo1", "nemo-asr"),
    ),
}
