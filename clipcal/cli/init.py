"""``clipcal init``: a starter spec, or a shipped sample with its model."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from clipcal.cli.answering import print_json, said_no
from clipcal.cli.options import Display, Force, Json, Quiet
from clipcal.errors import InputError

SCHEMA = "clipcal.init/1"
STARTER_FILE = Path("clipcal.yaml")


def init(
    path: Annotated[
        Path | None,
        typer.Argument(help="Where to write it; with --sample a folder, or the spec's file.  [default: clipcal.yaml]"),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            metavar="NAME",
            help="Write the spec and the model of a shipped sample, such as char-lstm; a wrong name lists all.",
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the spec's JSON Schema, for editors, and write nothing.")
    ] = False,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write a commented starter spec, or with --sample one that trains."""
    display = Display(json=json, quiet=quiet)
    with said_no():
        if schema:
            if sample is not None:
                raise InputError("--schema prints, and --sample writes files. Give one of them.")
            from clipcal.sources.spec import json_schema

            print_json(json_schema())
        elif sample is not None:
            _sample(sample, path or Path(), display, force=force)
        else:
            _starter(path or STARTER_FILE, display, force=force)


def _starter(path: Path, display: Display, *, force: bool) -> None:
    from clipcal.sources.starter import STARTER

    try:
        with path.open("w" if force else "x", encoding="utf-8") as f:
            f.write(STARTER)
    except FileExistsError:
        raise InputError(f"{path}: is there already. Name another path, or replace it with --force.") from None
    except OSError as e:
        raise InputError(f"{path}: cannot be written ({e.strerror}). Name another path.") from None
    if display.json:
        print_json({"schema": SCHEMA, "path": str(path), "written": True})
    display.note(f"wrote {path}; put your model and data in it, then: clipcal calibrate {path}")


def _sample(name: str, path: Path, display: Display, *, force: bool) -> None:
    from clipcal.sources.samples import sample, write_sample

    found = sample(name)
    files = write_sample(found, path, force=force)
    if display.json:
        answer = {"schema": SCHEMA, "path": str(files[0]), "written": True}
        print_json(answer | {"sample": found.name, "files": [str(file) for file in files]})
    display.note(f"wrote {', '.join(map(str, files))}; next: clipcal calibrate {shlex.quote(str(files[0]))}")
    if found.missing:
        packages = ", ".join(found.missing)
        display.note(
            f"note: {found.name} imports {packages}, which is not installed. Run pip install 'clipcal[samples]'"
        )
