"""The threshold in use from Trainer's training_args.bin, a pickle of which nothing is executed."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from clipcal.logs.log import Log
from clipcal.logs.reading import read_log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    history = [{"step": i, "loss": 2.0, "grad_norm": 0.5, "epoch": i / 100} for i in range(1, 60)]
    (tmp_path / "checkpoint-59").mkdir()
    (tmp_path / "checkpoint-59" / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    return tmp_path


def told(log: Log) -> tuple[float | None, str]:
    return log.max_norm, log.max_norm_from


def archive(pickled: bytes) -> bytes:
    """What torch.save writes, as far as it is read."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        out.writestr("archive/data.pkl", pickled)
        out.writestr("archive/version", "3\n")
    return packed.getvalue()


def test_of_the_package_itself(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.save(transformers.TrainingArguments(str(folder), max_grad_norm=0.7), folder / "training_args.bin")
    assert told(read_log(folder)) == (0.7, "max_grad_norm in training_args.bin")
    torch.save(
        transformers.TrainingArguments(str(folder), max_grad_norm=2), folder / "checkpoint-59" / "training_args.bin"
    )
    assert told(read_log(folder / "checkpoint-59")) == (2.0, "max_grad_norm in training_args.bin")


@pytest.mark.parametrize("value", [0.5, 3, 0])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_of_every_protocol(folder: Path, value: float, protocol: int) -> None:
    pickled = pickle.dumps({"seed": 7, "max_grad_norm": value, "label_smoothing": 0.1}, protocol)
    (folder / "training_args.bin").write_bytes(archive(pickled))
    found, where = told(read_log(folder))
    assert found == (value or float("inf"))
    assert where == "max_grad_norm in training_args.bin"


class _Trap:
    """What would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "unpickled")


def test_nothing_in_it_is_executed(folder: Path) -> None:
    pickled = pickle.dumps({"trap": _Trap(folder / "trap"), "max_grad_norm": 0.5})
    (folder / "training_args.bin").write_bytes(archive(pickled))
    assert told(read_log(folder))[0] == 0.5
    assert not (folder / "trap").exists()


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"PK\x03\x04 cut off",
        archive(b""),
        archive(b"\x80\x05no pickle"),
        archive(pickle.dumps({"max_grad_norm": 1})[:-9]),
    ],
)
def test_what_cannot_be_read_leaves_the_default(folder: Path, damaged: bytes) -> None:
    (folder / "training_args.bin").write_bytes(damaged)
    assert told(read_log(folder)) == (1.0, "Trainer's default, assumed")
