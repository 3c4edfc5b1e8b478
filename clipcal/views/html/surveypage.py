"""A survey -> one self-contained page with every row, the worst first."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from xml.etree.ElementTree import Element

from clipcal._version import __version__
from clipcal.surveying.row import Group, Row
from clipcal.surveying.survey import Survey
from clipcal.views import words
from clipcal.views.html.html import h, many, page, trusted

GENERATOR = "clipcal survey"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The page may ask nobody for anything, whatever stands in it, and has no script."""
_HEAD = 2048
"""Bytes in which a page of ours says what made it."""
_CLASSES: dict[Group, str] = {"does_not_fit": "bad", "unguarded": "doubt", "borderline": "doubt"}
_TEXT = (0, 5, 9, 10, 11, 12)


def render(found: Survey) -> str:
    """The whole page, for a file of its own."""
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=POLICY),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="generator", content=GENERATOR),
        h("meta", name="color-scheme", content="light dark"),
        h("title", "survey · clipcal"),
        trusted("style", _asset("report.css") + _asset("survey.css")),
    )
    body = h(
        "body",
        many("main", [_header(found), _rows(found), _unread(found), _remarks(found)]),
        h("footer", f"clipcal {__version__}."),
    )
    return page(h("html", head, body, lang="en"))


def _asset(name: str) -> str:
    return resources.files("clipcal.views.html").joinpath("assets", name).read_text(encoding="utf-8")


def is_ours(path: Path) -> bool:
    """Whether a file is a page of this kind."""
    try:
        with path.open("rb") as f:
            return f'content="{GENERATOR}"'.encode() in f.read(_HEAD)
    except OSError:
        return False


def _header(found: Survey) -> Element:
    return h("header", h("p", ", ".join(found.folders), class_="name"), h("h2", words.survey_counts(found)))


def _rows(found: Survey) -> Element | None:
    rows = [row for row in found.rows if row.problem is None]
    if not rows:
        return None
    body = (many("tr", _cells("td", _told(row)), class_=_CLASSES.get(row.group, "")) for row in rows)
    head = many("tr", _cells("th", (*words.SURVEY_HEAD, "why")))
    return h("section", h("div", h("table", h("thead", head), many("tbody", body)), class_="scroll"))


def _told(row: Row) -> tuple[str, ...]:
    return (*words.survey_cells(row), row.reason or "")


def _cells(tag: str, row: Iterable[str]) -> list[Element]:
    return [h(tag, cell, class_="text" if i in _TEXT else "number") for i, cell in enumerate(row)]


def _unread(found: Survey) -> Element | None:
    problems = [row.problem for row in found.rows if row.problem is not None]
    return _listed("Not read", problems) if problems else None


def _remarks(found: Survey) -> Element | None:
    said = words.survey_remarks(found)
    return _listed("Besides", said) if said else None


def _listed(title: str, sentences: Iterable[str]) -> Element:
    return h("section", h("h2", title), many("ul", (h("li", s) for s in sentences)))
