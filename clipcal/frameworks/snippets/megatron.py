"""A threshold -> the setting of an engine that clips by itself: DeepSpeed, Megatron and NeMo.

Read in the sources of deepspeed 0.19, Megatron-LM and NeMo 2.
"""

from __future__ import annotations

from clipcal.frameworks.snippets.entry import AGAIN, Snippet, Threshold


def _deepspeed(threshold: Threshold) -> str:
    # JSON has no comments, and accelerate reads the file with a strict parser: comments stay outside the object.
    return f"""\
# Merge this key into the top level of ds_config.json, without these comment lines.
# Under Hugging Face Trainer write "auto" there, and max_grad_norm={threshold.number} in its arguments: they have to agree.
# A run resumed from a checkpoint of ZeRO 1 or 2, fp16 or bf16 goes on with the threshold stored in the checkpoint.
{{
  "gradient_clipping": {threshold.number}
}}"""


DEEPSPEED = Snippet(
    title="DeepSpeed ds_config.json",
    language="json",
    render=_deepspeed,
    instead=f"{AGAIN}; DeepSpeed clips inside its engine and leaves no place for a rule of your own",
    aliases=("ds",),
)


def _megatron(threshold: Threshold) -> str:
    return f"""\
# Part of the command line; left out, Megatron clips at 1.0. The norm is L2 over all model-parallel ranks.
--clip-grad {threshold.number}"""


MEGATRON = Snippet(
    title="Megatron-LM command line",
    language="shell",
    render=_megatron,
    instead=f"{AGAIN}; Megatron clips inside its optimizer, by the total L2 norm only",
    aliases=("megatron-lm",),
)


def _nemo(threshold: Threshold) -> str:
    return f"""\
# Under MegatronStrategy the trainer's gradient_clip_val raises an error: Megatron's optimizer clips, and this is its
# setting. In Megatron Bridge it is cfg.optimizer.clip_grad. Without Megatron: the `nemo-yaml` snippet.
from megatron.core.optimizer import OptimizerConfig
from nemo import lightning as nl

optim = nl.MegatronOptimizerModule(
    config=OptimizerConfig(
        clip_grad={threshold.number},  # beside your own arguments; left out, Megatron clips at 1.0
    ),
)"""


NEMO = Snippet(
    title="NeMo 2 with Megatron's optimizer",
    language="python",
    render=_nemo,
    instead=f"{AGAIN}; Megatron clips inside its optimizer, by the total L2 norm only",
    aliases=("nemo2", "megatron-bridge"),
)


def _nemo_yaml(threshold: Threshold) -> str:
    return f"""\
# For NeMo's speech models and NeMo 1. With NeMo 2's MegatronStrategy this key raises an error: the `nemo` snippet.
trainer:
  gradient_clip_val: {threshold.number}"""


NEMO_YAML = Snippet(
    title="NeMo config file with Lightning's trainer",
    language="yaml",
    render=_nemo_yaml,
    instead=AGAIN,
    aliases=("nemo1", "nemo-asr"),
)
