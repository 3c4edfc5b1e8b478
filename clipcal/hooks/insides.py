"""The torch that is here -> whether its insides are those that clipcal holds on to while it watches a training.

Not all of what is listened to is public. What is relied on stands in one table, which is gone through before anything is touched: a
torch that looks otherwise is refused, in a sentence, and is left as it was.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType
from typing import Any, Literal, NamedTuple

import torch

from clipcal.errors import InputError, a_kind

KNOWN = "2.6 to 2.15"
"""The torch releases under which scripts were watched."""


class Inside(NamedTuple):
    """``name`` is where it is found in torch, ``used`` the module of clipcal's that relies on it, and for what. ``fault`` gives what is
    otherwise, as the end of a sentence about it, and None where it looks as it should. ``part``: ``ranks`` is needed where clipcal itself
    trains on several ranks, all else wherever a training is watched."""

    name: str
    fault: Callable[[Any], str | None]
    used: str
    part: Literal["watching", "ranks"] = "watching"

    def look(self) -> str | None:
        """The fault, with the name before it."""
        found = _find(self.name)
        try:
            fault = "is not there" if found is None else self.fault(found)
        except Exception as e:  # of a kind that no look at it was made for
            fault = f"is {a_kind(found)} that cannot be looked into ({type(e).__name__})"
        return None if fault is None else f"{self.name} {fault}"


def unlike(part: str = "watching") -> list[str]:
    """What looks otherwise than clipcal knows it; empty where all is well. Nothing is changed, imported or computed."""
    return [fault for inside in INSIDES if inside.part == part and (fault := inside.look()) is not None]


def check(part: str = "watching") -> None:
    """Raise InputError where this torch cannot be held on to."""
    faults = unlike(part)
    if faults:
        raise InputError(refusal(faults))


def refusal(faults: Sequence[str]) -> str:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return (
        f"torch {getattr(torch, '__version__', 'of no version')} looks otherwise inside than clipcal knows it: {faults[0]}{more}. Nothing was "
        f"touched, and nothing is recorded. Install torch {KNOWN} beside it, update clipcal (pip install -U clipcal), or log the norms that "
        "clip_grad_norm_ returns and give the log to `clipcal recommend`."
    )


def cell_of(function: Any) -> Any:
    """The closure cell in which torch's no-grad wrapper holds the function itself. Raises KeyError where there is none."""
    names = function.__code__.co_freevars
    return dict(zip(names, function.__closure__ or (), strict=True))["func"]


def _find(name: str) -> Any:
    """What stands under a dotted name; None where there is nothing. Imports nothing: torch has loaded its modules, and drops the names
    of some from the package that they lie in (torch.optim.optimizer)."""
    path, dot, last = name.rpartition(".")
    if name in sys.modules:
        return sys.modules[name]
    return getattr(_find(path), last, None) if dot else None


def _is_called(found: Any) -> str | None:
    return None if callable(found) else "cannot be called"


def _takes(*parameters: str) -> Callable[[Any], str | None]:
    """A function whose first parameters have these names. They are not known of what is no plain function, or takes any."""

    def fault(found: Any) -> str | None:
        code = _code(found)
        if code is None or (code.co_flags & inspect.CO_VARARGS and not code.co_argcount):
            return _is_called(found)
        taken = code.co_varnames[: code.co_argcount]
        return None if taken[: len(parameters)] == parameters else f"takes {_listed(taken)}, not {_listed(parameters)}"

    return fault


def _holds(*parameters: str) -> Callable[[Any], str | None]:
    """A wrapper that holds a function of these parameters in its cell ``func``."""

    def fault(found: Any) -> str | None:
        try:
            held = cell_of(found).cell_contents
        except (AttributeError, KeyError, ValueError):
            return "has no closure cell `func`"
        inner = _takes(*parameters)(held)
        return None if inner is None else f"holds a function that {inner}"

    return fault


def _mentions(*names: str) -> Callable[[Any], str | None]:
    """A function of torch's own in whose code these names are looked up or set. One that somebody else put in its place is theirs."""

    def fault(found: Any) -> str | None:
        code = _code(found)
        if code is None or not code.co_filename.startswith(str(sys.modules["torch"].__path__[0])):
            return _is_called(found)
        missing = sorted(set(names) - _names_in(code))
        return f"has no {_listed(missing)} in its code" if missing else None

    return fault


