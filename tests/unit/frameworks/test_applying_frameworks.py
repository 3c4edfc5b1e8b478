"""Every framework's config: recognised by its content, the key that the framework reads, and only its line changed."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipcal.errors import InputError
from clipcal.frameworks.applying.planning import plan
from clipcal.frameworks.table import CONFIGS, FRAMEWORKS, config_of, resolve
from clipcal.recommendation.answer import Method


@dataclass(frozen=True, kw_only=True)
class Case:
    """``gone`` and ``new`` are the lines that the change takes out and puts in; ``says`` what the file says afterwards."""

    framework: str
    file: str
    text: str
    gone: tuple[str, ...] = ()
    new: tuple[str, ...]
    says: dict[str, Any]
    method: Method = "norm"
    norm_type: float = 2.0
    warnings: int = 0
    max_norm: float = field(default=2.4)


DEEPSPEED = """\
{
    "train_micro_batch_size_per_gpu": 8,
    "gradient_accumulation_steps": 4,
    "optimizer": {"type": "AdamW", "params": {"lr": 3e-4, "betas": [0.9, 0.95]}},
    "gradient_clipping": 1.0,
    "zero_optimization": {
        "stage": 2,
        "overlap_comm": true
    }
}
"""
NEOX = """\
# A small one
{
   # parallelism
   "pipe_parallel_size": 1,
   "train_micro_batch_size_per_gpu": 4,
   "optimizer": {
     "type": "Adam",
     "params": {
       "lr": 0.0006,
       "betas": [0.9, 0.95],
     }
   },

   # regularization
   "gradient_clipping": 1.0,   # of the total norm
   "weight_decay": 0.1,
}
"""
ACCELERATE = """\
compute_environment: LOCAL_MACHINE
debug: false
deepspeed_config:
  gradient_accumulation_steps: 4
  zero3_init_flag: false
  zero_stage: 2
distributed_type: DEEPSPEED
mixed_precision: bf16
num_processes: 8
"""
AXOLOTL = """\
base_model: org/some-7b
datasets:
  - path: some/data   # one of two
    type: alpaca

adapter: lora
sequence_len: 4096
micro_batch_size: 2
learning_rate: 0.0002
"""
LLAMA_FACTORY = """\
### model
model_name_or_path: org/some-8b

### method
stage: sft
finetuning_type: lora

### train
learning_rate: 1.0e-4
max_grad_norm: 1.0
bf16: true
"""
TORCHTUNE = """\
# Run with: tune run full_finetune_single_device
tokenizer:
  _component_: torchtune.models.llama3.llama3_tokenizer
  path: ${dir}/tokenizer.model
optimizer:
  _component_: torch.optim.AdamW
  lr: 2e-5
gradient_accumulation_steps: 8  # to save memory
clip_grad_norm: null
compile: False
"""
TORCHTITAN = """\
[job]
dump_folder = "./outputs"

[lr_scheduler]
warmup_steps = 200  # of the scheduler

[training]
local_batch_size = 8
seq_len = 2_048
max_norm = 1.0  # grad norm clipping
steps = 1000

[parallelism]
data_parallel_shard_degree = -1
"""
LITGPT = """\
# The name of the model (type: Optional[str], default: null)
model_name: pythia-160m

out_dir: out/pretrain

# See ``litgpt.args.TrainArgs``
train:

  # (type: int, default: 512)
  global_batch_size: 512
  micro_batch_size: 4

  #   (type: Optional[float], default: null)
  max_norm:

  min_lr: 4.0e-05

eval:
  interval: 1000
"""
NANOTRON = """\
optimizer:
  accumulate_grad_in_fp32: true
  clip_grad: 1.0
  learning_rate_scheduler:
    learning_rate: 0.0003
  weight_decay: 0.01
parallelism:
  dp: 2
"""
LLM_FOUNDRY = """\
variables:
  max_seq_len: 2048
