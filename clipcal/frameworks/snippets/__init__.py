"""A threshold -> paste-ready text for the user's framework, or a refusal where that would mean something else."""

from __future__ import annotations

import math

from clipcal.errors import InputError, nearest
from clipcal.frameworks.snippets.entry import Language, Snippet, Threshold, spelled
from clipcal.frameworks.snippets.huggingface import ACCELERATE, AXOLOTL, HUGGINGFACE, HUGGINGFACE_YAML, TRL
from clipcal.frameworks.snippets.language import (
    FAIRSEQ,
    FAIRSEQ_YAML,
    NANOGPT,
    TORCHTITAN,
    TORCHTITAN_PYTHON,
    TORCHTUNE,
)
from clipcal.frameworks.snippets.lightning import FABRIC, LIGHTNING, LIGHTNING_YAML, LITGPT
from clipcal.frameworks.snippets.megatron import DEEPSPEED, MEGATRON, NEMO, NEMO_YAML
from clipcal.frameworks.snippets.origin import provenance
from clipcal.frameworks.snippets.others import KERAS, OPTAX, STABLE_BASELINES3
from clipcal.frameworks.snippets.plain_torch import FSDP, FSDP2, PYTORCH
from clipcal.frameworks.snippets.vision import DETECTRON2, DETECTRON2_YAML, FASTAI, MMENGINE, TIMM
from clipcal.recommendation.answer import METHODS, Method

__all__ = ["SNIPPETS", "Language", "Snippet", "Threshold", "provenance", "resolve", "snippet"]

SNIPPETS: dict[str, Snippet] = {
    "pytorch": PYTORCH,
    "huggingface": HUGGINGFACE,
    "huggingface-yaml": HUGGINGFACE_YAML,
    "trl": TRL,
    "axolotl": AXOLOTL,
    "accelerate": ACCELERATE,
    "deepspeed": DEEPSPEED,
    "fsdp": FSDP,
    "fsdp2": FSDP2,
    "lightning": LIGHTNING,
    "lightning-yaml": LIGHTNING_YAML,
    "fabric": FABRIC,
    "litgpt": LITGPT,
    "torchtitan": TORCHTITAN,
    "torchtitan-python": TORCHTITAN_PYTHON,
    "torchtune": TORCHTUNE,
    "megatron": MEGATRON,
    "nemo": NEMO,
    "nemo-yaml": NEMO_YAML,
    "nanogpt": NANOGPT,
    "fairseq": FAIRSEQ,
    "fairseq-yaml": FAIRSEQ_YAML,
    "timm": TIMM,
    "fastai": FASTAI,
    "detectron2": DETECTRON2,
    "detectron2-yaml": DETECTRON2_YAML,
    "mmengine": MMENGINE,
    "stable-baselines3": STABLE_BASELINES3,
    "keras": KERAS,
    "optax": OPTAX,
}


def resolve(name: str) -> str:
    """The key of ``SNIPPETS`` behind a name or an alias, in any case, with ``_`` or ``-``.

    Raises InputError, with the nearest name, for anything else.
    """
    wanted = name.strip().lower().replace("_", "-")
    for key, entry in SNIPPETS.items():
        if wanted == key or wanted in entry.aliases:
            return key
    known = {alias for entry in SNIPPETS.values() for alias in entry.aliases} | set(SNIPPETS)
    # A near miss may be an alias; without one, only the names themselves are listed.
    hint = nearest(wanted, known)
    hint = hint if hint.startswith(" Did you mean") else nearest("", SNIPPETS)
    raise InputError(f"There is no snippet named {name!r}.{hint}")


def snippet(
    name: str, *, max_norm: float, method: Method = "norm", norm_type: float = 2.0, provenance: str = ""
) -> str:
    """Paste-ready text that clips at ``max_norm``, without a newline at its end.

    ``name`` is a key of ``SNIPPETS`` or an alias. ``max_norm`` is in the unit of ``method``: a total norm, an absolute
    value of one element (``value``) or the norm of one tensor (``per_tensor``); ``norm_type`` does not matter for
    ``value``. ``provenance`` becomes a comment, the first line; in ``deepspeed`` it stands outside the JSON object.

    Raises InputError for an unknown name or method, for a threshold that is not a positive finite number, and where the
    framework cannot express the method or the norm type: the message says what to use instead.
    """
    key = resolve(name)
    entry = SNIPPETS[key]
    if method not in METHODS:
        raise InputError(f"There is no clipping method {method!r}.{nearest(str(method), METHODS)}")
    if not (math.isfinite(max_norm) and max_norm > 0):
        raise InputError(f"A snippet needs a positive, finite threshold, not {max_norm!r}.")
    if method != "value" and not norm_type > 0:
        raise InputError(f"norm_type is a positive number or inf, not {norm_type!r}.")
    if method not in entry.methods:
        can = " and ".join(f"method {known!r}" for known in entry.methods)
        raise InputError(f"{entry.title} cannot clip by method {method!r}, only by {can}. Instead, {entry.instead}.")
    if method != "value" and norm_type != 2.0 and not entry.any_norm_type:
        raise InputError(
            f"{entry.title} can only clip by the L2 norm, and this threshold is for norm_type {norm_type!r}; the "
            f"number would mean something else. Instead, {entry.instead}."
        )
    threshold = Threshold(number=spelled(max_norm), method=method, norm_type=float(norm_type))
    # One line whatever it holds: a line break in a path would end the comment and become code.
    words = " ".join("".join(c if c.isprintable() else " " for c in provenance).split())
    return (f"# {words}\n" if words else "") + entry.render(threshold)
