"""A threshold -> the setting of an engine, or of a library that trains language or speech models by a recipe.

Read in the sources of deepspeed 0.19, GPT-NeoX, Megatron-LM, NeMo 2, Composer, torchtitan (its TOML of 2024 and 2025, and its
Python of 2026), torchtune 0.6, nanotron, nanoGPT, fairseq and ESPnet.
"""

from __future__ import annotations

from clipcal.frameworks.applying import conflicts
from clipcal.frameworks.applying.tree import Node, behind, children, said
from clipcal.frameworks.keys import (
    CLIP_GRAD,
    CLIP_GRAD_NORM,
    CLIP_NORM,
    CLIPPING_THRESHOLD,
    GRAD_CLIP_OF_ESPNET,
    GRADIENT_CLIP_VAL,
    GRADIENT_CLIPPING,
    MAX_NORM,
)
from clipcal.frameworks.record import AGAIN, Config, Framework, in_yaml, total_norm

IN_THE_ENGINE = f"{AGAIN}; DeepSpeed clips inside its engine and leaves no place for a rule of your own"
_IN_THE_OPTIMIZER = f"{AGAIN}; Megatron clips inside its optimizer, by the total L2 norm only"
_BY_TOTAL_NORM = f"{AGAIN}; torchtitan clips by the total L2 norm only"
_FAIRSEQ = Config(section="optimization", key=CLIP_NORM, marks=("optimization criterion", "optimization task"))


def _is_torchtune(root: Node) -> bool:
    return any(str(said(part, "_component_")).startswith("torchtune.") for _, part in children(behind(root)))


