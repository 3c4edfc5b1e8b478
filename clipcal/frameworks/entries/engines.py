"""A threshold -> the setting of an engine that clips by itself: DeepSpeed, GPT-NeoX, Megatron, NeMo 2, Composer.

Read in the sources of deepspeed 0.19, GPT-NeoX, Megatron-LM, NeMo 2 and Composer.
"""

from __future__ import annotations

from clipcal.frameworks.applying import conflicts
from clipcal.frameworks.keys import CLIPPING_THRESHOLD, GRADIENT_CLIP_VAL, GRADIENT_CLIPPING
from clipcal.frameworks.record import AGAIN, Config, Framework, in_yaml, total_norm

IN_THE_ENGINE = f"{AGAIN}; DeepSpeed clips inside its engine and leaves no place for a rule of your own"
_IN_THE_OPTIMIZER = f"{AGAIN}; Megatron clips inside its optimizer, by the total L2 norm only"

DEEPSPEED = Framework(
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
)
GPT_NEOX = in_yaml(
    "GPT-NeoX config file",
    Config(
        key=GRADIENT_CLIPPING,
        marks=("pipe_parallel_size train_micro_batch_size_per_gpu", "num_layers hidden_size zero_optimization"),
    ),
    "# A top-level key of one of the config files; left out, GPT-NeoX clips at {default}.",
    default=1.0,
    instead=IN_THE_ENGINE,
    aliases=("neox",),
)
MEGATRON = Framework(
    title="Megatron-LM command line",
    language="shell",
    text=total_norm("""\
# Part of the command line; left out, Megatron clips at {default}. The norm is L2 over all model-parallel ranks.
--clip-grad {number}"""),
    default=1.0,
    instead=_IN_THE_OPTIMIZER,
    aliases=("megatron-lm",),
)
NEMO = Framework(
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
)
COMPOSER = in_yaml(
    "Composer and LLM Foundry config file",
    Config(
        section="algorithms.gradient_clipping",
        key=CLIPPING_THRESHOLD,
        marks=("algorithms.gradient_clipping", "max_duration train_loader", "variables max_duration"),
        conflicts=conflicts.composer,
    ),
    "# For LLM Foundry, and other YAML that Composer's algorithms are made from; left out, nothing clips.",
    aliases=("llm-foundry", "mosaicml"),
)
