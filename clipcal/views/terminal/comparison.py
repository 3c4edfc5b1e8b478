"""The comparison of two runs -> the table that a terminal shows, or the same in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from clipcal.recommendation.headline import percent
from clipcal.views.terminal.console import columns
from clipcal.views.terminal.listing import NARROWEST, age, since, wrapped
from clipcal.views.words import number, printable, spaced

if TYPE_CHECKING:
    from clipcal.runs.comparing import RunComparison

DIFFERS = "differs in"
_NAMES = {
    "verdict": "verdict",
    "max_norm": "threshold",
    "method": "clips by",
    "chosen": "chosen by training",
    "confidence": "confidence",
    "interval": "interval",
    "stable_median": "stable median",
    "stable_p99": "stable p99",
    "spikes": "spikes",
    "spike_rate": "spikes per step",
    "recorded": "steps recorded",
    "status": "profile",
    "verification": "verified",
    "verified_at": "verified at",
    "final_loss_profile": "final loss, profile",
    "final_loss_unclipped": "final loss, unclipped",
    "final_loss_clipped": "final loss, clipped",
}


def comparison(c: RunComparison, *, width: int | None, ascii: bool) -> list[Text]:
    """The sentence first, then what came out on either side, then what differs."""
    rows = [tuple(printable(x, ascii=ascii) for x in row) for row in _rows(c)]
    lines = _two(rows, width)
    return [
        Text(printable(c.summary, ascii=ascii), "bold"),
        Text(),
        *(Text(line, style, no_wrap=True) for line, style in lines),
    ]


def spoken(c: RunComparison) -> list[str]:
    """The sentence, and a line for each pair of values: for ``--plain``."""
    rows = [[cell if cell != "-" else "none" for cell in row] for row in _rows(c)[1:]]
    said = [f"{name.strip()}: {a if a == b else f'{a}, then {b}'}" for name, a, b in rows if name != DIFFERS]
    return [c.summary, f"compared: {c.a.path}, then {c.b.path}", *said]


def _rows(c: RunComparison) -> list[tuple[str, str, str]]:
    """Name and both values: what came out, then what differs."""
    thresholds, no_spikes = (
        (c.a.max_norm, c.b.max_norm),
        all(m.a in (0, None) and m.b in (0, None) for m in c.results if m.field == "spikes"),
    )
    results = []
    for m in c.results:
        if (m.a, m.b) == (None, None) or (m.field == "method" and m.a == m.b):
            continue
        if (m.field == "verified_at" and (m.a, m.b) == thresholds) or (m.field == "spike_rate" and no_spikes):
            continue
        results.append((_NAMES[m.field], _result(m.field, m.a), _result(m.field, m.b)))
    differing = [(f"  {m.field}", _setting(m.a), _setting(m.b)) for m in (*c.settings, *c.machine)]
    return [
        ("", c.a.path, c.b.path),
        ("source", c.a.source or "-", c.b.source or "-"),
        ("source since", since(c.a), since(c.b)),
        ("age", age(c.a.age_seconds), age(c.b.age_seconds)),
        *results,
        *([(DIFFERS, "", "")] if differing else []),
        *differing,
    ]


def _two(rows: Sequence[tuple[str, ...]], width: int | None) -> list[tuple[str, str]]:
    """A table of two values a row; on a terminal values that are too long go on below."""
    label = max(len(row[0]) for row in rows)
    widest = max(len(x) for row in rows for x in row[1:])
    room = widest if width is None else max((width - label - 2 - 2 * 2) // 2, NARROWEST)
    folded: list[tuple[str, str, str]] = []
    styles: list[str] = []
    for i, (name, a, b) in enumerate(rows):
        parts = wrapped(a, room) if len(a) > room else [a], wrapped(b, room) if len(b) > room else [b]
        for k in range(max(map(len, parts))):
            one, other = (side[k] if k < len(side) else "" for side in parts)
            folded.append(("" if k else name, one, other))
            styles.append("dim" if i == 0 else "bold" if name == DIFFERS else "")
    return list(zip(columns(folded, left=(0, 1, 2)), styles, strict=True))


def _result(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "verification":
        return spaced(str(value))
    if isinstance(value, list):
        return " to ".join(_result("", v) for v in value)
    if name == "spike_rate" and isinstance(value, float):
        return percent(value)
    if isinstance(value, float) and value != value:
        return "lost"
    if name.startswith("final_loss") and isinstance(value, float):
        return f"{value:.4g}"
    return number(value) if isinstance(value, float) else str(value)


def _setting(value: Any) -> str:
    """A value as it stands in a spec or on a command line."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    return str(value)
