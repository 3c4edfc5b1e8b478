"""A name behind ``--for`` is one framework: `recommend` and `apply` put the threshold in the same place, or both say no."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipcal.errors import InputError
from clipcal.frameworks.applying.planning import plan
from clipcal.frameworks.snippets import snippet
from clipcal.frameworks.table import FRAMEWORKS

MEGATRON = """\
trainer:
  devices: 8
  max_steps: 100
  strategy:
    _target_: nemo.lightning.pytorch.strategies.megatron_strategy.MegatronStrategy
"""


@pytest.mark.parametrize("name", ["nemo", "nemo2", "nemo-yaml", "lightning", "lightning-cli", None])
def test_gradient_clip_val_is_never_written_where_megatron_raises_an_error_for_it(
    name: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "nemo.yaml"
    file.write_text(MEGATRON)
    with pytest.raises(InputError, match="Megatron"):
        plan(file, max_norm=2.4, framework=name)


def test_nemo_by_value_is_refused_by_both(tmp_path: Path) -> None:
    file = tmp_path / "asr.yaml"
    file.write_text("trainer:\n  max_epochs: 3\n")
    assert "trainer:\n  gradient_clip_val: 2.4" in snippet("nemo-yaml", max_norm=2.4)
    assert "  gradient_clip_val: 2.4\n" in plan(file, max_norm=2.4, framework="nemo-yaml").new_text
    with pytest.raises(InputError, match="Instead, "):
        snippet("nemo-yaml", max_norm=2.4, method="value")
    with pytest.raises(InputError, match="Instead, "):
        plan(file, max_norm=2.4, method="value", framework="nemo-yaml")


@pytest.mark.parametrize("name", ["trl", "sft", "grpo", "trl-yaml", "hf-yaml", "llama-factory", "llamafactory"])
def test_what_hugging_face_trainer_is_under_reads_max_grad_norm(name: str, tmp_path: Path) -> None:
    file = tmp_path / "args.yaml"
    file.write_text("learning_rate: 1.0e-4\n")
    assert "max_grad_norm" in snippet(name, max_norm=2.4)
    assert plan(file, max_norm=2.4, framework=name).new_text == "learning_rate: 1.0e-4\nmax_grad_norm: 2.4\n"


@pytest.mark.parametrize("name", ["lightning-cli", "lightning-yaml", "pl-yaml", "lightning", "pl"])
def test_lightning_by_any_of_its_names(name: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("trainer:\n  max_epochs: 3\n")
    assert "gradient_clip_val" in snippet(name, max_norm=2.4)
    made = plan(file, max_norm=2.4, framework=name)
    assert made.framework == "lightning"
    assert made.new_text == "trainer:\n  max_epochs: 3\n  gradient_clip_val: 2.4\n"


@pytest.mark.parametrize("name", [n for n, entry in FRAMEWORKS.items() if entry.language in ("yaml", "toml", "json")])
def test_what_recommend_prints_for_a_file_is_what_apply_would_write(name: str, tmp_path: Path) -> None:
    for method in FRAMEWORKS[name].methods:
        file = tmp_path / f"{method}.{FRAMEWORKS[name].language}"
        text = snippet(name, max_norm=2.4, method=method)
        if file.suffix == ".json":  # the comments stay outside of the object
            text = text[text.index("{") :]
        file.write_text(f"{text}\n")
        assert plan(file, max_norm=2.4, method=method, framework=name).unchanged
