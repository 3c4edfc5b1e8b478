"""The pictures of the pages and of the README: all there, all shown, all drawn by docs/pictures.py, and as they are measured."""

from __future__ import annotations

import importlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
PAGES = sorted(DOCS.rglob("*.md"))
SHOWN = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
SVG = "{http://www.w3.org/2000/svg}"
UNTRAINED = ("overview", "gap", "interval", "regret")
"""Drawn from the benchmarks' traces and results alone."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("pictures")


@pytest.fixture
def table(script: ModuleType) -> Mapping[str, Any]:
    found: Mapping[str, Any] = script.PICTURES
    return found


def shown() -> dict[Path, tuple[Path, str]]:
    """Each file that is shown, with the page that shows it and what is said in its place."""
    found = {}
    for page in [ROOT / "README.md", *PAGES]:
        for said, target in SHOWN.findall(page.read_text(encoding="utf-8")):
            found[(page.parent / target).resolve()] = (page, said)
    return found


def words_in(file: Path) -> list[str]:
    return ["".join(text.itertext()).strip() for text in ET.parse(file).iter(f"{SVG}text")]


def test_every_picture_that_is_shown_is_there_and_said_in_words() -> None:
    assert len(shown()) >= 7
    for file, (page, said) in shown().items():
        assert file.is_file(), f"{page.name} shows {file}"
        assert len(said.split()) >= 15, f"{page.name}: {file.name} is not said in words"


def test_every_picture_is_shown_and_can_be_drawn(table: Mapping[str, Any]) -> None:
    files = {f for f in PICTURES.iterdir() if f.name[0] != "."}
    assert files == set(shown())
    assert files == {PICTURES / f"{name}.svg" for name in table}


@pytest.mark.parametrize("file", sorted(PICTURES.glob("*.svg")), ids=lambda file: file.stem)
def test_pictures_are_small_and_their_text_is_text(file: Path) -> None:
    assert file.stat().st_size < 150_000
    root = ET.parse(file).getroot()
    assert root.get("width") == "760"
    assert root.get("viewBox") == f"0 0 760 {root.get('height')}"
    assert len(words_in(file)) > 10
    assert next(root.iter(f"{SVG}image"), None) is None, "dots among the lines blur"
    loaded = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href") and not v.startswith("#")]
    assert not loaded


@pytest.mark.parametrize("name", UNTRAINED)
def test_pictures_say_what_was_measured(
    name: str, script: ModuleType, table: Mapping[str, Any], tmp_path: Path
) -> None:
    drawn = script.draw(name, table[name], tmp_path)
    assert words_in(drawn) == words_in(PICTURES / f"{name}.svg"), f"run: python docs/pictures.py {name}"
    before = drawn.read_bytes()
    assert script.draw(name, table[name], tmp_path).read_bytes() == before


def test_a_picture_that_is_not_there_is_answered(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["readmee"])
    assert "readme" in capsys.readouterr().err


def test_nothing_is_left_to_be_drawn_or_checked() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert "<!-- picture:" not in text, f"{page.name}: a picture is missing"
        assert "<!-- soon -->" not in text, f"{page.name}: a sentence is not yet true, or nobody has looked"
