"""The pages in docs/ -> their commands are run and their outputs compared, links resolve, and nothing is left out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main
from nursery import PYTHON

from clipcal import snippet
from clipcal.cli.main import app
from clipcal.frameworks.table import FRAMEWORKS
from clipcal.logs.table import readers

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md"))

FENCE = re.compile(r"(?P<indent> *)```(?P<language>[\w+-]*)(?P<info>[^`]*)")
TITLE = re.compile(r'title="([^"]+)"')
COMMENT = re.compile(r"<!-- (not run|snippet|from|after|edit): (.*?) -->")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
PICTURE = re.compile(r"[\u2580-\u259f\u2800-\u28ff\u2502\u250a]")
"""Blocks, Braille dots and the lines beside them: drawn again in every version."""
TOLERANCE = 0.1
"""A number of a training may differ by so much, relative: its last bits depend on the CPU."""
DATA = ("yaml", "json", "toml", "text", "csv", "diff")
"""What is shown and not run; with a title it is a file of the page."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """``marks`` are the comments right above it: ``{"not run": "needs 2 GPUs"}``."""

    where: str
    language: str
    title: str | None
    text: str
    marks: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command came to."""

    code: int
    stdout: list[str]
    stderr: list[str]


def blocks_of(page: str) -> Iterator[Block]:
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    marks: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line, start = lines[at], at + 1
        at += 1
        opened = FENCE.fullmatch(line)
        if opened is None:
            marks |= {m[1]: m[2] for m in COMMENT.finditer(line)} if "<!--" in line else {}
            if line.strip() and "<!--" not in line:
                marks = {}
            continue
        indent = len(opened["indent"])
        body = []
        while lines[at].strip() != "```":
            body.append(lines[at][indent:])
            at += 1
        at += 1
        title = TITLE.search(opened["info"])
        yield Block(
            where=f"docs/{page}:{start}",
            language=opened["language"],
            title=title[1] if title else None,
            text="\n".join(body) + "\n",
            marks=marks,
        )
        marks = {}


def after(page: str) -> str | None:
    """The page whose folder this one goes on with: it says so in its first line."""
    first = (DOCS / page).read_text(encoding="utf-8").split("\n", 1)[0]
    found = COMMENT.fullmatch(first)
    return found[2] if found is not None and found[1] == "after" else None


def groups() -> list[list[str]]:
    """Pages that share a folder, in the order in which they go on with each other."""
    return [[root, *(p for p in PAGES if after(p) == root)] for root in PAGES if after(root) is None]


# What a page says is so


@pytest.mark.parametrize("pages", groups(), ids=lambda pages: pages[0])
def test_commands_do_what_the_page_says(pages: list[str], tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    for page in pages:
        folder = tmp_path / page.replace("/", "-")
        shutil.copytree(before, folder)
        _go_through(page, folder)
        if page == pages[0]:
            before = folder


def _go_through(page: str, folder: Path) -> None:
    said: dict[str, Said] = {}
    for block in blocks_of(page):
        if "not run" in block.marks:
            assert len(block.marks["not run"]) > 5, f"{block.where}: says no reason"
        elif "snippet" in block.marks:
            name, _, method = block.marks["snippet"].partition(" ")
            expected = snippet(name, max_norm=14.0, method=method or "norm")  # type: ignore[arg-type]
            assert block.text == expected + "\n", f"{block.where}: `--for {name}` prints\n{expected}"
        elif "from" in block.marks:
            command = block.marks["from"]
            assert command in said, f"{block.where}: {command!r} was not run on this page before"
            _compare(block.where, block.text.splitlines(), said[command])
        elif "edit" in block.marks:
            _edit(block, folder / block.marks["edit"])
        elif block.title is not None:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            _run_console(block, folder, said)
        elif block.language == "python":
            answer = _run([str(PYTHON), "-c", block.text], folder)
            assert answer.code == 0, f"{block.where}: exit {answer.code}\n" + "\n".join(answer.stderr)
        else:
            assert block.language in DATA, f"{block.where}: is neither run nor says why not (<!-- not run: ... -->)"


def _edit(block: Block, path: Path) -> None:
    """What the reader does in an editor: the lines with ``-`` become those with ``+``."""
    lines = block.text.splitlines()
    old, new = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{block.where}: {path.name} has no such lines"
    path.write_text(text.replace(old, new), encoding="utf-8")


def _run_console(block: Block, folder: Path, said: dict[str, Said]) -> None:
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not parts[0].strip(), f"{block.where}: does not begin with a command (`$ ...`)"
    asked: Said | None = None
    for i, part in enumerate(parts[1:]):
        command, _, output = part.replace("\\\n", "").partition("\n")
        command = re.sub(r"  +#.*", "", command)
        if command == "echo $?":
            assert asked is not None
            assert output.split() == [str(asked.code)], f"{block.where}: the exit code was {asked.code}"
            asked = None
            continue
        answer = _run(["bash", "-c", command], folder)
        shown_next = parts[i + 2].startswith("echo $?") if i + 2 < len(parts) else False
        if not shown_next:
            assert answer.code == 0, f"{block.where}: {command}: exit {answer.code}\n" + "\n".join(answer.stderr)
        _compare(f"{block.where}: {command}", output.splitlines(), answer)
        said[command] = asked = answer


def _run(command: list[str], folder: Path) -> Said:
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(PYTHON).parent), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
    return Said(code=done.returncode, stdout=done.stdout.splitlines(), stderr=done.stderr.splitlines())


