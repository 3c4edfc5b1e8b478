"""A threshold -> the arguments of Hugging Face Trainer and of what is built on it, or the call of an Accelerate loop.

Run against transformers 5.23, trl 1.16 and accelerate 1.15; axolotl read in its sources.
"""

from __future__ import annotations

from clipcal.frameworks.snippets.entry import AGAIN, Snippet, Threshold

_INSTEAD = (
    "paste the clip line of the `pytorch` snippet into a TrainerCallback's `on_pre_optimizer_step` and set "
    f"max_grad_norm=0, or {AGAIN}"
)


def _huggingface(threshold: Threshold) -> str:
    return f"""\
from transformers import TrainingArguments

training_args = TrainingArguments(
    max_grad_norm={threshold.number},  # beside your own arguments; left out, Trainer clips at 1.0
)"""


HUGGINGFACE = Snippet(
    title="Hugging Face TrainingArguments",
    language="python",
    render=_huggingface,
    instead=_INSTEAD,
    aliases=("hf", "transformers", "trainer"),
)


def _huggingface_yaml(threshold: Threshold) -> str:
    return f"""\
# A top-level key, for HfArgumentParser, TRL and others; left out, Trainer clips at 1.0.
max_grad_norm: {threshold.number}"""


HUGGINGFACE_YAML = Snippet(
    title="Hugging Face training arguments in a YAML file",
    language="yaml",
    render=_huggingface_yaml,
    instead=_INSTEAD,
    aliases=("hf-yaml", "transformers-yaml", "trl-yaml", "llama-factory"),
)


def _trl(threshold: Threshold) -> str:
    return f"""\
# PPOTrainer from TRL 0.12 on, and RLOOTrainer before its rewrite, step in a loop of their own that never reads
# max_grad_norm: there, clip in a hook given to optimizer.register_step_pre_hook.
from trl import SFTConfig  # or GRPOConfig, DPOConfig, RLOOConfig, RewardConfig, ...

training_args = SFTConfig(
    max_grad_norm={threshold.number},  # beside your own arguments; left out, Trainer clips at 1.0
)"""


TRL = Snippet(
    title="TRL's SFTConfig, GRPOConfig and others",
    language="python",
    render=_trl,
    instead=_INSTEAD,
    aliases=("sft", "grpo", "dpo", "unsloth"),
)


def _axolotl(threshold: Threshold) -> str:
    return f"""\
# A top-level key. Left out, Hugging Face Trainer clips at 1.0. Under DeepSpeed, the JSON file that `deepspeed:` names
# has to say "gradient_clipping": "auto", or the same number.
max_grad_norm: {threshold.number}"""


AXOLOTL = Snippet(
    title="Axolotl config file",
    language="yaml",
    render=_axolotl,
    instead=AGAIN,
)


def _accelerate(threshold: Threshold) -> str:
    if threshold.method == "value":
        traps = "# Under DeepSpeed and FSDP this call raises an error: they cannot clip by value."
        clip = f"accelerator.clip_grad_value_(model.parameters(), clip_value={threshold.number})"
    else:
        traps = """\
# Under DeepSpeed this call only reports the norm: set "gradient_clipping" in its config instead.
    # Under FSDP give it all parameters of the prepared model, or each rank clips by the norm of its own shard."""
        arguments = f"max_norm={threshold.number}{threshold.norm_type_argument}"
        clip = f"accelerator.clip_grad_norm_(model.parameters(), {arguments})"
    return f"""\
accelerator.backward(loss)
if accelerator.sync_gradients:  # at optimizer steps only, not at every accumulated micro-batch
    {traps}
    {clip}  # unscales fp16 first
optimizer.step()
optimizer.zero_grad()"""


ACCELERATE = Snippet(
    title="Accelerate training loop",
    language="python",
    render=_accelerate,
    instead=(
        "take the clip lines of the `pytorch` snippet, under `if accelerator.sync_gradients:` and after "
        "`accelerator.unscale_gradients()`; this holds for one device and DDP, not for DeepSpeed or FSDP"
    ),
    methods=("norm", "value"),
    any_norm_type=True,
)
