"""A threshold -> the lines that clip in a training loop of one's own: plain, or sharded by FSDP.

Run against torch 2.13, the sharded ones on two processes.
"""

from __future__ import annotations

from collections.abc import Mapping

from clipcal.frameworks.record import Framework
from clipcal.run.records import Method

BY_NORM = "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={number}{p})"
BY_VALUE = "torch.nn.utils.clip_grad_value_(model.parameters(), clip_value={number})"
PER_TENSOR = """\
for parameter in model.parameters():  # each tensor by its own norm, not the total
    torch.nn.utils.clip_grad_norm_(parameter, max_norm={number}{p})"""
_SHARDED_BY_VALUE = f"{BY_VALUE}  # element by element: shards do not matter"


def loop(clip: Mapping[Method, str], *, library: str = "", scaler: str = "", step: str = "") -> dict[Method, str]:
    """The lines that clip -> the training loop around them; ``library`` is what its backward pass goes through."""
    backward = f"{library}.backward(loss)" if library else "loss.backward()"
    unscale = (
        f"# With a {scaler} (fp16), call scaler.unscale_(optimizer) here: the threshold is for unscaled gradients.\n"
    )
    return {
        method: f"""\
{backward}  # when accumulating: clip once, after the last micro-batch
{unscale if scaler else ""}{lines}
optimizer.step(){step}
optimizer.zero_grad()"""
        for method, lines in clip.items()
    }


FRAMEWORKS: dict[str, Framework] = {
    "pytorch": Framework(
        title="A plain PyTorch loop",
        text=loop(
            {
                "norm": "# DDP and FSDP2: as it stands. FSDP1: model.clip_grad_norm_ instead, or each rank sees only its shard.\n"
                + BY_NORM,
                "value": BY_VALUE,
                "per_tensor": PER_TENSOR,
            },
            scaler="GradScaler",
            step="  # with a GradScaler: scaler.step(optimizer), then scaler.update()",
        ),
        aliases=("torch", "loop", "ddp"),
    ),
    "fsdp": Framework(
        title="FSDP1 (FullyShardedDataParallel)",
        text=loop(
            {
                "norm": """\
# The method of the outermost FullyShardedDataParallel, on every rank: it sums over the shards. With
# torch.nn.utils.clip_grad_norm_ each rank would clip by the norm of its own shard.
model.clip_grad_norm_(max_norm={number}{p})""",
                "value": _SHARDED_BY_VALUE,
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
        text=loop(
            {
                "norm": f"""\
# The gradients are DTensors: torch's own function takes the norm over all shards. All have to lie on one mesh; with
# experts on another, or unsharded parameters, combine the norms first, as torchtitan does, and so with pipeline stages.
grad_norm = {BY_NORM}
# To log it, before clipping: grad_norm.full_tensor(), on every rank.""",
                "value": _SHARDED_BY_VALUE,
                "per_tensor": PER_TENSOR,
            }
        ),
        aliases=("fully-shard",),
    ),
}