max_duration: 4800ba
algorithms:
  gradient_clipping:
    clipping_type: norm
    clipping_threshold: 1.0
train_loader:
  name: text
"""
LIGHTNING_CLI = """\
# lightning.pytorch==2.6
seed_everything: 42
trainer:
  accelerator: auto   # or gpu
  max_epochs: 10
  callbacks:
  - class_path: lightning.pytorch.callbacks.LearningRateMonitor
    init_args:
      logging_interval: step
  gradient_clip_val: 0.5
  # the rest is as it comes
model:
  class_path: my.Module
  init_args: {lr: 1.0e-3}
"""
HYDRA_TRAINER = """\
_target_: lightning.pytorch.trainer.Trainer

default_root_dir: ${paths.output_dir}

min_epochs: 1
accelerator: cpu
"""
FAIRSEQ = """\
# @package _group_

task:
  _name: audio_pretraining
  data: ???

optimization:
  max_update: 400000
  lr: [0.0005]

criterion:
  _name: wav2vec
"""
MASKFORMER = """\
_BASE_: Base.yaml
SOLVER:
  IMS_PER_BATCH: 16
  CLIP_GRADIENTS:
    ENABLED: True
    CLIP_TYPE: "full_model"
    CLIP_VALUE: 0.01
    NORM_TYPE: 2.0
"""
DETECTRON2 = """\
_BASE_: "Base.yaml"
SOLVER:
  STEPS: (60000, 80000)
  MAX_ITER: 90000
INPUT:
  FORMAT: "BGR"
"""
SWIN = """\
MODEL:
  TYPE: swin
TRAIN:
  BASE_LR: 1.25e-4
  CLIP_GRAD: 5.0
"""
TIMM = """\
aa: rand-m9-mstd0.5-inc1
clip_grad: null
clip_mode: norm
opt: adamw
sched: cosine
"""
ESPNET = """\
optim_conf:
    lr: 0.002
max_epoch: 70
grad_clip: 5
grad_clip_type: 2.0
accum_grad: 1
"""
TRAINER = """\
# Model arguments
model_name_or_path: org/some-1b
dtype: 'bfloat16'

