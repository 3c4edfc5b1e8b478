"""``clipcal doctor``: facts that are true, faults that are found with what to do, and nothing told that is secret."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Answer
from typer.testing import CliRunner

from clipcal.cli.main import app
from clipcal.doctor import examining, facts, selftest
from clipcal.doctor.selftest import SelfTest
from clipcal.hooks import insides

METADATA = [
    "torch>=2.6",
    "numpy>=1.26; python_version < '3.0'",
    "numpy>=1.0.0; python_version >= '3.0'",
    "pyyaml",
    'scikit-learn>=99; extra == "samples"',
    "nothing-of-the-kind>=1; python_version >= '3.0' and extra == 'plots'",
    'pytest>=7; extra == "wandb"',
    'clipcal[samples]; extra == "bench"',
]


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What clipcal's own metadata asks for; a test may change it."""
    lines = list(METADATA)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    return lines


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A self-test that takes no time."""
    monkeypatch.setattr(examining, "run_self_test", lambda: SelfTest(status="passed", steps=8, seconds=1.0))


def doctor(*flags: str) -> Answer:
    done = CliRunner().invoke(app, ["doctor", *flags])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Answer(done.exit_code, done.stdout, done.stderr)


@pytest.mark.usefixtures("passing", "metadata")
def test_all_is_well() -> None:
    answer = doctor("--json").ok()
    found = answer.json()
    assert found["schema"] == "clipcal.doctor/1"
    assert found["works"] is True
    assert found["problems"] == []
    assert found["torch"]["version"] == torch.__version__
    assert found["python"] == {"version": platform.python_version(), "executable": sys.executable}
    assert found["insides"] == {"known": insides.KNOWN, "faults": []}
    assert {e["name"]: e["installed"] for e in found["extras"]} == {"samples": False, "plots": False, "wandb": True}
    assert answer.stderr == "watching a small script, to see whether that works here\n"
    said = doctor("-q").ok()
    assert said.stderr == ""
    lines = said.stdout.splitlines()
    assert lines[-1] == "All that is needed works."
    assert {len(line) - len(line.split("  ", 1)[1].lstrip()) for line in lines[:-2]} == {15}, "not aligned"
    assert "extra plots    not installed (pictures for papers: --plot); pip install 'clipcal[plots]'" in lines
    assert any(line.startswith("extra samples  scikit-learn ") and "which is older than 99 " in line for line in lines)


@pytest.mark.usefixtures("passing", "metadata")
def test_in_words() -> None:
    lines = doctor("--plain", "-q").ok().stdout.splitlines()
    assert all(": " in line and "  " not in line for line in lines[:-2])
    assert f"inside torch: as clipcal knows it (torch {insides.KNOWN})" in lines


@pytest.mark.usefixtures("passing")
def test_a_package_that_is_missing_or_too_old(metadata: list[str]) -> None:
    metadata += ["nothing-of-the-kind>=1.2", "pydantic>=999", "rich>=999; python_version < '3.0'"]
    answer = doctor("-q")
    assert answer.code == 3
    *_, missing, old = answer.stdout.splitlines()
    assert missing == "nothing-of-the-kind is not installed. Get it: pip install 'nothing-of-the-kind>=1.2'."
    version = importlib.metadata.version("pydantic")
    assert old == f"pydantic {version} is older than 999. Get a newer one: pip install 'pydantic>=999'."
    assert [p["code"] for p in doctor("-q", "--json").json()["problems"]] == ["missing", "too_old"]


@pytest.mark.usefixtures("metadata")
def test_a_torch_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "has_torch", lambda: True)
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = doctor("-q")
    assert answer.code == 3
    assert "torch is installed and cannot be loaded (ModuleNotFoundError: " in answer.stdout.splitlines()[-1]
    assert "not tried: torch has to be put right first" in answer.stdout


@pytest.mark.usefixtures("metadata")
def test_a_torch_that_looks_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_foreach_norm")
    answer = doctor("-q", "--json")
    assert answer.code == 3
    found = answer.json()
    assert found["insides"]["faults"] == ["torch._foreach_norm is not there"]
    assert [p["code"] for p in found["problems"]] == ["torch_unlike"]
    assert found["self_test"]["status"] == "skipped"


@pytest.mark.usefixtures("metadata")
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("print(1)\n", "none of its Python processes imported torch"),
        ("raise SystemExit('the disk is full')\n", "the disk is full"),
    ],
)
def test_a_self_test_that_fails(monkeypatch: pytest.MonkeyPatch, script: str, why: str) -> None:
    monkeypatch.setattr(selftest, "SCRIPT", script)
    answer = doctor("-q")
    assert answer.code == 3
    last = answer.stdout.splitlines()[-1]
    assert last.startswith("Attaching to a script does not work here: ")
    assert why in last
    assert "Use clipcal.watch in the script" in last
    assert answer.stderr == ""


def test_norms_that_are_not_those_of_the_script() -> None:
    true = [float(i) for i in range(1, selftest.STEPS + 1)]
    assert selftest.difference(true, true) is None
    assert selftest.difference([v * (1 + 1e-7) for v in true], true) is None
    assert "step 2 was recorded as 3.01" in str(selftest.difference([*true[:2], 3.01, *true[3:]], true))
    assert "7 of 8 steps" in str(selftest.difference(true[:-1], true))


@pytest.mark.usefixtures("passing")
def test_nothing_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "hunter2")
    real = importlib.metadata.Distribution.read_text
    said = json.dumps({"url": "https://user:hunter2@example.org/torch.whl", "archive_info": {}})

    def read_text(self: Any, name: str) -> str | None:
        return said if name == "direct_url.json" else real(self, name)

    monkeypatch.setattr(importlib.metadata.PathDistribution, "read_text", read_text)
    for flags in ((), ("--json",), ("--plain",)):
        answer = doctor(*flags)
        assert "hunter2" not in answer.stdout + answer.stderr


class Installed:
    """A distribution in ``site``, made from ``url``."""

    version = "9.9"

    def __init__(self, site: Path, said: object) -> None:
        self.site, self.said = site, said

    def locate_file(self, name: str) -> Path:
        return self.site / name

    def read_text(self, name: str) -> str | None:
        return None if self.said is None else json.dumps(self.said)


def origins(tmp_path: Path) -> Iterator[Any]:
    site, project = tmp_path / "site", tmp_path / "pro ject"
    editable = {"url": f"{project.as_uri()}", "dir_info": {"editable": True}}
    yield Installed(site, None), site / "pack", "installed", None
    yield Installed(site, editable), project / "src" / "pack", "editable", None
    yield Installed(site, editable), tmp_path / "other" / "pack", "path", "9.9"
    yield Installed(site, {"url": "https://x", "archive_info": {}}), tmp_path / "other" / "pack", "path", "9.9"
    yield None, tmp_path / "other" / "pack", "path", None


@pytest.mark.parametrize("case", range(5))
def test_where_a_package_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: int) -> None:
    installed, folder, kind, beside = list(origins(tmp_path))[case]

    def distribution(name: str) -> Installed:
        if installed is None:
            raise importlib.metadata.PackageNotFoundError(name)
        made: Installed = installed
        return made

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    found = facts.origin_of("pack", str(folder / "__init__.py"))
    assert found == facts.Origin(path=str(folder), kind=kind, beside=beside)


@pytest.mark.parametrize(
    ("older", "newer"), [("2.5.1", "2.6"), ("2.6.0+cpu", "2.10.0a0+git1"), ("1.26", "1.26.1"), ("0.9", "1")]
)
def test_versions_compare_by_their_numbers(older: str, newer: str) -> None:
    assert facts.numbers(older) < facts.numbers(newer)
    assert facts.numbers("2.6.0+cu124") == facts.numbers("2.6")


def test_every_extra_of_the_metadata_is_for_users_or_for_those_who_work_on_clipcal() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    named = set(project["optional-dependencies"])
    assert set(facts.EXTRAS) <= named
    assert named <= set(facts.EXTRAS) | {"bench", "docs", "frameworks", "dev", "release"}
