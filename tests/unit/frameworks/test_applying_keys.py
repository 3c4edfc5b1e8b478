"""Which key gets the threshold, and which never does: named with --key, found by its name, or not clear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from clipcal.errors import InputError
from clipcal.frameworks.applying.files import CODE
from clipcal.frameworks.applying.planning import diff, plan
from clipcal.frameworks.applying.tree import parse_key
from clipcal.frameworks.keys import KEYS
from clipcal.frameworks.table import resolve as resolve_snippet
from clipcal.recommendation.answer import Method

PPO = """\
# two games
CartPole.v1:
  n_steps: 32
  max_grad_norm: 0.5
Pendulum.v1:
  - {max_grad_norm: 0.7, policy: MlpPolicy}
  - 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def applied(file: Path, text: str, **options: Any) -> str:
    file.write_text(text)
    return plan(file, **{"max_norm": 2.4} | options).new_text


def refused(file: Path, text: str, **options: Any) -> str:
    file.write_text(text)
    with pytest.raises(InputError) as no:
        plan(file, **{"max_norm": 2.4} | options)
    message = str(no.value)
    assert "\n" not in message
    assert len(message) < 600 + len(str(file))
    return message.replace(str(file), "FILE")


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ('"CartPole.v1".max_grad_norm', "  max_grad_norm: 0.5", "  max_grad_norm: 2.4"),
        ("'CartPole.v1'.max_grad_norm", "  max_grad_norm: 0.5", "  max_grad_norm: 2.4"),
        ('"Pendulum.v1".0.max_grad_norm', "{max_grad_norm: 0.7,", "{max_grad_norm: 2.4,"),
        ('"Pendulum.v1".1', "  - 3", "  - 2.4"),
        ('"CartPole.v1".clip_norm', "  max_grad_norm: 0.5", "  max_grad_norm: 0.5\n  clip_norm: 2.4"),
        ('"Pendulum.v1".0.gn', "MlpPolicy}", "MlpPolicy, gn: 2.4}"),
        ("max_grad_norm", "CartPole.v1:", "max_grad_norm: 2.4\nCartPole.v1:"),
    ],
)
def test_a_key_that_is_named(file: Path, key: str, old: str, new: str) -> None:
    assert applied(file, PPO, key=key) == PPO.replace(old, new, 1)


def test_several_candidates_are_listed(file: Path) -> None:
    message = refused(file, PPO)
    assert 'has 2 keys that could hold the threshold: "CartPole.v1".max_grad_norm on line 4' in message
    assert '"Pendulum.v1".0.max_grad_norm on line 6' in message
    assert "--key" in message
    many = "".join(f"game{i}: {{max_grad_norm: 1}}\n" for i in range(40))
    assert "and 34 more" in refused(file, many)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("trainer.gradient_clip_vall", "has no trainer.gradient_clip_vall. Did you mean trainer.gradient_clip_val?"),
        (
            "trainr.gradient_clip_val",
            "has no trainr, so gradient_clip_val cannot be put there. Did you mean 'trainer'?",
        ),
        (
            "data.batch",
            "has no data, so batch cannot be put there. Its keys at the top are 'trainer', 'seed'. Add data there by hand first, or name another place with --key.",
        ),
        ("trainer.max_epochs.x", "FILE:2: trainer.max_epochs holds no keys, so x cannot be added there."),
        ("trainer.callbacks.7", "FILE:5: trainer.callbacks holds no keys, so 7 cannot be added there."),
        ("trainer.callbacks.x", "trainer.callbacks holds no keys"),
        ("trainer", "trainer is not a single value, so it cannot become a number. It holds trainer.max_epochs"),
        ("trainer.logger", "FILE:3: trainer.logger is a switch, true, not a number."),
        ("trainer.callbacks", "trainer.callbacks is not a single value"),
        ("", "--key '' is no path of keys"),
        ("a..b", "--key 'a..b' is no path of keys"),
        (".a", "is no path of keys"),
        ("a.", "is no path of keys"),
        ('"a', "is no path of keys"),
        ('"a"b', "is no path of keys"),
        ('"\\x"', "is no path of keys"),
        ("line\nbreak.x", "has no"),
        ("x" * 300, "cannot be"),
    ],
)
def test_a_key_that_is_not_there(file: Path, key: str, words: str) -> None:
    text = "trainer:\n  max_epochs: 3\n  logger: true\n  callbacks:\n  - a\nseed: 1\n"
    if key == "x" * 300:  # no name is too long: it is put there
        assert yaml.safe_load(applied(file, text, key=key))[key] == 2.4
    else:
        assert words in refused(file, text, key=key)


