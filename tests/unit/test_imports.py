"""The two rules of the house's imports: they run one way, and reading a trace never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "clipcal"

# Every module may import, when it is loaded, only from its own row and the rows before it. A room stands in a row as one, or module by module.
ROWS: tuple[tuple[str, ...], ...] = (
    ("_version", "errors", "presence", "ranks", "wholefile", "replacing", "jsonfile", "kinds", "step"),
    (
        "recommendation",
        "recommendation.answer",
        "records",
        "verification",
        "verification.answer",
        "stdio",
        "starter",
        "samples",
    ),
    ("terminal", "rescaling"),
    ("trace", "usercode", "losses", "rundir", "logs"),
    (
        "layers",
        "stats",
        "recommendation.baselines",
        "terminal.canvas",
        "terminal.charts",
        "terminal.curve",
        "terminal.timeline",
        "terminal.folding",
        "patience",
    ),
    (
        "recommendation.guarding",
        "recommendation.reasons",
        "recommendation.calibration",
        "snippets",
        "recommendation.scaled",
        "recommendation.evidence",
        "recommendation.replay",
        "recommendation.attribution",
        "recommendation.peaks",
        "recommendation.shards",
        "recommendation.ranks",
        "recommendation.culprits",
        "recommendation.reprofiling",
        "verification.arms",
        "verification.unreached",
        "verification.judging",
        "verification.racing",
        "checking",
        "applying",
        "profiled",
        "rescaling.probed",
        "rescaling.transfer",
        "rescaling.moved",
        "rescaling.telling",
        "rescaling.moving",
        "pasting",
    ),
    ("figures",),
    (
        "terminal.pictures",
        "terminal.console",
        "terminal.tables",
        "terminal.checkview",
        "terminal.plainview",
        "terminal.following",
        "tensorboarding",
    ),
    ("plotting", "reporting"),
    ("spec", "targets", "gradnorm", "training", "fetching", "recorder"),
    ("overview",),
    ("recording",),
    ("runners", "profiling", "rescaling.probing", "parallel", "executors"),
    ("watching",),
    ("attaching",),
    ("scripts",),
    ("doctor",),
    ("verification.retraining",),
    ("verification.trials", "verification.verifying", "verification.choosing"),
    ("integrations",),
    ("terminal.live",),
    ("commands",),
    ("cli", "__main__", "__init__"),
)
TRAINING_SIDE = {
    "gradnorm", "training", "fetching", "recorder", "recording", "runners", "profiling", "rescaling.probing", "verification.trials",
    "verification.verifying", "verification.choosing", "verification.retraining", "terminal.live", "watching", "integrations", "attaching",
    "scripts", "parallel", "executors",
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the package by its name without ``clipcal.``."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return names


def loaded_on_import(path: Path) -> set[str]:
    """What a module imports while it is loaded: not what stands in its functions or under TYPE_CHECKING."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        pending += list(ast.iter_child_nodes(node))
    return found


def row(module: str) -> int:
    parts = module.split(".")
    prefixes = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next(i for prefix in prefixes for i, names in enumerate(ROWS) if prefix in names)


def on_the_training_side(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in TRAINING_SIDE)


@pytest.mark.parametrize("module", modules())
def test_imports_run_one_way(module: str) -> None:
    known = modules()
    for name in loaded_on_import(known[module]):
        target = name.removeprefix("clipcal.")
        if name.startswith("clipcal.") and target in known:
            assert row(target) <= row(module), f"clipcal.{module} imports {name}, which stands after it"


@pytest.mark.parametrize("module", [m for m in modules() if not on_the_training_side(m)])
def test_only_the_training_side_imports_torch(module: str) -> None:
    imported = loaded_on_import(modules()[module])
    assert "torch" not in {name.split(".")[0] for name in imported}
    assert not [n for n in imported if on_the_training_side(n.removeprefix("clipcal."))]


@pytest.mark.parametrize(
    "code",
    [
        "import clipcal; clipcal.recommend([1.0] * 50)",
        "import sys; sys.argv = ['clipcal', '--help']\nfrom clipcal.cli import app\napp(standalone_mode=False)",
        "import clipcal.recommendation.evidence, clipcal.terminal.console, clipcal.snippets, clipcal.logs, clipcal.terminal.following, clipcal.applying",
        "import clipcal.reporting.writing",
        "import clipcal.spec; clipcal.spec.json_schema()",
        "import clipcal.samples.finding, clipcal.samples.writing; clipcal.samples.finding.samples()",
        "import clipcal.overview.comparing, clipcal.overview.comparisonview, clipcal.scripts.script",
        "import clipcal.doctor.examining, clipcal.doctor.view, clipcal.commands.doctor",
        "import clipcal.scripts.profiling, clipcal.scripts.arms, clipcal.verification.retraining, clipcal.terminal.live, clipcal.verification.choosing",
    ],
)
def test_no_torch_where_nothing_is_trained(code: str) -> None:
    program = f"{code}\nimport sys\nassert 'torch' not in sys.modules, 'torch was loaded'"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_runs_in_a_watched_process_needs_torch_alone() -> None:
    """It may be in an environment that has nothing else of what clipcal needs."""
    known = modules()
    pending = [name for name in known if name.startswith("attaching.")]
    seen: set[str] = set()
    foreign: set[str] = set()
    while pending:
        module = pending.pop()
        if module in seen:
            continue
        seen.add(module)
        for name in loaded_on_import(known[module]):
            inner = name.removeprefix("clipcal.")
            if name.startswith("clipcal.") and inner in known:
                pending.append(inner)
            elif not name.startswith("clipcal"):
                foreign.add(name.split(".")[0])
    assert foreign - set(sys.stdlib_module_names) == {"torch"}
