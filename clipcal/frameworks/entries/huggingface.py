"""A threshold -> the arguments of Hugging Face Trainer and of what is built on it, or the call of an Accelerate loop.

Run against transformers 5.23, trl 1.16 and accelerate 1.15; axolotl and LLaMA-Factory read in their sources.
"""

from __future__ import annotations

from clipcal.frameworks.applying import conflicts
from clipcal.frameworks.entries.language import IN_THE_ENGINE
from clipcal.frameworks.keys import GRADIENT_CLIPPING, MAX_GRAD_NORM
from clipcal.frameworks.record import AGAIN, Config, Framework, in_yaml, total_norm

_INSTEAD = (
    "paste the clip line of the `pytorch` snippet into a TrainerCallback's `on_pre_optimizer_step` and set "
    f"{MAX_GRAD_NORM.name}=0, or {AGAIN}"
)
_ARGUMENT = f"{MAX_GRAD_NORM.name}={{number}},  # beside your own arguments; left out, Trainer clips at {{default}}"
_UNDER_DEEPSPEED = """\
# A top-level key. Left out, Hugging Face Trainer clips at {default}. Under DeepSpeed, the JSON file that `deepspeed:` names
# has to say "gradient_clipping": "auto", or the same number."""
_TRAINER = Config(
    key=MAX_GRAD_NORM,
    marks=(
        "per_device_train_batch_size",
        "learning_rate num_train_epochs",
        "learning_rate gradient_accumulation_steps output_dir",
    ),
    conflicts=conflicts.trainer,
)


def _python(title: str, lines: str, name: str, aliases: tuple[str, ...]) -> Framework:
    """One whose class of arguments is made from Trainer's; ``lines`` import it."""
    text = f"{lines}\n\ntraining_args = {name}(\n    {_ARGUMENT}\n)"
    return Framework(
        title=title, text=total_norm(text), default=1.0, instead=_INSTEAD, aliases=aliases, config=_TRAINER
    )


def _accelerated(traps: str, clip: str) -> str:
    return f"""\
accelerator.backward(loss)
if accelerator.sync_gradients:  # at optimizer steps only, not at every accumulated micro-batch
    {traps}
    accelerator.{clip}  # unscales fp16 first
optimizer.step()
optimizer.zero_grad()"""


FRAMEWORKS: dict[str, Framework] = {
    "huggingface": _python(
        "Hugging Face TrainingArguments",
        "from transformers import TrainingArguments",
        "TrainingArguments",
        aliases=("hf", "transformers", "trainer"),
    ),
    "huggingface-yaml": in_yaml(
        "Hugging Face training arguments in a YAML file",
        _TRAINER,
        "# A top-level key, for HfArgumentParser, TRL and others; left out, Trainer clips at {default}.",
        default=1.0,
        instead=_INSTEAD,
        aliases=("hf-yaml", "transformers-yaml", "trl-yaml"),
    ),
    "trl": _python(
        "TRL's SFTConfig, GRPOConfig and others",
        f"""\
# PPOTrainer from TRL 0.12 on, and RLOOTrainer before its rewrite, step in a loop of their own that never reads
# {MAX_GRAD_NORM.name}: there, clip in a hook given to optimizer.register_step_pre_hook.
from trl import SFTConfig  # or GRPOConfig, DPOConfig, RLOOConfig, RewardConfig, ...""",
        "SFTConfig",
        aliases=("sft", "grpo", "dpo", "unsloth"),
    ),
    "axolotl": in_yaml(
        "Axolotl config file",
        Config(
            key=MAX_GRAD_NORM,
            marks=("base_model micro_batch_size", "base_model datasets sequence_len"),
            conflicts=conflicts.trainer,
        ),
        _UNDER_DEEPSPEED,
        default=1.0,
    ),
    "llama-factory": in_yaml(
        "LLaMA-Factory config file",
        Config(
            key=MAX_GRAD_NORM,
            marks=("model_name_or_path stage", "model_name_or_path finetuning_type", "template finetuning_type"),
            conflicts=conflicts.trainer,
        ),
        _UNDER_DEEPSPEED,
        default=1.0,
        instead=_INSTEAD,
        aliases=("llamafactory",),
    ),
    "accelerate": Framework(
        title="Accelerate training loop",
        text={
            "norm": _accelerated(
                """\
# Under DeepSpeed this call only reports the norm: set "gradient_clipping" in its config instead.
    # Under FSDP give it all parameters of the prepared model, or each rank clips by the norm of its own shard.""",
                "clip_grad_norm_(model.parameters(), max_norm={number}{p})",
            ),
            "value": _accelerated(
                "# Under DeepSpeed and FSDP this call raises an error: they cannot clip by value.",
                "clip_grad_value_(model.parameters(), clip_value={number})",
            ),
        },
        instead=(
            "take the clip lines of the `pytorch` snippet, under `if accelerator.sync_gradients:` and after "
            "`accelerator.unscale_gradients()`; this holds for one device and DDP, not for DeepSpeed or FSDP"
        ),
        config=Config(
            section="deepspeed_config",
            key=GRADIENT_CLIPPING,
            marks=("compute_environment distributed_type", "distributed_type num_processes mixed_precision"),
            conflicts=conflicts.accelerate,
            instead=IN_THE_ENGINE,
        ),
    ),
}
