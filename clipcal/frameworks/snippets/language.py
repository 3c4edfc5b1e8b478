"""A threshold -> the setting of a library that trains language models by a recipe, on a command line or in a file.

Read in the sources of torchtitan (its TOML of 2024 and 2025, and its Python of 2026), torchtune 0.6, nanoGPT and fairseq.
"""

from __future__ import annotations

from clipcal.frameworks.snippets.entry import AGAIN, Snippet, Threshold


def _torchtitan(threshold: Threshold) -> str:
    return f"""\
# In job.toml, or --training.max_norm={threshold.number} on the command line; left out, torchtitan clips at 1.0.
# Versions without TOML are set in Python: the `torchtitan-python` snippet.
[training]
max_norm = {threshold.number}"""


TORCHTITAN = Snippet(
    title="torchtitan job.toml",
    language="toml",
    render=_torchtitan,
    instead=f"{AGAIN}; torchtitan clips by the total L2 norm only",
    aliases=("torchtitan-toml", "titan"),
)


def _torchtitan_python(threshold: Threshold) -> str:
    return f"""\
# For versions that are configured by a Python function, the one that --config names; left out, torchtitan clips at 1.0.
def clipped(config):
    part = config.optim if hasattr(config, "optim") else config.training  # where newer versions have it, and older
    part.max_norm = {threshold.number}
    return config


# In that function: return clipped(config), where it returned its Trainer.Config."""


TORCHTITAN_PYTHON = Snippet(
    title="torchtitan Python configuration",
    language="python",
    render=_torchtitan_python,
    instead=f"{AGAIN}; torchtitan clips by the total L2 norm only",
    aliases=("titan-python",),
)


def _torchtune(threshold: Threshold) -> str:
    return f"""\
# A top-level key of the recipe's config, or clip_grad_norm={threshold.number} behind `tune run`; left out, torchtune does
# not clip, and logs no norms. With optimizer_in_bwd: True it raises an error.
clip_grad_norm: {threshold.number}"""


TORCHTUNE = Snippet(
    title="torchtune recipe config",
    language="yaml",
    render=_torchtune,
    instead=AGAIN,
)


def _nanogpt(threshold: Threshold) -> str:
    return f"""\
# In the config file that train.py is given, or --grad_clip={threshold.number} behind it; left out, nanoGPT clips at 1.0.
grad_clip = {threshold.number}"""


NANOGPT = Snippet(
    title="nanoGPT config file",
    language="python",
    render=_nanogpt,
    instead="change the line with clip_grad_norm_ in train.py to the clip lines of the `pytorch` snippet",
)


def _fairseq(threshold: Threshold) -> str:
    return f"""\
# Part of the command line of fairseq-train; left out, fairseq does not clip (before 0.10: at 25).
--clip-norm {threshold.number}"""


FAIRSEQ = Snippet(
    title="fairseq-train command line",
    language="shell",
    render=_fairseq,
    instead=AGAIN,
)


def _fairseq_yaml(threshold: Threshold) -> str:
    return f"""\
# For fairseq-hydra-train, or optimization.clip_norm={threshold.number} behind it; left out, fairseq does not clip.
optimization:
  clip_norm: {threshold.number}"""


FAIRSEQ_YAML = Snippet(
    title="fairseq Hydra config",
    language="yaml",
    render=_fairseq_yaml,
    instead=AGAIN,
    aliases=("fairseq-hydra",),
)
