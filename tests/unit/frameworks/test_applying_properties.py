"""Random documents: after a plan, an independent parser reads the threshold at its key, and all the rest as it was."""

from __future__ import annotations

import copy
import json
import math
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipcal.errors import InputError
from clipcal.frameworks.applying.planning import plan, write
from clipcal.frameworks.applying.tree import parse_key, show

NAME = "max_grad_norm"
NEW = "GN"
KEYS = st.one_of(
    st.text("abcxyz_-", min_size=1, max_size=4),
    st.sampled_from(["a.b", "yes", "null", "1", "1e3", "ключ", 'q"uote', "it's", "#no", "a: b", " ", "", "~", "<<<"]),
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=5),
).filter(lambda k: k not in (NAME, NEW, "<<", "="))
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "1.0", "no", "# no comment", "a: b", "- x", "max_grad_norm: 1.0", "two\nlines\n", "'", '"', "\\"]
    ),
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=8),
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
THRESHOLDS = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
OLD = st.one_of(st.integers(0, 10), st.floats(0, 100), st.just(1.0))


def mappings(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all mappings."""
    if isinstance(tree, dict):
        return [path] + [p for k, v in tree.items() for p in mappings(v, (*path, k))]
    return [p for i, v in enumerate(tree) for p in mappings(v, (*path, str(i)))] if isinstance(tree, list) else []


def at(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    return tree


def shuffled(draw: st.DrawFn, mapping: dict[str, Any], name: str, value: Any) -> None:
    """The key at a random place of the mapping."""
    items = list(mapping.items())
    items.insert(draw(st.integers(0, len(items))), (name, value))
    mapping.clear()
    mapping.update(items)


@st.composite
def configs(draw: st.DrawFn, *, present: bool = True) -> tuple[Any, tuple[str, ...]]:
    """A tree, and the path of a clip key in it, or of one that could be there."""
    tree = draw(st.dictionaries(KEYS, TREES, max_size=5))
    tree.setdefault("a", 1)  # an empty document has no mapping to add a key to
    path = draw(st.sampled_from(mappings(tree)))
    if present:
        shuffled(draw, at(tree, path), NAME, draw(OLD))
    return tree, (*path, NAME if present else NEW)


def applied(suffix: str, text: str, path: tuple[str, ...], max_norm: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"config{suffix}")
        file.write_bytes(text.encode())
        write(plan(file, max_norm=max_norm, key=show(path)))
        assert [p.name for p in Path(folder).iterdir()] == [file.name]
        return file.read_bytes().decode()


def expected(tree: Any, path: tuple[str, ...], max_norm: float) -> Any:
    wanted = copy.deepcopy(tree)
    if at(tree, path[:-1]).get(path[-1]) == max_norm:  # 2 is 2.0 already
        return wanted
    at(wanted, path[:-1])[path[-1]] = max_norm
    return wanted


def same(a: Any, b: Any) -> bool:
    """Equal in types, order of keys and signs of zero too."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b and (not isinstance(a, float) or math.copysign(1, a) == math.copysign(1, b))


def unordered(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(unordered(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(unordered, a, b))
    return same(a, b)


@settings(max_examples=80, deadline=None)
@given(
    config=configs(),
    max_norm=THRESHOLDS,
    indent=st.sampled_from([None, 0, 1, 4, "\t"]),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]),
    ascii_only=st.booleans(),
)
def test_json(
    config: tuple[Any, tuple[str, ...]],
    max_norm: float,
    indent: int | str | None,
    separators: tuple[str, str],
    ascii_only: bool,
) -> None:
    tree, path = config
    text = json.dumps(tree, indent=indent, separators=separators, ensure_ascii=ascii_only)
    new = applied(".json", text, path, max_norm)
    assert same(json.loads(new), expected(tree, path, max_norm))
    assert width_of_change(text, new) <= len(json.dumps(at(tree, path)))


def width_of_change(old: str, new: str) -> int:
    """How many characters of ``old`` lie between what the two have in common at their ends."""
    start = in_common(old, new)
    return len(old) - start - in_common(old[start:][::-1], new[start:][::-1])


def in_common(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@settings(max_examples=120, deadline=None)
@given(
    config=configs(),
    max_norm=THRESHOLDS,
    flow=st.sampled_from([False, True, None]),
    indent=st.integers(2, 6),
    style=st.sampled_from([None, "'", '"']),
    width=st.sampled_from([20, 80, 10_000]),
    breaks=st.sampled_from(["\n", "\r\n"]),
)
def test_yaml(
    config: tuple[Any, tuple[str, ...]],
    max_norm: float,
    flow: bool | None,
    indent: int,
    style: str | None,
    width: int,
    breaks: str,
) -> None:
    tree, path = config
    if style:  # "!!float '1.0'", where a float can follow, while one after !!int is refused
        at(tree, path[:-1])[NAME] = float(at(tree, path))
    text = yaml.safe_dump(
        tree,
        default_flow_style=flow,
        indent=indent,
        default_style=style,
        width=width,
        line_break=breaks,
        sort_keys=False,
        allow_unicode=True,
    )
    assert same(yaml.safe_load(text), tree)
    new = applied(".yaml", text, path, max_norm)
    assert same(yaml.safe_load(new), expected(tree, path, max_norm))
    assert width_of_change(text, new) <= len(repr(at(tree, path))) + 4  # PyYAML writes '5.0e-324' for 5e-324


@settings(max_examples=80, deadline=None)
@given(config=configs(), max_norm=THRESHOLDS)
def test_toml(config: tuple[Any, tuple[str, ...]], max_norm: float) -> None:
    tree, path = config
    text = tomlkit.dumps(tree)
    read = tomllib.loads(text)
    new = applied(".toml", text, path, max_norm)
    assert same(tomllib.loads(new), expected(read, path, max_norm))
    assert width_of_change(text, new) <= len(tomlkit.item(at(tree, path)).as_string())


@settings(max_examples=60, deadline=None)
@given(config=configs(present=False), max_norm=THRESHOLDS, indent=st.sampled_from([None, 2, "\t"]))
def test_json_gets_a_key(config: tuple[Any, tuple[str, ...]], max_norm: float, indent: int | str | None) -> None:
    tree, path = config
    new = applied(".json", json.dumps(tree, indent=indent), path, max_norm)
    assert same(json.loads(new), expected(tree, path, max_norm))


@settings(max_examples=120, deadline=None)
@given(
    config=configs(present=False),
    max_norm=THRESHOLDS,
    flow=st.sampled_from([False, True, None]),
    indent=st.integers(2, 6),
    end=st.sampled_from(["", "\n", "\n# the end\n", "\n\n"]),
)
def test_yaml_gets_a_key(
    config: tuple[Any, tuple[str, ...]], max_norm: float, flow: bool | None, indent: int, end: str
) -> None:
    tree, path = config
    text = yaml.safe_dump(tree, default_flow_style=flow, indent=indent, sort_keys=False, allow_unicode=True)
    new = applied(".yaml", text.rstrip("\n") + end if end else text, path, max_norm)
    assert unordered(yaml.safe_load(new), expected(tree, path, max_norm))


@settings(max_examples=60, deadline=None)
@given(config=configs(present=False), max_norm=THRESHOLDS)
# tables that only the headers below them make, in an element of an array that is the last one, and in one that is not
@example(config=({"a": 1, "b": [{"c": {"d": {}}}]}, ("b", "0", "c", NEW)), max_norm=1.0)
@example(config=({"a": 1, "b": [{"c": {"d": {}}}, {"c": {"d": {"e": 2}}}]}, ("b", "0", "c", NEW)), max_norm=1.0)
def test_toml_gets_a_key(config: tuple[Any, tuple[str, ...]], max_norm: float) -> None:
    tree, path = config
    text = tomlkit.dumps(tree)
    new = applied(".toml", text, path, max_norm)
    assert unordered(tomllib.loads(new), expected(tomllib.loads(text), path, max_norm))


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4))
def test_a_path_that_is_shown_is_read_as_the_same(path: list[str]) -> None:
    assert parse_key(show(tuple(path))) == tuple(path)


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".toml"])
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused(suffix: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"config{suffix}")
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(InputError) as refused:
            plan(file, max_norm=1.0)
        assert "\n" not in str(refused.value)
