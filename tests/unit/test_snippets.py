"""Every entry of SNIPPETS: it parses, carries exactly the threshold, and refuses what its framework cannot express."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import clipcal.snippets
from clipcal.errors import InputError
from clipcal.recommendation import METHODS, Method
from clipcal.snippets import SNIPPETS, resolve, snippet

PROVENANCE = "clipcal 0.1.0: calibrated on configs/char_lstm.yaml, 300 steps, 2026-11-21"
NORM_TYPES = (1.0, 2.0, 3.5, math.inf)
EXPRESSIBLE = [
    (name, method, norm_type)
    for name, entry in SNIPPETS.items()
    for method in entry.methods
    for norm_type in (NORM_TYPES if entry.any_norm_type else (2.0,))
]
# name, method -> the keyword, key or path that has to hold the threshold.
PLACES: dict[tuple[str, Method], str] = {
    ("pytorch", "norm"): "max_norm",
    ("pytorch", "value"): "clip_value",
    ("pytorch", "per_tensor"): "max_norm",
    ("huggingface", "norm"): "max_grad_norm",
    ("huggingface-yaml", "norm"): "max_grad_norm",
    ("lightning", "norm"): "gradient_clip_val",
    ("lightning", "value"): "gradient_clip_val",
    ("lightning-yaml", "norm"): "trainer.gradient_clip_val",
    ("lightning-yaml", "value"): "trainer.gradient_clip_val",
    ("accelerate", "norm"): "max_norm",
    ("accelerate", "value"): "clip_value",
    ("deepspeed", "norm"): "gradient_clipping",
    ("keras", "norm"): "global_clipnorm",
    ("keras", "value"): "clipvalue",
    ("keras", "per_tensor"): "clipnorm",
}


def json_part(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def keywords(source: str) -> dict[str, Any]:
    """The keyword arguments of all calls; ``float("inf")`` counts as a constant."""
    found: dict[str, Any] = {}
    for node in ast.walk(ast.parse(source)):
        for keyword in node.keywords if isinstance(node, ast.Call) else []:
            assert keyword.arg is not None
            constant = isinstance(keyword.value, ast.Constant)
            found[keyword.arg] = ast.literal_eval(keyword.value) if constant else math.inf
    return found


def settings(name: str, text: str) -> dict[str, Any]:
    """What the snippet sets, as ``keyword`` or ``outer.inner`` -> value, read by the format's own parser."""
    language = SNIPPETS[name].language
    if language == "python":
        return keywords(text)
    tree = yaml.safe_load(text) if language == "yaml" else json.loads(json_part(text))
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


@pytest.mark.parametrize(("name", "method", "norm_type"), EXPRESSIBLE)
@pytest.mark.parametrize("max_norm", [2.4, 1.0, 100.0, 0.00012, 1e-5, 1.2e-7, 1e16])
def test_carries_exactly_the_threshold(name: str, method: Method, norm_type: float, max_norm: float) -> None:
    text = snippet(name, max_norm=max_norm, method=method, norm_type=norm_type, provenance=PROVENANCE)
    found = settings(name, text)
    value = found[PLACES[name, method]]
    assert isinstance(value, float)
    assert value == max_norm
    said = found.get("norm_type", 2.0)
    assert said == (2.0 if method == "value" else norm_type)
    assert f"# {PROVENANCE}" == text.splitlines()[0]
    assert max(map(len, text.splitlines())) <= 120


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_every_float_comes_back_from_every_format(max_norm: float) -> None:
    for name in SNIPPETS:
        assert settings(name, snippet(name, max_norm=max_norm))[PLACES[name, "norm"]] == max_norm


@pytest.mark.parametrize(
    ("max_norm", "digits"), [(2.4, "2.4"), (0.00012, "0.00012"), (1e-5, "1.0e-05"), (3, "3.0"), (1e22, "1.0e+22")]
)
def test_shortest_digits(max_norm: float, digits: str) -> None:
    assert f"max_grad_norm: {digits}" in snippet("huggingface-yaml", max_norm=max_norm).splitlines()


def test_the_right_key_and_not_the_obvious_one() -> None:
    assert set(keywords(snippet("keras", max_norm=2.4))) == {"global_clipnorm"}
    assert set(keywords(snippet("keras", max_norm=2.4, method="per_tensor"))) == {"clipnorm"}
    for method in ("norm", "value"):
        found = yaml.safe_load(snippet("lightning-yaml", max_norm=2.4, method=method))
        assert found == {"trainer": {"gradient_clip_val": 2.4, "gradient_clip_algorithm": method}}
        assert keywords(snippet("lightning", max_norm=2.4, method=method))["gradient_clip_algorithm"] == method
    assert '"auto"' in snippet("deepspeed", max_norm=2.4)
    assert "if accelerator.sync_gradients" in snippet("accelerate", max_norm=2.4)


def test_pytorch_says_the_order() -> None:
    text = snippet("pytorch", max_norm=2.4)
    places = [text.index(word) for word in ("backward()", "unscale_(", "utils.clip_grad_norm_(", "optimizer.step()")]
    assert places == sorted(places)


REFUSED = [
    (name, method, norm_type)
    for name in SNIPPETS
    for method in METHODS
    for norm_type in ((2.0,) if method == "value" else NORM_TYPES)
    if (name, method, norm_type) not in EXPRESSIBLE
]


