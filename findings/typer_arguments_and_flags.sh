#!/usr/bin/env bash
# typer before 0.26.1, without rich markup (rich_markup_mode=None), as seen on 2026-12-01 with Python 3.11:
#   typer 0.25.1 with click 8.5.1: `--help` lists an argument and drops its help text ("LOG  [required]").
#   typer 0.26.0: a flag that names an environment variable shows it in `--help`, and does not read it.
#   typer 0.26.1: both work.
# Fails if one of these is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/app.py" <<'PY'
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None)


@app.command()
def run(
    log: Annotated[str, typer.Argument(help="The log to read.")],
    plain: Annotated[bool, typer.Option(envvar="APP_PLAIN")] = False,
) -> None:
    print("plain" if plain else "coloured")


app()
PY

seen() { # the version of typer -> whether the argument has its text, and what the flag is with APP_PLAIN=1
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "typer==$1" click==8.5.1
    text=$("$folder/venv/bin/python" "$folder/app.py" --help | grep -c "The log to read" || true)
    flag=$(APP_PLAIN=1 "$folder/venv/bin/python" "$folder/app.py" train.log)
    echo "typer $1: argument's text in --help $text, flag by its variable: $flag"
}

out=$(for version in 0.25.1 0.26.0 0.26.1; do seen "$version"; done)
echo "$out"
diff <(echo "$out") - <<'SEEN'
typer 0.25.1: argument's text in --help 0, flag by its variable: plain
typer 0.26.0: argument's text in --help 1, flag by its variable: coloured
typer 0.26.1: argument's text in --help 1, flag by its variable: plain
SEEN
echo "as it was"
