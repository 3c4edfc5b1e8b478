"""Facts, requirements and the self-test -> Findings: what is here, and what of it has to be put right."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from clipcal import _version
from clipcal._version import __version__
from clipcal.doctor import requirements
from clipcal.doctor.facts import Origin, Torch, cores, origin_of, torch_here
from clipcal.doctor.requirements import Extra, Package
from clipcal.doctor.selftest import SelfTest, run_self_test
from clipcal.errors import GET_TORCH

SCHEMA = "clipcal.doctor/1"
CORE = ("numpy", "typer", "rich", "pyyaml", "pydantic")
WITHOUT = f"torch is not installed: recommend, check, apply and report work, what trains does not. Get the build for your machine: {GET_TORCH}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """``code`` is a short stable name, ``text`` a sentence with what to do."""

    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """``torch`` and ``faults`` (of torch's insides) are None where there is no torch to look at."""

    origin: Origin
    versions: dict[str, str | None]
    torch: Torch | None
    known: str | None
    faults: list[str] | None
    extras: list[Extra]
    self_test: SelfTest
    problems: list[Problem]

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "works": not self.problems,
            "problems": [asdict(p) for p in self.problems],
            "clipcal": {"version": __version__} | asdict(self.origin),
            "python": {"version": platform.python_version(), "executable": sys.executable},
            "platform": platform.platform(),
            "versions": self.versions,
            "torch": None if self.torch is None else asdict(self.torch),
            "devices": {
                "cpu": cores(),
                "cuda": self.torch.cuda if self.torch else [],
                "mps": bool(self.torch and self.torch.mps),
            },
            "insides": None if self.faults is None else {"known": self.known, "faults": self.faults},
            "extras": [
                {
                    "name": e.name,
                    "for": e.purpose,
                    "installed": e.is_there,
                    "get": e.get,
                    "packages": {p.name: p.version for p in e.packages},
                }
                for e in self.extras
            ],
            "self_test": asdict(self.self_test),
        }


def examine(on_test: Callable[[], None] = lambda: None) -> Findings:
    """Everything. Imports torch, and runs a script of a few steps, of which ``on_test`` is told before."""
    torch, known, faults = torch_here(), None, None
    problems = [found for p in requirements.needed() if (found := _problem_of(p)) is not None]
    if torch is not None and torch.failure is not None:
        problems.append(
            Problem(
                code="torch_broken",
                text=f"torch is installed and cannot be loaded ({torch.failure}). Install it again: pip install --force-reinstall torch.",
            )
        )
    elif torch is not None:
        from clipcal.hooks import insides

        known, faults = insides.KNOWN, insides.unlike() + insides.unlike("ranks")
        watched = insides.unlike()
        if watched:
            problems.append(Problem(code="torch_unlike", text=insides.refusal(watched)))
    self_test = _self_test(torch, problems, on_test)
    if self_test.status == "failed":
        problems.append(
            Problem(
                code="self_test",
                text=f"Attaching to a script does not work here: {self_test.reason} Use clipcal.watch in the script, and report this text.",
            )
        )
    return Findings(
        origin=origin_of("clipcal", str(_version.__file__)),
        versions={name: requirements.version_of(name) for name in CORE},
        torch=torch,
        known=known,
        faults=faults,
        extras=requirements.extras(),
        self_test=self_test,
        problems=problems,
    )


def _problem_of(package: Package) -> Problem | None:
    """Of a package that cannot be done without; torch can."""
    if package.version is None and package.name != "torch":
        text = f"{package.name} is not installed. Get it: pip install '{package.name}>={package.least}'."
        return Problem(code="missing", text=text)
    if package.is_too_old:
        text = f"{package.name} {package.version} is older than {package.least}. Get a newer one: pip install '{package.name}>={package.least}'."
        return Problem(code="too_old", text=text)
    return None


def _self_test(torch: Torch | None, problems: list[Problem], on_test: Callable[[], None]) -> SelfTest:
    if torch is None:
        return SelfTest(status="skipped", reason="torch is not installed")
    known = next((p for p in problems if p.code.startswith("torch")), None)
    if known is not None:
        return SelfTest(status="skipped", reason="torch has to be put right first")
    on_test()
    return run_self_test()