def _compare(where: str, shown: list[str], said: Said) -> None:
    """``shown`` is stdout, as a whole but for lines ``...``, with lines of stderr between where the page shows some."""
    shown = [line for line in shown if not any(line != "..." and _alike(line, e) for e in said.stderr)]
    pieces: list[list[str]] = [[]]
    for line in shown:
        if line.strip() == "...":
            pieces.append([])
        elif line.strip() and not PICTURE.search(line):
            pieces[-1].append(line)
    stdout = [line for line in said.stdout if line.strip() and not PICTURE.search(line)]
    at = 0
    for number, piece in enumerate(pieces):
        if not piece:
            continue
        starts = range(at, len(stdout) - len(piece) + 1) if number else range(at, at + 1)
        found = next((s for s in starts if _all_alike(piece, stdout[s : s + len(piece)])), None)
        got = "\n".join([*said.stdout, *said.stderr])
        assert found is not None, f"{where}: the page shows\n" + "\n".join(piece) + f"\n\nand it says\n{got}"
        at = found + len(piece)
    if shown and pieces[-1]:
        assert at == len(stdout), f"{where}: says more than the page shows:\n" + "\n".join(stdout[at:])


def _all_alike(shown: list[str], said: list[str]) -> bool:
    return len(shown) == len(said) and all(_alike(a, b) for a, b in zip(shown, said, strict=True))


def _alike(shown: str, said: str) -> bool:
    """The same words; ``...`` stands for any of them, numbers may differ a little, and so may the spaces between."""
    words = [re.escape(w) for w in NUMBER.sub("\0", shown.strip()).split()]
    pattern = r"\s+".join(words).replace(re.escape("\0"), f"({NUMBER.pattern})").replace(re.escape("..."), ".*")
    found = re.fullmatch(pattern, said.strip())
    if found is None:
        return False
    return all(_close(a, b) for a, b in zip(NUMBER.findall(shown), found.groups(), strict=True))


def _close(a: str, b: str) -> bool:
    x, y = float(a.replace(",", "")), float(b.replace(",", ""))
    return abs(x - y) <= TOLERANCE * max(abs(x), abs(y))


# What every page has to have


def test_commands_are_console_blocks() -> None:
    for page in PAGES:
        for block in blocks_of(page):
            assert block.language not in ("", "bash", "sh", "shell"), f"{block.where}: `console` and `$ ` for commands"


def test_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # an advertisement of the theme's
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="(https?:[^"]+)"', html)
        loaded += re.findall(r'<link[^>]* rel="(?:stylesheet|preconnect|icon)"[^>]* href="(https?:[^"]+)"', html)
        assert not loaded, f"{page.name} loads {loaded}"


def test_links_and_anchors_resolve() -> None:
    for page in PAGES:
        text = re.sub(
            r"^ *```.*?^ *```$", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        )
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?://", target):
                continue
            file, _, anchor = target.partition("#")
            path = (DOCS / page).parent / file if file else DOCS / page
            assert path.is_file(), f"docs/{page} links to {target}"
            if anchor:
                assert anchor in _anchors(path), f"docs/{page} links to {target}; there are {sorted(_anchors(path))}"


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = {m[1] for h in headings if (m := re.search(r"\{ *#([\w-]+) *\}", h))}
    return named | {_slug(h) for h in headings}


def _slug(heading: str) -> str:
    """As Python-Markdown's toc makes it."""
    plain = re.sub(r"[^\w\s-]", "", heading.encode("ascii", "ignore").decode()).strip().lower()
    return re.sub(r"[-\s]+", "-", plain)


# What is there has to be said


def _everything() -> str:
    return "\n".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES)


def test_every_command_and_flag_is_named() -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    command = typer.main.get_command(app)
    for name, sub in command.commands.items():  # type: ignore[attr-defined]
        found = re.search(rf"^## clipcal {name}$(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
        assert found, f"docs/commands.md has no section `## clipcal {name}`"
        for flag in (f for p in sub.params for f in p.opts if f.startswith("-")):
            assert re.search(rf"`[^`]*(?<![\w-]){flag}(?![\w-])[^`]*`", found[1] + _shared(text)), (
                f"docs/commands.md does not name {flag} of `clipcal {name}`"
            )


def _shared(text: str) -> str:
    found = re.search(r"^## Options of every command$(.*?)(?=^## )", text, flags=re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def test_every_framework_is_shown() -> None:
    shown = {b.marks["snippet"].split()[0] for page in PAGES for b in blocks_of(page) if "snippet" in b.marks}
    assert set(FRAMEWORKS) <= shown, f"no page shows what `--for` prints for {sorted(set(FRAMEWORKS) - shown)}"
    table = (DOCS / "snippets.md").read_text(encoding="utf-8")
    for name, entry in FRAMEWORKS.items():
        for known in (name, *entry.aliases):
            assert f"`{known}`" in table, f"docs/snippets.md does not name {known}"


def test_every_log_format_is_named() -> None:
    text = (DOCS / "logs.md").read_text(encoding="utf-8").lower()
    for reader in readers():
        assert reader.title.lower() in text, f"docs/logs.md does not name: {reader.title}"
