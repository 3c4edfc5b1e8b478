"""``clipcal doctor`` watches a script of its own, as ``clipcal profile`` watches a user's, and leaves nothing behind."""

from __future__ import annotations

import os

from conftest import OURS, Clipcal, Project, snapshot


def test_a_script_of_its_own(project: Project, clipcal: Clipcal) -> None:
    before = snapshot(project.folder)
    found = clipcal("doctor", "--json", "-q").ok().json()
    assert found["self_test"] == found["self_test"] | {"status": "passed", "reason": None, "steps": 8}
    assert found["clipcal"]["path"] == OURS.rstrip(os.sep)
    assert snapshot(project.folder) == before
