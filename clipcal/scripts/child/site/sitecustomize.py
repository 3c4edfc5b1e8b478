"""Loaded by every Python process below ``clipcal profile -- COMMAND``: says that it is there, and waits for torch to be imported.

Its folder stands first on PYTHONPATH. A sitecustomize that it shadows is loaded after it. Nothing here may fail or print: a process
that has nothing to do with training must not notice.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import random
import sys

TYPE_CHECKING = False  # typing itself would be imported by every process
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
SESSION = os.environ.get("CLIPCAL_SESSION", "")
SHIFT = int(os.environ.get("CLIPCAL_SEED_SHIFT", "0"))


def say(kind: str, text: str) -> None:
    """Leave a file that the parent reads, whole or not at all."""
    path = os.path.join(SESSION, f"{kind}-{os.getpid()}")
    with open(path + ".partial", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".partial", path)


def shifted(seed: Any) -> Any:
    """``seed``, a function that takes a seed as its first argument, with another stream for every arm of a verification."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], int):
            args = (args[0] + SHIFT, *args[1:])
        elif isinstance(kwargs.get("seed"), int):
            kwargs["seed"] += SHIFT
        return seed(*args, **kwargs)

    wrapper.__wrapped__ = seed  # type: ignore[attr-defined]
    return wrapper


def own_stream() -> int:
    """A seed for what a script leaves to chance: another one for every rank, and the same for every run."""
    return SHIFT + 1000 * int(os.environ.get("RANK") or 0)


def numpy_is_there(numpy: Any) -> None:
    seed = numpy.random.seed
    if SHIFT:
        numpy.random.seed = shifted(seed)
    seed(own_stream())


def load_ours() -> None:
    """Make ``clipcal`` this package, wherever it lies: the script may run in an environment that does not have it."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
    if "clipcal" not in sys.modules:
        place = os.path.join(package, "__init__.py")
        spec = importlib.util.spec_from_file_location("clipcal", place, submodule_search_locations=[package])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["clipcal"] = module
        spec.loader.exec_module(module)


def torch_is_there(torch: Any) -> None:
    load_ours()
    from clipcal.scripts.child.collector import attach

    attach(SESSION)  # first: it looks at torch as it is
    if SHIFT:
        torch.manual_seed(torch.initial_seed() + SHIFT)
        torch.manual_seed = torch.random.manual_seed = shifted(torch.manual_seed)


def safetensors_is_there(safetensors: Any) -> None:
    from clipcal.scripts.child import saving

    saving.safetensors_is_there(safetensors)


def keep_files() -> None:
    """From the first line on: a script that clears its output folder does so before it imports torch."""
    load_ours()
    from clipcal.scripts.child import saving

    saving.begin(SESSION)


def refuse(why: str) -> None:
    """The run is given up, so this process ends. Where nobody is there to be told, it goes on."""
    version = ".".join(map(str, sys.version_info[:3]))
    with contextlib.suppress(OSError):
        say("refused", f"clipcal cannot attach to Python {version} {why}. `clipcal doctor` says what it needs.")
        raise SystemExit(0)


class WhenImported:
    """Calls a function when a module has been imported, and stands aside otherwise."""

    def __init__(self, actions: dict[str, Callable[[Any], None]]) -> None:
        self.actions = actions
        self.looking = False

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in self.actions or self.looking:
            return None
        self.looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.looking = False
        loader: Any = getattr(spec, "loader", None)
        if loader is None:
            if spec is None:
                with contextlib.suppress(OSError):
                    say(f"no-{name}", sys.executable or "")
            return spec
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            action = self.actions.pop(name, None)
            if action is not None:
                try:
                    action(module)
                except Exception as e:
                    refuse(f"with {name}: {type(e).__name__}: {e}")

        loader.exec_module = exec_module
        return spec


def begin() -> None:
    if not os.path.isdir(SESSION):
        return
    say("process", "\0".join([sys.executable or "", *getattr(sys, "orig_argv", [])]))
    seed = random.seed
    if SHIFT:
        random.seed = shifted(seed)
    seed(own_stream())
    actions = {"numpy": numpy_is_there, "torch": torch_is_there, "safetensors": safetensors_is_there}
    sys.meta_path.insert(0, WhenImported(actions))
    keep_files()


def load_shadowed() -> None:
    """What would have been loaded in our place, if there is anything."""
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != HERE]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError:
        if ours is not None:
            sys.modules["sitecustomize"] = ours


if SESSION:
    with contextlib.suppress(Exception):
        begin()
load_shadowed()
