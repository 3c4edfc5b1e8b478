"""clipcal init: a starter spec, once; and the samples, whole."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from conftest import Clipcal, Project, snapshot

ROOT = Path(__file__).parents[2]


def test_json_says_what_was_written(project: Project, clipcal: Clipcal) -> None:
    answer = clipcal("init", "new.yaml", "--json").ok()
    assert answer.json() == {"schema": "clipcal.init/1", "path": "new.yaml", "written": True}
    assert "model:" in (project.folder / "new.yaml").read_text()
    clipcal("init", "new.yaml", "--json").refused("new.yaml", "--force")
    assert clipcal("init", "new.yaml", "--json", "--force").ok().json()["written"] is True


def test_the_schema_is_json_with_and_without_the_flag(project: Project, clipcal: Clipcal) -> None:
    plain = clipcal("init", "--schema").ok()
    assert clipcal("init", "--schema", "--json").ok().stdout == plain.stdout
    assert "model" in json.loads(plain.stdout)["properties"]
    assert not (project.folder / "clipcal.yaml").exists()


# A shipped sample

SAMPLES = sorted(p.stem for p in (ROOT / "configs").glob("*.yaml"))


def test_every_sample_is_written_as_it_lies_in_the_repository(project: Project, clipcal: Clipcal) -> None:
    for name in SAMPLES:
        answer = clipcal("init", "--sample", name, name, "--json").ok().json()
        assert answer["sample"] == name.replace("_", "-")
        assert answer["files"][0] == answer["path"] == f"{name}/{name}.yaml"
        for file in answer["files"]:
            inner = str(Path(file).relative_to(name))
            ours = ROOT / ("configs" if inner.endswith(".yaml") else "") / inner
            assert (project.folder / file).read_bytes() == ours.read_bytes()


def test_a_sample_comes_with_the_modules_that_it_imports_and_no_others(project: Project, clipcal: Clipcal) -> None:
    before = snapshot(project.folder).keys()
    answer = clipcal("init", "--sample", "char-lstm").ok()
    new = sorted(snapshot(project.folder).keys() - before)
    assert new == ["char_lstm.yaml", *(f"sample_models/{m}.py" for m in ("__init__", "char_lstm", "stdlib_text"))]
    assert answer.stdout == ""
    assert "wrote char_lstm.yaml, " in answer.stderr
    assert answer.stderr.rstrip().endswith("next: clipcal calibrate char_lstm.yaml")


def test_what_was_written_is_found_from_elsewhere(project: Project, clipcal: Clipcal) -> None:
    assert (
        clipcal("init", "--sample", "char-lstm", "a/b").ok().stderr.endswith("clipcal calibrate a/b/char_lstm.yaml\n")
    )
    clipcal("init", "--sample", "char-lstm", "c/mine.yml").ok()
    assert (project.folder / "c/mine.yml").is_file()
    assert (project.folder / "c/sample_models/stdlib_text.py").is_file()


def test_samples_share_modules_and_are_written_twice(project: Project, clipcal: Clipcal) -> None:
    for name in ("char-lstm", "small_gpt", "small-gpt.yaml"):
        clipcal("init", "--sample", name).ok()
    assert (project.folder / "sample_models/small_gpt.py").is_file()


def test_a_file_of_the_users_stays_and_nothing_is_half_written(project: Project, clipcal: Clipcal) -> None:
    mine = project.folder / "sample_models/stdlib_text.py"
    mine.parent.mkdir()
    mine.write_text("mine = 1\n")
    before = snapshot(project.folder)
    clipcal("init", "--sample", "char-lstm").refused("sample_models/stdlib_text.py", "is there already", "--force")
    assert snapshot(project.folder) == before
    clipcal("init", "--sample", "char-lstm", "--force").ok()
    assert "mine" not in mine.read_text()


def test_a_folder_in_the_way_leaves_nothing_behind(project: Project, clipcal: Clipcal) -> None:
    (project.folder / "sample_models").write_text("a file\n")
    before = snapshot(project.folder)
    clipcal("init", "--sample", "char-lstm", "--force").refused("sample_models")
    assert snapshot(project.folder) == before


def test_a_wrong_name_lists_all(clipcal: Clipcal) -> None:
    known = ", ".join(name.replace("_", "-") for name in SAMPLES)
    clipcal("init", "--sample", "char-lstn").refused("Did you mean 'char-lstm'?", known)
    clipcal("init", "--sample", "q").refused(known)
    clipcal("init", "--sample", "char-lstm", "--schema").refused("--schema", "--sample")


def test_a_sample_says_what_it_lacks(clipcal: Clipcal, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else real(name))
    answer = clipcal("init", "--sample", "deep-mlp").ok()
    assert "note: deep-mlp imports sklearn" in answer.stderr
    assert "pip install 'clipcal[samples]'" in answer.stderr
    assert "note" not in clipcal("init", "--sample", "char-lstm").ok().stderr