# Trainer arguments
per_device_train_batch_size: 8
learning_rate: 2.0e-04
max_grad_norm:   0.3     # was 1.0
output_dir: "data/sft"
"""

CASES = {
    "deepspeed": Case(
        framework="deepspeed",
        file="ds_config.json",
        text=DEEPSPEED,
        gone=('    "gradient_clipping": 1.0,',),
        new=('    "gradient_clipping": 2.4,',),
        says={"gradient_clipping": 2.4},
    ),
    "deepspeed without": Case(
        framework="deepspeed",
        file="ds_config.json",
        text=DEEPSPEED.replace('    "gradient_clipping": 1.0,\n', ""),
        gone=("    }",),
        new=("    },", '    "gradient_clipping": 2.4'),
        says={"gradient_clipping": 2.4, "zero_optimization.stage": 2},
    ),
    "gpt-neox": Case(
        framework="gpt-neox",
        file="small.yml",
        text=NEOX,
        gone=('   "gradient_clipping": 1.0,   # of the total norm',),
        new=('   "gradient_clipping": 2.4,   # of the total norm',),
        says={"gradient_clipping": 2.4},
    ),
    "gpt-neox without": Case(
        framework="gpt-neox",
        file="small.yml",
        text=NEOX.replace('   "gradient_clipping": 1.0,   # of the total norm\n', ""),
        new=('   "gradient_clipping": 2.4,',),
        says={"gradient_clipping": 2.4, "weight_decay": 0.1},
    ),
    "accelerate": Case(
        framework="accelerate",
        file="default_config.yaml",
        text=ACCELERATE,
        new=("  gradient_clipping: 2.4",),
        says={"deepspeed_config.gradient_clipping": 2.4},
        warnings=1,
    ),
    "axolotl": Case(
        framework="axolotl",
        file="lora.yml",
        text=AXOLOTL,
        new=("max_grad_norm: 2.4",),
        says={"max_grad_norm": 2.4},
    ),
    "llama-factory": Case(
        framework="llama-factory",
        file="sft.yaml",
        text=LLAMA_FACTORY,
        gone=("max_grad_norm: 1.0",),
        new=("max_grad_norm: 2.4",),
        says={"max_grad_norm": 2.4},
    ),
    "torchtune": Case(
        framework="torchtune",
        file="8B_full.yaml",
        text=TORCHTUNE,
        gone=("clip_grad_norm: null",),
        new=("clip_grad_norm: 2.4",),
        says={"clip_grad_norm": 2.4},
    ),
    "torchtitan": Case(
        framework="torchtitan",
        file="llama3.toml",
        text=TORCHTITAN,
        gone=("max_norm = 1.0  # grad norm clipping",),
        new=("max_norm = 2.4  # grad norm clipping",),
        says={"training.max_norm": 2.4},
    ),
    "torchtitan without": Case(
        framework="torchtitan",
        file="llama3.toml",
        text=TORCHTITAN.replace("max_norm = 1.0  # grad norm clipping\n", ""),
        new=("max_norm = 2.4",),
        says={"training.max_norm": 2.4},
    ),
    "litgpt": Case(
        framework="litgpt",
        file="pretrain.yaml",
        text=LITGPT,
        gone=("  max_norm:",),
        new=("  max_norm: 2.4",),
        says={"train.max_norm": 2.4},
    ),
    "nanotron": Case(
        framework="nanotron",
        file="config.yaml",
        text=NANOTRON,
        gone=("  clip_grad: 1.0",),
        new=("  clip_grad: 2.4",),
        says={"optimizer.clip_grad": 2.4},
    ),
    "composer": Case(
        framework="composer",
        file="mpt.yaml",
        text=LLM_FOUNDRY,
        gone=("    clipping_threshold: 1.0",),
        new=("    clipping_threshold: 2.4",),
        says={"algorithms.gradient_clipping.clipping_threshold": 2.4},
    ),
    "composer without": Case(
        framework="composer",
        file="mpt.yaml",
        text="max_duration: 1ep\nfsdp_config: {}\ntrain_loader:\n    name: text\n",
        new=("algorithms:", "    gradient_clipping:", "        clipping_threshold: 2.4", "        clipping_type: norm"),
        says={
            "algorithms.gradient_clipping.clipping_threshold": 2.4,
            "algorithms.gradient_clipping.clipping_type": "norm",
        },
    ),
    "lightning": Case(
        framework="lightning",
        file="config.yaml",
        text=LIGHTNING_CLI,
        gone=("  gradient_clip_val: 0.5",),
        new=("  gradient_clip_val: 2.4",),
        says={"trainer.gradient_clip_val": 2.4},
    ),
    "lightning by value": Case(
        framework="lightning",
        file="config.yaml",
        text=LIGHTNING_CLI.replace("  gradient_clip_val: 0.5\n", ""),
        method="value",
        new=("  gradient_clip_val: 2.4", "  gradient_clip_algorithm: value"),
        says={"trainer.gradient_clip_val": 2.4, "trainer.gradient_clip_algorithm": "value"},
    ),
    "lightning, meant by value": Case(
        framework="lightning",
        file="config.yaml",
        text=LIGHTNING_CLI.replace("  accelerator", '  gradient_clip_algorithm: "value"\n  accelerator'),
        gone=('  gradient_clip_algorithm: "value"', "  gradient_clip_val: 0.5"),
        new=('  gradient_clip_algorithm: "norm"', "  gradient_clip_val: 2.4"),
        says={"trainer.gradient_clip_algorithm": "norm"},
        warnings=1,
    ),
    "lightning-trainer": Case(
        framework="lightning-trainer",
        file="default.yaml",
        text=HYDRA_TRAINER,
        new=("gradient_clip_val: 2.4",),
        says={"gradient_clip_val": 2.4},
    ),
    "fairseq": Case(
        framework="fairseq",
        file="base.yaml",
        text=FAIRSEQ,
        new=("  clip_norm: 2.4",),
        says={"optimization.clip_norm": 2.4},
    ),
    "detectron2, total norm": Case(
        framework="detectron2",
        file="maskformer.yaml",
        text=MASKFORMER,
        gone=("    CLIP_VALUE: 0.01",),
        new=("    CLIP_VALUE: 2.4",),
        says={"SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 2.4},
    ),
    "detectron2, per tensor": Case(
        framework="detectron2",
        file="faster_rcnn.yaml",
        text=DETECTRON2,
        method="per_tensor",
        norm_type=1.0,
        new=(
            "  CLIP_GRADIENTS:",
            "    CLIP_VALUE: 2.4",
            "    ENABLED: true",
            "    CLIP_TYPE: norm",
            "    NORM_TYPE: 1.0",
        ),
        says={"SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "norm", "SOLVER.CLIP_GRADIENTS.NORM_TYPE": 1.0},
    ),
    "detectron2 by value": Case(
        framework="detectron2",
        file="faster_rcnn.yaml",
        text=DETECTRON2,
        method="value",
        new=("  CLIP_GRADIENTS:", "    CLIP_VALUE: 2.4", "    ENABLED: true", "    CLIP_TYPE: value"),
        says={"SOLVER.CLIP_GRADIENTS.ENABLED": True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "value"},
    ),
    "swin": Case(
        framework="swin",
        file="swin.yaml",
        text=SWIN,
        gone=("  CLIP_GRAD: 5.0",),
        new=("  CLIP_GRAD: 2.4",),
        says={"TRAIN.CLIP_GRAD": 2.4},
    ),
    "timm": Case(
        framework="timm",
        file="args.yaml",
        text=TIMM,
        gone=("clip_grad: null",),
        new=("clip_grad: 2.4",),
        says={"clip_grad": 2.4},
    ),
    "timm, adaptive": Case(
        framework="timm",
        file="args.yaml",
        text=TIMM.replace("clip_mode: norm", "clip_mode: agc"),
        gone=("clip_grad: null", "clip_mode: agc"),
        new=("clip_grad: 2.4", "clip_mode: norm"),
        says={"clip_mode": "norm"},
        warnings=1,
    ),
    "espnet": Case(
        framework="espnet",
        file="train.yaml",
        text=ESPNET,
        norm_type=math.inf,
        gone=("grad_clip: 5", "grad_clip_type: 2.0"),
        new=("grad_clip: 2.4", "grad_clip_type: .inf"),
        says={"grad_clip": 2.4, "grad_clip_type": math.inf},
        warnings=1,
    ),
    "huggingface": Case(
        framework="huggingface",
        file="sft.yaml",
        text=TRAINER,
        gone=("max_grad_norm:   0.3     # was 1.0",),
        new=("max_grad_norm:   2.4     # was 1.0",),
        says={"max_grad_norm": 2.4},
    ),
    "huggingface, in JSON": Case(
        framework="huggingface",
        file="args.json",
        text='{\n\t"per_device_train_batch_size": 8,\n\t"learning_rate": 1e-4\n}',
        gone=('\t"learning_rate": 1e-4',),
        new=('\t"learning_rate": 1e-4,', '\t"max_grad_norm": 2.4'),
        says={"max_grad_norm": 2.4, "learning_rate": 1e-4},
    ),
}


def load(file: str, text: str) -> Any:
    if file.endswith(".json"):
        return json.loads(text)
    return tomllib.loads(text) if file.endswith(".toml") else yaml.safe_load(text)


@pytest.mark.parametrize("name", CASES)
def test_only_the_threshold_changes(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    file = tmp_path / case.file
    file.write_text(case.text)
    made = plan(file, max_norm=case.max_norm, method=case.method, norm_type=case.norm_type)
    assert made.framework == case.framework
    assert len(made.warnings) == case.warnings, made.warnings
    assert made.changes[0].key == ".".join(CONFIGS[case.framework].path)
    old, new = made.old_text.splitlines(), made.new_text.splitlines()
    assert tuple(line for line in old if old.count(line) > new.count(line)) == case.gone
    assert tuple(line for line in new if new.count(line) > old.count(line)) == case.new
    # in their order: nothing but these lines moved
    assert [x for x in old if x not in case.gone] == [x for x in new if x not in case.new]
    tree = load(case.file, made.new_text)
    for key, value in case.says.items():
        found = tree
        for part in key.split("."):
            found = found[part]
        assert found == value
        assert type(found) is type(value)


def test_every_framework_has_a_case() -> None:
    named_only = {"nemo-yaml"}  # its files look like Lightning's
    assert {case.framework for case in CASES.values()} == set(CONFIGS) - named_only


@pytest.mark.parametrize("name", CASES)
def test_a_second_time_changes_nothing(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    file = tmp_path / case.file
    file.write_text(case.text)
    again = tmp_path / f"again-{case.file}"
    again.write_text(plan(file, max_norm=case.max_norm, method=case.method, norm_type=case.norm_type).new_text)
    made = plan(again, max_norm=case.max_norm, method=case.method, norm_type=case.norm_type)
    assert made.unchanged
    assert made.changes[0].before == made.changes[0].after == "2.4"
    assert len(made.changes) == 1


@pytest.mark.parametrize("name", sorted({case.framework for case in CASES.values()}))
def test_methods_that_a_framework_does_not_have_are_refused(name: str, tmp_path: Path) -> None:
    case = next(c for c in CASES.values() if c.framework == name)
    file = tmp_path / case.file
    file.write_text(case.text)
    methods: tuple[Method, ...] = ("norm", "value", "per_tensor")
    for method in methods:
        if method not in CONFIGS[name].key.methods:
            with pytest.raises(InputError, match=r"the number would mean something else\. Instead, "):
                plan(file, max_norm=2.4, method=method)
    if not any("norm_type" in switch.wanted.values() for switch in CONFIGS[name].key.switches):
        with pytest.raises(InputError, match=r"for the L2 norm, and this threshold is for norm_type 1\.0"):
            plan(file, max_norm=2.4, norm_type=1.0)


def test_names_and_aliases_are_found_in_any_spelling() -> None:
    names = [(alias, key) for key, entry in FRAMEWORKS.items() for alias in (key, *entry.aliases)]
    assert len({alias for alias, _ in names}) == len(names)
    for alias, key in names:
        assert resolve(alias) == resolve(f" {alias.upper().replace('-', '_')}") == key
        config = FRAMEWORKS[key].config
        if config:
            assert CONFIGS[config_of(alias)] is CONFIGS[config_of(f"{alias}-yaml")] is config
        else:
            with pytest.raises(InputError, match=f"`clipcal recommend RUN --for {key}` prints"):
                config_of(alias)
    with pytest.raises(InputError, match="Did you mean 'torchtitan'"):
        resolve("torchtitann")
    with pytest.raises(InputError, match="There is no framework named 'pytorch-yaml'"):
        resolve("pytorch-yaml")


def test_a_framework_that_is_named_is_taken_at_its_word(tmp_path: Path) -> None:
    file = tmp_path / "args.yaml"
    file.write_text("seed: 1\n")
    made = plan(file, max_norm=2.4, framework="hf")
    assert made.framework == "huggingface"
    assert made.new_text == "seed: 1\nmax_grad_norm: 2.4\n"
    with pytest.raises(InputError, match=r"does not look like a config for torchtitan: it has no training\."):
        plan(file, max_norm=2.4, framework="torchtitan")
