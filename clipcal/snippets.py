"""A threshold -> paste-ready text for the user's framework, or a refusal where that would mean something else.

Key names, defaults and traps were read in, and where possible run against, torch 2.13, transformers 5.23,
accelerate 1.15, lightning 2.6, keras 3.15 and deepspeed 0.19.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from clipcal.errors import InputError, nearest
from clipcal.recommendation import METHODS, Method

Language = Literal["python", "yaml", "json"]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What a snippet is made from. ``number`` is the threshold as text that Python, YAML 1.1 and JSON read alike."""

    number: str
    method: Method
    norm_type: float

    @property
    def norm_type_argument(self) -> str:
        """``, norm_type=...`` for torch's functions; empty for their default, 2."""
        if self.norm_type == 2.0:
            return ""
        return ', norm_type=float("inf")' if math.isinf(self.norm_type) else f", norm_type={self.norm_type!r}"


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """One framework's text.

    ``methods`` are the clipping methods that it can express, ``any_norm_type`` whether norms other than L2 too;
    ``instead`` completes "Instead, ..." where it cannot. ``render`` returns the text below the provenance line.
    """

    title: str
    language: Language
    render: Callable[[Threshold], str]
    instead: str = ""
    aliases: tuple[str, ...] = ()
    methods: tuple[Method, ...] = ("norm",)
    any_norm_type: bool = False


def _pytorch(threshold: Threshold) -> str:
    if threshold.method == "value":
        clip = f"torch.nn.utils.clip_grad_value_(model.parameters(), clip_value={threshold.number})"
    elif threshold.method == "per_tensor":
        clip = (
            "for parameter in model.parameters():  # each tensor by its own norm, not the total\n"
            f"    torch.nn.utils.clip_grad_norm_(parameter, max_norm={threshold.number}{threshold.norm_type_argument})"
        )
    else:
        clip = (
            "# DDP and FSDP2: as it stands. FSDP1: model.clip_grad_norm_ instead, or each rank sees only its shard.\n"
            "torch.nn.utils.clip_grad_norm_("
            f"model.parameters(), max_norm={threshold.number}{threshold.norm_type_argument})"
        )
    return f"""\
loss.backward()  # when accumulating: clip once, after the last micro-batch
# With a GradScaler (fp16), call scaler.unscale_(optimizer) here: the threshold is for unscaled gradients.
{clip}
optimizer.step()  # with a GradScaler: scaler.step(optimizer), then scaler.update()
optimizer.zero_grad()"""


def _huggingface(threshold: Threshold) -> str:
    return f"""\
from transformers import TrainingArguments

training_args = TrainingArguments(
    max_grad_norm={threshold.number},  # beside your own arguments; left out, Trainer clips at 1.0
)"""


def _huggingface_yaml(threshold: Threshold) -> str:
    return f"""\
# A top-level key, for HfArgumentParser, TRL and others; left out, Trainer clips at 1.0.
max_grad_norm: {threshold.number}"""


_LIGHTNING_TRAPS = """\
# Automatic optimization only. With the FSDP strategy "norm" raises an error: there, override the module's
# configure_gradient_clipping and call self.trainer.model.clip_grad_norm_({number}).
"""


def _lightning(threshold: Threshold) -> str:
    algorithm = "value" if threshold.method == "value" else "norm"
    traps = _LIGHTNING_TRAPS.format(number=threshold.number) if algorithm == "norm" else ""
    return f"""\
{traps}from lightning.pytorch import Trainer

trainer = Trainer(
    gradient_clip_val={threshold.number},  # beside your own arguments; left out, Lightning does not clip
    gradient_clip_algorithm="{algorithm}",
)"""


def _lightning_yaml(threshold: Threshold) -> str:
    algorithm = "value" if threshold.method == "value" else "norm"
    traps = _LIGHTNING_TRAPS.format(number=threshold.number) if algorithm == "norm" else ""
    return f"""\
{traps}trainer:
  gradient_clip_val: {threshold.number}
  gradient_clip_algorithm: {algorithm}"""


def _accelerate(threshold: Threshold) -> str:
    if threshold.method == "value":
        trap = "# Under DeepSpeed and FSDP this call raises an error: they cannot clip by value."
        clip = f"accelerator.clip_grad_value_(model.parameters(), clip_value={threshold.number})"
    else:
        trap = '# Under DeepSpeed this call only reports the norm: set "gradient_clipping" in its config instead.'
        arguments = f"max_norm={threshold.number}{threshold.norm_type_argument}"
        clip = f"accelerator.clip_grad_norm_(model.parameters(), {arguments})"
    return f"""\
accelerator.backward(loss)
if accelerator.sync_gradients:  # at optimizer steps only, not at every accumulated micro-batch
    {trap}
    {clip}  # unscales fp16 first
optimizer.step()
optimizer.zero_grad()"""


