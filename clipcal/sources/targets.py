"""``_target_`` objects -> Python objects: finding the import path, binding the arguments, and saying what went wrong.

The convention is Hydra's (hydra.cc/docs/advanced/instantiate_objects): ``_target_`` is an import path, ``_args_`` are
positional arguments, ``_partial_: true`` asks for a functools.partial, everything else is a keyword argument.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipcal.errors import InputError, SpecError, UserCodeError, a_kind, nearest
from clipcal.sources.usercode import first_line, is_users, trimmed_traceback

Path_ = tuple[str | int, ...]
_SPECIAL = {"_target_", "_args_", "_partial_"}
_LIKE_A_NUMBER = re.compile(
    r"\s*[-+]?(?:\d[\d_ ]*[.,]?\d*|[.,]\d+|\d{1,3}(?:,\d{3})+(?:\.\d+)?)(?:[eE][-+]?\d+)?\s*", re.ASCII
)


@contextmanager
def importable_from(folders: Sequence[Path]) -> Iterator[None]:
    """Put ``folders`` before Python's own path while the block runs."""
    added = [str(f) for f in folders]
    sys.path[:0] = added
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)


class Builder:
    """Builds the objects of one spec for one arm.

    ``where(path)`` gives ``file:line:column`` of a place in the spec; ``seed`` goes to every factory that takes an
    argument of that name and is not given one.
    """

    def __init__(self, where: Callable[[Path_], str], seed: int) -> None:
        self._where = where
        self._seed = seed

    def build(self, config: Mapping[str, Any], at: Path_, *args: Any, offers: Mapping[str, Any] | None = None) -> Any:
        """Call the target of ``config`` with ``args`` and its keyword arguments.

        ``offers`` maps parameter names to objects: where the factory's first parameter has such a name, it is given that
        object in place of ``args``.
        """
        target = self._locate(config, at)
        if not callable(target):
            raise SpecError(f"{self._named(config, at)} is {a_kind(target)} and cannot be called.")
        first = next(iter(_parameters(target)), "")
        if offers and first in offers:
            args = (offers[first],)
        return self._call(target, config, at, args)

    def build_callable(self, config: Mapping[str, Any], at: Path_) -> Callable[..., Any]:
        """For the places that hold something to call (a loss, a training step): a class is built, a function is taken as
        it is, with its keyword arguments bound."""
        target = self._locate(config, at)
        if inspect.isroutine(target):
            return self._partial(target, config, at)
        if not callable(target):
            raise SpecError(f"{self._named(config, at)} cannot be called.")
        as_it_is = not inspect.isclass(target) and not _arguments(config)
        built: Callable[..., Any] = target if as_it_is else self._call(target, config, at, ())
        if not callable(built):
            raise SpecError(f"{self._named(config, at)} gave {a_kind(built)}, which cannot be called.")
        return built

    def _named(self, config: Mapping[str, Any], at: Path_, place: str | None = None) -> str:
        """How an error begins: the place of a target, and its import path."""
        return f"{place or self._where((*at, '_target_'))}: `{config['_target_']}`"

    def _value(self, value: Any, at: Path_) -> Any:
        """An argument: nested targets are built, lists and mappings searched for them."""
        if isinstance(value, Mapping):
            if "_target_" in value:
                return self._nested(value, at)
            slip = near_target(value)
            if slip is not None and slip.startswith("_") and slip.endswith("_"):
                raise SpecError(f"{self._where((*at, slip))}: unknown key {slip!r}. Did you mean '_target_'?")
            return {k: self._value(v, (*at, k)) for k, v in value.items()}
        if isinstance(value, list):
            return [self._value(v, (*at, i)) for i, v in enumerate(value)]
        return value

    def _nested(self, config: Mapping[str, Any], at: Path_) -> Any:
        target = self._locate(config, at)
        if not callable(target):
            return target  # a constant: `dtype: {_target_: torch.float32}`
        # `lr_lambda: {_target_: my.module.warmup}` with `def warmup(step)` means the function: it cannot be called yet
        given = _arguments(config) | self._seed_for(target, config)
        if inspect.isroutine(target) and _missing(target, given, config):
            return self._partial(target, config, at)
        return self._call(target, config, at, ())

    def _partial(self, target: Callable[..., Any], config: Mapping[str, Any], at: Path_) -> Callable[..., Any]:
        arguments = _arguments(config)
        unknown = set(arguments) - set(_parameters(target))
        if unknown and not _takes_any(target):
            self._wrong_argument(target, config, at, min(unknown))
        if not arguments and not config.get("_args_"):
            return target
        keywords = {k: self._value(v, (*at, k)) for k, v in arguments.items()}
        return functools.partial(target, *self._value(config.get("_args_", []), (*at, "_args_")), **keywords)

    def _seed_for(self, target: Callable[..., Any], config: Mapping[str, Any]) -> dict[str, Any]:
        return {"seed": self._seed} if "seed" in _parameters(target) and "seed" not in config else {}

    def _call(self, target: Callable[..., Any], config: Mapping[str, Any], at: Path_, args: tuple[Any, ...]) -> Any:
        if config.get("_partial_"):
            return self._partial(target, config, at)
        arguments = _arguments(config)
        signature = _signature(target)
        args = (*args, *self._value(config.get("_args_", []), (*at, "_args_")))
        keywords = {k: self._value(v, (*at, k)) for k, v in arguments.items()} | self._seed_for(target, config)
        if signature is not None:
            try:
                signature.bind(*args, **keywords)
            except TypeError as e:
                unknown = set(arguments) - set(signature.parameters)
                if unknown and not _takes_any(target):
                    self._wrong_argument(target, config, at, min(unknown))
                missing = _missing(target, keywords, config, given=len(args))
                if missing:
                    names, them = ", ".join(repr(m) for m in missing), "it" if len(missing) == 1 else "them"
                    why = f"needs {names}, which the spec does not give. Add {them} under `{_dotted(at)}`"
                else:
                    why = f"cannot be called like this: {e}"
                raise SpecError(f"{self._named(config, at)} {why}. It takes: {_listed(target)}.") from None
        try:
            return target(*args, **keywords)
        except InputError:
            raise
        except (Exception, SystemExit) as e:
            place, hint = None, ""
            quoted = next(_numbers_as_text(arguments | {"_args_": config.get("_args_", [])}, ()), None)
            if quoted is not None:
                place = self._where((*at, *quoted[0]))
                hint = (
                    f". `{_dotted(quoted[0])}` is {quoted[1]!r}, which is text; a number has a point before its decimals, "
                    "and is written without quotes."
                )
            named, kind = self._named(config, at, place), type(e).__name__
            if is_users(e.__traceback__):
                text = f"{named} raised {kind} while it was built: {e}{hint}"
                raise UserCodeError(text, trimmed_traceback(e)) from None
            raise SpecError(f"{named} refuses its arguments: {kind}: {e}{hint}") from None

    def _wrong_argument(self, target: Callable[..., Any], config: Mapping[str, Any], at: Path_, name: str) -> None:
        known = [p for p in _parameters(target) if p not in ("args", "kwargs")]
        place = self._where((*at, name))
        raise SpecError(f"{self._named(config, at, place)} takes no argument {name!r}.{nearest(name, known)}")

    def _locate(self, config: Mapping[str, Any], at: Path_) -> Any:
        path = config["_target_"]
        place = self._where((*at, "_target_"))
        if not isinstance(path, str) or not path.strip() or any(not p for p in path.replace(":", ".").split(".")):
            raise SpecError(
                f"{place}: `_target_` is {path!r}; expected an import path such as torch.optim.SGD or package.module:name."
            )
        for key in config:
            if str(key).startswith("_") and key not in _SPECIAL and str(key).endswith("_"):
                raise SpecError(f"{self._where((*at, key))}: unknown key {key!r}.{nearest(str(key), _SPECIAL)}")
        if not isinstance(config.get("_args_", []), list):
            raise SpecError(f"{self._where((*at, '_args_'))}: `_args_` is {config['_args_']!r}; expected a list.")
        module_path, _, attributes = path.partition(":")
        names = module_path.split(".") + (attributes.split(".") if attributes else [])
        found: Any = self._import(names[0], place, path, parent=None)
        for i, name in enumerate(names[1:], start=1):
            parent = found
            if inspect.ismodule(parent) and not hasattr(parent, name) and hasattr(parent, "__path__"):
                found = self._import(".".join(names[: i + 1]), place, path, parent=parent)
            else:
                try:
                    found = getattr(parent, name)
                except AttributeError:
                    what = f"{'module ' * inspect.ismodule(parent)}`{'.'.join(names[:i])}`"
                    raise SpecError(f"{place}: {what} has no {name!r}.{_only_near(name, _public(parent))}") from None
        return found

    def _import(self, module: str, place: str, path: str, parent: Any) -> Any:
        try:
            return importlib.import_module(module)
        except (Exception, SystemExit) as e:
            if isinstance(e, ModuleNotFoundError) and e.name == module:
                last = module.rpartition(".")[2]
                if parent is not None:
                    known = _modules_in([Path(p) for p in parent.__path__]) | set(_public(parent))
                    raise SpecError(
                        f"{place}: `{parent.__name__}` has no {last!r}, so `{path}` cannot be found.{_only_near(last, known)}"
                    ) from None
                known = _modules_in([Path(p or ".") for p in sys.path])
                raise SpecError(
                    f"{place}: no module named {module!r}, so `{path}` cannot be found. Looked next to the spec, in the working "
                    f"directory ({Path.cwd()}) and among the installed packages.{_only_near(module, known)}"
                ) from None
            raise UserCodeError(
                f"{place}: `{path}` cannot be imported: `{module}` raised {type(e).__name__}: {first_line(e)}",
                trimmed_traceback(e),
            ) from None