FRAMEWORKS: dict[str, Framework] = {
    "deepspeed": Framework(
        title="DeepSpeed ds_config.json",
        language="json",
        # JSON has no comments, and accelerate reads the file with a strict parser: comments stay outside the object.
        text=total_norm(f"""\
# Merge this key into the top level of ds_config.json, without these comment lines.
# Under Hugging Face Trainer write "auto" there, and max_grad_norm={{number}} in its arguments: they have to agree.
# A run resumed from a checkpoint of ZeRO 1 or 2, fp16 or bf16 goes on with the threshold stored in the checkpoint.
{{{{
  "{GRADIENT_CLIPPING.name}": {{number}}
}}}}"""),
        instead=IN_THE_ENGINE,
        aliases=("ds",),
        config=Config(
            key=GRADIENT_CLIPPING,
            marks=("zero_optimization", "train_micro_batch_size_per_gpu", "train_batch_size optimizer.params"),
            conflicts=conflicts.deepspeed,
        ),
    ),
    "gpt-neox": in_yaml(
        "GPT-NeoX config file",
        Config(
            key=GRADIENT_CLIPPING,
            marks=("pipe_parallel_size train_micro_batch_size_per_gpu", "num_layers hidden_size zero_optimization"),
        ),
        "# A top-level key of one of the config files; left out, GPT-NeoX clips at {default}.",
        default=1.0,
        instead=IN_THE_ENGINE,
        aliases=("neox",),
    ),
    "megatron": Framework(
        title="Megatron-LM command line",
        language="shell",
        text=total_norm("""\
# Part of the command line; left out, Megatron clips at {default}. The norm is L2 over all model-parallel ranks.
--clip-grad {number}"""),
        default=1.0,
        instead=_IN_THE_OPTIMIZER,
        aliases=("megatron-lm",),
    ),
    "nemo": Framework(
        title="NeMo 2 with Megatron's optimizer",
        text=total_norm(f"""\
# Under MegatronStrategy the trainer's {GRADIENT_CLIP_VAL.name} raises an error: Megatron's optimizer clips, and this is its
# setting. In Megatron Bridge it is cfg.optimizer.clip_grad. Without Megatron: the `nemo-yaml` snippet.
from megatron.core.optimizer import OptimizerConfig
from nemo import lightning as nl

optim = nl.MegatronOptimizerModule(
    config=OptimizerConfig(
        clip_grad={{number}},  # beside your own arguments; left out, Megatron clips at {{default}}
    ),
)"""),
        default=1.0,
        instead=_IN_THE_OPTIMIZER,
        aliases=("nemo2", "megatron-bridge"),
    ),
    "composer": in_yaml(
        "Composer and LLM Foundry config file",
        Config(
            section="algorithms.gradient_clipping",
            key=CLIPPING_THRESHOLD,
            marks=("algorithms.gradient_clipping", "max_duration train_loader", "variables max_duration"),
            conflicts=conflicts.composer,
        ),
        "# For LLM Foundry, and other YAML that Composer's algorithms are made from; left out, nothing clips.",
        aliases=("llm-foundry", "mosaicml"),
    ),
    "torchtitan": Framework(
        title="torchtitan job.toml",
        language="toml",
        text=total_norm("""\
# In job.toml, or --training.max_norm={number} on the command line; left out, torchtitan clips at {default}.
# Versions without TOML are set in Python: the `torchtitan-python` snippet.
[training]
max_norm = {number}"""),
        default=1.0,
        instead=_BY_TOTAL_NORM,
        aliases=("torchtitan-toml", "titan"),
        config=Config(
            section="training",
            key=MAX_NORM,
            marks=("training.seq_len parallelism", "training.seq_len lr_scheduler", "training.local_batch_size job"),
        ),
    ),
    "torchtitan-python": Framework(
        title="torchtitan Python configuration",
        text=total_norm("""\
# For versions that are configured by a Python function, the one that --config names; left out, torchtitan clips at {default}.
def clipped(config):
    part = config.optim if hasattr(config, "optim") else config.training  # where newer versions have it, and older
    part.max_norm = {number}
    return config


# In that function: return clipped(config), where it returned its Trainer.Config."""),
        default=1.0,
        instead=_BY_TOTAL_NORM,
        aliases=("titan-python",),
    ),
    "torchtune": in_yaml(
        "torchtune recipe config",
        Config(key=CLIP_GRAD_NORM, recognises=_is_torchtune, conflicts=conflicts.torchtune),
        """\
# A top-level key of the recipe's config, or clip_grad_norm={number} behind `tune run`; left out, torchtune does
# not clip, and logs no norms. With optimizer_in_bwd: True it raises an error.""",
    ),
    "nanotron": in_yaml(
        "nanotron config file",
        Config(section="optimizer", key=CLIP_GRAD, marks=("optimizer.learning_rate_scheduler parallelism",)),
        "# The key has to be there; null stands for no clipping.",
    ),
    "nanogpt": Framework(
        title="nanoGPT config file",
        text=total_norm("""\
# In the config file that train.py is given, or --grad_clip={number} behind it; left out, nanoGPT clips at {default}.
grad_clip = {number}"""),
        default=1.0,
        instead="change the line with clip_grad_norm_ in train.py to the clip lines of the `pytorch` snippet",
    ),
    "fairseq": Framework(
        title="fairseq-train command line",
        language="shell",
        text=total_norm("""\
# Part of the command line of fairseq-train; left out, fairseq does not clip (before 0.10: at 25).
--clip-norm {number}"""),
        config=_FAIRSEQ,
    ),
    "fairseq-yaml": in_yaml(
        "fairseq Hydra config",
        _FAIRSEQ,
        "# For fairseq-hydra-train, or optimization.clip_norm={number} behind it; left out, fairseq does not clip.",
        aliases=("fairseq-hydra",),
    ),
    "espnet": in_yaml(
        "ESPnet config file",
        Config(key=GRAD_CLIP_OF_ESPNET, marks=("grad_clip_type", "optim_conf max_epoch", "encoder_conf decoder_conf")),
        "# Top-level keys; left out, ESPnet clips at {default}.",
        default=5.0,
    ),
}
