"""Is torch here? -> the one sentence that says it is not, before anything tries to train. Nothing is imported to find out."""

from __future__ import annotations

import importlib.util
import sys

from clipcal.errors import MissingPackage

GET = "pip install torch"


def has_torch() -> bool:
    """Whether this Python finds torch. A folder of that name without code, which an uninstall may leave, is none."""
    try:
        spec = importlib.util.find_spec("torch")
    except ImportError:  # somebody's finder raises where it should say None
        return False
    except ValueError:  # it is loaded by other means than a finder
        return "torch" in sys.modules
    return spec is not None and spec.origin is not None


def need_torch(what: str) -> None:
    """Raise MissingPackage where ``what`` would find no torch. ``what`` begins the sentence: "`clipcal verify`"."""
    if not has_torch():
        raise without_torch(what)


def without_torch(what: str) -> MissingPackage:
    return MissingPackage(
        f"{what} needs torch, which is not installed for {sys.executable}. Install the build for your machine ({GET}), then try again; "
        "recommend, check, apply and report work without it.",
        name="torch",
    )
