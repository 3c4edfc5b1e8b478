"""Training scripts of frameworks, and those that their packages ship, watched from outside as they are."""

from __future__ import annotations

import importlib.util
import subprocess
from dataclasses import dataclass
from pathlib import Path

import framework_scripts as scripts
import numpy as np
import pytest
from conftest import rows_of
from nursery import PYTHON, run_forked
from script_runs import Kind, check, environment

from clipcal.run.directory import Run, open_run
from clipcal.run.trace import read_trace

LAUNCH = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1")
"""`accelerate launch`, wherever its command is installed."""


@dataclass(frozen=True)
class Case:
    """``clips`` is the line of the script in which its clipping begins, and ``through`` what it calls there. ``clip`` is its own
    threshold, ``force`` another one."""

    text: str
    needs: tuple[str, ...]
    clips: str
    through: str | None
    clip: float
    force: float
    launch: tuple[str, ...] = ()


CASES = {
    "bert_trainer": Case(
        scripts.BERT_TRAINER, ("transformers", "accelerate"), "trainer.train()", "transformers", clip=1.0, force=0.3
    ),
    "gpt2_trainer": Case(
        scripts.GPT2_TRAINER, ("transformers", "accelerate"), "trainer.train()", "transformers", clip=1.0, force=0.5
    ),
    "accelerate_launch": Case(
        scripts.BERT_TRAINER,
        ("transformers", "accelerate"),
        "trainer.train()",
        "transformers",
        clip=0.3,
        force=0.1,
        launch=LAUNCH,
    ),
    "lightning_automatic": Case(
        scripts.LIGHTNING_AUTOMATIC, ("lightning",), "trainer.fit(", "lightning", clip=1.0, force=0.5
    ),
    "lightning_manual": Case(
        scripts.LIGHTNING_MANUAL, ("lightning",), "self.clip_gradients(", "lightning", clip=1.0, force=0.5
    ),
    "fabric": Case(scripts.FABRIC, ("lightning",), "fabric.clip_gradients(", "lightning", clip=1.0, force=0.5),
    "accelerate": Case(
        scripts.ACCELERATE,
        ("accelerate", "transformers"),
        "accelerator.clip_grad_norm_(",
        "accelerate",
        clip=1.0,
        force=0.1,
    ),
    "timm": Case(scripts.TIMM, (), "clip_grad_norm_(parameters", None, clip=1.0, force=5.0),
}


WHOLE = ("accelerate_launch", "lightning_automatic")


