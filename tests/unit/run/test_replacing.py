"""What may be written over: nothing, an empty file, or a file of ours; everything else stays, and a pipe is not read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipcal.run.files import may_replace


def is_ours(path: Path) -> bool:
    return path.read_text().startswith("ours")


@pytest.mark.parametrize(("content", "expected"), [(None, True), ("", True), ("ours", True), ("theirs", False)])
def test_files(tmp_path: Path, content: str | None, expected: bool) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    if content is not None:
        path.write_text(content)
        link.symlink_to(path)
        assert may_replace(link, is_ours) == expected
    assert may_replace(path, is_ours) == expected


def test_what_is_no_file_stays_and_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "nowhere", Path(os.devnull)):
        assert not may_replace(path, is_ours)


def test_what_cannot_be_looked_at_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("ours")
    with pytest.raises(OSError, match="Not a directory"):
        may_replace(tmp_path / "file" / "below", is_ours)
