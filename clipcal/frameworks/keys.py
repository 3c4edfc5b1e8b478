"""The keys of config files that hold a clipping threshold: how each is called, and what the number means under it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from clipcal.errors import InputError, nearest
from clipcal.run.records import METHODS, Method

Value = float | str | bool
"""What is ever written: a threshold or a norm type, the name of a method, a switch."""

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
    """``methods`` are those whose threshold the key can hold; of norms other than L2 only where a switch says which.

    ``below``: where set, the name alone says too little, and counts only right below one of these keys.
    """

    name: str
    methods: tuple[Method, ...] = ("norm",)
    switches: tuple[Switch, ...] = ()
    below: tuple[str, ...] = ()


def check_threshold(max_norm: float, method: Method, norm_type: float, *, of: str) -> None:
    """Raise InputError for what no key can hold. ``of`` begins the sentence: "A config"."""
    if method not in METHODS:
        raise InputError(f"There is no clipping method {method!r}.{nearest(str(method), METHODS)}")
    if not (math.isfinite(max_norm) and max_norm > 0):
        raise InputError(f"{of} needs a positive, finite threshold, not {max_norm!r}.")
    if method != "value" and not norm_type > 0:
        raise InputError(f"norm_type is a positive number or inf, not {norm_type!r}.")


def spelled(value: float) -> str:
    """The shortest digits that give the same float back, always with a point: YAML 1.1 reads ``1e-05`` as a string."""
    text = repr(float(value))
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exponent}{power}"


def _words(switch: str, *, default: Value | None) -> tuple[Switch, ...]:
    """The switch beside a key whose methods are said by the words norm and value."""
    return (Switch(name=switch, wanted={"norm": "norm", "value": "value"}, default=default),)


def _norm_type(switch: str, *, add: bool = True) -> Switch:
    return Switch(name=switch, wanted={"norm": "norm_type", "per_tensor": "norm_type"}, default=2.0, add=add)


_TWO: tuple[Method, ...] = ("norm", "value")
MAX_GRAD_NORM = Key(name="max_grad_norm")
CLIP_GRAD_NORM = Key(name="clip_grad_norm")
GRADIENT_CLIPPING = Key(name="gradient_clipping")
CLIP_NORM = Key(name="clip_norm")
GRADIENT_CLIP_VAL = Key(
    name="gradient_clip_val", methods=_TWO, switches=_words("gradient_clip_algorithm", default="norm")
)
CLIPPING_THRESHOLD = Key(name="clipping_threshold", methods=_TWO, switches=_words("clipping_type", default=None))

# Keys of frameworks under which another framework means something else: by their names alone less is known, see below.
CLIP_GRAD = Key(name="clip_grad")
CLIP_GRAD_OF_TIMM = Key(name="clip_grad", methods=_TWO, switches=_words("clip_mode", default="norm"))
CLIP_GRAD_OF_SWIN = Key(name="CLIP_GRAD")
GRAD_CLIP_OF_ESPNET = Key(name="grad_clip", switches=(_norm_type("grad_clip_type"),))
MAX_NORM = Key(name="max_norm")
# detectron2 itself clips by "value" or, tensor by tensor, by "norm"; "full_model" is that of MaskFormer and others.
CLIP_VALUE = Key(
    name="CLIP_VALUE",
    methods=METHODS,
    switches=(
        Switch(name="ENABLED", wanted=dict.fromkeys(METHODS, True), default=None),
        Switch(name="CLIP_TYPE", wanted={"norm": "full_model", "value": "value", "per_tensor": "norm"}, default=None),
        _norm_type("NORM_TYPE"),
    ),
)

_BELOW = (
    *("train", "training", "optim", "optimizer", "optimization", "optimizer_config", "clip", "clipping", "clip_grad"),
    *("clip_grad_norm", "clip_gradients", "grad_clip", "grad_clipping", "gradient_clip", "gradient_clipping"),
)
_TOTAL_NORMS = (
    *("max_gradient_norm", "clip_gradient_norm", "grad_clip_norm", "gradient_clip_norm", "grad_norm_clip"),
    *("grad_norm_clipping", "grad_clip_thresh", "megatron_lm_gradient_clipping", "global_clipnorm", "gradient_clip"),
)
_VALUES = ("clip_grad_value", "grad_clip_value", "gradient_clip_value", "clipvalue")

KEYS: dict[str, Key] = {
    key.name: key
    for key in (
        *(MAX_GRAD_NORM, CLIP_GRAD_NORM, GRADIENT_CLIPPING, CLIP_NORM, GRADIENT_CLIP_VAL, CLIPPING_THRESHOLD),
        *(Key(name=name) for name in _TOTAL_NORMS),
        *(Key(name=name, methods=("value",)) for name in _VALUES),
        Key(name="clipnorm", methods=("per_tensor",)),
        Key(name="clip_grad", switches=(Switch(name="clip_mode", wanted={"norm": "norm"}, default="norm", add=False),)),
        Key(
            name="grad_clip",
            switches=(
                Switch(name="grad_clip_by", wanted={"norm": "global_norm"}, default="global_norm", add=False),  # RLlib
                _norm_type("grad_clip_type", add=False),  # ESPnet
            ),
        ),
        Key(name="max_norm", switches=(_norm_type("norm_type", add=False),), below=_BELOW),
    )
}
"""What is known of a key whose framework is not, by the last part of its path, in lower case and with ``_`` for ``-``."""


def known(path: tuple[str, ...]) -> Key | None:
    """What the key at a path is known to mean, by its name alone; None for any other."""
    names = [part.lower().replace("-", "_") for part in path[-2:]]
    key = KEYS.get(names[-1]) if names else None
    return None if key and key.below and names[0] not in key.below else key
