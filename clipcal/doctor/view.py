"""Findings -> lines of text, a fact each: aligned for the eye, or ``what: which`` for the ear."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

from clipcal._version import __version__
from clipcal.doctor.examining import WITHOUT, Findings
from clipcal.doctor.facts import Origin, Torch, cores
from clipcal.doctor.requirements import Extra

Fact = tuple[str, str]
ORIGINS = {"installed": "installed", "editable": "editable", "path": "from Python's path, not installed"}


def lines_of(findings: Findings, *, plain: bool) -> list[str]:
    facts = list(_facts(findings))
    width = max(len(name) for name, _ in facts)
    shown = [f"{name}: {value}" if plain else f"{name:<{width}}  {value}" for name, value in facts]
    return [*shown, "", *_end(findings)]


def _facts(f: Findings) -> Iterator[Fact]:
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
