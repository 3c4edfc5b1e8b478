"""YAML -> Spec: what to train, checked, with a place in the file for every complaint."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from clipcal.errors import InputError, SpecError, nearest, nearest_path
from clipcal.run.records import Method
from clipcal.run.source import Source, SpecSource
from clipcal.sources.ranks import ranks_here
from clipcal.sources.targets import near_target

Place = tuple[int, int]
KeyPath = tuple[str | int, ...]


def _target(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"expected an object with a `_target_`: {{_target_: {value}}}")
    if not isinstance(value, dict):
        raise ValueError(
            f"expected an object with a `_target_`, such as {{_target_: package.module.Name}}, found {_shown(value)}"
        )
    if "_target_" not in value:
        slip = near_target(value)
        hint = f" Did you mean '_target_' where it says {slip!r}?" if slip else ""
        raise ValueError(f"has no `_target_`, the import path of what to build.{hint}")
    return value


Target = Annotated[
    dict[str, Any],
    BeforeValidator(_target),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "_target_": {
                    "type": "string",
                    "description": "import path: package.module.Name or package.module:name",
                },
                "_args_": {"type": "array", "description": "positional arguments"},
                "_partial_": {"type": "boolean", "description": "a functools.partial in place of the call"},
            },
            "required": ["_target_"],
            "additionalProperties": True,
        }
    ),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ClipSpec(_Strict):
    method: Method = "norm"
    """norm: clip_grad_norm_ over all parameters. value: clip_grad_value_. per_tensor: each tensor by its own norm."""
    norm_type: float = Field(default=2.0, gt=0)
    """The p of the norm; 2.0 is what every framework clips by, .inf the largest element."""


class Fields(_Strict):
    """What `clipcal profile` trains. Objects are given by `_target_`, an import path; other keys are its arguments."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run directory; the file's name where absent."""
    model: Target
    """Builds a torch.nn.Module."""
    data: Target
    """Builds an iterable of batches, or a DataLoader; re-iterated when it ends."""
    loss: Target | None = None
    """loss(model(inputs), target), for data that yields (inputs, target)."""
    training_step: Target | None = None
    """A function called as step(model, batch) -> loss, in place of `loss`. With neither: model(**batch).loss."""
    optimizer: Target
    """Gets the model's parameters; a factory whose first argument is named `model` gets the model."""
    scheduler: Target | None = None
    """Gets the optimizer; stepped once per optimizer step."""
    steps: int = Field(default=300, ge=1, strict=True)
    """Optimizer steps to observe."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1, strict=True)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """auto | cpu | cuda | cuda:N | mps"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16: autocast. fp16: autocast with a GradScaler; norms are those of the unscaled gradients."""
    accumulate: int = Field(default=1, ge=1, strict=True)
    """Micro-batches per optimizer step."""
    clip: ClipSpec = ClipSpec()
    parallel: Literal["none", "ddp", "fsdp2"] = "none"

    @model_validator(mode="after")
    def _one_way_to_the_loss(self) -> Fields:
        if self.loss is not None and self.training_step is not None:
            raise ValueError("`loss` and `training_step` are two ways to say the same; keep one of them")
        return self


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A checked spec. ``where(path)`` is the place of a key in its file, as ``file:line:column``."""

    fields: Fields
    file: Path
    folder: Path
    cwd: Path
    text: str
    overrides: dict[str, Any]
    places: dict[KeyPath, Place] = field(repr=False)

    @property
    def name(self) -> str:
        return self.fields.name or re.sub(r"[^A-Za-z0-9._-]+", "-", self.file.stem).strip("-.") or "run"

    @property
    def steps(self) -> int:
        return self.fields.steps

    def resuming(self, folder: Path) -> str:
        """What continues a run of it that was cut short."""
        ranks = ranks_here()
        launched = [] if ranks is None else ["torchrun", "--nproc-per-node", str(ranks.world), "-m"]
        return shlex.join([*launched, "clipcal", "profile", str(self.file), "--out", str(folder), "--resume"])

    @property
    def fingerprint(self) -> str:
        """Equal for specs that train the same way: how long, where and under which name does not count."""
        trained = self.fields.model_dump(exclude={"name", "steps", "device"})
        trained["clip"].pop("method")
        canonical = json.dumps(trained, sort_keys=True, default=str)
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()

    def where(self, path: KeyPath) -> str:
        return _where(self.file, self.places, path)

    def source(self) -> SpecSource:
        """What run.json keeps, so that ``from_source`` gives this spec again."""
        return SpecSource.of(path=self.file, folder=self.folder, cwd=self.cwd, text=self.text, overrides=self.overrides)


def load_spec(path: Path | str, **overrides: Any) -> Spec:
    """Read and check a spec file; ``overrides`` replace top-level keys (those that are None do not).

    Raises SpecError, which names file, line and column.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = nearest_path(file, file.parent.glob("*.y*ml"))
        raise InputError(f"{file}: no such file.{near} `clipcal init` writes a starter spec.") from None
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8 text"
        raise InputError(
            f"{file}: cannot be read ({reason}). Expected a YAML spec; `clipcal init` writes one."
        ) from None
    return parse_spec(text, file=file, folder=file.parent.resolve(), cwd=Path.cwd(), overrides=overrides)


