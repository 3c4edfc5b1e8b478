"""A config that is about to get a threshold -> what else in it, or in the file that it names, stands against that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path as File

from clipcal.errors import InputError
from clipcal.frameworks.applying.documents import LOOSE_JSON, Document, parse
from clipcal.frameworks.applying.files import read_text
from clipcal.frameworks.applying.tree import Mapping, Node, Path, Scalar, find, said, show, walk
from clipcal.frameworks.keys import GRADIENT_CLIP_VAL, spelled
from clipcal.run.records import Method


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What is about to be written at ``path``. ``asked`` is whether the user named the key, and so has looked at it."""

    document: Document
    root: Node
    path: Path
    max_norm: float
    method: Method
    asked: bool


def trainer(intent: Intent) -> Iterator[str]:
    """Trainer hands clipping over to DeepSpeed, and raises an error where the two numbers are not the same."""
    named = find(intent.root, ("deepspeed",))
    root, where = named, "`deepspeed:` in this file"
    if isinstance(named, Scalar) and File(str(named.value)).suffix.lower() == ".json":
        places = (intent.document.file.parent / str(named.value), File(str(named.value)))
        file = next((p for p in places if isfile(p)), None)
        if file is None:
            yield (
                f"`deepspeed:` names {str(named.value)[-200:]!r}, which is not here to be looked at: its gradient_clipping has "
                f'to be "auto" or {spelled(intent.max_norm)}, or Trainer raises an error.'
            )
            return
        try:
            root, where = parse(file, read_text(file).lstrip("\ufeff"), LOOSE_JSON).roots[0], str(file)
        except InputError as e:
            yield f"`deepspeed:` names a file that cannot be read: {e}"
            return
    elif not isinstance(named, Mapping):
        return
    assert root is not None
    found = said(root, "gradient_clipping")
    if find(root, ("gradient_clipping",)) is None:
        yield (
            f"{where} has no gradient_clipping, so that DeepSpeed clips nothing, whatever max_grad_norm says: "
            'write "gradient_clipping": "auto" there.'
        )
    elif found != "auto" and (isinstance(found, bool) or found != intent.max_norm):
        yield (
            f"{where} says gradient_clipping {found}, and max_grad_norm will say {spelled(intent.max_norm)} here; Trainer raises an error "
            'unless the two agree: write "gradient_clipping": "auto" there.'
        )


def deepspeed(intent: Intent) -> Iterator[str]:
    if said(intent.root, "gradient_clipping") == "auto" and not intent.asked:
        raise InputError(
            f'{intent.document.file}: gradient_clipping is "auto", which Hugging Face Trainer fills in from its own '
            "arguments. Leave it, and write the threshold there, as max_grad_norm. If this file is not used with Trainer: "
            "--key gradient_clipping."
        )
    if any(isinstance(n, Scalar) and n.value == "auto" for _, n in walk(intent.root)):
        yield (
            f'The file has "auto" values, which only Hugging Face Trainer or Accelerate fill in. Under Trainer max_grad_norm '
            f'has to be {spelled(intent.max_norm)} too, or it raises an error; "auto" here and the number there is the safer way.'
        )


def accelerate(intent: Intent) -> Iterator[str]:
    file = said(intent.root, "deepspeed_config.deepspeed_config_file")
    if file is not None and str(file) != "none":
        raise InputError(
            f"{intent.document.file}: Accelerate takes its DeepSpeed settings from {str(file)!r}, and takes no "
            "gradient_clipping beside that. Apply to that file."
        )
    if find(intent.root, ("deepspeed_config",)) is None:
        raise InputError(
            f"{intent.document.file} holds no clipping threshold: without DeepSpeed, Accelerate clips where the training "
            "script says so. `clipcal recommend RUN --for accelerate` prints the lines for it."
        )
    yield (
        f"Under Hugging Face Trainer max_grad_norm has to be {spelled(intent.max_norm)} too, or it raises an error. In a loop of your "
        "own accelerator.clip_grad_norm_ only reports the norm under DeepSpeed; this file decides."
    )


def lightning(intent: Intent) -> Iterator[str]:
    """Some of Lightning's strategies clip by themselves, or refuse to; ``strategy`` stands beside the threshold."""
    strategy = (*intent.path[:-1], "strategy")
    names = [said(intent.root, (*strategy, *key)) for key in ((), ("class_path",), ("_target_",))]
    name = " ".join(str(n) for n in names if n).lower()
    key = GRADIENT_CLIP_VAL.name
    if "megatron" in name:
        raise InputError(
            f"{intent.document.file}: NeMo's MegatronStrategy raises an error where {key} is set, since Megatron's optimizer "
            "clips. `clipcal recommend RUN --for nemo` prints its setting."
        )
    if "fsdp" in name and intent.method == "norm":
        yield (
            f"Lightning's FSDP strategy raises an error where {key} is set and the algorithm is norm: leave it "
            "out, and call self.trainer.model.clip_grad_norm_ in the module's configure_gradient_clipping."
        )
    elif "deepspeed" in name and intent.method == "value":
        raise InputError(
            f"{intent.document.file}: Lightning's DeepSpeed strategy cannot clip by value; it raises an error. "
            "Calibrate again with `clip: {method: norm, norm_type: 2.0}`."
        )
    elif "deepspeed" in name:
        places = ((*strategy, "init_args", "config"), (*strategy, "config"))
        if config := next((show(place) for place in places if find(intent.root, place)), None):
            yield f"{config} names a DeepSpeed config: where that has a gradient_clipping, it decides, and {key} is left out."


def torchtune(intent: Intent) -> Iterator[str]:
    if said(intent.root, "optimizer_in_bwd") is True:
        yield "torchtune raises an error where clip_grad_norm is set and optimizer_in_bwd is true: set that to false."


def litgpt(intent: Intent) -> Iterator[str]:
    if find(intent.root, ("checkpoint_dir",)) and not find(intent.root, ("model_name",)):
        yield (
            "This looks like a config for LitGPT's finetuning, whose commands raise an error where train.max_norm is set; "
            "only `litgpt pretrain` clips."
        )


def composer(intent: Intent) -> Iterator[str]:
    if intent.method == "value" and any(find(intent.root, (key,)) for key in ("fsdp_config", "parallelism_config")):
        yield "Under FSDP Composer takes clipping_type value for the largest element of all, and scales every gradient."


def detectron2(intent: Intent) -> Iterable[str]:
    if intent.method == "norm" and said(intent.root, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE") != "full_model":
        raise InputError(
            f"{intent.document.file}: detectron2's CLIP_TYPE norm clips each tensor by its own norm, so a threshold for the "
            "total norm would mean something else there. Calibrate again with `clip: {method: per_tensor}`; projects with "
            "a CLIP_TYPE of their own for the total norm, as MaskFormer has, say full_model in this file."
        )
    return ()
