"""The text of every framework of the table: it parses, carries exactly the threshold, and refuses what its framework cannot express."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clipcal.errors import InputError
from clipcal.frameworks.snippets import snippet
from clipcal.frameworks.table import FRAMEWORKS, resolve
from clipcal.recommendation.answer import METHODS, Method

PROVENANCE = "clipcal 0.1.0: calibrated on configs/char_lstm.yaml, 300 steps, 2026-11-21"
NORM_TYPES = (1.0, 2.0, 3.5, math.inf)
EXPRESSIBLE = [
    (name, method, norm_type)
    for name, entry in FRAMEWORKS.items()
    for method in entry.methods
    for norm_type in (NORM_TYPES if entry.any_norm_type else (2.0,))
]
# name, method -> the keyword, variable, attribute, flag or path that has to hold the threshold.
PLACES: dict[tuple[str, Method], str] = {
    ("pytorch", "norm"): "max_norm",
    ("pytorch", "value"): "clip_value",
    ("pytorch", "per_tensor"): "max_norm",
    ("huggingface", "norm"): "max_grad_norm",
    ("huggingface-yaml", "norm"): "max_grad_norm",
    ("trl", "norm"): "max_grad_norm",
    ("axolotl", "norm"): "max_grad_norm",
    ("llama-factory", "norm"): "max_grad_norm",
    ("accelerate", "norm"): "max_norm",
    ("accelerate", "value"): "clip_value",
    ("deepspeed", "norm"): "gradient_clipping",
    ("gpt-neox", "norm"): "gradient_clipping",
    ("fsdp", "norm"): "max_norm",
    ("fsdp", "value"): "clip_value",
    ("fsdp2", "norm"): "max_norm",
    ("fsdp2", "value"): "clip_value",
    ("fsdp2", "per_tensor"): "max_norm",
    ("lightning", "norm"): "gradient_clip_val",
    ("lightning", "value"): "gradient_clip_val",
    ("lightning-yaml", "norm"): "trainer.gradient_clip_val",
    ("lightning-yaml", "value"): "trainer.gradient_clip_val",
    ("lightning-trainer", "norm"): "gradient_clip_val",
    ("lightning-trainer", "value"): "gradient_clip_val",
    ("fabric", "norm"): "max_norm",
    ("fabric", "value"): "clip_val",
    ("litgpt", "norm"): "train.max_norm",
    ("torchtitan", "norm"): "training.max_norm",
    ("torchtitan-python", "norm"): "part.max_norm",
    ("torchtune", "norm"): "clip_grad_norm",
    ("nanotron", "norm"): "optimizer.clip_grad",
    ("megatron", "norm"): "--clip-grad",
    ("nemo", "norm"): "clip_grad",
    ("nemo-yaml", "norm"): "trainer.gradient_clip_val",
    ("composer", "norm"): "algorithms.gradient_clipping.clipping_threshold",
    ("composer", "value"): "algorithms.gradient_clipping.clipping_threshold",
    ("nanogpt", "norm"): "grad_clip",
    ("fairseq", "norm"): "--clip-norm",
    ("fairseq-yaml", "norm"): "optimization.clip_norm",
    ("espnet", "norm"): "grad_clip",
    ("timm", "norm"): "--clip-grad",
    ("timm", "value"): "--clip-grad",
    ("swin", "norm"): "TRAIN.CLIP_GRAD",
    ("fastai", "norm"): "max_norm",
    ("detectron2", "norm"): "max_norm",
    ("detectron2", "value"): "clip_value",
    ("detectron2", "per_tensor"): "max_norm",
    ("detectron2-yaml", "value"): "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
    ("detectron2-yaml", "per_tensor"): "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
    ("mmengine", "norm"): "max_norm",
    ("mmengine", "value"): "clip_value",
    ("stable-baselines3", "norm"): "max_grad_norm",
    ("keras", "norm"): "global_clipnorm",
    ("keras", "value"): "clipvalue",
    ("keras", "per_tensor"): "clipnorm",
    ("optax", "norm"): "max_norm",
    ("optax", "value"): "max_delta",
    ("optax", "per_tensor"): "max_norm",
}


def assigned(source: str) -> dict[str, Any]:
    """The keyword arguments of all calls, the defaults of all functions and the constants given to names and attributes.

    ``float("inf")`` counts as a constant; other expressions are left out.
    """
    pairs: list[tuple[str, ast.expr]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            pairs += [(keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg]
        elif isinstance(node, ast.FunctionDef) and node.args.defaults:
            names = [a.arg for a in node.args.args[-len(node.args.defaults) :]]
            pairs += list(zip(names, node.args.defaults, strict=True))
        elif isinstance(node, ast.Assign):
            pairs += [(ast.unparse(target), node.value) for target in node.targets]
    found: dict[str, Any] = {}
    for name, value in pairs:
        if isinstance(value, ast.Constant):
            found[name] = value.value
        elif ast.unparse(value) == "float('inf')":
            found[name] = math.inf
    return found


def flat(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= {f"{key}.{inner}": v for inner, v in flat(value).items()} if isinstance(value, dict) else {key: value}
    return found


def settings(name: str, text: str) -> dict[str, Any]:
    """What the snippet sets, as ``keyword``, ``--flag`` or ``outer.inner`` -> value, read by the format's own parser."""
    language = FRAMEWORKS[name].language
    if language == "python":
        return assigned(text)
    if language == "shell":
        words = shlex.split(text, comments=True)
        numbers = {flag: value for flag, value in zip(words[::2], words[1::2], strict=True) if value[0].isdigit()}
        return dict(zip(words[::2], words[1::2], strict=True)) | {flag: float(v) for flag, v in numbers.items()}
    if language == "yaml":
        return flat(yaml.safe_load(text))
    if language == "toml":
        return flat(tomllib.loads(text))
    return flat(json.loads("\n".join(line for line in text.splitlines() if not line.startswith("#"))))


