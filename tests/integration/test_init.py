"""clipcal init: a starter spec, once."""

from __future__ import annotations

import json

from conftest import Clipcal, Project


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
