"""What stands against the threshold in the file, or in the DeepSpeed config that it names, is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipcal.errors import InputError
from clipcal.frameworks.applying.planning import plan
from clipcal.recommendation.answer import Method

TRAINER = "per_device_train_batch_size: 4\ndeepspeed: {}\n"


def warnings(folder: Path, text: str, *, name: str = "c.yaml", method: Method = "norm", key: str | None = None) -> str:
    file = folder / name
    file.write_text(text)
    return " | ".join(plan(file, max_norm=2.4, method=method, key=key).warnings)


def refused(folder: Path, text: str, *, name: str = "c.yaml", method: Method = "norm") -> str:
    with pytest.raises(InputError) as no:
        warnings(folder, text, name=name, method=method)
    return str(no.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"gradient_clipping": "auto"}', ""),
        ('{"gradient_clipping": 2.4}', ""),
        ('// a comment\n{"gradient_clipping": 2.4, }', ""),
        ('{"gradient_clipping": 1.0}', "ds.json says gradient_clipping 1.0, and max_grad_norm will say 2.4 here"),
        ('{"gradient_clipping": true}', "ds.json says gradient_clipping True"),
        ('{"zero_optimization": {"stage": 2}}', "ds.json has no gradient_clipping, so that DeepSpeed clips nothing"),
        ("{", "names a file that cannot be read"),
        ("[]", "has no gradient_clipping"),
    ],
)
@pytest.mark.parametrize(
    "marks",
    [
        "per_device_train_batch_size: 4",
        "base_model: x\nmicro_batch_size: 1",
        "model_name_or_path: x\nfinetuning_type: lora",
    ],
)
def test_the_deepspeed_config_that_a_trainer_names(tmp_path: Path, config: str, words: str, marks: str) -> None:
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds" / "ds.json").write_text(config)
    found = warnings(tmp_path, f"{marks}\nmax_grad_norm: 1.0\ndeepspeed: ds/ds.json\n")
    assert words in found
    assert bool(words) == bool(found)


def test_a_deepspeed_config_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "ds.json").write_text('{"gradient_clipping": 0.5}')
    text = TRAINER.format("ds.json")
    assert "ds.json', which is not here to be looked at" in warnings(tmp_path / "configs", text)
    monkeypatch.chdir(tmp_path)
    assert "ds.json says gradient_clipping 0.5" in warnings(tmp_path / "configs", text)


def test_a_deepspeed_config_in_the_file_itself(tmp_path: Path) -> None:
    assert warnings(tmp_path, TRAINER.format("{gradient_clipping: auto}")) == ""
    assert "in this file has no gradient_clipping" in warnings(tmp_path, TRAINER.format("{zero_optimization: {}}"))


@pytest.mark.parametrize("value", ["null", "zero3", "true", "3", ".json", "'\\0.json'", "x" * 5000 + ".json", "[1]"])
def test_odd_names_of_a_deepspeed_config_are_no_trouble(tmp_path: Path, value: str) -> None:
    assert "says" not in warnings(tmp_path, TRAINER.format(value))


def test_deepspeed_auto_is_left_alone_unless_the_key_is_named(tmp_path: Path) -> None:
    text = '{"zero_optimization": {"stage": 2}, "gradient_clipping": "auto", "train_batch_size": "auto"}'
    message = refused(tmp_path, text, name="ds.json")
    assert 'gradient_clipping is "auto", which Hugging Face Trainer fills in' in message
    assert "max_grad_norm" in message
    assert "Under Trainer max_grad_norm has to be 2.4 too" in warnings(
        tmp_path, text, name="ds.json", key="gradient_clipping"
    )
    assert warnings(tmp_path, text.replace('"auto"', "1"), name="ds.json") == ""


def test_accelerate_without_a_place_for_it(tmp_path: Path) -> None:
    text = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\n"
    assert "`clipcal recommend RUN --for accelerate`" in refused(tmp_path, text)
    text += "deepspeed_config:\n  deepspeed_config_file: ds.json\n"
    assert "takes its DeepSpeed settings from 'ds.json'" in refused(tmp_path, text)


@pytest.mark.parametrize(
    "strategy",
    [
        "fsdp",
        "fsdp_cpu_offload",
        "\n    class_path: lightning.pytorch.strategies.FSDPStrategy",
        "{_target_: lightning.pytorch.strategies.FSDPStrategy}",
    ],
)
def test_lightning_fsdp(tmp_path: Path, strategy: str) -> None:
    text = f"trainer:\n  max_epochs: 3\n  strategy: {strategy}\n"
    assert "FSDP strategy raises an error" in warnings(tmp_path, text)
    assert warnings(tmp_path, text, method="value") == ""
    hydra = f"_target_: lightning.Trainer\nstrategy: {strategy}\n"
    assert "FSDP strategy raises an error" in warnings(tmp_path, hydra)


def test_lightning_deepspeed(tmp_path: Path) -> None:
    text = "trainer:\n  max_epochs: 3\n  strategy: deepspeed_stage_2\n"
    assert warnings(tmp_path, text) == ""
    assert "cannot clip by value" in refused(tmp_path, text, method="value")
    text = (
        "trainer:\n  max_epochs: 3\n  strategy:\n    class_path: lightning.pytorch.strategies.DeepSpeedStrategy\n"
        "    init_args: {config: ds.json}\n"
    )
    assert "trainer.strategy.init_args.config names a DeepSpeed config" in warnings(tmp_path, text)


def test_detectron2_never_gets_a_total_norm(tmp_path: Path) -> None:
    text = "SOLVER:\n  BASE_LR: 0.02\n  CLIP_GRADIENTS:\n    ENABLED: True\n    CLIP_TYPE: norm\n    CLIP_VALUE: 1.0\n"
    assert "clips each tensor by its own norm" in refused(tmp_path, text)
    assert warnings(tmp_path, text, method="per_tensor") == ""
    with pytest.raises(InputError, match="each tensor by its own norm"):
        warnings(tmp_path, text, key="SOLVER.CLIP_GRADIENTS.CLIP_VALUE")


def test_training_that_would_not_start(tmp_path: Path) -> None:
    torchtune = "model: {_component_: torchtune.models.x}\nclip_grad_norm: null\noptimizer_in_bwd: "
    assert "optimizer_in_bwd" in warnings(tmp_path, f"{torchtune}True\n")
    assert warnings(tmp_path, f"{torchtune}False\n") == ""
    litgpt = "out_dir: o\ntrain:\n  micro_batch_size: 1\n  max_norm:\n"
    assert "LitGPT's finetuning" in warnings(tmp_path, f"checkpoint_dir: c\n{litgpt}")
    assert warnings(tmp_path, f"model_name: m\n{litgpt}") == ""


def test_composer_by_value_under_fsdp(tmp_path: Path) -> None:
    text = "max_duration: 1ep\ntrain_loader: {}\nfsdp_config: {sharding_strategy: FULL_SHARD}\n"
    assert "scales every gradient" in warnings(tmp_path, text, method="value")
    assert warnings(tmp_path, text) == ""