def norm_type_in(found: dict[str, Any]) -> float:
    keys = ("norm_type", "SOLVER.CLIP_GRADIENTS.NORM_TYPE", "grad_clip_type")
    named = [float(v) for k, v in found.items() if k in keys]
    return named[0] if named else 2.0


def test_every_entry_has_its_place() -> None:
    assert set(PLACES) == {(name, method) for name, entry in FRAMEWORKS.items() for method in entry.methods}


@pytest.mark.parametrize(("name", "method", "norm_type"), EXPRESSIBLE)
@pytest.mark.parametrize("max_norm", [2.4, 1.0, 100.0, 0.00012, 1e-5, 1.2e-7, 1e16])
def test_carries_exactly_the_threshold(name: str, method: Method, norm_type: float, max_norm: float) -> None:
    text = snippet(name, max_norm=max_norm, method=method, norm_type=norm_type, provenance=PROVENANCE)
    found = settings(name, text)
    value = found[PLACES[name, method]]
    assert isinstance(value, float)
    assert value == max_norm
    assert norm_type_in(found) == (2.0 if method == "value" else norm_type)
    assert f"# {PROVENANCE}" == text.splitlines()[0]
    assert max(map(len, text.splitlines())) <= 120


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_every_float_comes_back_from_every_format(max_norm: float) -> None:
    for name, method in PLACES:
        assert settings(name, snippet(name, max_norm=max_norm, method=method))[PLACES[name, method]] == max_norm


@pytest.mark.parametrize(
    ("max_norm", "digits"), [(2.4, "2.4"), (0.00012, "0.00012"), (1e-5, "1.0e-05"), (3, "3.0"), (1e22, "1.0e+22")]
)
def test_shortest_digits(max_norm: float, digits: str) -> None:
    assert f"max_grad_norm: {digits}" in snippet("huggingface-yaml", max_norm=max_norm).splitlines()


