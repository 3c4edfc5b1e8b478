"""``clipcal init``: a starter spec, or a shipped sample with its model."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from clipcal.cli.answering import print_json, said_no
from clipcal.cli.options import Force, Json, Quiet
from clipcal.errors import InputError

SCHEMA = "clipcal.init/1"
STARTER_FILE = Path("clipcal.yaml")


def init(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Where to write it; with --sample a folder, or the spec's file.  [default: clipcal.yaml]",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            metavar="NAME",
            help="Write the spec and the model of a shipped sample, such as char-lstm; a wrong name lists all.",
            show_default=False,
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
    with said_no():
        if schema:
            if sample is not None:
                raise InputError("--schema prints, and --sample writes files. Give one of them.")
            from clipcal.sources.spec import json_schema

            print_json(json_schema())
        elif sample is not None:
            _sample(sample, path, json=json, force=force, quiet=quiet)
        else:
            _starter(path or STARTER_FILE, json=json, force=force, quiet=quiet)


def _starter(path: Path, *, json: bool, force: bool, quiet: bool) -> None:
    from clipcal.sources.starter import STARTER

    try:
        with path.open("w" if force else "x", encoding="utf-8") as f:
            f.write(STARTER)
    except FileExistsError:
        raise InputError(f"{path}: is there already. Name another path, or replace it with --force.") from None
    except OSError as e:
        raise InputError(f"{path}: cannot be written ({e.strerror}). Name another path.") from None
    if json:
        print_json({"schema": SCHEMA, "path": str(path), "written": True})
    if not quiet:
        print(f"wrote {path}; put your model and data in it, then: clipcal calibrate {path}", file=sys.stderr)


def _sample(name: str, path: Path | None, *, json: bool, force: bool, quiet: bool) -> None:
    from clipcal.sources.samples.finding import sample
    from clipcal.sources.samples.writing import write_sample

    found = sample(name)
    files = write_sample(found, path or Path(), force=force)
    if json:
        answer = {"schema": SCHEMA, "path": str(files[0]), "written": True}
        print_json(answer | {"sample": found.name, "files": [str(file) for file in files]})
    if quiet:
        return
    print(f"wrote {', '.join(map(str, files))}; next: clipcal calibrate {shlex.quote(str(files[0]))}", file=sys.stderr)
    if found.missing:
        print(
            f"note: {found.name} imports {', '.join(found.missing)}, which is not installed. Run pip install 'clipcal[samples]'",
            file=sys.stderr,
        )