@pytest.mark.parametrize(("name", "method", "norm_type"), REFUSED)
def test_refuses_what_would_mean_something_else(name: str, method: Method, norm_type: float) -> None:
    with pytest.raises(InputError) as refusal:
        snippet(name, max_norm=2.4, method=method, norm_type=norm_type)
    message = str(refusal.value)
    assert SNIPPETS[name].title in message
    assert "Instead, " in message
    assert repr(method) in message or repr(norm_type) in message


def test_refusals_are_the_ones_meant() -> None:
    refused = {(name, method) for name, method, norm_type in REFUSED if norm_type == 2.0}
    assert refused == {
        *((name, method) for name in ("huggingface", "huggingface-yaml", "deepspeed") for method in METHODS[1:]),
        ("lightning", "per_tensor"),
        ("lightning-yaml", "per_tensor"),
        ("accelerate", "per_tensor"),
    }


@pytest.mark.parametrize("name", SNIPPETS)
def test_value_does_not_depend_on_the_norm_type(name: str) -> None:
    if "value" in SNIPPETS[name].methods:
        one, other = (snippet(name, max_norm=0.1, method="value", norm_type=p) for p in (2.0, math.inf))
        assert one == other


@pytest.mark.parametrize("max_norm", [0.0, -1.0, math.nan, math.inf])
def test_refuses_what_is_no_threshold(max_norm: float) -> None:
    with pytest.raises(InputError, match="positive, finite threshold"):
        snippet("pytorch", max_norm=max_norm)


@pytest.mark.parametrize("norm_type", [0.0, -2.0, math.nan])
def test_refuses_what_is_no_norm_type(norm_type: float) -> None:
    with pytest.raises(InputError, match="norm_type"):
        snippet("pytorch", max_norm=1.0, norm_type=norm_type)


def test_names() -> None:
    aliases = [alias for entry in SNIPPETS.values() for alias in entry.aliases]
    assert len(set(aliases) | set(SNIPPETS)) == len(aliases) + len(SNIPPETS)
    for name, entry in SNIPPETS.items():
        assert all(resolve(word) == name for word in (name, name.upper(), name.replace("-", "_"), *entry.aliases))
    with pytest.raises(InputError, match="Did you mean 'pytorch'"):
        snippet("pytroch", max_norm=1.0)
    with pytest.raises(InputError) as refusal:
        snippet("zzz", max_norm=1.0)
    assert all(name in str(refusal.value) for name in SNIPPETS)
    with pytest.raises(InputError, match="'per_tensor'"):
        snippet("pytorch", max_norm=1.0, method="per-tensor")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SNIPPETS)
def test_provenance_is_one_comment_and_nothing_else(name: str) -> None:
    plain = snippet(name, max_norm=2.4)
    for nasty in ("a\nimport os", "a\rb\u2028c\x0bd", 'quote " and { and \\ and: '):
        text = snippet(name, max_norm=2.4, provenance=nasty)
        first, _, rest = text.partition("\n")
        assert rest == plain
        assert first.startswith("# ")
        assert len(text.splitlines()) == len(plain.splitlines()) + 1
    assert snippet(name, max_norm=2.4, provenance=" \n") == plain
    assert not plain.endswith("\n")


@pytest.mark.parametrize(("method", "norm_type"), [(m, p) for n, m, p in EXPRESSIBLE if n == "pytorch"])
def test_pytorch_really_clips(method: Method, norm_type: float) -> None:
    import torch

    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    # A layer that gets no gradient has to be stepped over.
    model = torch.nn.ModuleDict({"body": body, "unused": torch.nn.Linear(2, 2)})
    seen: list[float] = []

    class Watching(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            if method == "value":
                seen.append(max(float(g.abs().max()) for g in gradients))
            elif method == "per_tensor":
                seen.append(max(float(torch.linalg.vector_norm(g, norm_type)) for g in gradients))
            else:
                seen.append(float(torch.nn.utils.get_total_norm(gradients, norm_type)))
            super().step(closure)

    optimizer = Watching(model.parameters(), lr=0.0)
    code = compile(snippet("pytorch", max_norm=0.024, method=method, norm_type=norm_type), "snippet", "exec")
    for _ in range(2):
        loss = 1000 * body(torch.ones(8, 4)).square().mean()
        exec(code, {"torch": torch, "model": model, "optimizer": optimizer, "loss": loss})
    # Both steps are clipped, so both end at the threshold; clip_grad_norm_ keeps it from below, to a rounding error.
    assert seen == pytest.approx([0.024, 0.024], rel=1e-3)
    assert max(seen) <= 0.024 * (1 + 1e-6)


def test_huggingface_knows_the_key_and_its_default() -> None:
    # Read, not imported: that would take seconds, and an instance of TrainingArguments needs accelerate too.
    package = importlib.util.find_spec("transformers")
    if package is None or package.origin is None:
        pytest.skip("transformers is not installed")
    source = Path(package.origin).with_name("training_args.py").read_text(encoding="utf-8")
    fields = {
        node.target.id: {k.arg: k.value for k in node.value.keywords}
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Call)
    }
    assert ast.literal_eval(fields["max_grad_norm"]["default"]) == 1.0
    assert all("Trainer clips at 1.0" in snippet(name, max_norm=2.4) for name in ("huggingface", "huggingface-yaml"))


def test_imports_stay_light() -> None:
    tree = ast.parse(Path(clipcal.snippets.__file__).read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    outside = {str(name).partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert outside == {"clipcal"}
