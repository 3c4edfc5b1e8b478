"""A user's regular expression: its groups, its numbers, and what the errors say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pace import loops

from clipcal.errors import InputError
from clipcal.logs.log import Log
from clipcal.logs.pattern import pattern_reader
from clipcal.logs.source import Source


def read(folder: Path, text: str, pattern: str) -> Log:
    path = folder / "my.txt"
    path.write_text(text, encoding="utf-8")
    source = Source(path)
    reader = pattern_reader(pattern)
    assert reader.recognises(source)
    return reader.read(source)


def test_groups_become_columns(tmp_path: Path) -> None:
    text = "header\nT=1,000 G<1.5> L<7> R<1e-3>\n\x1b[1mT=2,000 G<nan>\x1b[0m L<6> R<1e-3>\nT=3,000 G<-inf> L<5> R<oops>\nT=4,"
    log = read(tmp_path, text, r"T=(?P<step>\S+) G<(?P<norm>.*?)>(?: L<(?P<loss>\d+)> R<(?P<lr>.*?)>)?")
    (series,) = log.series
    np.testing.assert_array_equal(series.step, [1000, 2000, 3000])
    np.testing.assert_array_equal(series.grad_norm, [1.5, math.nan, -math.inf])
    np.testing.assert_array_equal(series.loss, [7, 6, 5])
    np.testing.assert_array_equal(series.lr, [1e-3, 1e-3, math.nan])
    assert log.notes == ()


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1,234.5", 1234.5),
        ("12_345", 12345.0),
        ("-1,234,567", -1234567.0),
        ("1.5,", 1.5),
        ("'1.5'", 1.5),
        ("tensor(1.5)", 1.5),
        ("1.5e-3;", 0.0015),
        ("1,5", None),
    ],
)
def test_spellings_of_numbers(tmp_path: Path, written: str, value: float | None) -> None:
    log = read(tmp_path, f"g {written}\ng 2.0\n", r"g (?P<grad_norm>\S+)")
    (series,) = log.series
    np.testing.assert_array_equal(series.grad_norm, [2.0] if value is None else [value, 2.0])
    assert np.isnan(series.step).all()
    assert bool(log.says) == (value is None)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"norm (?P<norm>\S+", "at character 6"),
        (r"(?P<norm>a)(?P<norm>b)", "no regular expression"),
        (r"(?P<epoch>\d+) (?P<norm>\S+)", "'epoch'; it may have norm (or grad_norm), step, loss and lr"),
        (r"norm (\S+)", "needs a group for the gradient norm"),
        (r"(?P<norm>a)(?P<grad_norm>b)", "one group, not both"),
        (r"(?P<norm>a{99999999999999999999})", "no regular expression"),
    ],
)
def test_patterns_that_cannot_be_used(pattern: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        pattern_reader(pattern)
    assert said in str(error.value)


def test_no_match_shows_a_line_that_names_a_norm(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"matches none of its lines\. The first line that names a norm: Norm of gradient 5 x+\.\.\.$"
    ):
        read(tmp_path, "first\n  Norm of gradient 5 " + "x" * 500 + "\n", r"norm=(?P<norm>\S+)")
    with pytest.raises(InputError, match=r"matches none of its lines\.$"):
        read(tmp_path, "first\n", r"norm=(?P<norm>\S+)")


def test_a_group_without_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="matches 2 lines, but its group 'norm' holds no number"):
        read(tmp_path, "norm=a\nnorm=b\n", r"norm=(?P<norm>\S+)")


def test_long_lines_are_cut_before_they_are_searched(tmp_path: Path) -> None:
    text = "norm=1.5\n" + "a" * 1_000_000 + "\n"

    def search() -> None:
        (series,) = read(tmp_path, text, r"norm=(?P<norm>\S+)|a+b").series
        np.testing.assert_array_equal(series.grad_norm, [1.5])

    assert loops(search) < 100


def test_a_pattern_that_python_would_warn_of(tmp_path: Path) -> None:
    (series,) = read(tmp_path, "[[x] 2.5\n", r"[[x\]]+ (?P<norm>\S+)").series
    np.testing.assert_array_equal(series.grad_norm, [2.5])
