"""``clipcal init``: a starter spec."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clipcal.commands.answering import print_json, said_no
from clipcal.commands.options import Force, Json, Quiet
from clipcal.errors import InputError

SCHEMA = "clipcal.init/1"


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("clipcal.yaml"),
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the spec's JSON Schema, for editors, and write nothing.")
    ] = False,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write a commented starter spec."""
    with said_no():
        if schema:
            from clipcal.spec import json_schema

            print_json(json_schema())
            return
        from clipcal.starter import STARTER

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
