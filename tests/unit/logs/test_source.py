"""Files as they come: packed, coloured, cut, empty, huge, or no files at all."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from pathlib import Path

import pytest

from clipcal.errors import InputError
from clipcal.logs.source import MAX_LINE, Source


def lines(path: Path, data: bytes) -> list[str]:
    path.write_bytes(data)
    return list(Source(path).lines())


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\ntwo", ["one", "two"]),
        (b" 10%|#  \r 20%|## \rgrad_norm 1\n", [" 10%|#  ", " 20%|## ", "grad_norm 1"]),
        (b"\x1b[1m > grad_norm: \x1b[0m1.5\x1b[K\n", [" > grad_norm: 1.5"]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        ("one\ntwö\n".encode("utf-16"), ["one", "twö"]),
        (gzip.compress(b"one\ntwo\n", mtime=0), ["one", "two"]),
        (b"b\xffd\n", ["b\ufffdd"]),
    ],
)
def test_lines(tmp_path: Path, data: bytes, read: list[str]) -> None:
    assert lines(tmp_path / "log", data) == read


def test_lines_across_the_pieces_that_are_read(tmp_path: Path) -> None:
    wanted = [f"line {i} {'x' * (i % 997)}" for i in range(5_000)]
    assert lines(tmp_path / "log", "\n".join(wanted).encode()) == wanted


def test_a_packed_file_that_is_cut_off_gives_what_came_before(tmp_path: Path) -> None:
    whole = "".join(f"step {i} norm {i * 0.5}\n" for i in range(100_000)).encode()
    packed = gzip.compress(whole)
    read = lines(tmp_path / "log.gz", packed[: len(packed) // 2])
    assert len(read) > 10_000
    assert read[:2] == ["step 0 norm 0.0", "step 1 norm 0.5"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b" \n\n", "nothing but blanks"),
        (b"\0" * 5000, "nothing but blanks"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 793878\n", "Git LFS pointer.*git lfs pull"),
        (b"\x1f\x8bnot gzip at all", "cannot be unpacked"),
        (gzip.compress(b"", mtime=0), "is empty"),
    ],
)
def test_what_holds_no_log(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words):
        Source(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, words in (
        (loop, "cannot be read"),
        (pipe, "is not a file"),
        (tmp_path / "none", "No such file"),
        (Path("a\0b"), "is no path"),
    ):
        with pytest.raises(InputError, match=words):
            Source(path)


def test_a_file_without_line_ends_is_given_up_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as f:
        f.write(b"x")
        f.truncate(10 * 2**30)  # ten gigabytes that take no room on the disk
    tracemalloc.start()
    with pytest.raises(InputError, match="is a line of over 16 MiB"):
        list(Source(path).raw_lines())
    assert tracemalloc.get_traced_memory()[1] < 8 * MAX_LINE
    tracemalloc.stop()


def test_documents(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data, document in (
        (b'{"a": [1, NaN]}', True),
        (b'{\n "a": 1\n}\n', True),
        (b'{"a": 1}\n', True),
        (b'{"a": 1}\n{"a": 2}\n', False),
        (b'{"a": 1', False),
        (b"a: 1\n", False),
    ):
        path.write_bytes(data)
        assert (Source(path).document is not None) is document
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(InputError, match="nested too deeply"):
        _ = Source(path).document


def test_what_a_format_is_known_by_may_stand_far_down(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("config\n" * 50_000 + "step 1 grad_norm 2.0\n" * 300)
    telling = Source(path).telling
    assert len(telling) == 400
    assert telling[200:] == ("step 1 grad_norm 2.0",) * 200
