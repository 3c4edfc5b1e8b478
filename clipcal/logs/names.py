"""The name of a logged value -> what it is: a gradient norm, a loss, a learning rate, a step, a threshold. And its text, in any
spelling that frameworks write -> a float."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, Literal

Kind = Literal["norm", "loss", "lr", "step", "count", "scale", "threshold", "other"]

# Held-out values are no training; Lightning's and W&B's names of single layers are no total.
_HELD_OUT = re.compile(r"(^|[/_.\s-])(val|valid|validation|eval|evaluation|test|dev)([/_.\s-]|$)")
_THRESHOLD = re.compile(
    r"(max|clip)_?grad(ient)?_?(norm|val|value|clip)?|max_?norm|grad(ient)?_?clip(ping)?(_?(norm|val|value|threshold))?"
    r"|(global_)?clip_?(norm|grad|value|threshold|val|max_norm)|grad_norm_clip"
)
_NORM = re.compile(
    r"(.*_)?(grad(ient)?s?_?(l2_?|total_?|global_?)?norms?|g_?norm|gnrm|grad_?l2|(global|total)_grad(ient)?s?|grad_[\d.]+_norm_total"
    r"|total_(grad_?)?norm|norm_grad(ient)?s?|norm|grads?_gnorm|grdn|global_norm)(_.*)?"
    r"|(.*_)?grad(ient)?s?_(.*_)?(global|total)_norm|∇"
)
_SIGNS = re.compile(r"[|‖]{1,2}(?:∇\w{0,3}|grads?|gradients?|g)[|‖]{1,2}[₂2]?")
_ALONE = ("gnorm", "g_norm", "gnrm", "grdn", "∇", "total_norm", "gnorm_total", "global_norm")
"""Names of norms that are so without the word gradient."""
_WEAK = re.compile(r"grads?|gradients?|norm_of_grads?")
"""Names that may be those of a norm, where nothing else in a log is named as one."""
_NOT_A_NORM = re.compile(
    r"(^|_)(param(eter)?s?|weights?|batch|layer|rms|group|update|act|activation|embedding|feature|reward|img|image|ratio|scale"
    r"|var|std|min|norm_type|zscore|ema|count|time|skipped|coef|factor)(_|$)|clip_(frac|ratio|rate|coef|scale)|normali[sz]"
)
_ONE_LAYER = re.compile(r"[._/](weight|bias|kernel|lora_[ab]|embedding|alpha|gamma|beta)s?([._/]|$)|(^|/)layers?[._/]")
_AFTER = re.compile(r"clipped|(after|post)_?clip|clip_?after|(^|_)post(_|$)")
_BEFORE = re.compile(r"(before|pre|un)_?clip|unclipped|(^|[/_.])(pre|raw|orig(inal)?)(_|$)")
_LOSS = re.compile(r"(.*_)?(loss|cost|objective|nll|ce)(_.*)?|trl|total")
_LR = re.compile(r"(.*_)?(lr|learning_?rate)s?(_.*)?|l\.?r\.?")
_WHOLE = ("total", "all", "global", "value", "step", "model", "mean", "avg")
STEPS = (
    "global_step",
    "trainer/global_step",
    "train/global_step",
    "train/step",
    "current_steps",
    "step",
    "_step",
    "steps",
    "num_updates",
    "update",
    "updates",
    "iteration",
    "iterations",
    "iter",
    "iters",
    "it",
    "n_iter",
    "train_step",
    "optimizer_step",
    "opt_step",
    "update_step",
    "gradient_step",
    "iteration_step",
    "training_iteration",
)
"""Names of the step number, the most telling first."""
_COUNT = re.compile(
    r"(.*_)?(frames?|tokens?|samples?|time_?steps|env_?steps?|env_?steps_sampled|images|kimg|sequences|examples|episodes?)(_seen)?"
)
"""Names of what is counted in place of optimizer steps."""
_SCALE = re.compile(r"(.*_)?(loss_?scale|grad_?scale|scaler_?scale|amp_?scale|scaler)(_value)?|(cur_)?scale")


_UNITS = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
"""What programs put behind a number for people to read. A small m may be a thousandth or a million, and stands for neither."""
_WITH_UNIT = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)) ?([kKMBGT])")
_THOUSANDS = re.compile(r"([+-]?[1-9]\d{0,2}(?:[,_'\u2009\u00a0]\d{3})+)(\.\d*)?")
_BRACKETS = re.compile(r"[\[({]\s*([^\[\](){}]*?)\s*[\])}]")
_WORD = re.compile(r"(?i)([+-]?)(?:1\.#)?(?:(nan|qnan|snan|ind)(?:\(.*\)|0*)|(inf(?:inity)?)0*)")  # "-1.#IND00"
_TENSOR = re.compile(r"(?:tensor|np\.\w+|numpy\.\w+|array|Array)\(\s*([^,()\s]+)(?:\s*,[^()]*)?\)")
_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
EMPTY = frozenset({"", "na", "n/a", "none", "null", "-"})
"""What stands, in small letters, where there is no value."""
NUMBER = r"[+-]?(?:1\.#(?i:q?nan|snan|ind|inf)0*\b|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|(?i:nan|qnan|snan|ind|inf(?:inity)?)\b)"
"""A regular expression for a number as it stands in a line of text, NaN and infinities too; no group of its own."""


def squashed(name: str) -> str:
    """In small letters, with ``_`` for every run of blanks and dashes; ``gradNorm`` becomes ``grad_norm``."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name.strip()[:300])
    return re.sub(r"[\s\-]+", "_", name.lower())


