"""Writing: in one step, through links, with the file's mode; and a file that cannot be written stays as it was."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from clipcal.errors import InputError
from clipcal.frameworks.applying.planning import plan, write

OLD = "# mine\r\nmax_grad_norm: 1.0\r\n"
NEW = "# mine\r\nmax_grad_norm: 2.4\r\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "folder" / "config.yaml"
    made.parent.mkdir()
    made.write_bytes(OLD.encode())
    return made


def there(file: Path) -> list[str]:
    return sorted(p.name for p in file.parent.iterdir())


def test_a_plan_writes_nothing(file: Path) -> None:
    plan(file, max_norm=2.4)
    assert file.read_bytes() == OLD.encode()
    assert there(file) == ["config.yaml"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o755])
def test_it_is_written_with_its_mode(file: Path, mode: int) -> None:
    file.chmod(mode)
    write(plan(file, max_norm=2.4))
    assert file.read_bytes() == NEW.encode()
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert there(file) == ["config.yaml"]


def test_nothing_is_written_where_nothing_changes(file: Path) -> None:
    before = file.stat()
    made = plan(file, max_norm=1.0)
    assert made.unchanged
    file.parent.chmod(0o555)
    try:
        write(made)
    finally:
        file.parent.chmod(0o755)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "link.yaml"
    link.symlink_to(Path("..") / "folder" / "config.yaml")
    again = elsewhere / "again.yaml"
    again.symlink_to(link)
    write(plan(again, max_norm=2.4))
    assert again.is_symlink()
    assert os.readlink(link) == "../folder/config.yaml"
    assert file.read_bytes() == NEW.encode()
    assert there(link) == ["again.yaml", "link.yaml"]
    assert there(file) == ["config.yaml"]


def test_a_file_that_changed_meanwhile_is_not_written(file: Path) -> None:
    made = plan(file, max_norm=2.4)
    file.write_bytes(b"max_grad_norm: 7\n")
    with pytest.raises(InputError, match="has changed since it was read"):
        write(made)
    assert file.read_bytes() == b"max_grad_norm: 7\n"
    assert there(file) == ["config.yaml"]


def test_a_file_that_is_gone_is_not_made_again(file: Path) -> None:
    made = plan(file, max_norm=2.4)
    file.unlink()
    with pytest.raises(InputError, match="cannot be written"):
        write(made)
    assert there(file) == []


@pytest.mark.parametrize("step", ["replace", "fsync", "chmod"])
def test_a_write_that_fails_leaves_the_file_and_nothing_else(
    file: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    made = plan(file, max_norm=2.4)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(
        InputError, match=r"cannot be written \(No space left on device\)\. It is as it was\. Free some space"
    ):
        write(made)
    monkeypatch.undo()
    assert file.read_bytes() == OLD.encode()
    assert there(file) == ["config.yaml"]


def test_an_interruption_leaves_the_file_and_nothing_else(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(file, max_norm=2.4)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(made)
    assert file.read_bytes() == OLD.encode()
    assert there(file) == ["config.yaml"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_protected_files_and_folders(file: Path) -> None:
    made = plan(file, max_norm=2.4)
    file.chmod(0o444)
    with pytest.raises(InputError, match="write-protected"):
        write(made)
    file.chmod(0o644)
    file.parent.chmod(0o555)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            write(made)
    finally:
        file.parent.chmod(0o755)
    assert file.read_bytes() == OLD.encode()


def test_a_write_protected_file_is_left_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(file, max_norm=2.4)
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK))  # as it is for anybody but root
    with pytest.raises(InputError, match="write-protected"):
        write(made)
    assert file.read_bytes() == OLD.encode()
    assert there(file) == ["config.yaml"]


def test_names_that_hold_out(tmp_path: Path) -> None:
    for name in ("-rf.yaml", "a b'\".yaml", "$(x).yaml", "ü.yaml", "x" * 250 + ".yaml"):
        file = tmp_path / name
        file.write_bytes(OLD.encode())
        write(plan(file, max_norm=2.4))
        assert file.read_bytes() == NEW.encode()


def test_what_is_no_file(tmp_path: Path, file: Path) -> None:
    fifo = tmp_path / "fifo.yaml"
    os.mkfifo(fifo)
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    (folder / "train.yaml").write_text("")
    for path, words in (
        (fifo, "is not a regular file"),
        (loop, "cannot be read"),
        (folder, r"is a folder; expected a config file .* It holds train\.yaml\."),
        (file.parent, "is no config file that can be edited"),
        (file.with_name("confg.yaml"), r"no such file\. Did you mean '.*/folder/config\.yaml'\?"),
        (file.with_name("other.yaml"), r"no such file\.$"),
        (tmp_path / "no" / "such.yaml", "no such file"),
        (file / "below.yaml", "cannot be read"),
        (tmp_path / ("x" * 300 + ".yaml"), "cannot be read"),
        (tmp_path / "\0.yaml", "cannot be read"),
        (tmp_path / "nothing", "is no config file that can be edited"),
        (tmp_path / ("x" * 300 + ".py"), "config"),
    ):
        with pytest.raises(InputError, match=words):
            plan(path, max_norm=2.4)
