"""CONTRIBUTING, CHANGELOG, SECURITY and CITATION say what is there."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest
import yaml
from golden.reading import golden_runs

from clipcal import __version__

ROOT = Path(__file__).parents[2]
PAPERS = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
FOLDERS = "clipcal|tests|docs|benchmarks|configs|sample_models"
PLACEHOLDERS = ("clipcal/logs/readers/yourformat.py", "sample_models/NAME.py", "configs/NAME.yaml")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def named_paths(text: str) -> set[str]:
    """What stands in backticks and is a path of the repository, or a file of its root."""
    found = set(re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text))
    return found | set(re.findall(r"`([A-Za-z][\w-]*\.(?:md|txt|toml|cff|yml))`", text))


@pytest.mark.parametrize("name", PAPERS)
def test_every_path_that_is_named_exists(name: str) -> None:
    paths = named_paths(text_of(name)) - set(PLACEHOLDERS)
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), f"{name} names {path}"


def test_every_room_and_every_module_beside_them_is_on_the_map() -> None:
    text = text_of("CONTRIBUTING.md")
    rows = re.findall(r"^\| `clipcal/(\w+)/` \| (.+) \|$", text, re.MULTILINE)
    rooms = {path.parent.name for path in (ROOT / "clipcal").glob("*/__init__.py")}
    assert [room for room, _ in rows] == sorted(rooms)
    modules = {path.name for path in (ROOT / "clipcal").glob("*.py")} - {"__init__.py", "_version.py"}
    beside = text[text.index("Beside the rooms") :].partition("\n\n")[0]
    assert set(re.findall(r"`([\w_]+\.py)`", beside)) == modules


def test_ten_questions_are_answered_by_two_files_at_most() -> None:
    text = text_of("CONTRIBUTING.md")
    table = text[text.index("## Ten questions") :].split("\n## ")[0]
    rows = re.findall(r"^\| ([A-Z][^|]*\?) \| ([^|]+) \|$", table, re.MULTILINE)
    assert len(rows) == 10
    for question, answer in rows:
        paths = re.findall(r"`([^`]+)`", answer)
        assert 1 <= len(paths) <= 2, question
        assert all((ROOT / path).exists() for path in paths), answer


def test_the_tables_that_are_to_be_added_to_are_where_the_text_says() -> None:
    text = text_of("CONTRIBUTING.md")
    for name, path in (
        ("ENTRIES", "clipcal/logs/table.py"),
        ("FRAMEWORKS", "clipcal/frameworks/table.py"),
        ("BASELINES", "clipcal/recommendation/baselines.py"),
        ("PLACES", "tests/unit/frameworks/test_snippets.py"),
        ("ROWS", "tests/unit/test_imports.py"),
        ("TORCH", "tests/unit/test_imports.py"),
    ):
        assert f"`{name}`" in text
        assert f"`{path}`" in text
        assert re.search(rf"^{name}\b.* = ", text_of(path), re.MULTILINE), f"{path} has no {name}"


def test_the_targets_of_make_that_are_named_are_there() -> None:
    for target in re.findall(r"\bmake ([a-z-]+)`", text_of("CONTRIBUTING.md")):
        assert re.search(rf"^{target}:", text_of("Makefile"), re.MULTILINE), target


@pytest.mark.parametrize("name", PAPERS)
def test_links_resolve(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(name)):
        path, _, anchor = target.partition("#")
        if target.startswith("https://"):
            continue
        assert (ROOT / path).is_file(), target
        headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}
        assert not anchor or anchor in slugs, f"{target}: there are {sorted(slugs)}"


def test_the_changelog_has_every_version_newest_first() -> None:
    heads = re.findall(r"^## (.+)$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert heads[0] == "Unreleased"
    versions = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) - (\d{4}-\d\d-\d\d)", head) for head in heads[1:]]
    assert all(versions), heads
    numbers = [tuple(map(int, v.groups()[:3])) for v in versions if v]
    assert numbers == sorted(numbers, reverse=True)
    dates = [datetime.date.fromisoformat(v[4]) for v in versions if v]
    assert dates == sorted(dates, reverse=True)
    known = {".".join(map(str, number)) for number in numbers}
    assert __version__ in known
    assert {golden.parent.name for golden in golden_runs()} <= known


def test_sections_of_the_changelog_are_those_of_keep_a_changelog() -> None:
    kinds = set(re.findall(r"^### (.+)$", text_of("CHANGELOG.md"), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_is_of_this_version() -> None:
    cff = yaml.safe_load(text_of("CITATION.cff"))
    assert cff.keys() == {
        *(
            "cff-version",
            "message",
            "type",
            "title",
            "abstract",
            "authors",
            "version",
            "date-released",
            "license",
            "keywords",
        )
    }
    assert (cff["cff-version"], cff["type"], cff["title"], cff["license"]) == ("1.2.0", "software", "clipcal", "MIT")
    assert cff["authors"] == [{"name": "The clipcal developers"}]
    assert str(cff["version"]) == __version__
    assert isinstance(cff["date-released"], datetime.date)
    assert f"## {__version__} - {cff['date-released']}" in text_of("CHANGELOG.md")
    assert all(isinstance(word, str) for word in cff["keywords"])
    assert len(set(cff["keywords"])) == len(cff["keywords"])
