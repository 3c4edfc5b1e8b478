"""A threshold -> the lines that clip in a training loop of one's own: plain, or sharded by FSDP.

Run against torch 2.13, the sharded ones on two processes.
"""

from __future__ import annotations

from clipcal.frameworks.snippets.entry import Snippet, Threshold
from clipcal.recommendation.answer import METHODS


def _by_value(threshold: Threshold) -> str:
    return f"torch.nn.utils.clip_grad_value_(model.parameters(), clip_value={threshold.number})"


def _by_norm(threshold: Threshold, tensors: str) -> str:
    return f"torch.nn.utils.clip_grad_norm_({tensors}, max_norm={threshold.number}{threshold.norm_type_argument})"


def _per_tensor(threshold: Threshold) -> str:
    return (
        "for parameter in model.parameters():  # each tensor by its own norm, not the total\n"
        f"    {_by_norm(threshold, 'parameter')}"
    )


def _pytorch(threshold: Threshold) -> str:
    if threshold.method == "value":
        clip = _by_value(threshold)
    elif threshold.method == "per_tensor":
        clip = _per_tensor(threshold)
    else:
        clip = (
            "# DDP and FSDP2: as it stands. FSDP1: model.clip_grad_norm_ instead, or each rank sees only its shard.\n"
            f"{_by_norm(threshold, 'model.parameters()')}"
        )
    return f"""\
loss.backward()  # when accumulating: clip once, after the last micro-batch
# With a GradScaler (fp16), call scaler.unscale_(optimizer) here: the threshold is for unscaled gradients.
{clip}
optimizer.step()  # with a GradScaler: scaler.step(optimizer), then scaler.update()
optimizer.zero_grad()"""


PYTORCH = Snippet(
    title="A plain PyTorch loop",
    language="python",
    render=_pytorch,
    aliases=("torch", "loop", "ddp"),
    methods=METHODS,
    any_norm_type=True,
)


def _fsdp(threshold: Threshold) -> str:
    if threshold.method == "value":
        clip = f"{_by_value(threshold)}  # element by element: shards do not matter"
    else:
        clip = f"""\
# The method of the outermost FullyShardedDataParallel, on every rank: it sums over the shards. With
# torch.nn.utils.clip_grad_norm_ each rank would clip by the norm of its own shard.
model.clip_grad_norm_(max_norm={threshold.number}{threshold.norm_type_argument})"""
    return f"""\
loss.backward()  # when accumulating: clip once, after the last micro-batch
# With a ShardedGradScaler (fp16), call scaler.unscale_(optimizer) here: the threshold is for unscaled gradients.
{clip}
optimizer.step()
optimizer.zero_grad()"""


FSDP = Snippet(
    title="FSDP1 (FullyShardedDataParallel)",
    language="python",
    render=_fsdp,
    instead=(
        "shard with `fully_shard` and take the `fsdp2` snippet: FSDP1 flattens its parameters, so a rank does not see "
        "whole tensors"
    ),
    aliases=("fsdp1",),
    methods=("norm", "value"),
    any_norm_type=True,
)


def _fsdp2(threshold: Threshold) -> str:
    if threshold.method == "value":
        clip = f"{_by_value(threshold)}  # element by element: shards do not matter"
    elif threshold.method == "per_tensor":
        clip = _per_tensor(threshold)
    else:
        clip = f"""\
# The gradients are DTensors: torch's own function takes the norm over all shards. All have to lie on one mesh; with
# experts on another, or unsharded parameters, combine the norms first, as torchtitan does, and so with pipeline stages.
grad_norm = {_by_norm(threshold, "model.parameters()")}
# To log it, before clipping: grad_norm.full_tensor(), on every rank."""
    return f"""\
loss.backward()  # when accumulating: clip once, after the last micro-batch
{clip}
optimizer.step()
optimizer.zero_grad()"""


FSDP2 = Snippet(
    title="FSDP2 (fully_shard)",
    language="python",
    render=_fsdp2,
    aliases=("fully-shard",),
    methods=METHODS,
    any_norm_type=True,
)
