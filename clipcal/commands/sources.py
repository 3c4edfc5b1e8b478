"""The words of ``profile`` and ``calibrate`` -> their options, and a hint where a script's own argument stands among them."""

from __future__ import annotations

import difflib
import shlex
from typing import Any

from typer.core import TyperCommand


class SourceCommand(TyperCommand):
    """A command that takes a spec, or a script whose arguments follow after ``--``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)  # they are taken apart while they are read
        try:
            return super().parse_args(ctx, args)
        except Exception as e:
            # typer has a click of its own in some versions, so the class is known by its name alone
            option = getattr(e, "option_name", None)
            script = next((i for i, word in enumerate(words) if word.endswith(".py")), None)
            meant = difflib.get_close_matches(str(option), getattr(e, "possibilities", None) or [], cutoff=0.75)
            if type(e).__name__ == "NoSuchOption" and not meant and script is not None and "--" not in words:
                example = shlex.join(["clipcal", str(self.name), words[script], "--", *_after(words, str(option))])
                e.message = f"No such option: {option}. A script's own arguments go after --: {example}"  # type: ignore[attr-defined]
                e.possibilities = None  # type: ignore[attr-defined]
            raise


def _after(words: list[str], option: str) -> list[Any]:
    """From the unknown option on."""
    at = next((i for i, word in enumerate(words) if word.startswith(option)), len(words))
    return words[at:]
