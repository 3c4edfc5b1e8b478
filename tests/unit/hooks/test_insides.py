"""A torch that looks otherwise inside is refused as a whole, and its functions are left as they were."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.optim.optimizer as optimizers
from torch import nn

from clipcal import InputError, watch
from clipcal.hooks import insides, listening
from clipcal.scripts.child.collector import Collector
from clipcal.scripts.child.session import Config

WATCHED = [inside for inside in insides.INSIDES if inside.part == "watching"]
CASES = [
    pytest.param(inside, how, id=f"{inside.name} {how}")
    for inside in WATCHED
    for how in ("gone", "a number", "another function")
    # of some no more is known than that they can be called
    if how != "another function" or inside.fault is not insides._is_called
]
MODEL = nn.Linear(2, 1)
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), lr=0.1)
ORIGINALS = listening._places()
"""Taken when nobody listens: who holds which of torch's functions under which name."""


def untouched() -> list[object]:
    """All that attaching puts something in place of."""
    held = [getattr(holder, attribute, None) for _, holder, attribute, _ in ORIGINALS]
    hooks = [dict(optimizers._global_optimizer_pre_hooks), dict(optimizers._global_optimizer_post_hooks)]
    return [*held, *hooks, getattr(torch, "compile", None), torch.save]


def replace(monkeypatch: pytest.MonkeyPatch, name: str, how: str) -> None:
    path, _, last = name.rpartition(".")
    holder = sys.modules.get(path) or insides._find(path)
    if how == "gone":
        monkeypatch.delattr(holder, last)
    elif how == "a number":
        monkeypatch.setattr(holder, last, 3)
    else:  # a function as torch might write it
        made: dict[str, Any] = {}
        exec(compile("def other(unheard_of): pass", f"{torch.__path__[0]}/other.py", "exec"), made)
        monkeypatch.setattr(holder, last, made["other"])


def attach(folder: Path) -> None:
    Collector(folder, Config(steps=3)).attach()


def begin_to_watch(folder: Path) -> None:
    watch(MODEL, OPTIMIZER, folder / "run")


def test_this_torch_is_as_it_is_known() -> None:
    assert insides.unlike() == []
    assert insides.unlike("ranks") == []


@pytest.mark.parametrize(("inside", "how"), CASES)
def test_whatever_is_otherwise_is_refused_and_nothing_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: insides.Inside, how: str
) -> None:
    replace(monkeypatch, inside.name, how)
    before = untouched()
    for begin in (attach, begin_to_watch):
        with pytest.raises(InputError) as refused:
            begin(tmp_path)
        text = str(refused.value)
        assert text.startswith(
            f"torch {torch.__version__} looks otherwise inside than clipcal knows it: {inside.name} "
        )
        assert f"Install torch {insides.KNOWN}" in text
        assert len(text) < 600
        assert untouched() == before
    assert not (tmp_path / "run").exists()


def test_what_others_put_around_a_function_of_torchs_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.autograd.backward
    monkeypatch.setattr(torch.autograd, "backward", lambda *args, **kwargs: real(*args, **kwargs))
    monkeypatch.setattr(torch.Tensor, "backward", lambda self, **kwargs: real(self, **kwargs))
    assert insides.unlike() == []


class Frozen:
    """Its one attribute cannot be set."""

    @property
    def function(self) -> int:
        return 1


@pytest.mark.parametrize("at", range(len(ORIGINALS)))
def test_what_fails_in_the_middle_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    before = untouched()
    places = [*ORIGINALS[:at], ("broken", Frozen(), "function", None), *ORIGINALS[at:]]
    monkeypatch.setattr(listening, "_places", lambda: places)
    for begin in (attach, begin_to_watch):
        with pytest.raises(AttributeError):
            begin(tmp_path)
        assert untouched() == before
        assert not listening._listeners


def test_a_hook_that_cannot_be_registered_takes_the_rest_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(hook: object) -> None:
        raise RuntimeError("no more hooks")

    before = untouched()
    monkeypatch.setattr(optimizers, "register_optimizer_step_post_hook", fail)
    with pytest.raises(RuntimeError, match="no more hooks"):
        attach(tmp_path)
    assert untouched() == before
    assert not listening._listeners


def test_the_table_says_what_each_is_for() -> None:
    modules = Path(insides.__file__).parents[1]
    for inside in insides.INSIDES:
        for module in inside.used.partition(": ")[0].split(", "):
            path = modules.joinpath(*module.split(".")[1:])
            assert path.with_suffix(".py").is_file() or path.is_dir(), inside.used
        assert len(inside.used.partition(": ")[2]) > 5