def near_target(keys: Iterable[Any]) -> str | None:
    """The key that is likely a slip of ``_target_``."""
    return next(iter(difflib.get_close_matches("_target_", map(str, keys), n=1, cutoff=0.7)), None)


def _public(owner: Any) -> list[str]:
    return [name for name in dir(owner) if not name.startswith("_")]


def _only_near(word: str, known: Sequence[str] | set[str]) -> str:
    """The nearest known word, but never the whole list: a package has hundreds of names."""
    hint = nearest(word, known)
    return hint if hint.startswith(" Did") else ""


def _modules_in(folders: Sequence[Path]) -> set[str]:
    inside = [p for folder in folders if folder.is_dir() for p in folder.iterdir()]
    return {p.stem for p in inside if p.suffix == ".py" or (p.is_dir() and p.name.isidentifier())}


def _numbers_as_text(value: Any, at: Path_) -> Iterator[tuple[Path_, str]]:
    """The texts among arguments that look like numbers, with their places; what is a target of its own was built without harm."""
    if isinstance(value, str):
        if _LIKE_A_NUMBER.fullmatch(value):
            yield at, value
    elif isinstance(value, Mapping) and "_target_" not in value:
        for k, v in value.items():
            yield from _numbers_as_text(v, (*at, k))
    elif isinstance(value, list):
        for i, v in enumerate(value):
            yield from _numbers_as_text(v, (*at, i))


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    return {str(k): v for k, v in config.items() if k not in _SPECIAL}


@functools.cache
def _signature(target: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):
        return None  # some builtins have none: the call itself will tell


def _parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    signature = _signature(target)
    return dict(signature.parameters) if signature else {}


def _takes_any(target: Callable[..., Any]) -> bool:
    parameters = _parameters(target)
    return not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _missing(
    target: Callable[..., Any], keywords: Mapping[str, Any], config: Mapping[str, Any], given: int | None = None
) -> list[str]:
    """Required parameters that get no value, after ``given`` positional ones."""
    given = len(config.get("_args_", [])) if given is None else given
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    missing = []
    for name, p in _parameters(target).items():
        if p.kind in positional and given > 0:
            given -= 1
        elif p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and name not in keywords:
            missing.append(name)
    return missing


def _listed(target: Callable[..., Any]) -> str:
    return ", ".join(str(p).split(":")[0].split("=")[0].strip() for p in _parameters(target).values()) or "nothing"


def _dotted(at: Path_) -> str:
    return ".".join(str(a) for a in at)
