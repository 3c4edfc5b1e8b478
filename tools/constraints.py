"""constraints.txt -> whether the public index has every line of it: ``python -m tools.constraints``, or ``make check-install``.

A pin that only the machine of its author can install is found here, not by a newcomer.
"""

from __future__ import annotations

import importlib.metadata as metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
REACH = (
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_PROXY",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_RETRIES",
)  # how to reach an index, not which
ONLY_OF_A_DEVICE = re.compile(
    r"nvidia-|cuda-|triton$"
)  # what a torch for CUDA asks for: every build of torch pins its own
NOT_THERE = re.compile(r"No matching distribution found for ([\w.-]+)==")


def pins(file: Path) -> dict[str, str]:
    """The lines ``name==version`` of a constraints file, by the name's normal form; any other line is a ValueError."""
    found: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)==([\w.]+)", line.partition(";")[0].strip())
        if match is None:
            raise ValueError(f"{file.name}: {line!r} is not `name==version` of a public version")
        found[canonicalize_name(match[1])] = match[2]
    return found


def declared(pyproject: Path) -> list[Requirement]:
    """What the package and all its extras ask for."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    lists: Iterable[list[str]] = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(text) for texts in lists for text in texts]


def reached(requirements: Iterable[Requirement]) -> dict[str, str | None]:
    """Every package that ``requirements`` lead to on this Python, with its installed version; None where there is none,
    and then nothing behind it is known."""
    versions: dict[str, str | None] = {}
    seen: set[tuple[str, str]] = set()
    pending = list(requirements)
    while pending:
        wanted = pending.pop()
        name = canonicalize_name(wanted.name)
        if name == "clipcal":
            continue
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                installed = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                versions[name] = None
                continue
            versions[name] = installed.version
            behind = [Requirement(text) for text in installed.requires or []]
            pending += [r for r in behind if r.marker is None or r.marker.evaluate({"extra": extra})]
    return versions


def by_index_alone(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` with pip's own settings switched off: its config files, folders of wheels, other indexes."""
    kept = {k: v for k, v in environment.items() if not k.startswith("PIP_") or k in REACH}
    return kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def not_on_the_index(wanted: Mapping[str, str]) -> tuple[list[str], int]:
    """The lines of ``wanted`` that no index has for this Python, and how many it has.

    Only metadata is read: pip downloads no wheel for a dry run without dependencies.
    """
    left = dict(wanted)
    missing: list[str] = []
    while left:
        lines = [f"{name}=={version}" for name, version in left.items()]
        options = ["--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--report", "-"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, *lines],
            capture_output=True,
            text=True,
            env=by_index_alone(os.environ),
            check=False,
        )
        if done.returncode == 0:
            return missing, len(json.loads(done.stdout)["install"])
        named = NOT_THERE.search(done.stderr)
        name = canonicalize_name(named[1]) if named else ""
        # what an index does not have and an index that does not answer end in the same line; pip warns of the second before
        if name not in left or "after connection broken" in done.stderr:
            sys.exit(f"{done.stderr}error: pip could not ask the index. See what it says above, and try again.")
        missing.append(f"{name}=={left.pop(name)}")
    return missing, 0


def main() -> None:
    wanted = pins(ROOT / "constraints.txt")
    missing, num_found = not_on_the_index(wanted)
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    if missing:
        sys.exit(f"error: the index has no {', no '.join(missing)} for {python}. Pin a version that it has.")
    print(f"all {num_found} lines of constraints.txt are on the index for {python}")


if __name__ == "__main__":
    main()
