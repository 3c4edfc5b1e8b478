"""The built wheel, in an environment that has nothing of this repository: what a user gets."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("clipcal", "configs", "sample_models", "LICENSE", "README.md", "pyproject.toml", "setup.py")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"

Ran = subprocess.CompletedProcess[str]


@dataclass(frozen=True, kw_only=True)
class Built:
    """The two files of a release, and an environment with the wheel and what it needs, but without this checkout."""

    wheel: Path
    sdist: Path
    bin: Path

    def run(self, *command: str, folder: Path) -> Ran:
        """A command of the environment, started in ``folder``."""
        return _run(str(self.bin / command[0]), *command[1:], folder=folder)


def _run(*command: str, folder: Path) -> Ran:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


def _build(kind: str, source: Path, out: Path) -> Path:
    done = _run(sys.executable, "-c", BUILD, f"build_{kind}", str(out), folder=source)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Built by the setuptools of this environment: no network. A ``.pth`` file lends this environment's packages, and Python does not
    follow the ``.pth`` files of a folder that is named by one, so that an editable clipcal in it is not seen."""
    folder = tmp_path_factory.mktemp("release")
    source, out, venv = folder / "source", folder / "dist", folder / "venv"
    source.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source)
    sdist = _build("sdist", source, out)
    wheel = _build("wheel", source, out)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    site = Path(
        _run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).stdout.strip()
    )
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--no-compile"]
    done = _run(*pip, "--ignore-installed", str(wheel), folder=folder)
    assert done.returncode == 0, done.stderr
    return Built(wheel=wheel, sdist=sdist, bin=python.parent)


def test_a_sample_is_all_that_it_takes(built: Built, tmp_path: Path) -> None:
    assert built.run("clipcal", "init", "--sample", "char-lstm", folder=tmp_path).returncode == 0
    short = ("--steps", "60", "--seeds", "1", "--jobs", "1")
    done = built.run("clipcal", "calibrate", "char_lstm.yaml", *short, "--json", "--quiet", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["recommendation"]["max_norm"] > 0


def test_a_clone_beside_the_script_does_not_hide_the_package(built: Built, tmp_path: Path) -> None:
    (tmp_path / "clipcal").symlink_to(ROOT)
    (tmp_path / "train.py").write_text("import clipcal; print(clipcal.watch, clipcal.__file__)\n")
    done = built.run("python", "train.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(built.bin.parent) in done.stdout


def test_no_torch_is_proposed_where_one_is(built: Built, tmp_path: Path) -> None:
    """A torch of the user's own, for CUDA, older or a nightly, stays: clipcal asks for no version that it is not."""
    options = ("--dry-run", "--no-index", "--report", "-", "--quiet")
    python = str(built.bin / "python")
    done = _run(sys.executable, "-m", "pip", "--python", python, "install", *options, str(built.wheel), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [item["metadata"]["name"] for item in json.loads(done.stdout)["install"]] in ([], ["clipcal"])


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_holds_every_file_of_the_package_and_the_samples(built: Built) -> None:
    def below(folder: str, wanted: Callable[[Path], bool]) -> set[str]:
        return {str(p.relative_to(ROOT)) for p in (ROOT / folder).rglob("*") if p.is_file() and wanted(p)}

    ours = below("clipcal", lambda p: "__pycache__" not in p.parts)
    ours |= {f"clipcal/sources/samples/{name}" for name in below("configs", lambda p: p.suffix == ".yaml")}
    ours |= {f"clipcal/sources/samples/{name}" for name in below("sample_models", lambda p: p.suffix == ".py")}
    found = names_in(built.wheel)
    assert {name for name in found if ".dist-info/" not in name} == ours
    for known in (
        "py.typed",
        "scripts/child/site/sitecustomize.py",
        "views/html/assets/report.css",
        "sources/samples/configs/char_lstm.yaml",
    ):
        assert f"clipcal/{known}" in found
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in found)


def test_the_sdist_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [source] = tmp_path.iterdir()
    again = _build("wheel", source, tmp_path / "again")
    with zipfile.ZipFile(io.BytesIO(again.read_bytes())) as theirs, zipfile.ZipFile(built.wheel) as ours:
        assert {i.filename: i.CRC for i in theirs.infolist()} == {i.filename: i.CRC for i in ours.infolist()}
