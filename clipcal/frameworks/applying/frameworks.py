"""A config's content -> the framework that reads it, and the key where that keeps its clipping threshold.

Key names were read in transformers 5.23, accelerate 1.15, lightning 2.6, and in the sources of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clipcal.errors import InputError, nearest
from clipcal.frameworks.applying.keys import COMPOSER, DETECTRON2, ESPNET, LIGHTNING, TIMM, TOTAL_NORM, Key
from clipcal.frameworks.applying.tree import Mapping, Node, Path, behind, find, said


@dataclass(frozen=True, kw_only=True)
class Framework:
    """``recognises`` looks at the root of a config; ``path`` is where the threshold stands below that.

    ``snippet`` is the entry of SNIPPETS that says what to do where the key cannot hold a threshold, where it is not the
    one of the same name.
    """

    title: str
    path: Path
    recognises: Callable[[Node], bool]
    key: Key = TOTAL_NORM
    snippet: str = ""
    aliases: tuple[str, ...] = ()


def _has(*groups: str) -> Callable[[Node], bool]:
    """Whether all the dotted keys of one group, with spaces between them, are there."""

    def recognises(root: Node) -> bool:
        return any(all(find(root, tuple(key.split("."))) for key in group.split()) for group in groups)

    return recognises


def _torchtune(root: Node) -> bool:
    below = behind(root)
    parts = [e.node for e in below.entries] if isinstance(below, Mapping) else []
    return any(str(said(part, "_component_")).startswith("torchtune.") for part in parts)


def _lightning_trainer(root: Node) -> bool:
    target = str(said(root, "_target_"))
    return "lightning" in target and target.endswith(".Trainer")


# From the particular to the general: the first that recognises a config has it.
FRAMEWORKS: dict[str, Framework] = {
    "accelerate": Framework(
        title="`accelerate config`",
        path=("deepspeed_config", "gradient_clipping"),
        recognises=_has("compute_environment distributed_type", "distributed_type num_processes mixed_precision"),
        snippet="deepspeed",
    ),
    "gpt-neox": Framework(
        title="GPT-NeoX",
        path=("gradient_clipping",),
        recognises=_has(
            "pipe_parallel_size train_micro_batch_size_per_gpu", "num_layers hidden_size zero_optimization"
        ),
        aliases=("neox",),
        snippet="deepspeed",
    ),
    "deepspeed": Framework(
        title="DeepSpeed",
        path=("gradient_clipping",),
        recognises=_has("zero_optimization", "train_micro_batch_size_per_gpu", "train_batch_size optimizer.params"),
        aliases=("ds",),
    ),
    "axolotl": Framework(
        title="axolotl",
        path=("max_grad_norm",),
        recognises=_has("base_model micro_batch_size", "base_model datasets sequence_len"),
    ),
    "llama-factory": Framework(
        title="LLaMA-Factory",
        path=("max_grad_norm",),
        recognises=_has("model_name_or_path stage", "model_name_or_path finetuning_type", "template finetuning_type"),
        aliases=("llamafactory",),
        snippet="huggingface",
    ),
    "torchtune": Framework(title="torchtune", path=("clip_grad_norm",), recognises=_torchtune),
    "torchtitan": Framework(
        title="torchtitan",
        path=("training", "max_norm"),
        recognises=_has(
            "training.seq_len parallelism", "training.seq_len lr_scheduler", "training.local_batch_size job"
        ),
        aliases=("titan",),
    ),
    "litgpt": Framework(
        title="LitGPT",
        path=("train", "max_norm"),
        recognises=_has("train.micro_batch_size out_dir", "train.global_batch_size eval"),
        aliases=("lit-gpt",),
    ),
    "nanotron": Framework(
        title="nanotron",
        path=("optimizer", "clip_grad"),
        recognises=_has("optimizer.learning_rate_scheduler parallelism"),
    ),
    "composer": Framework(
        title="Composer and LLM Foundry",
        path=("algorithms", "gradient_clipping", "clipping_threshold"),
        recognises=_has("algorithms.gradient_clipping", "max_duration train_loader", "variables max_duration"),
        key=COMPOSER,
        aliases=("llm-foundry", "mosaicml"),
    ),
    "lightning": Framework(
        title="Lightning's Trainer section, as in LightningCLI and NeMo",
        path=("trainer", "gradient_clip_val"),
        recognises=_has(
            *(
                f"trainer.{key}"
                for key in ("max_epochs", "accelerator", "accumulate_grad_batches", "gradient_clip_val")
            ),
            *(f"trainer.{key}" for key in ("gradient_clip_algorithm", "check_val_every_n_epoch", "val_check_interval")),
            *(f"trainer.devices trainer.{key}" for key in ("max_steps", "strategy", "precision", "num_nodes")),
        ),
        key=LIGHTNING,
        aliases=("lightning-cli", "pytorch-lightning", "pl", "nemo"),
    ),
    "lightning-trainer": Framework(
        title="Lightning's Trainer in a Hydra file of its own",
        path=("gradient_clip_val",),
        recognises=_lightning_trainer,
        key=LIGHTNING,
        snippet="lightning",
    ),
    "fairseq": Framework(
        title="fairseq",
        path=("optimization", "clip_norm"),
        recognises=_has("optimization criterion", "optimization task"),
    ),
    "detectron2": Framework(
        title="detectron2",
        path=("SOLVER", "CLIP_GRADIENTS", "CLIP_VALUE"),
        recognises=_has("SOLVER.CLIP_GRADIENTS", "SOLVER.BASE_LR", "SOLVER.IMS_PER_BATCH", "SOLVER.MAX_ITER"),
        key=DETECTRON2,
    ),
    "swin": Framework(
        title="Swin Transformer and its kin",
        path=("TRAIN", "CLIP_GRAD"),
        recognises=_has("TRAIN.CLIP_GRAD", "TRAIN.BASE_LR", "TRAIN.WARMUP_EPOCHS"),
    ),
    "timm": Framework(
        title="timm's train.py",
        path=("clip_grad",),
        recognises=_has("clip_mode", "opt sched model drop_path", "opt sched warmup_epochs"),
        key=TIMM,
    ),
    "espnet": Framework(
        title="ESPnet",
        path=("grad_clip",),
        recognises=_has("grad_clip_type", "optim_conf max_epoch", "encoder_conf decoder_conf"),
        key=ESPNET,
    ),
    "huggingface": Framework(
        title="Hugging Face TrainingArguments",
        path=("max_grad_norm",),
        recognises=_has(
            "per_device_train_batch_size",
            "learning_rate num_train_epochs",
            "learning_rate gradient_accumulation_steps output_dir",
        ),
        aliases=("hf", "transformers", "trainer", "trl"),
    ),
}


def resolve(name: str) -> str:
    """The key of ``FRAMEWORKS`` behind a name or an alias, in any case, with ``_`` or ``-``. Raises InputError."""
    wanted = name.strip().lower().replace("_", "-").removesuffix("-yaml").removesuffix("-toml")
    for key, entry in FRAMEWORKS.items():
        if wanted == key or wanted in entry.aliases:
            return key
    raise InputError(f"No framework named {name!r} is known by its configs.{nearest(wanted, FRAMEWORKS)}")


def recognise(root: Node) -> str | None:
    """The key of ``FRAMEWORKS`` that a config is written for, None where its content does not tell."""
    return next((name for name, entry in FRAMEWORKS.items() if entry.recognises(root)), None)
