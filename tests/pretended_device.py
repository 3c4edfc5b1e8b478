"""A device that computes on the CPU and counts what would make the host wait for it: torch's private backend, with its data.

Its tensors are not ``is_cpu``, so everything takes the way that it takes on an accelerator, with true numbers. The backend is the
process' for good, so it has one of its own: ``run`` starts this file in it, and it answers in JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from nursery import PYTHON, told_once
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ROOT = Path(__file__).parents[1]
OURS = ROOT / "clipcal"
NAME = "pretended"
WAITING = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "equal",
    "bincount",
    "is_nonzero",
}
"""Operations whose answer the host has to have."""

waits: list[str] = []
"""For each time that the host would have waited: the operation, and the nearest of our functions (``fetching.fetch``), or the GradScaler."""


class Pretended(Tensor):
    """Holds a tensor on the CPU and says that it is elsewhere."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretended:
        made: Pretended = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        return made

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def tolist(self) -> Any:  # torch's own refuses what is not quite a tensor
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _computed(func, args, kwargs or {})


class _Factories(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tensors that are made on the device, or brought to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        there = _is_here(kwargs.get("device")) or any(isinstance(t, Pretended) for t in tree_leaves((args, kwargs)))
        return _computed(func, args, kwargs) if there else func(*args, **kwargs)


def _is_here(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name.removeprefix("aten::")
    asked = kwargs.get("device")
    leaves = False if asked is None else not _is_here(asked)
    if name in WAITING or leaves or _is_blocking_copy(name, args, kwargs):
        waits.append(f"{name} in {_whose()}")
    plain = tree_map(_held, kwargs) | ({"device": torch.device("cpu")} if asked is not None else {})
    result = func(*tree_map(_held, args), **plain)
    if leaves:
        return result
    if func._schema.is_mutable:
        return args[0] if result is not None else None
    return tree_map(lambda t: Pretended(t) if isinstance(t, Tensor) else t, result)


def _is_blocking_copy(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """A copy between host and device waits for the stream unless it is told not to."""
    if name == "_to_copy":
        return _is_here(kwargs.get("device")) and not isinstance(args[0], Pretended) and not kwargs.get("non_blocking")
    if name == "copy_":
        between = isinstance(args[0], Pretended) != isinstance(args[1], Pretended)
        return between and not (len(args) > 2 and args[2]) and args[1].dim() > 0
    return False


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value


def _whose() -> str:
    frame: Any = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.name == "grad_scaler.py":
            return path.stem
        if OURS in path.parents:
            return f"{path.stem}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "nothing of ours"


def _autocast_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The one operation that runs in half precision under autocast."""
    dtype = torch.get_autocast_dtype(NAME)
    keys: Any = torch._C.DispatchKey
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(keys.AutocastPrivateUse1)):
        return torch.nn.functional.linear(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))


@contextmanager
def device() -> Iterator[torch.device]:
    """Inside, the device is there."""
    module: Any = backend_registration._DummyBackendModule()
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    backend_registration._setup_privateuseone_for_python_backend(NAME, module)
    library: Any = torch.library.Library
    every, linear = library("_", "IMPL"), library("aten", "IMPL")
    every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    linear.impl("linear", _autocast_linear, "AutocastPrivateUse1")
    waits.clear()
    with _Factories():  # type: ignore[no-untyped-call]
        yield torch.device(NAME, 0)


def run(file: Path, function: str, *words: object) -> Any:
    """What ``function(device, *words)`` of ``file`` returns, in a process of its own that has the device."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this version of torch has no private backend in Python")
    asked = re.sub(r"\W", "-", "-".join(map(str, (file.stem, function, *words))))
    return json.loads(told_once(asked, lambda: _run(file, function, *words)))


def _run(file: Path, function: str, *words: object) -> str:
    command = [str(PYTHON), "-W", "error", str(Path(__file__)), str(file), function, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def _answer(file: str, function: str, *words: str) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("asked", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., Any] = getattr(module, function)
    with device() as here:
        print(json.dumps(found(here, *words)))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import pretended_device  # what is asked imports it too, and has to find these waits

    pretended_device._answer(*sys.argv[1:])
