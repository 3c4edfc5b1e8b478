"""The words that errors are made of: the nearest name, what a value is, and what to do where nothing can be written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from clipcal.errors import a_kind, cannot_write, nearest, nearest_path


@pytest.mark.parametrize(
    ("path", "there", "found"),
    [
        ("configs/char_lstn.yaml", ["configs/char_lstm.yaml", "configs/small_gpt.yaml"], "configs/char_lstm.yaml"),
        ("spec.yml", ["spec.yaml", "spare.yaml"], "spec.yaml"),
        ("runs/char-lstn", ["runs/char-lstm", "runs/other"], "runs/char-lstm"),
        ("net.v3", ["net.v2", "other"], "net.v2"),
        ("log.jsnl", ["log.json", "log.jsonl"], "log.jsonl"),
    ],
)
def test_the_nearest_path_is_given_whole(path: str, there: list[str], found: str) -> None:
    assert nearest_path(Path(path), map(Path, there)) == f" Did you mean '{found}'?"


def test_an_ending_that_files_share_does_not_make_them_near() -> None:
    assert nearest_path(Path("my/nosuch.yaml"), [Path("my/u.yaml")]) == " Known here: my/u.yaml."
    assert nearest_path(Path("my/nosuch.yaml"), [Path("my/u.yaml")], listed=0) == ""
    assert nearest_path(Path("my/nosuch.yaml"), []) == ""


def test_a_long_list_of_paths_is_cut() -> None:
    there = [Path(f"runs/{i}{i}{i}") for i in range(9)]
    assert nearest_path(Path("nosuch"), there, listed=2) == " Known here: runs/000, runs/111 and 7 more."


def test_the_nearest_word_or_all_of_them() -> None:
    assert nearest("stpes", ["steps", "seed"]) == " Did you mean 'steps'?"
    assert nearest("x", ["steps", "seed"]) == " Known here: seed, steps."
    assert nearest("x", []) == ""


class M:
    pass


class LSTM:
    pass


class UNet:
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "None"),
        (3, "an int"),
        (3.0, "a float"),
        ((), "a tuple"),
        ([], "a list"),
        ({}, "a dict"),
        ("x", "a str"),
        (errno, "a module"),
        (object(), "an object"),
        (M(), "an M"),
        (LSTM(), "an LSTM"),
        (UNet(), "a UNet"),
    ],
)
def test_a_value_is_said_with_its_article(value: object, words: str) -> None:
    assert a_kind(value) == words


@pytest.mark.parametrize(
    ("number", "todo"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EFBIG, "Free some space"),
        (errno.EACCES, "where you may write"),
        (errno.EPERM, "where you may write"),
        (errno.EROFS, "where you may write"),
        (errno.EIO, "try again"),
    ],
)
def test_what_to_do_follows_from_why_nothing_can_be_written(number: int, todo: str) -> None:
    error = OSError(number, "Some reason")
    text = str(cannot_write(Path("runs/x"), error, "The rest is kept."))
    assert text.startswith("runs/x: cannot be written (Some reason). The rest is kept. ")
    assert todo in text
    assert ("space" in text) is (todo == "Free some space")
    assert "--out" not in text