@lru_cache(maxsize=4096)
def kind_of(name: str) -> Kind:
    """What a logged value is, by its name."""
    whole = squashed(name)
    if whole in STEPS:
        return "step"
    last = re.split(r"[/.](?!\d)", whole)[-1]
    if _THRESHOLD.fullmatch(last):
        return "threshold"
    if _SCALE.fullmatch(last):
        return "scale"
    if _HELD_OUT.search(whole):
        return "other"
    if _is_norm(whole, last):
        return "norm"
    if _LR.fullmatch(last):
        return "lr"
    if _LOSS.fullmatch(last) and not re.search(r"scale|weight|coef", last):
        return "loss"
    return "count" if _COUNT.fullmatch(last) and "per" not in last else "other"


def is_weak(name: str) -> bool:
    """Whether a name may be that of a gradient norm, and says no more than that it is of the gradient."""
    return bool(_WEAK.fullmatch(re.split(r"[/.](?!\d)", squashed(name))[-1]))


def _is_norm(whole: str, last: str) -> bool:
    if _NOT_A_NORM.search(last) or _ONE_LAYER.search(whole):
        return False
    if _WEAK.fullmatch(last) or _SIGNS.fullmatch(whole):
        return True
    if whole.removeprefix("train_") in ("l2_norm/grad/global", "norm", "train/norm"):  # the first is Composer's
        return True
    if _NORM.fullmatch(last):
        return "grad" in whole or last in _ALONE
    # the name may stand before the slash: grad_norm/total, gradients/global_norm
    above = whole.rpartition("/")[0].rpartition("/")[2]
    return bool(_NORM.fullmatch(above)) and "grad" in above and last in _WHOLE


def after_clipping(name: str) -> bool | None:
    """Whether a norm's name says that it was taken after clipping; None where it says neither."""
    whole = squashed(name)
    return False if _BEFORE.search(whole) else True if _AFTER.search(whole) else None


def value_of(raw: Any) -> float | None:
    """The float behind ``raw``; None for what is no number (null and true too).

    Takes numbers; text with NaN and infinity as Python, C, Java and MSVC write them; ``tensor(1.5, device='cuda:0')``;
    and objects that hold their number under "value", as Sacred's jsonpickle does.
    """
    if raw.__class__ is str and len(raw) < 200 and _PLAIN.fullmatch(raw):  # most are
        return float(raw)
    if isinstance(raw, float):
        return raw
    if isinstance(raw, bool) or raw is None:
        return None
    if isinstance(raw, int):
        return float(raw) if -(2**1023) < raw < 2**1023 else math.inf if raw > 0 else -math.inf
    if isinstance(raw, str):
        return _of_text(raw)
    if isinstance(raw, dict) and "value" in raw:
        inner = raw["value"]
        return None if isinstance(inner, dict) else value_of(inner)
    return None


def _of_text(text: str) -> float | None:
    text = text[:200].strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    if word := _WORD.fullmatch(text):
        return math.nan if word[2] else -math.inf if word[1] == "-" else math.inf
    if counted := _WITH_UNIT.fullmatch(text):
        return float(f"{counted[1]}e{round(math.log10(_UNITS[counted[2]]))}")
    if grouped := _THOUSANDS.fullmatch(text):
        return float(re.sub(r"[^\d+-]", "", grouped[1]) + (grouped[2] or ""))
    wrapped = _TENSOR.fullmatch(text) or _BRACKETS.fullmatch(text)
    return _of_text(wrapped[1]) if wrapped else None
