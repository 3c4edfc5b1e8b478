"""A user's regular expression -> a reader of text logs that nobody else's reader knows."""

from __future__ import annotations

import re
import warnings

from clipcal.errors import InputError
from clipcal.logs.log import Log, Reader
from clipcal.logs.names import NUMBER, value_of
from clipcal.logs.rows import Rows
from clipcal.logs.source import Source

TITLE = "text log read by --pattern"
EXAMPLE = r"'step (?P<step>\d+).*gnorm (?P<norm>\S+)'"

MAX_LINE = 4_000
"""Characters of a line that are searched: the time that a pattern with nested repetitions takes grows with them."""
_GROUPS = {"norm": "grad_norm", "grad_norm": "grad_norm", "step": "step", "loss": "loss", "lr": "learning_rate"}
"""The groups that a pattern may have -> the name that its value is read under."""
_NUMBER_BEHIND = re.compile(rf"(?i)(?P<word>(?:grad(?:ient)?|norm|∇)[^\d\n]{{0,30}}?[\s:=(\[|]){NUMBER}")
_STEP_BEFORE = re.compile(r"(?i)((?:step|iter|iteration|update|batch)[\s:=\[#]{1,4})\d+")


def pattern_reader(pattern: str) -> Reader:
    """A reader that takes a row from every line in which ``pattern`` is found, by its named groups.

    ``norm`` (or ``grad_norm``) is required; ``step``, ``loss`` and ``lr`` are optional. Raises InputError for a pattern
    that is no regular expression, and for other groups.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of what a future Python may read otherwise
            compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as e:
        at = getattr(e, "pos", None)
        where = "" if at is None else f" at character {at + 1}"
        reason = getattr(e, "msg", str(e) or "too deeply nested")
        raise InputError(f"--pattern is no regular expression: {reason}{where}. Write it like {EXAMPLE}.") from None
    groups = set(compiled.groupindex)
    unknown = sorted(groups - set(_GROUPS))
    if unknown:
        raise InputError(
            f"--pattern has a group named {unknown[0]!r}; it may have norm (or grad_norm), step, loss and lr. "
            "Name it as one of those, or make it (?:...)."
        )
    norms = groups & {"norm", "grad_norm"}
    if len(norms) != 1:
        raise InputError(
            f"--pattern needs {'one group, not both,' if norms else 'a group'} for the gradient norm: write it like {EXAMPLE}."
        )
    return Reader(
        title=TITLE,
        recognises=lambda source: source.is_text,
        read=lambda source: _read(source, compiled),
        norms="print the gradient norm in every line that --pattern is meant for",
    )


def suggested(line: str) -> str | None:
    """A pattern that finds the norm in a line and in others like it: the number behind the first word that may name one. None where
    there is no such number."""
    found = _NUMBER_BEHIND.search(line[:MAX_LINE])
    if found is None:
        return None
    pattern = re.sub(r"(?:\\ )+", r"\\s+", re.escape(re.sub(r"\s+", " ", found["word"])))
    pattern = re.sub(r"\d+", r"\\d+", pattern) + r"(?P<norm>[^\s,;|)\]]+)"
    step = _STEP_BEFORE.search(line[: found.start()])
    if step is not None:
        pattern = rf"{re.escape(step[1]).replace(chr(92) + ' ', chr(92) + 's+')}(?P<step>\d+).*{pattern}"
    matched = re.search(pattern, line)
    return pattern if matched and _number(matched["norm"]) is not None else None


def _read(source: Source, pattern: re.Pattern[str]) -> Log:
    rows = Rows()
    first_norm = ""
    found_lines = unread = 0
    norm_group = "norm" if "norm" in pattern.groupindex else "grad_norm"
    for line in source.lines():
        line = line[:MAX_LINE]
        found = pattern.search(line)
        if not found:
            if not first_norm and "norm" in line.lower():
                first_norm = line.strip()
            continue
        found_lines += 1
        values = {name: _number(text) for name, text in found.groupdict().items() if text is not None}
        if values.get(norm_group) is None:
            rows.counting.pass_over(f"the group {norm_group!r} holds no number", repr(line.strip()))
            unread += 1
            continue
        rows.add({_GROUPS[name]: value for name, value in values.items() if name != "step"}, step=values.get("step"))
    if not len(rows):
        nothing = "--pattern matches none of its lines."
        if found_lines:
            nothing = (
                f"--pattern matches {found_lines} lines, but its group {norm_group!r} holds no number in any of them. "
                r"Let it match the number alone, as in (?P<norm>\S+)."
            )
        shown = first_norm if len(first_norm) <= 200 else first_norm[:197] + "..."
        raise InputError(f"{source.path}: {nothing}{shown and f' The first line that names a norm: {shown}'}")
    return rows.log(TITLE)


def _number(text: str) -> float | None:
    """The number in a group, quotes and trailing punctuation left out."""
    plain = value_of(text)
    return value_of(text.strip().strip("'\"").rstrip(",;:|)]}")) if plain is None else plain