def _both(*faults: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    return lambda found: next((text for fault in faults if (text := fault(found)) is not None), None)


def _has_a_wrapper(found: Any) -> str | None:
    """``is_nested`` looks for frames of this inner function."""
    code = getattr(found, "__code__", None)
    inner = {c.co_name for c in code.co_consts if isinstance(c, CodeType)} if isinstance(code, CodeType) else set()
    return None if "wrapper" in inner else "makes no function `wrapper`"


def _code(found: Any) -> CodeType | None:
    inner = inspect.unwrap(found) if callable(found) else found
    return inner.__code__ if isinstance(inner, FunctionType) else None


def _names_in(code: CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names) or "nothing"


_LISTENING, _COLLECTOR = "clipcal.hooks.listening", "clipcal.scripts.child.collector"
INSIDES: tuple[Inside, ...] = (
    Inside(
        "torch.nn.utils.clip_grad._clip_grads_with_norm_",
        _holds("parameters", "max_norm", "total_norm"),
        f"{_LISTENING}: every clipping by norm ends here",
    ),
    Inside(
        "torch.nn.utils.clip_grad.clip_grad_norm_",
        _mentions("_clip_grads_with_norm_"),
        f"{_LISTENING}: it scales by the function above alone",
    ),
    Inside(
        "torch.nn.utils.clip_grad.clip_grad_value_",
        _holds("parameters", "clip_value"),
        f"{_LISTENING}: every clipping by value ends here",
    ),
    Inside("torch.nn.utils.clip_grads_with_norm_", _is_called, "clipcal.training.gradnorm: clips an arm of a spec"),
    Inside("torch.autograd.backward", _takes("tensors"), f"{_LISTENING}: sees the loss"),
    Inside(
        "torch.Tensor.backward", _mentions("autograd", "backward"), f"{_LISTENING}: it goes through the function above"
    ),
    Inside("torch.amp.GradScaler.scale", _takes("self", "outputs"), f"{_LISTENING}: the loss before it was scaled"),
    Inside("torch.amp.GradScaler.unscale_", _takes("self", "optimizer"), f"{_LISTENING}: when gradients are unscaled"),
    Inside(
        "torch.amp.GradScaler.step",
        _both(_takes("self", "optimizer"), _mentions("grad_scale", "found_inf")),
        f"{_LISTENING}, clipcal.hooks.observing: dropped steps; what a fused optimizer unscales by",
    ),
    Inside(
        "torch.optim.Optimizer.profile_hook_step",
        _both(_has_a_wrapper, _mentions("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")),
        f"{_LISTENING}: a step within a step",
    ),
    Inside(
        "torch.optim.Optimizer.register_step_pre_hook",
        _takes("self", "hook"),
        "clipcal.watching.watch: before the step of one optimizer",
    ),
    Inside(
        "torch.optim.optimizer.register_optimizer_step_pre_hook", _takes("hook"), f"{_COLLECTOR}: before every step"
    ),
    Inside(
        "torch.optim.optimizer.register_optimizer_step_post_hook", _takes("hook"), f"{_COLLECTOR}: after every step"
    ),
    Inside("torch._foreach_norm", _is_called, "clipcal.training.gradnorm: all norms in one pass"),
    Inside("torch._foreach_mul_", _is_called, "clipcal.hooks.observing: unscales"),
    Inside("torch.compile", _is_called, "clipcal.scripts.child.compiling: before the compiler is used"),
    Inside("torch.compiler.disable", _is_called, f"{_LISTENING}: hooks are left to Python"),
    Inside("torch.serialization.save", _takes("obj", "f"), "clipcal.scripts.child.saving: files that are written over"),
    Inside("torch.random.manual_seed", _takes("seed"), "clipcal.scripts.child.site: the seeds of arms"),
    Inside("torch.initial_seed", _is_called, "clipcal.scripts.child.site: the same"),
    Inside("torch.backends.cpu.get_cpu_capability", _is_called, "clipcal.scripts.child.stream: the machine"),
    Inside(
        "torch.distributed.distributed_c10d._get_default_group",
        _is_called,
        "clipcal.training.parallel.spreading: DDP's own all-reduce",
        part="ranks",
    ),
)
"""What clipcal holds on to in torch beside its documented interface."""
