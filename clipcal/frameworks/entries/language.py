"""A threshold -> the setting of a library that trains language or speech models by a recipe, in a file or on a command line.

Read in the sources of torchtitan (its TOML of 2024 and 2025, and its Python of 2026), torchtune 0.6, nanoGPT, nanotron,
fairseq and ESPnet.
"""

from __future__ import annotations

from clipcal.frameworks.applying import conflicts
from clipcal.frameworks.applying.tree import Mapping, Node, behind, said
from clipcal.frameworks.keys import CLIP_GRAD, CLIP_GRAD_NORM, CLIP_NORM, GRAD_CLIP_OF_ESPNET, MAX_NORM
from clipcal.frameworks.record import AGAIN, Config, Framework, in_yaml, total_norm

_BY_TOTAL_NORM = f"{AGAIN}; torchtitan clips by the total L2 norm only"
_FAIRSEQ = Config(section="optimization", key=CLIP_NORM, marks=("optimization criterion", "optimization task"))


def _is_torchtune(root: Node) -> bool:
    below = behind(root)
    parts = [e.node for e in below.entries] if isinstance(below, Mapping) else []
    return any(str(said(part, "_component_")).startswith("torchtune.") for part in parts)


TORCHTITAN = Framework(
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
)
TORCHTITAN_PYTHON = Framework(
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
)
TORCHTUNE = in_yaml(
    "torchtune recipe config",
    Config(key=CLIP_GRAD_NORM, recognises=_is_torchtune, conflicts=conflicts.torchtune),
    """\
# A top-level key of the recipe's config, or clip_grad_norm={number} behind `tune run`; left out, torchtune does
# not clip, and logs no norms. With optimizer_in_bwd: True it raises an error.""",
)
NANOTRON = in_yaml(
    "nanotron config file",
    Config(section="optimizer", key=CLIP_GRAD, marks=("optimizer.learning_rate_scheduler parallelism",)),
    "# The key has to be there; null stands for no clipping.",
)
NANOGPT = Framework(
    title="nanoGPT config file",
    text=total_norm("""\
# In the config file that train.py is given, or --grad_clip={number} behind it; left out, nanoGPT clips at {default}.
grad_clip = {number}"""),
    default=1.0,
    instead="change the line with clip_grad_norm_ in train.py to the clip lines of the `pytorch` snippet",
)
FAIRSEQ = Framework(
    title="fairseq-train command line",
    language="shell",
    text=total_norm("""\
# Part of the command line of fairseq-train; left out, fairseq does not clip (before 0.10: at 25).
--clip-norm {number}"""),
    config=_FAIRSEQ,
)
FAIRSEQ_YAML = in_yaml(
    "fairseq Hydra config",
    _FAIRSEQ,
    "# For fairseq-hydra-train, or optimization.clip_norm={number} behind it; left out, fairseq does not clip.",
    aliases=("fairseq-hydra",),
)
ESPNET = in_yaml(
    "ESPnet config file",
    Config(key=GRAD_CLIP_OF_ESPNET, marks=("grad_clip_type", "optim_conf max_epoch", "encoder_conf decoder_conf")),
    "# Top-level keys; left out, ESPnet clips at {default}.",
    default=5.0,
)