def test_paths_are_read_as_they_are_written() -> None:
    assert parse_key("a.0.b-c") == ("a", "0", "b-c")
    assert parse_key("a.\"b.c\".'d.e'") == ("a", "b.c", "d.e")
    assert parse_key('"a\\"b"') == ('a"b',)


def test_a_key_of_unknown_meaning_is_written_with_a_warning(file: Path) -> None:
    file.write_text("loop:\n  limit: 1\n")
    made = plan(file, max_norm=2.4, key="loop.limit")
    assert made.new_text == "loop:\n  limit: 2.4\n"
    assert made.framework is None
    assert [w for w in made.warnings if "limit means is not known here" in w]


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_found_by_their_names_at_any_depth(file: Path, name: str) -> None:
    parent = KEYS[name].below[0] if KEYS[name].below else "deep"
    text = f"a:\n  - b: 1\n    {parent}:\n      {name.upper()}: 1.0  # here\n      other: 1\n"
    method = KEYS[name].methods[0]
    file.write_text(text)
    made = plan(file, max_norm=2.4, method=method)
    assert made.changes[0].key == f"a.0.{parent}.{name.upper()}"
    assert made.new_text.splitlines()[3] == f"      {name.upper()}: 2.4  # here"
    others: tuple[Method, ...] = ("norm", "value", "per_tensor")
    for other in others:
        if other not in KEYS[name].methods:
            assert "the number would mean something else" in refused(file, text, method=other)


def test_max_norm_alone_is_not_taken_for_a_threshold(file: Path) -> None:
    text = "embedding: {max_norm: 1.0, dim: 8}\n"
    assert "no key that is known to hold a clipping threshold" in refused(file, text)
    assert applied(file, text, key="embedding.max_norm") == text.replace("1.0", "2.4")


def test_the_key_that_fits_the_method_is_taken_and_the_other_named(file: Path) -> None:
    text = "clip_grad_norm: 1.0\nclip_grad_value: 0.5\n"
    file.write_text(text)
    for method, changed in (("norm", "clip_grad_norm"), ("value", "clip_grad_value")):
        made = plan(file, max_norm=2.4, method=method)  # type: ignore[arg-type]
        assert [c.key for c in made.changes] == [changed]
        assert len(made.warnings) == 1
        assert ("clip_grad_value on line 2" if method == "norm" else "clip_grad_norm on line 1") in made.warnings[0]


def test_a_framework_key_beside_another_is_asked_for(file: Path) -> None:
    text = "trainer:\n  max_epochs: 3\nmodel:\n  grad_clip: 1.0\n"
    message = refused(file, text)
    assert "trainer.gradient_clip_val, not in the file yet; but there is model.grad_clip on line 4" in message
    assert applied(file, text, key="model.grad_clip") == text.replace("1.0", "2.4")
    assert "  gradient_clip_val: 2.4\n" in applied(file, text, key="trainer.gradient_clip_val")


def test_a_key_named_by_hand_brings_its_switch_along(file: Path) -> None:
    text = "trainer:\n  gradient_clip_algorithm: norm\n  max_epochs: 3\n"
    made = applied(file, text, key="trainer.gradient_clip_val", method="value")
    assert yaml.safe_load(made)["trainer"] == {
        "gradient_clip_algorithm": "value",
        "max_epochs": 3,
        "gradient_clip_val": 2.4,
    }


def test_switches_beside_keys_that_are_known_by_name_only(file: Path) -> None:
    text = "rl:\n  grad_clip: 40\n  grad_clip_by: value\n"
    assert applied(file, text) == "rl:\n  grad_clip: 2.4\n  grad_clip_by: global_norm\n"
    assert (
        applied(file, "rl:\n  grad_clip: 40\n") == "rl:\n  grad_clip: 2.4\n"
    )  # none is added: who reads it is not known
    text = "clip:\n  max_norm: 1\n  norm_type: 2\n"
    assert applied(file, text, norm_type=1.0) == "clip:\n  max_norm: 2.4\n  norm_type: 1.0\n"
    assert applied(file, text) == "clip:\n  max_norm: 2.4\n  norm_type: 2\n"
    assert "for the L2 norm" in refused(file, "clip:\n  max_norm: 1\n", norm_type=1.0)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("${clip.norm}", "is '${clip.norm}', not a number, and something may fill it in"),
        ("auto", "is 'auto', not a number"),
        ('"$CLIP"', "not a number"),
        ("!ref <clip>", "is tagged '!ref'"),
        ("!!int 3", "is tagged 'tag:yaml.org,2002:int'"),
        ("true", "is a switch, true, not a number"),
        ("[1, 2]", "is not a single value"),
        ("2024-01-01", "not a number"),
    ],
)
def test_what_is_no_number_is_not_written_over(file: Path, value: str, words: str) -> None:
    text = f"learning_rate: 1\nnum_train_epochs: 1\nmax_grad_norm: {value}\n"
    assert words in refused(file, text)


