"""The names of keys that hold a clipping threshold, and what the number means under each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from clipcal.frameworks.applying.spelling import Value
from clipcal.recommendation.answer import Method

MEANINGS: dict[Method, str] = {
    "norm": "a limit of the total norm of all gradients",
    "value": "a limit of every single gradient element",
    "per_tensor": "a limit of each tensor's own norm",
}


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A key beside the threshold that says how it is meant.

    ``wanted`` is what it has to say for each method, ``"norm_type"`` standing for the p of the norm; ``default`` is what the
    framework takes where the key is absent, None where it has to be said. ``add`` is whether it may be written where it
    is absent: not where only the name of the key is known, and so not what reads it.
    """

    name: str
    wanted: Mapping[Method, Value | Literal["norm_type"]]
    default: Value | None
    add: bool = True


@dataclass(frozen=True, kw_only=True)
class Key:
    """``methods`` are those whose threshold the key can hold; ``any_norm_type`` whether of norms other than L2 too."""

    methods: tuple[Method, ...] = ("norm",)
    switches: tuple[Switch, ...] = field(default=())
    any_norm_type: bool = False
    below: tuple[str, ...] = ()
    """Where set, the name alone says too little: it counts only right below one of these keys."""


TOTAL_NORM = Key()
LIGHTNING = Key(
    methods=("norm", "value"),
    switches=(Switch(name="gradient_clip_algorithm", wanted={"norm": "norm", "value": "value"}, default="norm"),),
)
COMPOSER = Key(
    methods=("norm", "value"),
    switches=(Switch(name="clipping_type", wanted={"norm": "norm", "value": "value"}, default=None),),
)
TIMM = Key(
    methods=("norm", "value"),
    switches=(Switch(name="clip_mode", wanted={"norm": "norm", "value": "value"}, default="norm"),),
)
ESPNET = Key(
    switches=(Switch(name="grad_clip_type", wanted={"norm": "norm_type"}, default=2.0),),
    any_norm_type=True,
)
# detectron2 itself clips by "value" or, tensor by tensor, by "norm"; "full_model" is that of MaskFormer and others.
DETECTRON2 = Key(
    methods=("norm", "value", "per_tensor"),
    switches=(
        Switch(name="ENABLED", wanted={"norm": True, "value": True, "per_tensor": True}, default=None),
        Switch(name="CLIP_TYPE", wanted={"norm": "full_model", "value": "value", "per_tensor": "norm"}, default=None),
        Switch(name="NORM_TYPE", wanted={"norm": "norm_type", "per_tensor": "norm_type"}, default=2.0),
    ),
    any_norm_type=True,
)
MAX_NORM = Key(
    switches=(Switch(name="norm_type", wanted={"norm": "norm_type"}, default=2.0, add=False),),
    any_norm_type=True,
    below=(
        "train",
        "training",
        "optim",
        "optimizer",
        "optimization",
        "optimizer_config",
        "clip",
        "clipping",
        "clip_grad",
        "clip_grad_norm",
        "clip_gradients",
        "grad_clip",
        "grad_clipping",
        "gradient_clip",
        "gradient_clipping",
    ),
)
CLIP_GRAD = Key(switches=(Switch(name="clip_mode", wanted={"norm": "norm"}, default="norm", add=False),))
GRAD_CLIP = Key(
    switches=(
        Switch(name="grad_clip_by", wanted={"norm": "global_norm"}, default="global_norm", add=False),  # RLlib
        Switch(name="grad_clip_type", wanted={"norm": "norm_type"}, default=2.0, add=False),  # ESPnet
    ),
    any_norm_type=True,
)

KEYS: dict[str, Key] = {
    "max_grad_norm": TOTAL_NORM,
    "max_gradient_norm": TOTAL_NORM,
    "clip_grad_norm": TOTAL_NORM,
    "clip_gradient_norm": TOTAL_NORM,
    "grad_clip_norm": TOTAL_NORM,
    "gradient_clip_norm": TOTAL_NORM,
    "grad_norm_clip": TOTAL_NORM,
    "grad_norm_clipping": TOTAL_NORM,
    "grad_clip_thresh": TOTAL_NORM,
    "gradient_clipping": TOTAL_NORM,
    "megatron_lm_gradient_clipping": TOTAL_NORM,
    "global_clipnorm": TOTAL_NORM,
    "clip_norm": TOTAL_NORM,
    "gradient_clip": TOTAL_NORM,
    "clip_grad": CLIP_GRAD,
    "grad_clip": GRAD_CLIP,
    "gradient_clip_val": LIGHTNING,
    "clipping_threshold": COMPOSER,
    "max_norm": MAX_NORM,
    "clip_grad_value": Key(methods=("value",)),
    "grad_clip_value": Key(methods=("value",)),
    "gradient_clip_value": Key(methods=("value",)),
    "clipvalue": Key(methods=("value",)),
    "clipnorm": Key(methods=("per_tensor",)),
}
"""By the last part of the path, in lower case and with ``_`` for ``-``."""


def known(path: tuple[str, ...]) -> Key | None:
    """What the key at a path is known to mean, by its name alone; None for any other."""
    names = [part.lower().replace("-", "_") for part in path[-2:]]
    key = KEYS.get(names[-1]) if names else None
    return None if key and key.below and names[0] not in key.below else key
