"""The source of the package -> every place that could run code that stands in data. SECURITY.md promises that there is none but these."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import clipcal

PACKAGE = Path(clipcal.__file__).parent

# (file, what) -> why it is safe there. A place that is gone has to go from here too.
ALLOWED = {
    ("__init__.py", "importlib.import_module"): "the modules of the public names, from a table of this file",
    (
        "sources/targets.py",
        "importlib.import_module",
    ): "the `_target_` of a spec: the user's own code, which is what a spec is for",
    (
        "scripts/child/site/sitecustomize.py",
        "importlib.import_module",
    ): "the sitecustomize that Python would have loaded without ours",
    ("logs/table.py", "importlib.import_module"): "the readers, from a table of this file",
    ("arms/executors/connection.py", "importlib.import_module"): "ray, by a name that stands there",
    ("arms/executors/remote.py", "importlib.import_module"): "ray, by a name that stands there",
    (
        "logs/readers/wandb_run.py",
        "importlib.import_module",
    ): "W&B's and protobuf's message classes, by names that stand there",
    (
        "views/tensorboard/files.py",
        "importlib.import_module",
    ): "TensorBoard's and protobuf's message classes, by names that stand there",
    ("scripts/child/compiling.py", "compile"): "torch.compile as the script called it, under its own name",
    (
        "arms/executors/connection.py",
        "socket.create_connection",
    ): "asks whether the Ray cluster that the user named is there",
    (
        "scripts/processes.py",
        "subprocess.Popen",
    ): "the user's own command, as a list of words behind a line of ours that makes it a group: no shell reads it",
}

MODULES = (
    "pickle",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "jsonpickle",
    "joblib",
    "runpy",
    "code",
    "imp",
)
CALLS = (
    *("eval", "exec", "compile", "__import__", "execfile"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    *("torch.load", "numpy.load", "np.load", "pandas.read_pickle", "torch.jit.load", "torch.hub.load"),
    *("os.system", "os.popen", "pty.spawn", "importlib.import_module", "importlib.__import__"),
    *(f"os.{verb}{end}" for verb in ("exec", "spawn") for end in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *(
        f"subprocess.{name}"
        for name in ("run", "Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput")
    ),
    *("urllib.request.urlopen", "socket.create_connection", "requests.get", "http.client.HTTPSConnection"),
)
FLAGS = (("shell", True), ("allow_pickle", True), ("weights_only", False))
LOADERS = ("Loader", "UnsafeLoader", "FullLoader", "CLoader")


def findings(source: str) -> Iterator[str]:
    """Names as they are written, whatever they were imported as."""
    tree = ast.parse(source)
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
            }
            yield from (str(a.name) for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            yield from (f"{node.module}.{a.name}" for a in node.names if node.module.split(".")[0] in MODULES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _name(node.func, known)
            if name in CALLS:
                yield name
            yield from (
                f"{k.arg}={k.value.value!r}"
                for k in node.keywords
                if isinstance(k.value, ast.Constant) and (k.arg, k.value.value) in FLAGS
            )
        elif isinstance(node, (ast.Name, ast.Attribute)) and _name(node, known) in {f"yaml.{x}" for x in LOADERS}:
            yield _name(node, known)


def _name(node: ast.expr, known: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value, known)}.{node.attr}"
    return known.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def test_only_these_places_could_run_code() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), what)
        for path in PACKAGE.rglob("*.py")
        for what in findings(path.read_text(encoding="utf-8"))
    }
    assert found - ALLOWED.keys() == set(), "see SECURITY.md; a place that is safe goes into ALLOWED with its reason"
    assert ALLOWED.keys() - found == set(), "these places are gone"


def test_the_page_that_a_report_is_has_one_way_in_for_markup() -> None:
    """``trusted`` takes text as it is: it is called for the style and the script that lie beside the page, and for nothing else."""
    calls = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _name(node.func, {}) in ("trusted", "html.trusted"):
                calls.append((path.relative_to(PACKAGE).as_posix(), ast.unparse(node)))
    assert calls
    for where, call in calls:
        assert where.startswith("views/html/"), f"{where}: {call}"
        assert "_asset(" in call or call == "trusted('script', _script())", f"{where}: {call}"


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle.loads"),
        ("import torch as t\nt.load('x')", "torch.load"),
        ("from torch import load\nload('x')", "torch.load"),
        ("import numpy as np\nnp.load('x')", "numpy.load"),
        ("import yaml\nyaml.load(text, Loader=yaml.Loader)", "yaml.load"),
        ("import yaml\nclass Mine(yaml.FullLoader): ...", "yaml.FullLoader"),
        ("eval('1')", "eval"),
        ("import subprocess\nsubprocess.run('ls', shell=True)", "shell=True"),
        ("from subprocess import run\nrun(['ls'])", "subprocess.run"),
        ("import os\nos.system('ls')", "os.system"),
        ("x(allow_pickle=True)", "allow_pickle=True"),
    ],
)
def test_it_would_be_found(source: str, what: str) -> None:
    assert what in list(findings(source))


@pytest.mark.parametrize(
    "source", ["import re\nre.compile('x')", "import yaml\nyaml.safe_load('x')", "model.eval()", "json.load(f)"]
)
def test_what_is_harmless_is_not_found(source: str) -> None:
    assert list(findings(source)) == []


def test_the_promise_names_this_test() -> None:
    text = (PACKAGE.parent / "SECURITY.md").read_text(encoding="utf-8")
    assert "tests/unit/test_security.py" in text