def from_source(source: Source, **overrides: Any) -> Spec:
    """The spec that a run was made from, as it was then."""
    given = source.overrides | overrides
    file, folder, cwd = Path(source.path), Path(source.folder), Path(source.cwd)
    return parse_spec(source.text, file=file, folder=folder, cwd=cwd, overrides=given)


def parse_spec(text: str, *, file: Path, folder: Path, cwd: Path, overrides: Mapping[str, Any]) -> Spec:
    data, places = _read_yaml(text, file)
    given = {k: v for k, v in overrides.items() if v is not None}
    try:
        fields = Fields.model_validate(data | given)
    except ValidationError as e:
        raise SpecError(_complaint(e, lambda path: _where(file, places, path), given)) from None
    return Spec(fields=fields, file=file, folder=folder, cwd=cwd, text=text, overrides=given, places=places)


def _where(file: Path, places: Mapping[KeyPath, Place], path: KeyPath) -> str:
    """The place of a key, or of the nearest one around it that stands in the file."""
    while path and path not in places:
        path = path[:-1]
    line, column = places.get(path, (1, 1))
    return f"{file}:{line}:{column}"


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number, as YAML 1.2 and every reader do; YAML 1.1 takes it for a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _read_yaml(text: str, file: Path) -> tuple[dict[str, Any], dict[KeyPath, Place]]:
    tab = re.search(r"^ *\t", text, re.MULTILINE)
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if tab and text.count("\n", 0, tab.start()) + 1 == line:
            raise SpecError(
                f"{file}:{line}:{tab.end() - tab.start()}: a tab; YAML is indented with spaces. Replace it by spaces."
            ) from None
        context = f" {e.context}" if e.context else ""
        raise SpecError(f"{file}:{line}:{column}: not valid YAML: {e.problem or 'syntax error'}{context}.") from None
    except yaml.YAMLError as e:
        raise SpecError(f"{file}:1:1: not valid YAML: {str(e).splitlines()[0]}.") from None
    except ValueError as e:
        raise SpecError(f"{file}:1:1: a value cannot be read: {e}.") from None
    finally:
        if loader is not None:
            loader.dispose()
    if data is None:
        raise SpecError(
            f"{file}:1:1: empty. A spec has at least `model`, `data` and `optimizer`; `clipcal init` writes one."
        )
    if not isinstance(data, dict):
        found = "text" if isinstance(data, str) else f"a {_kind(data)}"
        raise SpecError(f"{file}:1:1: holds {found}; expected keys such as `model:`, `data:` and `optimizer:`.")
    places: dict[KeyPath, Place] = {}
    _collect(node, (), places, file)
    return data, places


