"""Every format in the table: known by its content alone, read to the same numbers, and survived when it is broken."""

from __future__ import annotations

import contextlib
import gzip
import random
from pathlib import Path

import pytest
from log_samples import BINARY, NORMS, TEXTS

from clipcal.errors import InputError
from clipcal.logs.choice import LogChoice
from clipcal.logs.picking import pick
from clipcal.logs.reading import find_reader, read_log
from clipcal.logs.source import Source
from clipcal.logs.table import readers

TITLES = [reader.title for reader in readers()]


def sample(title: str, folder: Path) -> bytes:
    if title in TEXTS:
        return TEXTS[title]
    folder.mkdir()
    return BINARY[title](folder)


def test_every_format_has_a_sample() -> None:
    assert sorted(TITLES) == sorted([*TEXTS, *BINARY])
    assert len(set(TITLES)) == len(TITLES)


@pytest.mark.parametrize("title", TITLES)
def test_a_format_is_known_by_its_content_and_not_by_its_name(tmp_path: Path, title: str) -> None:
    path = tmp_path / "a-name.that-says-nothing"
    path.write_bytes(sample(title, tmp_path / "folder"))
    reader = find_reader(Source(path))
    assert reader is not None
    assert reader.title == title
    found = pick(read_log(path), "log")
    assert found.grad_norm.tolist() == pytest.approx(NORMS)


@pytest.mark.parametrize("title", sorted(TEXTS))
def test_a_packed_file_and_one_with_other_line_ends_are_the_same(tmp_path: Path, title: str) -> None:
    data = sample(title, tmp_path / "folder")
    for name, other in (("log.gz", gzip.compress(data)), ("log", data.replace(b"\n", b"\r\n"))):
        (tmp_path / name).write_bytes(other)
        assert pick(read_log(tmp_path / name), "log").grad_norm.tolist() == pytest.approx(NORMS)


# Broken files. The same every time; more by hand: pytest tests/unit/logs/test_table.py --fuzz 2000

HOSTILE = (
    b'{"grad_norm": ' + b"[" * 5_000 + b"]" * 5_000 + b"}\n",
    b'{"a":' * 3_000 + b"1" + b"}" * 3_000 + b"\n",
    b'{"<script>alert(1)</script>grad_norm": 1.0, "\\u001b[31mloss": 2}\n' * 20,
    b'{"step": 1e400, "grad_norm": -1e999}\n{"step": -5, "grad_norm": 1' + b"0" * 5_000 + b"}\n",
    b"step,grad_norm\n" + b'"' * 20_000 + b"\n1,2\n",
    b"step,grad_norm\n" + b"1,2,3,4,5\n" * 50,
    b"grad_norm\n" * 200,
    b"a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\ngrad_norm: *b\n",
    b"(" * 100_000 + b"grad_norm: 1\n" * 5,
    b"{'loss': 1.0, 'grad_norm': __import__('os').abort(), 'epoch': 0.1}\n" * 5,
    b"nan" * 100_000,
    b"=" * 3_000_000 + b"\ngrad_norm=1 grad_norm=2 grad_norm=3\n" * 9,
    bytes(range(256)) * 2_000,
)


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """The data cut, shuffled, repeated, or with bytes changed, as disks, copies and attackers leave it."""
    data = bytearray(whole)
    for _ in range(rng.randint(1, 6)):
        at, length = rng.randrange(len(data) + 1), rng.randint(1, 40)
        match rng.randrange(7):
            case 0:
                del data[at:]
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = rng.randbytes(length)
            case 3:
                data[at : at + length] = rng.randbytes(length)
            case 4:
                other = rng.randrange(len(data) + 1)
                data[at:at] = data[other : other + 20 * length]
            case 5:
                data[at:at] = rng.choice(
                    [b"NaN", b"1e999", b"-", b"\0", b"\n", b'"', b"\xff\xfe", b"{", b"]", b",", b"\x1b[2J"]
                )
            case 6:
                for i in range(at, min(at + length, len(data))):
                    data[i] ^= 1 << rng.randrange(8)
    return bytes(data)


def survives(path: Path) -> None:
    """It is read, or refused with a sentence: anything else is raised."""
    with contextlib.suppress(InputError):
        log = read_log(path)
        pick(log, "log", LogChoice(tag=log.series[0].tag))


@pytest.mark.parametrize("title", TITLES)
def test_damaged_files_are_read_or_refused(tmp_path: Path, title: str, request: pytest.FixtureRequest) -> None:
    whole = sample(title, tmp_path / "folder")
    for seed in range(request.config.getoption("--fuzz")):
        rng = random.Random(f"{title} {seed}")
        path = tmp_path / "log"
        path.write_bytes(damaged(whole, rng))
        try:
            survives(path)
        except Exception as e:
            raise AssertionError(f"damaged with seed {seed}") from e


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_files_are_read_or_refused(tmp_path: Path, number: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(HOSTILE[number])
    survives(path)


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "log"
    for size in (1, 10, 1_000, 100_000, 3_000_000):
        path.write_bytes(rng.randbytes(size))
        with pytest.raises(InputError):
            read_log(path)