def test_unless_the_key_is_named(file: Path) -> None:
    assert applied(file, "max_grad_norm: ${clip}  # c\n", key="max_grad_norm") == "max_grad_norm: 2.4  # c\n"
    assert "tagged" in refused(file, "max_grad_norm: !ref <clip>\n", key="max_grad_norm")
    assert "not a number" in refused(file, "max_grad_norm: |\n  1.0\n", key="max_grad_norm")


@pytest.mark.parametrize(
    "value", ["1", "1.", "1e-3", "'1.0'", '"1e-3"', "null", "~", "", "0", "-1", ".inf", "1_000", "!!float 3"]
)
def test_numbers_and_nothing_are_written_over(file: Path, value: str) -> None:
    text = f"max_grad_norm: {value}\nb: 1\n".replace(": \n", ":\n")
    assert yaml.safe_load(applied(file, text)) == {"max_grad_norm": 2.4, "b": 1}


def test_a_key_that_stands_twice_is_refused(file: Path) -> None:
    message = refused(file, "max_grad_norm: 1\na: 2\nmax_grad_norm: 3\n")
    assert "stands more than once, on lines 1 and 3" in message
    assert "stands more than once" in refused(file, "t: {a: 1}\nt: {max_grad_norm: 3}\n", key="t.max_grad_norm")
    # one that is not on the way is the business of the file's owner
    assert applied(file, "a: 1\na: 2\nmax_grad_norm: 3\n") == "a: 1\na: 2\nmax_grad_norm: 2.4\n"


@pytest.mark.parametrize(("word", "snippet"), CODE)
def test_code_is_not_edited_but_has_a_snippet(tmp_path: Path, word: str, snippet: str) -> None:
    code = tmp_path / "config.py"
    message = refused(code, f"{word} = dict()\n")
    assert f"`clipcal recommend RUN --for {snippet}` prints the lines to paste" in message
    assert resolve_snippet(snippet) == snippet


@pytest.mark.parametrize("name", ["setup.cfg", "train.sh", "job.ini", "weights.bin", "notebook.ipynb"])
def test_other_kinds_of_files_are_not_edited(tmp_path: Path, name: str) -> None:
    assert "`clipcal recommend RUN --for NAME`" in refused(tmp_path / name, "max_grad_norm = 1\n")


@pytest.mark.parametrize("max_norm", [0.0, -1.0, float("nan"), float("inf")])
def test_a_threshold_is_positive_and_finite(file: Path, max_norm: float) -> None:
    assert "needs a positive, finite threshold" in refused(file, "max_grad_norm: 1\n", max_norm=max_norm)


def test_a_method_and_a_norm_are_checked(file: Path) -> None:
    assert "Did you mean 'value'?" in refused(file, "max_grad_norm: 1\n", method="values")
    assert "norm_type is a positive number" in refused(file, "max_grad_norm: 1\n", norm_type=0.0)


def test_nothing_to_hold_on_to(file: Path) -> None:
    for text in ("", "# only a comment\n"):
        for key in (None, "max_grad_norm"):
            message = refused(file, text, key=key)
            assert "is empty; expected a config" in message
            assert "clipcal recommend RUN --for NAME" in message
            assert "--key" not in message
    message = refused(file, "foo: 1\n", key="trainer.clip")
    assert "has no trainer, so clip cannot be put there. Its only key at the top is 'foo'." in message
    assert "Add trainer there by hand first, or name another place with --key." in message
    empty = file.with_suffix(".toml")
    assert "has no a, so b cannot be put there. It has no keys at the top. Add a there" in refused(empty, "", key="a.b")
    assert "holds no keys" in refused(file, "- 1\n- 2\n", key="max_grad_norm")
    assert "no key that is known" in refused(file, "just words\n")
    assert diff(plan_of(file, "max_grad_norm: 2.4\n")) == ""


def plan_of(file: Path, text: str) -> Any:
    file.write_text(text)
    return plan(file, max_norm=2.4)
