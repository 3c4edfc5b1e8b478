"""A virtual environment for make -> the one that the target needs, made and filled, or one sentence on why not.

    python tools/environment.py .venv samples              clipcal as a user installs it, in the pinned versions
    python tools/environment.py .venv dev --editable       what `make test` needs; the source is used where it lies
    python tools/environment.py .venv-lowest --lowest      the lowest versions that pyproject.toml allows, without torch
    python tools/environment.py .venv-torch-2.6.0 samples --torch 2.6.0    what a user has who had this torch before
    python tools/environment.py .venv --remove

It uses the standard library alone, since nothing else is there yet. What it installed stands in a file of the environment, and an
environment without that file is somebody else's: it is never touched.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]
MARK = "made-by-clipcal.json"
MARKS_OF_OLD = ("installed", "installed-dev")  # of a Makefile before this script
DECLARED = ("pyproject.toml", "setup.py", "constraints.txt", "constraints-lowest.txt")
SOURCES = ("clipcal", "configs", "sample_models")
TEST_TOOLS = (
    "pytest",
    "pytest-cov",
    "pytest-xdist",
    "hypothesis",
    "syrupy",
    "tomlkit",
    "packaging",
)  # of the tests that need no torch

# What pip or venv says -> what to do about it. The first that is found counts.
REASONS: tuple[tuple[str, str], ...] = (
    (r"No space left on device", "the disk is full; free some gigabytes (torch needs one), and run make again"),
    (r"ProxyError|Cannot connect to proxy", "the proxy does not answer; check HTTPS_PROXY, and run make again"),
    (r"SSLError|CERTIFICATE_VERIFY_FAILED", "the index's certificate is not trusted here; set PIP_CERT to your certificates, and run make again"),
    (
        r"NewConnectionError|ConnectTimeout|ReadTimeout|Connection (refused|reset|aborted)|Name or service not known"
        r"|name resolution|Network is unreachable|Max retries exceeded",
        "the package index cannot be reached; check the network, and run make again",
    ),
    (r"[Pp]ermission denied|Read-only file system", "a file cannot be written; clone into a folder of your own, and run make there"),
    (r"No module named '?(pip|ensurepip|venv)|ensurepip is not", "it has no pip to put there; install it (Debian: apt install python3-venv), and run make again"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What an environment holds: which extras, whether the source is used where it lies, the torch that was there first (None: the
    pinned one), and the state of what was read."""

    extras: tuple[str, ...]
    editable: bool
    lowest: bool
    torch: str | None = None
    state: str


def stop(sentence: str) -> NoReturn:
    sys.exit(f"error: {sentence}.")