def test_the_right_key_and_not_the_obvious_one() -> None:
    assert set(assigned(snippet("keras", max_norm=2.4))) == {"global_clipnorm"}
    assert set(assigned(snippet("keras", max_norm=2.4, method="per_tensor"))) == {"clipnorm"}
    for method in ("norm", "value"):
        found = yaml.safe_load(snippet("lightning-yaml", max_norm=2.4, method=method))
        assert found == {"trainer": {"gradient_clip_val": 2.4, "gradient_clip_algorithm": method}}
        assert assigned(snippet("lightning", max_norm=2.4, method=method))["gradient_clip_algorithm"] == method
        found = settings("timm", snippet("timm", max_norm=2.4, method=method))
        assert found == {"--clip-grad": 2.4, "--clip-mode": method}
    assert '"auto"' in snippet("deepspeed", max_norm=2.4)
    assert "if accelerator.sync_gradients" in snippet("accelerate", max_norm=2.4)
    assert "gradient_clip_val" not in assigned(snippet("nemo", max_norm=2.4))
    assert "\nmodel.clip_grad_norm_(max_norm=2.4)\n" in snippet("fsdp", max_norm=2.4)


def test_detectron2_config_never_stands_for_a_total_norm() -> None:
    found = settings("detectron2-yaml", snippet("detectron2-yaml", max_norm=2.4, method="per_tensor"))
    assert found == {
        "SOLVER.CLIP_GRADIENTS.ENABLED": True,
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "norm",
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 2.4,
        "SOLVER.CLIP_GRADIENTS.NORM_TYPE": 2.0,
    }
    found = settings("detectron2-yaml", snippet("detectron2-yaml", max_norm=0.1, method="value"))
    assert found["SOLVER.CLIP_GRADIENTS.CLIP_TYPE"] == "value"
    with pytest.raises(InputError, match="take the `detectron2` snippet"):
        snippet("detectron2-yaml", max_norm=2.4)


@pytest.mark.parametrize("name", ["pytorch", "fsdp", "fsdp2"])
def test_loops_say_the_order(name: str) -> None:
    text = snippet(name, max_norm=2.4)
    words = ("backward()", ".clip_grad_norm_(", "optimizer.step()")
    assert [text.rindex(word) for word in words] == sorted(text.rindex(word) for word in words)
    if name != "fsdp2":
        assert text.index("backward()") < text.index("unscale_(") < text.rindex(".clip_grad_norm_(")


REFUSED = [
    (name, method, norm_type)
    for name in FRAMEWORKS
    for method in METHODS
    for norm_type in ((2.0,) if method == "value" else NORM_TYPES)
    if (name, method, norm_type) not in EXPRESSIBLE
]


@pytest.mark.parametrize(("name", "method", "norm_type"), REFUSED)
def test_refuses_what_would_mean_something_else(name: str, method: Method, norm_type: float) -> None:
    with pytest.raises(InputError) as refusal:
        snippet(name, max_norm=2.4, method=method, norm_type=norm_type)
    message = str(refusal.value)
    assert FRAMEWORKS[name].title in message
    assert "Instead, " in message
    assert "Instead, ." not in message
    assert repr(method) in message or repr(norm_type) in message
    assert len(message) <= 600


def test_refusals_are_the_ones_meant() -> None:
    everything = {"pytorch", "fsdp2", "detectron2", "keras", "optax"}
    no_tensors = {"accelerate", "fsdp", "lightning", "lightning-yaml", "lightning-trainer", "fabric"}
    no_tensors |= {"composer", "timm", "mmengine"}
    refused = {(name, method) for name, method, norm_type in REFUSED if norm_type == 2.0}
    assert refused == {
        ("detectron2-yaml", "norm"),
        *((name, "per_tensor") for name in no_tensors),
        *((n, m) for n in set(FRAMEWORKS) - everything - no_tensors - {"detectron2-yaml"} for m in METHODS[1:]),
    }
    other_norms = {name for name, _, norm_type in EXPRESSIBLE if norm_type != 2.0}
    assert other_norms == {
        *("pytorch", "accelerate", "fsdp", "fsdp2", "fabric"),
        *("espnet", "fastai", "detectron2", "detectron2-yaml", "mmengine"),
    }


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_value_does_not_depend_on_the_norm_type(name: str) -> None:
    if "value" in FRAMEWORKS[name].methods:
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
    aliases = [alias for entry in FRAMEWORKS.values() for alias in entry.aliases]
    assert len(set(aliases) | set(FRAMEWORKS)) == len(aliases) + len(FRAMEWORKS)
    for name, entry in FRAMEWORKS.items():
        assert all(resolve(word) == name for word in (name, name.upper(), name.replace("-", "_"), *entry.aliases))
    with pytest.raises(InputError, match="Did you mean 'pytorch'"):
        snippet("pytroch", max_norm=1.0)
    with pytest.raises(InputError) as refusal:
        snippet("zzz", max_norm=1.0)
    assert all(name in str(refusal.value) for name in FRAMEWORKS)
    assert len(str(refusal.value)) <= 600
    with pytest.raises(InputError, match="'per_tensor'"):
        snippet("pytorch", max_norm=1.0, method="per-tensor")  # type: ignore[arg-type]


