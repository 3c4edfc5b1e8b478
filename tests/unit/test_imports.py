"""The two rules of the house's imports: they run one way from room to room, and reading a trace never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "clipcal"

# A room is a folder, or a module at the root. It imports from the rows above its own and from nowhere else, inside functions too.
ROWS: tuple[tuple[str, ...], ...] = (
    ("_version", "errors"),
    ("run", "streams"),
    ("sources", "stats", "logs"),
    ("recommendation",),
    ("checking", "frameworks", "training"),
    ("hooks",),
    ("watching", "scripts"),
    ("arms", "doctor", "integrations"),
    ("runs", "surveying", "verification"),
    ("views",),
    ("cli",),
    ("__init__", "__main__"),
)
TORCH = ("training", "hooks", "watching", "integrations", "scripts.child", "arms")
"""What may load torch when it is imported. Nothing else does, whatever it imports in turn."""
MOST_ROOMS = 26


def modules() -> dict[str, Path]:
    """Every module of the package by its name without ``clipcal.``."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return names


def imported(path: Path, *, when_loaded: bool) -> set[str]:
    """What a module imports: all of it, or what it imports while it is loaded (not in its functions, nor under TYPE_CHECKING)."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if when_loaded and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if when_loaded and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        pending += list(ast.iter_child_nodes(node))
    return found


def rooms() -> set[str]:
    return {module.partition(".")[0] for module in modules()}


def row(room: str) -> int:
    return next(i for i, names in enumerate(ROWS) if room in names)


def ours(names: set[str]) -> set[str]:
    """The modules of clipcal among these names, without ``clipcal.``."""
    known = modules()
    return {name.removeprefix("clipcal.") for name in names if name.startswith("clipcal.")} & known.keys()


def with_all_that_they_load(pending: list[str]) -> tuple[set[str], set[str]]:
    """Modules -> they and what they import in turn when they are loaded, and the packages that are not clipcal's."""
    known = modules()
    seen: set[str] = set()
    foreign: set[str] = set()
    while pending:
        module = pending.pop()
        if module in seen:
            continue
        seen.add(module)
        names = imported(known[module], when_loaded=True)
        pending += ours(names)
        foreign |= {name.partition(".")[0] for name in names if not name.startswith("clipcal")}
    return seen, foreign


def test_every_room_stands_in_one_row_and_there_are_few() -> None:
    listed = [room for names in ROWS for room in names]
    assert sorted(listed) == sorted(rooms())
    assert len(listed) <= MOST_ROOMS
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "__main__", "_version", "errors", "streams"}


@pytest.mark.parametrize("module", modules())
def test_imports_run_one_way(module: str) -> None:
    room = module.partition(".")[0]
    for target in ours(imported(modules()[module], when_loaded=False)):
        there = target.partition(".")[0]
        assert there == room or row(there) < row(room), (
            f"clipcal.{module} imports clipcal.{target}, which is not above it"
        )


@pytest.mark.parametrize("module", [m for m in modules() if not m.startswith(TORCH)])
def test_torch_is_loaded_by_its_rooms_alone(module: str) -> None:
    assert "torch" not in with_all_that_they_load([module])[1]


@pytest.mark.parametrize(
    "code",
    [
        "import clipcal; clipcal.recommend([1.0] * 50)",
        "import sys; sys.argv = ['clipcal', '--help']\nfrom clipcal.cli.main import app\napp(standalone_mode=False)",
        "import clipcal.recommendation.evidence, clipcal.views.terminal.console, clipcal.frameworks.snippets, clipcal.logs, clipcal.views.terminal.following, clipcal.frameworks.applying.planning",
        "import clipcal.views.html.writing",
        "import clipcal.sources.spec; clipcal.sources.spec.json_schema()",
        "import clipcal.sources.samples; clipcal.sources.samples.samples()",
        "import clipcal.runs.comparing, clipcal.views.terminal.comparison, clipcal.sources.script",
        "import clipcal.doctor.examining, clipcal.cli.doctor",
        "import clipcal.surveying.survey, clipcal.surveying.reading, clipcal.surveying.cluster, clipcal.cli.survey",
        "import clipcal.scripts.profiling, clipcal.arms.of_script, clipcal.arms.trainers, clipcal.views.terminal.live, clipcal.verification.choosing",
    ],
)
def test_no_torch_where_nothing_is_trained(code: str) -> None:
    program = f"{code}\nimport sys\nassert 'torch' not in sys.modules, 'torch was loaded'"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_runs_in_a_watched_process_needs_torch_alone() -> None:
    """It may be in an environment that has nothing else of what clipcal needs."""
    _, foreign = with_all_that_they_load([name for name in modules() if name.startswith("scripts.child.")])
    assert foreign - set(sys.stdlib_module_names) == {"torch"}
