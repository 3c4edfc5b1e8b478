"""A threshold -> the setting of an engine that clips by itself: DeepSpeed, GPT-NeoX, Megatron, NeMo 2, Composer.

Read in the sources of deepspeed 0.19, GPT-NeoX, Megatron-LM, NeMo 2 and Composer.
"""

from __future__ import annotations

from clipcal.frameworks.applying import conflicts
from clipcal.frameworks.applying.tree import has
from clipcal.frameworks.keys import CLIPPING_THRESHOLD, GRADIENT_CLIP_VAL, GRADIENT_CLIPPING
from clipcal.frameworks.record import AGAIN, Config, Framework, in_yaml

IN_THE_ENGINE = f"{AGAIN}; DeepSpeed clips inside its engine and leaves no place for a rule of your own"
_IN_THE_OPTIMIZER = f"{AGAIN}; Megatron clips inside its optimizer, by the total L2 norm only"
_DEEPSPEED = Config(
    title="DeepSpeed",
    key=GRADIENT_CLIPPING,
    recognises=has("zero_optimization", "train_micro_batch_size_per_gpu", "train_batch_size optimizer.params"),
    conflicts=conflicts.deepspeed,
)
_GPT_NEOX = Config(
    title="GPT-NeoX",
    key=GRADIENT_CLIPPING,
    recognises=has("pipe_parallel_size train_micro_batch_size_per_gpu", "num_layers hidden_size zero_optimization"),
)
_COMPOSER = Config(
    title="Composer and LLM Foundry",
    section=("algorithms", "gradient_clipping"),
    key=CLIPPING_THRESHOLD,
    recognises=has("algorithms.gradient_clipping", "max_duration train_loader", "variables max_duration"),
    conflicts=conflicts.composer,
)

DEEPSPEED = Framework(
    title="DeepSpeed ds_config.json",
    language="json",
    # JSON has no comments, and accelerate reads the file with a strict parser: comments stay outside the object.
    text={
        "norm": f"""\
# Merge this key into the top level of ds_config.json, without these comment lines.
# Under Hugging Face Trainer write "auto" there, and max_grad_norm={{number}} in its arguments: they have to agree.
# A run resumed from a checkpoint of ZeRO 1 or 2, fp16 or bf16 goes on with the threshold stored in the checkpoint.
{{{{
  "{GRADIENT_CLIPPING.name}": {{number}}
}}}}"""
    },
    instead=IN_THE_ENGINE,
    aliases=("ds",),
    config=_DEEPSPEED,
)
GPT_NEOX = Framework(
    title="GPT-NeoX config file",
    language="yaml",
    text=in_yaml(_GPT_NEOX, "# A top-level key of one of the config files; left out, GPT-NeoX clips at {default}."),
    default=1.0,
    instead=IN_THE_ENGINE,
    aliases=("neox",),
    config=_GPT_NEOX,
)
MEGATRON = Framework(
    title="Megatron-LM command line",
    language="shell",
    text={
        "norm": """\
# Part of the command line; left out, Megatron clips at {default}. The norm is L2 over all model-parallel ranks.
--clip-grad {number}"""
    },
    default=1.0,
    instead=_IN_THE_OPTIMIZER,
    aliases=("megatron-lm",),
)
NEMO = Framework(
    title="NeMo 2 with Megatron's optimizer",
    text={
        "norm": f"""\
# Under MegatronStrategy the trainer's {GRADIENT_CLIP_VAL.name} raises an error: Megatron's optimizer clips, and this is its
# setting. In Megatron Bridge it is cfg.optimizer.clip_grad. Without Megatron: the `nemo-yaml` snippet.
from megatron.core.optimizer import OptimizerConfig
from nemo import lightning as nl

optim = nl.MegatronOptimizerModule(
    config=OptimizerConfig(
        clip_grad={{number}},  # beside your own arguments; left out, Megatron clips at {{default}}
    ),
)"""
    },
    default=1.0,
    instead=_IN_THE_OPTIMIZER,
    aliases=("nemo2", "megatron-bridge"),
)
COMPOSER = Framework(
    title="Composer and LLM Foundry config file",
    language="yaml",
    text=in_yaml(
        _COMPOSER,
        "# For LLM Foundry, and other YAML that Composer's algorithms are made from; left out, nothing clips.",
    ),
    instead=f"{AGAIN}, or with `clip: {{method: value}}`; Composer clips by the total L2 norm or by value",
    aliases=("llm-foundry", "mosaicml"),
    config=_COMPOSER,
)
