"""A spec is checked before anything is built, and every complaint has a place in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipcal.errors import InputError, SpecError
from clipcal.run.directory import Replacement, RunInfo, open_run
from clipcal.sources.spec import Fields, from_source, json_schema, load_spec, parse_spec
from clipcal.sources.starter import STARTER

GOOD = """\
model: {_target_: my.Model}
data: {_target_: my.data}
optimizer:
  _target_: torch.optim.SGD
  lr: 1e-3
"""


def parse(text: str, **overrides: Any) -> Any:
    return parse_spec(text, file=Path("s.yaml"), folder=Path(), cwd=Path(), overrides=overrides)


def test_defaults_are_those_of_the_contract() -> None:
    f = parse(GOOD).fields
    assert (f.steps, f.seed, f.device, f.precision, f.accumulate, f.parallel) == (300, 0, "auto", "fp32", 1, "none")
    assert (f.clip.method, f.clip.norm_type) == ("norm", 2.0)


@pytest.mark.parametrize(
    ("written", "value"), [("1e-3", 1e-3), ("1E5", 1e5), ("-2e+3", -2e3), ("1.5e-3", 1.5e-3), ("1_0", 10)]
)
def test_numbers_are_read_as_everybody_writes_them(written: str, value: float) -> None:
    assert parse(GOOD.replace("1e-3", written)).fields.optimizer["lr"] == value


@pytest.mark.parametrize("written", ["e3", "1e", "sha1e5x", "'1e-3'"])
def test_words_stay_words(written: str) -> None:
    assert isinstance(parse(GOOD.replace("1e-3", written)).fields.optimizer["lr"], str)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "modle: 1\n", r"^s\.yaml:6:1: unknown key 'modle'\. Did you mean 'model'\?$"),
        (GOOD + "clip: {metod: norm}\n", r"^s\.yaml:6:8: unknown key 'metod'\. Did you mean 'method'\?$"),
        (GOOD + "steps: 0\n", r"^s\.yaml:6:1: `steps` is 0; expected a whole number of at least 1\.$"),
        (GOOD + "steps: many\n", r"^s\.yaml:6:1: `steps` is 'many' \(text\); expected a whole number\.$"),
        (GOOD + "steps: 1.5\n", r"^s\.yaml:6:1: `steps` is 1\.5; expected a whole number\.$"),
        (GOOD + "steps: yes\n", r"^s\.yaml:6:1: `steps` is True; expected a whole number\.$"),
        (GOOD + "device: gpu\n", r"^s\.yaml:6:1: `device` is 'gpu' \(text\); expected auto, cpu, cuda"),
        (GOOD + "precision: half\n", r"^s\.yaml:6:1: `precision` is 'half' \(text\); expected 'fp32', 'bf16' or 'fp16'\.$"),
        (GOOD + "clip: {norm_type: -1}\n", r"^s\.yaml:6:8: `clip\.norm_type` is -1; expected a number greater than 0\.$"),
        (GOOD + "name: ../up\n", r"^s\.yaml:6:1: `name` is '\.\./up' \(text\); expected letters, digits"),
        (GOOD + "model: {_target_: a.B}\n", r"^s\.yaml:6:1: the key 'model' stands twice; keep one of them\.$"),
        (GOOD.replace("lr: 1e-3", "lr: 1\n  lr: 2"), r"^s\.yaml:6:3: the key 'lr' stands twice"),
        (GOOD + "loss: torch.nn.MSELoss\n", r"^s\.yaml:6:1: `loss` expected an object with a `_target_`: \{_target_: torch\.nn\.MSELoss\}"),
        (GOOD + "loss: {target: a.B}\n", r"^s\.yaml:6:8: `loss` has no `_target_`.* Did you mean '_target_' where it says 'target'\?$"),
        (GOOD + "loss:\n  a: 1\n  _targt_: a.B\n", r"^s\.yaml:8:3: `loss` has no `_target_`.* Did you mean '_target_' where it says '_targt_'\?$"),
        (GOOD + "loss: {_traget: a.B}\n", r"^s\.yaml:6:8: `loss` has no `_target_`.* where it says '_traget'\?$"),
        (GOOD + "loss: {weight: 1}\n", r"^s\.yaml:6:1: `loss` has no `_target_`, the import path of what to build\.$"),
        (GOOD + "loss: {_target_: a.B}\ntraining_step: {_target_: a.C}\n", r"^s\.yaml:7:1: `loss` and `training_step` are two ways"),
        (GOOD.replace("model: {_target_: my.Model}\n", ""), r"^s\.yaml:1:1: `model` is missing\. Builds a torch\.nn\.Module\.$"),
        ("", r"^s\.yaml:1:1: empty\."),
        ("# only a comment\n", r"^s\.yaml:1:1: empty\."),
        ("- a\n- b\n", r"^s\.yaml:1:1: holds a list; expected keys such as"),
        ("words\n", r"^s\.yaml:1:1: holds text; expected keys such as"),
        ("5\n", r"^s\.yaml:1:1: holds a number; expected keys such as"),
        ("model:\n\t_target_: a.B\n", r"^s\.yaml:2:1: a tab; YAML is indented with spaces"),
        ("model: {_target_: a.B\n", r"^s\.yaml:2:1: not valid YAML: expected ',' or '\}'"),
        ("model: !!python/object/apply:os.system [true]\n", r"^s\.yaml:1:8: not valid YAML: could not determine a constructor"),
        ("a: &a [*a]\n", r"^s\.yaml:1:4: an alias that holds itself"),
        ("a: &x {b: *x}\n", r"^s\.yaml:1:8: an alias that holds itself"),
        ("a: 2020-13-45\n", r"^s\.yaml:1:1: a value cannot be read"),
    ],
)  # fmt: skip
def test_every_complaint_names_its_place_and_the_next_thing_to_try(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(text)


def test_a_flag_is_named_where_a_flag_is_wrong() -> None:
    with pytest.raises(SpecError, match=r"^--device: `device` is 'gpu'"):
        parse(GOOD, device="gpu")


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "char_lstm.yaml").write_text(GOOD)
    with pytest.raises(InputError) as no:
        load_spec(tmp_path / "char_lstn.yaml")
    assert f"no such file. Did you mean '{tmp_path / 'char_lstm.yaml'}'?" in str(no.value)


def test_a_shared_ending_is_no_likeness(tmp_path: Path) -> None:
    (tmp_path / "u.yaml").write_text(GOOD)
    with pytest.raises(InputError) as no:
        load_spec(tmp_path / "nosuch.yaml")
    assert "Did you mean" not in str(no.value)
    assert f"Known here: {tmp_path / 'u.yaml'}." in str(no.value)


def test_the_starter_is_a_valid_spec_and_mentions_every_key(tmp_path: Path) -> None:
    path = tmp_path / "clipcal.yaml"
    path.write_text(STARTER)
    assert load_spec(path).fields.optimizer["lr"] == 3e-4
    for key in Fields.model_fields:
        if key not in ("name", "parallel"):
            assert f"{key}:" in STARTER


def test_the_json_schema_names_every_key_and_forbids_others() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == set(Fields.model_fields)
    assert schema["required"] == ["model", "data", "optimizer"]
    assert schema["additionalProperties"] is False
    assert all(
        {"description", "$ref", "allOf"} & p.keys()  # pydantic before 2.9 wraps the reference
        for k, p in schema["properties"].items()
        if k not in ("seed", "precision", "parallel")
    )


def test_a_run_keeps_its_spec_whole(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD + "clip: {norm_type: .inf}\n")
    spec = load_spec(path, steps=7, seed=3)
    info = RunInfo(
        name="s", source=spec.source(), fingerprint=spec.fingerprint, steps=7, seeds=[3], device="cpu", threads=1,
        norm_type=spec.fields.clip.norm_type,
    )  # fmt: skip
    Replacement(tmp_path / "run", info, force=False)
    path.unlink()
    back = open_run(tmp_path / "run").info
    assert back == info
    again = from_source(back.source)
    assert again.fields == spec.fields
    assert again.where(("optimizer", "lr")) == f"{path}:5:3"


def test_the_fingerprint_changes_with_what_changes_training() -> None:
    base = parse(GOOD).fingerprint
    same = [
        GOOD + "steps: 7\n",
        GOOD + "name: other\n",
        GOOD + "device: cpu\n",
        "# comment\n" + GOOD,
        GOOD.replace("1e-3", "0.001"),
    ]
    other = [GOOD.replace("1e-3", "2e-3"), GOOD + "seed: 1\n", GOOD + "accumulate: 2\n", GOOD + "precision: bf16\n"]
    assert {parse(t).fingerprint for t in same} == {base}
    assert len({parse(t).fingerprint for t in other} | {base}) == len(other) + 1


def test_the_sample_configs_say_what_to_expect() -> None:
    configs = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))
    assert len(configs) == 6
    for path in configs:
        assert "Expect:" in path.read_text(), path
        assert load_spec(path).name == path.stem.replace("_", "-")


def test_yaml_is_never_loaded_unsafely() -> None:
    marker = "!!python/name:os.system"
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(marker)
    with pytest.raises(SpecError):
        parse(GOOD + f"loss: {marker}\n")
