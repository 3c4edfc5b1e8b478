"""Facts and the self-test -> Findings: what is here, what of it has to be put right, as an object or as lines of text."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from clipcal import _version
from clipcal._version import __version__
from clipcal.doctor import facts
from clipcal.doctor.facts import Extra, Origin, Package, Torch, cores
from clipcal.doctor.selftest import SelfTest, run_self_test
from clipcal.errors import GET_TORCH

SCHEMA = "clipcal.doctor/1"
CORE = ("numpy", "typer", "rich", "pyyaml", "pydantic")
ORIGINS = {"installed": "installed", "editable": "editable", "path": "from Python's path, not installed"}
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
    """Everything. Imports torch, and runs a script of a few steps; ``on_test`` is called before that."""
    torch, known, faults = facts.torch_here(), None, None
    problems = [found for p in facts.needed() if (found := _problem_of(p)) is not None]
    self_test = None
    if torch is None:
        self_test = SelfTest(status="skipped", reason="torch is not installed")
    elif torch.failure is not None:
        text = f"torch is installed and cannot be loaded ({torch.failure}). Install it again: pip install --force-reinstall torch."
        problems.append(Problem(code="torch_broken", text=text))
    else:
        from clipcal.hooks import insides

        watched = insides.unlike()
        known, faults = insides.KNOWN, watched + insides.unlike("ranks")
        if watched:
            problems.append(Problem(code="torch_unlike", text=insides.refusal(watched)))
    if any(p.code.startswith("torch") for p in problems):
        self_test = SelfTest(status="skipped", reason="torch has to be put right first")
    if self_test is None:
        on_test()
        self_test = run_self_test()
    if self_test.status == "failed":
        text = f"Attaching to a script does not work here: {self_test.reason} Use clipcal.watch in the script, and report this text."
        problems.append(Problem(code="self_test", text=text))
    return Findings(
        origin=facts.origin_of("clipcal", str(_version.__file__)),
        versions={name: facts.version_of(name) for name in CORE},
        torch=torch,
        known=known,
        faults=faults,
        extras=facts.extras(),
        self_test=self_test,
        problems=problems,
    )


def _problem_of(package: Package) -> Problem | None:
    """Of a package that cannot be done without; torch can."""
    get = f"pip install '{package.name}>={package.least}'"
    if package.version is None and package.name != "torch":
        return Problem(code="missing", text=f"{package.name} is not installed. Get it: {get}.")
    if package.is_too_old:
        text = f"{package.name} {package.version} is older than {package.least}. Get a newer one: {get}."
        return Problem(code="too_old", text=text)
    return None


def lines_of(findings: Findings, *, plain: bool) -> list[str]:
    told = list(_told(findings))
    width = max(len(name) for name, _ in told)
    shown = [f"{name}: {value}" if plain else f"{name:<{width}}  {value}" for name, value in told]
    return [*shown, "", *_end(findings)]


def _told(f: Findings) -> Iterator[tuple[str, str]]:
    yield "clipcal", f"{__version__}, {_from(f.origin)}"
    yield "Python", f"{platform.python_version()}, {sys.executable}"
    yield "platform", platform.platform()
    yield "torch", _torch(f.torch)
    for name, version in f.versions.items():
        yield name, version or "not installed"
    threads = f", torch computes with {f.torch.threads}" if f.torch and f.torch.threads else ""
    yield "CPU", f"{cores()} core{'s' * (cores() > 1)}{threads}"
    if f.torch is not None and f.torch.failure is None:
        yield "CUDA", ", ".join(f.torch.cuda) or "none"
        yield "MPS", "there" if f.torch.mps else "none"
        for text in f.torch.warnings:
            yield "torch warns", text
    for extra in f.extras:
        yield f"extra {extra.name}", _extra(extra)
    if not f.extras:
        yield "extras", "not known: clipcal is not installed, so there is no list of them"
    if f.faults is not None:
        yield "inside torch", "; ".join(f.faults) or f"as clipcal knows it (torch {f.known})"
    yield "attaching", _attaching(f)


def _from(origin: Origin) -> str:
    beside = f"; another one, {origin.beside}, is installed" if origin.beside else ""
    return f"{ORIGINS[origin.kind]}, {origin.path}{beside}"


def _torch(torch: Torch | None) -> str:
    if torch is None:
        return "not installed"
    if torch.failure is not None or torch.origin is None:
        return f"cannot be loaded: {torch.failure}"
    return f"{torch.version}, {torch.build}, {_from(torch.origin)}"


def _extra(extra: Extra) -> str:
    here = ", ".join(f"{p.name} {p.version}" for p in extra.packages if p.version is not None)
    if extra.is_there:
        return f"{here} ({extra.purpose})"
    old = "".join(f", which is older than {p.least}" for p in extra.packages if p.is_too_old)
    return f"{here + old if here else 'not installed'} ({extra.purpose}); {extra.get}"


def _attaching(f: Findings) -> str:
    test = f.self_test
    if test.status == "passed":
        return f"works: a script was watched, and its {test.steps} norms are true ({test.seconds:.1f} s)"
    return f"{'not tried' if test.status == 'skipped' else 'does not work'}: {test.reason}"


def _end(f: Findings) -> list[str]:
    if f.problems:
        return [problem.text for problem in f.problems]
    return [WITHOUT] if f.torch is None else ["All that is needed works."]