def _deepspeed(threshold: Threshold) -> str:
    # JSON has no comments, and accelerate reads the file with a strict parser: comments stay outside the object.
    return f"""\
# Merge this key into the top level of ds_config.json, without these comment lines.
# Under Hugging Face Trainer write "auto" there, and max_grad_norm={threshold.number} in its arguments: they have to agree.
# A run resumed from a checkpoint of ZeRO 1 or 2, fp16 or bf16 goes on with the threshold stored in the checkpoint.
{{
  "gradient_clipping": {threshold.number}
}}"""


def _keras(threshold: Threshold) -> str:
    key, why = {
        "norm": ("global_clipnorm", "the total norm; clipnorm would clip every variable by itself"),
        "value": ("clipvalue", "every gradient element"),
        "per_tensor": ("clipnorm", "every variable by its own norm; global_clipnorm would be the total"),
    }[threshold.method]
    return f"""\
import keras

optimizer = keras.optimizers.Adam(  # or your own, with its arguments; inside a LossScaleOptimizer, not on it
    {key}={threshold.number},  # {why}
)"""


_HF_INSTEAD = (
    "paste the clip line of the `pytorch` snippet into a TrainerCallback's `on_pre_optimizer_step` and set "
    "max_grad_norm=0, or calibrate again with `clip: {method: norm, norm_type: 2.0}`"
)
_LIGHTNING_INSTEAD = (
    "paste the clip line of the `pytorch` snippet into your LightningModule's `on_before_optimizer_step` (with `self` "
    "for `model`) and leave gradient_clip_val out, or calibrate again with `clip: {method: norm, norm_type: 2.0}`"
)

SNIPPETS: dict[str, Snippet] = {
    "pytorch": Snippet(
        title="A plain PyTorch loop",
        language="python",
        render=_pytorch,
        aliases=("torch", "loop"),
        methods=METHODS,
        any_norm_type=True,
    ),
    "huggingface": Snippet(
        title="Hugging Face TrainingArguments",
        language="python",
        render=_huggingface,
        instead=_HF_INSTEAD,
        aliases=("hf", "transformers", "trainer", "trl"),
    ),
    "huggingface-yaml": Snippet(
        title="Hugging Face training arguments in a YAML file",
        language="yaml",
        render=_huggingface_yaml,
        instead=_HF_INSTEAD,
        aliases=("hf-yaml", "transformers-yaml", "trl-yaml"),
    ),
    "lightning": Snippet(
        title="Lightning Trainer",
        language="python",
        render=_lightning,
        instead=_LIGHTNING_INSTEAD,
        aliases=("pytorch-lightning", "pl"),
        methods=("norm", "value"),
    ),
    "lightning-yaml": Snippet(
        title="LightningCLI config file",
        language="yaml",
        render=_lightning_yaml,
        instead=_LIGHTNING_INSTEAD,
        aliases=("lightning-cli", "pl-yaml"),
        methods=("norm", "value"),
    ),
    "accelerate": Snippet(
        title="Accelerate training loop",
        language="python",
        render=_accelerate,
        instead=(
            "take the clip lines of the `pytorch` snippet, under `if accelerator.sync_gradients:` and after "
            "`accelerator.unscale_gradients()`; this holds for one device and DDP, not for DeepSpeed or FSDP"
        ),
        methods=("norm", "value"),
        any_norm_type=True,
    ),
    "deepspeed": Snippet(
        title="DeepSpeed ds_config.json",
        language="json",
        render=_deepspeed,
        instead=(
            "calibrate again with `clip: {method: norm, norm_type: 2.0}`; DeepSpeed clips inside its engine and "
            "leaves no place for a rule of your own"
        ),
        aliases=("ds",),
    ),
    "keras": Snippet(
        title="Keras 3 optimizer",
        language="python",
        render=_keras,
        instead=(
            "calibrate again with `clip: {method: norm, norm_type: 2.0}`, or train with the torch backend and a loop "
            "of your own around the `pytorch` snippet"
        ),
        methods=METHODS,
    ),
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
    threshold = Threshold(number=_number(max_norm), method=method, norm_type=float(norm_type))
    # One line whatever it holds: a line break in a path would end the comment and become code.
    words = " ".join("".join(c if c.isprintable() else " " for c in provenance).split())
    return (f"# {words}\n" if words else "") + entry.render(threshold)


def _number(value: float) -> str:
    """The shortest digits that give the same float back, always with a point: YAML 1.1 reads ``1e-05`` as a string."""
    text = repr(float(value))
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exponent}{power}"