def quietly(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def reason(output: str) -> str | None:
    """What to do about what a tool printed; None where we do not know."""
    return next((then for pattern, then in REASONS if re.search(pattern, output)), None)


def state_of(editable: bool) -> str:
    """A digest of all that an installation is made from. An editable one takes the sources as they are."""

    def files() -> Iterator[Path]:
        yield from (ROOT / name for name in DECLARED)
        if not editable:
            yield from (p for folder in SOURCES for p in sorted((ROOT / folder).rglob("*")) if p.suffix != ".pyc")

    digest = hashlib.sha256()
    for file in files():
        if file.is_file():
            digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def is_ours(venv: Path) -> bool:
    return any((venv / mark).exists() for mark in (MARK, *MARKS_OF_OLD))


def held(venv: Path) -> Wanted | None:
    """What the environment holds; None where nothing was finished."""
    try:
        read = json.loads((venv / MARK).read_text())
        return Wanted(**(read | {"extras": tuple(read["extras"])}))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def make(venv: Path, *, python_is_named: bool) -> None:
    """The environment without packages, unless it is there. Nothing half-made is left."""
    python = venv / "bin" / "python"
    if venv.exists() or venv.is_symlink():
        if not is_ours(venv):
            stop(
                f"{venv} is there, and make did not make it; take another folder with make VENV=.venv-clipcal, or remove it yourself"
            )
        asked = (
            quietly([str(python), "-c", "import pip, sys; print(*sys.version_info[:2])"]) if python.exists() else None
        )
        if asked is None or asked.returncode:
            stop(
                f"{venv} is unfinished or its Python is gone; remove it with make clean VENV={venv}, and run make again"
            )
        if python_is_named and asked.stdout.split() != [str(n) for n in sys.version_info[:2]]:
            there, here = ".".join(asked.stdout.split()), ".".join(map(str, sys.version_info[:2]))
            stop(
                f"{venv} has Python {there} and not {here}; take another folder with make VENV=.venv-{here}, or make clean VENV={venv} first"
            )
        return
    try:
        venv.mkdir(parents=True)
    except OSError as e:
        stop(f"{venv} cannot be made ({e.strerror or e}); clone into a folder of your own, and run make there")
    finished = False
    try:
        (venv / MARK).write_text("{}")
        done = quietly([sys.executable, "-m", "venv", str(venv)])
        if done.returncode:
            said = done.stdout + done.stderr
            known = reason(said)
            stop(f"{venv} cannot be made with {sys.executable}: {known or ' '.join(said.split())[-300:]}")
        finished = True
    finally:
        if not finished:
            shutil.rmtree(venv, ignore_errors=True)


def fill(venv: Path, wanted: Wanted) -> None:
    """Install ``wanted``. pip is silent; what it says is shown only where it fails and we do not know why."""
    log = venv / "pip.log"
    pip = [
        str(venv / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--log",
        str(log),
    ]
    if wanted.lowest:
        calls = [
            [*pip, "-r", str(ROOT / "constraints-lowest.txt"), *pinned(TEST_TOOLS)],
            [*pip, "--no-deps", str(ROOT)],
        ]
    elif wanted.torch is not None:  # no constraints: the newest of everything that goes with it, as a user gets today
        calls = [
            [*pip, f"torch=={wanted.torch}"],
            [*pip, *pinned(TEST_TOOLS), f"{ROOT}[{','.join(wanted.extras)}]"],
        ]
    else:
        source = ["--config-settings", "editable_mode=compat", "--editable"] if wanted.editable else []
        extras = f"[{','.join(wanted.extras)}]" if wanted.extras else ""
        calls = [[*pip, "-c", str(ROOT / "constraints.txt"), *source, f"{ROOT}{extras}"]]
    (venv / MARK).write_text("{}")  # until it is done
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # setuptools would pack modules that are gone
    for call in calls:
        log.unlink(missing_ok=True)
        done = quietly(call)
        if done.returncode:
            known = reason(done.stderr) or reason(unfetched(log))
            if known is None:
                print(done.stdout + done.stderr, end="", file=sys.stderr)
            stop(known or "pip could not install clipcal; what it said stands above")
    (venv / MARK).write_text(json.dumps(asdict(wanted)))


def unfetched(log: Path) -> str:
    """What pip could not fetch and why, which it tells its log alone: on the screen it says that no version fits."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(line for line in lines if "Could not fetch URL" in line)


def pinned(tools: tuple[str, ...]) -> list[str]:
    """The lines of constraints.txt for these alone: the pins of what stands behind a newer pydantic would be in the way of an older."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line.partition("==")[0].lower() in tools]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path)
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--editable", action="store_true")
    parser.add_argument("--lowest", action="store_true")
    parser.add_argument("--torch", help="the version that is installed first")
    parser.add_argument("--python-is-named", action="store_true", help="an environment of another version is not taken")
    parser.add_argument("--remove", action="store_true")
    asked = parser.parse_args()
    if asked.remove:
        if asked.venv.exists() and not is_ours(asked.venv):
            stop(f"{asked.venv} was not made by make, and is left; remove it yourself")
        shutil.rmtree(asked.venv, ignore_errors=True)
        return
    make(asked.venv, python_is_named=asked.python_is_named)
    there = held(asked.venv)
    # An environment of developers stays one: a demo in it runs the source as it lies, and its tests go on doing so.
    editable = asked.editable or (there is not None and there.editable)
    extras = tuple(sorted({*asked.extras, *(there.extras if there else ())}))
    wanted = Wanted(extras=extras, editable=editable, lowest=asked.lowest, torch=asked.torch, state=state_of(editable))
    if wanted != there:
        print(
            f"installing clipcal and what it needs into {asked.venv}; this takes minutes the first time",
            file=sys.stderr,
        )
        fill(asked.venv, wanted)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # what is half installed is installed again by the next call
