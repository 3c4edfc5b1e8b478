"""Elements of a page -> HTML. What is put in as text is escaped on the way out, whoever wrote it; nothing here takes markup."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from clipcal.run.jsonfile import plain
from clipcal.views.words import printable


def h(tag: str, *content: ElementTree.Element | str | None, **attributes: str) -> ElementTree.Element:
    """An element. ``class_`` and ``for_`` stand for the attributes of that name, ``data_x`` for ``data-x``; None is left out."""
    element = ElementTree.Element(
        tag, {name.rstrip("_").replace("_", "-"): _clean(value) for name, value in attributes.items()}
    )
    last: ElementTree.Element | None = None
    for item in content:
        if item is None:
            continue
        if not isinstance(item, str):
            element.append(item)
            last = item
        elif last is None:
            element.text = (element.text or "") + _clean(item)
        else:
            last.tail = (last.tail or "") + _clean(item)
    return element


def many(tag: str, items: Iterable[ElementTree.Element | str | None], **attributes: str) -> ElementTree.Element:
    return h(tag, *items, **attributes)


def data(name: str, value: Any) -> ElementTree.Element:
    """A block of JSON for the page's script. ``<`` is written as its escape, so that nothing in it can end the block."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char, escape in (
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        text = text.replace(char, escape)
    element = ElementTree.Element("script", {"type": "application/json", "id": name})
    element.text = text
    return element


def trusted(tag: str, text: str) -> ElementTree.Element:
    """A style or a script of our own, as it is."""
    element = ElementTree.Element(tag)
    element.text = text
    return element


def page(root: ElementTree.Element) -> str:
    return "<!doctype html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"


def _clean(text: str) -> str:
    """Lines and tabs as they are; other control characters and lone surrogates have no place in HTML."""
    return "".join(c if c in "\n\t" else printable(c) for c in text)
