"""What is recorded is read back, from a file that is whole or cut at any byte."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcal.errors import InputError
from clipcal.run.jsonfile import dumps, number, write_json
from clipcal.run.layers import LayersWriter, keep_rows, read_layers
from clipcal.run.step import Step
from clipcal.run.trace import AppendOnly, lines_of, mend, read_trace, trace_of

anything = st.floats(allow_nan=True, allow_infinity=True)


def step(n: int, grad_norm: float = 1.0, **more: float) -> Step:
    return Step(step=n, loss=2.0, grad_norm=grad_norm, grad_max=0.5, lr=0.1, seconds=0.01, **more)  # type: ignore[arg-type]


@given(st.lists(st.tuples(anything, anything, anything), min_size=1, max_size=20))
def test_what_is_written_is_read_back_exactly(rows: list[tuple[float, float, float]]) -> None:
    steps = [
        Step(step=i, loss=a, grad_norm=b, grad_max=c, lr=1e-3, seconds=0.5, scale=0.25)
        for i, (a, b, c) in enumerate(rows)
    ]
    for line in lines_of(steps).decode().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    trace = trace_of(steps)
    np.testing.assert_array_equal(trace.loss, [a for a, _, _ in rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl"
        path.write_bytes(lines_of(steps))
        read = read_trace(path)
    for column in ("step", "loss", "grad_norm", "grad_max", "lr", "seconds", "scale", "skipped"):
        np.testing.assert_array_equal(getattr(read, column), getattr(trace, column))


def test_a_trace_cut_at_any_byte_keeps_every_whole_line(tmp_path: Path) -> None:
    whole = lines_of([step(i, 1.0 + i) for i in range(4)])
    first = whole.index(b"\n") + 1
    path = tmp_path / "trace.jsonl"
    for cut in range(first, len(whole) + 1):
        path.write_bytes(whole[:cut])
        trace = read_trace(path)
        complete = whole[:cut].count(b"\n")
        np.testing.assert_array_equal(trace.grad_norm, [1.0 + i for i in range(complete)])
        assert bool(trace.problems) == (not whole[:cut].endswith(b"\n"))
        mend(path)
        assert path.read_bytes() == whole[:cut][: whole[:cut].rfind(b"\n") + 1]


@pytest.mark.parametrize(
    "text", [b"", b"\n\n", b"not json\n", b'{"loss": 1.0}\n', b"[1, 2]\n", b'{"step": 0, "grad_norm": 1.0}']
)
def test_no_step_at_all_is_an_error_that_names_the_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"trace\.jsonl: holds no step"):
        read_trace(path)


def test_lines_that_are_no_steps_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(lines_of([step(0)]) + b'{"grad_norm": "wide"}\n\xff\xfe\n' + lines_of([step(1)]))
    trace = read_trace(path)
    assert list(trace.step) == [0, 1]
    (problem,) = trace.problems
    assert problem == (
        "line 2 and 1 more of trace.jsonl could not be read as a step and was left out: its 'grad_norm' is \"wide\" (expected a number, or null)"
    )


def test_rows_of_other_tools_need_only_a_grad_norm(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"grad_norm": 1.5}\n{"grad_norm": null, "step": 10.0}\n{"grad_norm": "inf", "lr": 3}\n')
    trace = read_trace(path)
    assert list(trace.step) == [0, 10, 2]
    assert trace.grad_norm[0] == 1.5
    assert math.isnan(trace.grad_norm[1])
    assert trace.grad_norm[2] == math.inf
    assert np.isnan(trace.loss).all()


def test_skipped_steps_are_marked_and_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(lines_of([step(0), Step(**{**step(1).__dict__, "skipped": True}), step(2)]))
    trace = read_trace(path)
    assert list(trace.skipped) == [False, True, False]
    assert list(trace.taken().step) == [0, 2]


def test_a_failed_write_takes_itself_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AppendOnly(tmp_path / "t")
    file.append(b"whole\n")
    real = os.write
    calls = iter([3, None])

    def fills_up(fd: int, data: bytes) -> int:
        taken = next(calls)
        if taken is None:
            raise OSError(28, "No space left on device")
        return real(fd, data[:taken])

    monkeypatch.setattr(os, "write", fills_up)
    with pytest.raises(InputError, match="No space left on device"):
        file.append(b"second\n")
    monkeypatch.undo()
    file.append(b"third\n")
    file.close()
    assert (tmp_path / "t").read_bytes() == b"whole\nthird\n"


def test_layers_are_read_back_whole_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "layers.f32"
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    writer = LayersWriter(path, ["a.weight", "a.bias", "ü"], 2.0)
    writer.append(rows[:1])
    writer.append(rows[1:])
    writer.close()
    whole = path.read_bytes()
    for missing in range(13):
        path.write_bytes(whole[: len(whole) - missing])
        layers = read_layers(path)
        np.testing.assert_array_equal(layers.norms, rows[: 4 - (missing + 11) // 12])
    path.write_bytes(whole)
    keep_rows(path, 2)
    writer = LayersWriter(path, ["a.weight", "a.bias", "ü"], 2.0)
    writer.append(rows[3:])
    writer.close()
    layers = read_layers(path)
    assert layers.names == ("a.weight", "a.bias", "ü")
    np.testing.assert_array_equal(layers.norms, rows[[0, 1, 3]])


def test_a_file_that_is_no_layers_file_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"{}\n")
    with pytest.raises(InputError, match="not a layers file"):
        read_layers(tmp_path / "x")


@given(anything)
def test_numbers_survive_json(value: float) -> None:
    back = number(json.loads(dumps(value)))
    assert back == value or (math.isnan(back) and math.isnan(value))


def test_a_json_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": math.nan})
    assert json.loads(path.read_text()) == {"x": "NaN"}
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert json.loads(path.read_text()) == {"x": "NaN"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