def _collect(
    node: yaml.Node | None, path: KeyPath, places: dict[KeyPath, Place], file: Path, above: tuple[int, ...] = ()
) -> None:
    """The place of every key, and of every element of a list. A key that stands twice is an error: YAML keeps the last."""
    if id(node) in above:
        line, column = places.get(path, (1, 1))
        raise SpecError(f"{file}:{line}:{column}: an alias that holds itself; write the value out.")
    above = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            place = (key.start_mark.line + 1, key.start_mark.column + 1)
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise SpecError(
                    f"{file}:{place[0]}:{place[1]}: unknown key {name}: it is read as no text; put it in quotes if it is meant."
                )
            if name in seen and name != "<<":
                raise SpecError(f"{file}:{place[0]}:{place[1]}: the key {name!r} stands twice; keep one of them.")
            seen.add(name)
            places[(*path, name)] = place
            _collect(value, (*path, name), places, file, above)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            places[(*path, i)] = (value.start_mark.line + 1, value.start_mark.column + 1)
            _collect(value, (*path, i), places, file, above)


_FLAGS = {"steps": "--steps", "seed": "--seed", "device": "--device"}


def _complaint(error: ValidationError, where: Callable[[KeyPath], str], given: Mapping[str, Any]) -> str:
    """The first thing that is wrong, in a sentence; unknown keys first, since one of them often explains a missing one."""
    e = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = e["loc"]
    name = ".".join(str(p) for p in path)
    place = where(path)
    if path and path[0] in given and path[0] in _FLAGS:
        place = _FLAGS[str(path[0])]
    if e["type"] == "extra_forbidden":
        known = ClipSpec.model_fields if path[0] == "clip" and len(path) > 1 else Fields.model_fields
        return f"{place}: unknown key {path[-1]!r}.{nearest(str(path[-1]), known)}"
    if e["type"] == "missing":
        return f"{place}: `{name}` is missing. {Fields.model_fields[str(path[0])].description or ''}".strip()
    if e["type"] in ("value_error", "assertion_error"):
        reason = str(e["ctx"]["error"]) if "ctx" in e else e["msg"]
        if not path:  # of two keys at once: at the one that is likelier meant to go
            place = where(("training_step",))
        elif isinstance(e["input"], dict) and (slip := near_target(e["input"])):
            place = where((*path, slip))
        return f"{place}: `{name}` {reason}" if path else f"{place}: {reason}."
    expected = {
        "greater_than_equal": "expected a whole number of at least {ge}",
        "greater_than": "expected a number greater than {gt}",
        "less_than_equal": "expected a whole number of at most {le}",
        "int_type": "expected a whole number",
        "int_from_float": "expected a whole number",
        "float_parsing": "expected a number",
        "float_type": "expected a number",
        "string_type": "expected text",
        "literal_error": "expected {expected}",
        "model_type": "expected keys: method, norm_type",
    }.get(e["type"], e["msg"][:1].lower() + e["msg"][1:])
    if e["type"] == "string_pattern_mismatch":
        expected = {
            "device": "expected auto, cpu, cuda, cuda:N or mps",
            "name": "expected letters, digits, '.', '_' and '-'",
        }[name]
    limits = {k: f"{v:g}" if isinstance(v, float) else v for k, v in e.get("ctx", {}).items()}
    return f"{place}: `{name}` is {_shown(e['input'])}; {expected.format(**limits)}."


_WORDS = {"str": "text", "list": "list", "dict": "mapping", "int": "number", "float": "number", "bool": "truth value"}


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    return f"{value!r} ({_kind(value)})" if isinstance(value, (str, list, dict)) else repr(value)


def _kind(value: Any) -> str:
    return _WORDS.get(type(value).__name__, type(value).__name__)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a spec, for editors."""
    return Fields.model_json_schema() | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "clipcal spec",
    }
