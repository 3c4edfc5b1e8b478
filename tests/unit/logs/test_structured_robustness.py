"""Cut, hostile and random files: recognising never fails, reading raises InputError at most, configs never hurt."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipcal.errors import InputError
from clipcal.logs.in_use import MAX_BYTES, Told, threshold_beside
from clipcal.logs.log import Log, Reader
from clipcal.logs.readers import (
    delimited,
    epochs,
    huggingface,
    huggingface_console,
    json_columns,
    jsonlines,
    lightning,
    mmcv,
    parquet,
    sacred,
    tensorboard_json,
)
from clipcal.logs.source import Source

READERS: tuple[Reader, ...] = tuple(
    module.READER
    for module in (
        parquet,
        huggingface,
        sacred,
        tensorboard_json,
        mmcv,
        epochs,
        huggingface_console,
        jsonlines,
        json_columns,
        lightning,
        delimited,
    )
)
SAMPLES = {
    "huggingface": '{"log_history": [{"step": 1, "loss": 2.5, "grad_norm": 1.5}, {"step": 2, "loss": NaN, "grad_norm": 2.5}]}',
    "console": "  1%|#| 1/9 [00:01<00:09, 1it/s]\n{'loss': 1.0, 'grad_norm': nan, 'learning_rate': 0.1, 'epoch': 0.5}\n"
    * 3,
    "mmcv": '{"env_info": "", "config": "grad_clip=dict(max_norm=35)"}\n'
    '{"mode": "train", "epoch": 1, "iter": 10, "lr": {"a": 0.1}, "loss": 1.5, "grad_norm": NaN, "time": 1.0}\n' * 2,
    "epochs": '{"train_loss": 1.5, "train_grad_norm": 0.5, "epoch": 0}\n{"train_loss": 1.0, "train_grad_norm": 1.0, "epoch": 1}\n',
    "sacred": '{"grad_norm": [1.0, {"value": 2.0}], "grad_norm_T": [5, 6], "loss": {"steps": [5], "values": [1.0]}}',
    "columns": '{"grad_norm": [1.0, 2.0], "loss": {"0": 1.0, "1": 2.0}, "val_loss": [1.0, 2.0]}',
    "tensorboard": '[[1.5, 10, 2.0], [2.5, 20, "NaN"], [3.5, 30, 4.0]]',
    "jsonlines": 'x {"step": 1, "train": {"grad_norm": 1.5}}\n{"step": 2, "train": {"grad_norm": inf}}\n',
    "wandb": '"Step","a - grad_norm","a - grad_norm__MIN","a - grad_norm__MAX"\n"1","2","2","2"\n"3","","",""\n',
    "long": "run,tag,value,step\na,grad_norm,1.5,1\na,loss,2.5,1\n",
    "lightning": "epoch,grad_norm,step,train_loss\n0,1.5,9,\n0,,9,2.5\n",
    "semicolons": "epoch;grad_norm\n1;0,5\n2;1,5\n",
}


def read_all(path: Path) -> list[Log]:
    """What every reader that recognises the file makes of it."""
    found = []
    try:
        source = Source(path)
    except InputError:
        return []
    for reader in READERS:
        if reader.recognises(source):
            with contextlib.suppress(InputError):
                found.append(reader.read(source))
    for log in found:
        for series in log.series:
            assert len(series.step) == len(series.grad_norm) == len(series.loss) == len(series.lr)
    return found


@pytest.mark.parametrize("name", SAMPLES)
def test_cut_anywhere(name: str, tmp_path: Path) -> None:
    data = SAMPLES[name].encode()
    path = tmp_path / "grad_norm.log"
    path.write_bytes(data)
    assert any(log.series for log in read_all(path))
    for cut in range(1, len(data)):
        path.write_bytes(data[:cut])
        read_all(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_samples_with_damage(data: st.DataObject, tmp_path: Path) -> None:
    sample = data.draw(st.sampled_from(sorted(SAMPLES)))
    text = bytearray(SAMPLES[sample].encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 12))] = data.draw(
            st.sampled_from(
                [b"", b"\0", b"\n", b"{", b"}", b"[", b'"', b"'", b"null", b"1e999", b"\xff\xfe", b",", b"NaN", b": {}"]
            )
            | st.binary(max_size=8)
        )
    path = tmp_path / "grad_norm.log"
    path.write_bytes(bytes(text))
    read_all(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from([b"", b"{", b"[[", b"PAR1", b"step,grad_norm\n", b"{'grad_norm': "]),
    rest=st.binary(max_size=300),
)
def test_random_bytes(start: bytes, rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "grad_norm.log"
    path.write_bytes(start + rest)
    read_all(path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"grad_norm": [' + "[" * 50_000,
        "{'a': " * 20_000,
        '{"step": 1, "grad_norm": 1' + "0" * 5_000 + "}\n",
        '{"grad_norm": ' + "9" * 5_000 + "}",
        "{'loss': 1.0, 'grad_norm': 1.0, 'x': '" + "'" * 10_000,
        '"' * 50_000 + "\nstep,grad_norm\n1,2\n",
        "nan, " * 20_000 + "{",
        "\n".join("{" + "x" * 50 for _ in range(2_000)),
    ],
    ids=range(10),
)
def test_hostile_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "grad_norm.log"
    path.write_text(text)
    read_all(path)


def beside(folder: Path, file: str, data: bytes) -> tuple[str, float] | None:
    (folder / "log").write_text("x")
    (folder / file).write_bytes(data)
    return threshold_beside(Source(folder / "log"), Told(keys=("max_grad_norm",), files=(file,)))


@pytest.mark.parametrize(
    ("file", "text", "wanted"),
    [
        ("args.json", '{"train": [{"max_grad_norm": "0.5"}]}', 0.5),
        ("args.json", '{"max_grad_norm": 1.0, "old": {"max_grad_norm": 2.0}}', None),
        ("args.json", '{"max_grad_norm": null}', None),
        ("args.json", '{"max_grad_norm": 1.0', None),
        ("config.yaml", "max_grad_norm:\n  desc: null\n  value: 0.3\n", 0.3),  # W&B
        ("config.yaml", "a: !!python/object/apply:os.system ['exit 1']\nmax_grad_norm: 2\n", 2.0),
        ("config.yaml", "max_grad_norm: [unclosed\n", None),
    ],
)
def test_config_beside(file: str, text: str, wanted: float | None, tmp_path: Path) -> None:
    found = beside(tmp_path, file, text.encode())
    assert (found and found[1]) == wanted


def _aliases() -> str:
    """A few hundred bytes that stand for 9 ** 30 values."""
    rows = ["a0: &a0 {max_grad_norm: 1}"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    return "\n".join(rows)


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"max_grad_norm: 1\nx: " + b"[" * 50_000,
        lambda: json.dumps({"max_grad_norm": 1.0, "x": "y" * MAX_BYTES}).encode(),
        lambda: b'{"max_grad_norm": ' + b"[" * 200_000,
        lambda: b"max_grad_norm: \xff\xfe\x00",
        lambda: b"max_grad_norm: 2001-99-99\n",
        lambda: b"? {max_grad_norm: 1}\n: 2\n",
    ],
    ids=["deep yaml", "large", "deep json", "no text", "no date", "unhashable key"],
)
@pytest.mark.parametrize("file", ["args.json", "config.yaml"])
def test_hostile_config_tells_nothing(file: str, make: Callable[[], bytes], tmp_path: Path) -> None:
    assert beside(tmp_path, file, make()) is None


def test_aliases_of_aliases_end(tmp_path: Path) -> None:
    assert beside(tmp_path, "config.yaml", _aliases().encode()) == ("max_grad_norm in config.yaml", 1.0)