@pytest.mark.parametrize("name", CASES)
def test_as_its_users_write_it(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    _need(*case.needs)
    (tmp_path / "train.py").write_text(case.text)
    kind = Kind(tmp_path, "train.py", launch=case.launch, steps=8)
    # every start takes seconds: the script forced to clip is the one that clips by itself, and one of each framework is started whole
    run = check(kind, clip=case.clip, force=case.force, owns=(case.clip,), real=name in WHOLE)
    line = next(i for i, text in enumerate(case.text.splitlines(), start=1) if case.clips in text)
    place = f"train.py:{line}" + (f" ({case.through})" if case.through else "")
    assert run.info.notes[0] == its_clipping(run, place, case.clip)
    assert run.info.in_use == case.clip
    assert run.info.source.path == "train.py"


def test_boring_model_of_lightning(tmp_path: Path) -> None:
    """Stopped in the middle of an epoch, with the logger and the checkpoints that are Lightning's defaults."""
    _need("lightning")
    (tmp_path / "train.py").write_text(
        "import lightning as L\n"
        "from lightning.pytorch.demos.boring_classes import BoringModel\n"
        "\n"
        "L.seed_everything(0)\n"
        'trainer = L.Trainer(accelerator="cpu", max_epochs=2, gradient_clip_val=0.1, gradient_clip_algorithm="value")\n'
        "trainer.fit(BoringModel())\n"
    )
    run = profiled(tmp_path, 10, "train.py")
    assert run.info.status == "complete"
    assert run.info.notes == [
        "train.py:6 (lightning) clips at 0.1 (clip_grad_value_); it was off here, and would have acted on 100% of these steps"
    ]
    assert run.info.in_use is None


@pytest.mark.parametrize(
    ("name", "asked", "rows", "notes"),
    [
        ("test_script.py", 4, 4, []),
        (
            "test_sync.py",
            10,
            5,
            [
                "2 optimizers step here: 1 AdamW (2 parameters, 5 steps); 2 AdamW (2 parameters, 3 steps). Recorded is 1; "
                "--optimizer picks another",
                "{script} ended by itself after 5 of 10 steps",
            ],
        ),
    ],
)
def test_scripts_that_accelerate_ships(tmp_path: Path, name: str, asked: int, rows: int, notes: list[str]) -> None:
    """They train a line again and again, each time with optimizers of its own: the first is recorded."""
    _need("accelerate")
    script = _installed("accelerate.test_utils.scripts." + name.removesuffix(".py"))
    run = profiled(tmp_path, asked, script, rows=rows)
    assert run.info.notes == [note.format(script=script) for note in notes]


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``tiny``, a model and its tokenizer, and ``data``, a data set."""
    _need("trl", "transformers", "tokenizers", "datasets")
    folder = tmp_path_factory.mktemp("language-model")
    subprocess.run([str(PYTHON), "-c", scripts.TINY_LANGUAGE_MODEL], cwd=folder, env=environment(), check=True)
    return folder


@pytest.mark.parametrize("own", [0.5, 0.0], ids=["clipped", "unclipped"])
def test_sft_script_of_trl(language_model: Path, own: float) -> None:
    """A fine-tuning script that is installed, run with a model and data of the user's. With max_grad_norm=0 transformers calls the
    clip function with inf, to measure: that is no clipping to tell of."""
    script = _installed("trl.scripts.sft")
    arguments = ["--model_name_or_path", "tiny", "--dataset_name", "data", "--output_dir", "out", "--max_steps", "8"]
    options = ["--per_device_train_batch_size", "4", "--use_cpu", "--bf16", "False", "--max_grad_norm", str(own)]
    run = profiled(language_model, 6, script, *arguments, *options, "--report_to", "none")
    if own:
        place, words = run.info.notes[0].split(" ", 1)
        assert place.startswith("sft.py:")
        assert words == its_clipping(run, "(transformers)", own)
        assert run.info.in_use == own
    else:
        assert run.info.notes == []
        assert run.info.in_use is None


def profiled(folder: Path, steps: int, script: str, *arguments: str, rows: int | None = None) -> Run:
    """`clipcal profile` of it in ``folder``, which is to end well, with ``rows``: as many as asked for."""
    out = folder / "run"
    words = ["profile", script, "-n", str(steps), "--out", str(out), "--force", "--", *arguments]
    done = run_forked(["-m", "clipcal", *words], folder, environment())
    assert done.returncode == 0, done.stderr
    run = open_run(out)
    seen = rows_of(run.trace)
    assert [row["step"] for row in seen] == list(range(steps if rows is None else rows))
    assert all(np.isfinite(row["grad_norm"]) and np.isfinite(row["loss"]) for row in seen)
    return run


def its_clipping(run: Run, place: str, threshold: float) -> str:
    """The note on it."""
    trace = read_trace(run.trace)
    acted = float(np.mean(trace.grad_norm[~trace.skipped] > threshold))
    return f"{place} clips at {threshold:g} (clip_grad_norm_); it was off here, and would have acted on {acted:.0%} of these steps"


def _need(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")


def _installed(module: str) -> str:
    """Its file, found without importing what it imports."""
    package, _, name = module.rpartition(".")
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return str(Path(spec.submodule_search_locations[0]) / f"{name}.py")