def test_names_that_a_snippet_points_to_exist() -> None:
    for name, method, _ in EXPRESSIBLE:
        text = snippet(name, max_norm=2.4, method=method) + FRAMEWORKS[name].instead
        for word in text.split("`")[1::2]:
            if text.partition(f"`{word}`")[2].startswith(" snippet"):
                assert word in FRAMEWORKS


@pytest.mark.parametrize(("name", "method"), PLACES)
def test_provenance_is_one_comment_and_nothing_else(name: str, method: Method) -> None:
    plain = snippet(name, max_norm=2.4, method=method)
    for nasty in ("a\nimport os", "a\rb\u2028c\x0bd", 'quote " and { and \\ and: '):
        text = snippet(name, max_norm=2.4, method=method, provenance=nasty)
        first, _, rest = text.partition("\n")
        assert rest == plain
        assert first.startswith("# ")
        assert len(text.splitlines()) == len(plain.splitlines()) + 1
    assert snippet(name, max_norm=2.4, method=method, provenance=" \n") == plain
    assert not plain.endswith("\n")


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
    assert all(
        "Trainer clips at 1.0" in snippet(name, max_norm=2.4)
        for name in ("huggingface", "huggingface-yaml", "trl", "axolotl")
    )


def test_the_docs_have_every_framework() -> None:
    """One row an entry: its title, names and methods as the table of the package has them, and the key of each method."""
    page = (Path(__file__).parents[3] / "docs" / "snippets.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    header, _, *rows = rows
    assert len(header) == 7
    assert [names.split("`")[1] for _, names, *_ in rows] == list(FRAMEWORKS)
    for name, (title, names, expresses, place, *rest) in zip(FRAMEWORKS, rows, strict=True):
        entry = FRAMEWORKS[name]
        assert title == entry.title
        assert names.split("`")[1::2] == [name, *entry.aliases]
        assert expresses == ", ".join([*entry.methods, *(["any p"] if entry.any_norm_type else [])])
        assert all(PLACES[name, method].rpartition(".")[2] in place for method in entry.methods)
        assert len(rest) == 3
        assert all(rest)


def test_what_is_clipped_at_where_nothing_is_said_stands_in_the_docs_too() -> None:
    page = (Path(__file__).parents[3] / "docs" / "snippets.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("|")]
    left_out = {cells[1].split("`")[1]: cells[4] for cells in rows[2:]}
    assert set(left_out) == set(FRAMEWORKS)
    for name, entry in FRAMEWORKS.items():
        if entry.default is None:
            assert left_out[name].startswith(("no ", "as above")), name
        else:
            assert str(entry.default) in left_out[name], name


def test_imports_stay_light() -> None:
    program = (
        "import sys; there = set(sys.modules); import clipcal.frameworks.snippets; print(*(set(sys.modules) - there))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    outside = {name.partition(".")[0] for name in done.stdout.split()} - set(sys.stdlib_module_names)
    assert {name for name in outside if "cython" not in name} <= {"clipcal", "yaml", "_yaml"}
    assert "clipcal" in outside
