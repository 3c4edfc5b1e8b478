"""clipcal: the gradient-clipping threshold of a training run, read from the run's own gradient norms.

Names are loaded when they are first used, so that reading a trace never waits for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clipcal._version import __version__

if TYPE_CHECKING:
    from clipcal.errors import ClipcalError, InputError, SpecError, UserCodeError
    from clipcal.frameworks.snippets import snippet
    from clipcal.logs.log import Log
    from clipcal.logs.reading import read_log
    from clipcal.recommendation.answer import Recommendation
    from clipcal.recommendation.calibration import recommend
    from clipcal.run.directory import Run, open_run
    from clipcal.run.step import Step
    from clipcal.run.trace import Trace, read_trace
    from clipcal.sources.spec import Spec, load_spec
    from clipcal.training.profiling import profile
    from clipcal.verification.answer import Verification
    from clipcal.verification.verifying import verify
    from clipcal.watching.watch import watch

_HOME = {
    "recommend": "recommendation.calibration",
    "ClipcalError": "errors",
    "InputError": "errors",
    "SpecError": "errors",
    "UserCodeError": "errors",
    "Log": "logs.log",
    "read_log": "logs.reading",
    "profile": "training.profiling",
    "Recommendation": "recommendation.answer",
    "Run": "run.directory",
    "open_run": "run.directory",
    "snippet": "frameworks.snippets",
    "Spec": "sources.spec",
    "load_spec": "sources.spec",
    "Step": "run.step",
    "Trace": "run.trace",
    "read_trace": "run.trace",
    "Verification": "verification.answer",
    "verify": "verification.verifying",
    "watch": "watching.watch",
}

__all__ = [
    "ClipcalError",
    "InputError",
    "Log",
    "Recommendation",
    "Run",
    "Spec",
    "SpecError",
    "Step",
    "Trace",
    "UserCodeError",
    "Verification",
    "__version__",
    "load_spec",
    "open_run",
    "profile",
    "read_log",
    "read_trace",
    "recommend",
    "snippet",
    "verify",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'clipcal' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"clipcal.{_HOME[name]}"), name)
    except ModuleNotFoundError as e:
        if e.name != "torch":
            raise
        from clipcal.errors import without_torch

        raise without_torch(f"clipcal.{name}") from None


def __dir__() -> list[str]:
    return sorted(__all__)
