"""TensorBoard event files: the numbers are those that tensorboard's EventAccumulator gives; damaged files are cut, not crashed on."""

from __future__ import annotations

import math
import random
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util
from torch.utils.tensorboard import SummaryWriter

from benchmarks.logs_events import KINDS, TAGS, make_columns, write_events
from clipcal.errors import InputError
from clipcal.logs import tfrecord
from clipcal.logs.events import read_scalars
from clipcal.logs.log import Log
from clipcal.logs.readers.tensorboard import READER, read_folder
from clipcal.logs.source import Source

NORMS = (1.5, 0.25, math.nan, 3e38, math.inf, 0.0, 7.125)


def only(folder: Path) -> Path:
    (path,) = folder.glob("events.out.tfevents.*")
    return path


def read(path: Path) -> Log:
    source = Source(path)
    assert READER.recognises(source)
    return READER.read(source)


def accumulated(path: Path, tag: str) -> tuple[list[int], list[float]]:
    accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    if tag in accumulator.Tags()["scalars"]:
        events = accumulator.Scalars(tag)
        return [e.step for e in events], [e.value for e in events]
    events = accumulator.Tensors(tag)
    return [e.step for e in events], [float(tensor_util.make_ndarray(e.tensor_proto).item()) for e in events]


def write_torch(folder: Path, *, steps: Sequence[int] = range(0, 70_000, 10_000), new_style: bool = False) -> Path:
    with SummaryWriter(str(folder)) as writer:
        for step, norm in zip(steps, NORMS, strict=False):
            writer.add_scalar("train/acc", 0.5, step, new_style=new_style)
            writer.add_scalar("train/loss", 2 - norm / 100, step, new_style=new_style)
            writer.add_scalar("train/grad_norm", norm, step, new_style=new_style)
            writer.add_scalar("lr", 1e-3 * (1 + step), step, new_style=new_style)
            writer.add_histogram("weights", np.arange(300), step, bins=20)
    return only(folder)


def write_values(folder: Path, values: Sequence[tuple[int, Sequence[Summary.Value]]]) -> Path:
    writer = EventFileWriter(str(folder))
    for step, some in values:
        writer.add_event(Event(wall_time=1e9, step=step, summary=Summary(value=some)))
    writer.close()
    return only(folder)


def scalar(tag: str, tensor: TensorProto) -> Summary.Value:
    plugin = SummaryMetadata.PluginData(plugin_name="scalars")
    return Summary.Value(tag=tag, tensor=tensor, metadata=SummaryMetadata(plugin_data=plugin))


def boundaries(data: bytes) -> list[int]:
    """Where the records start, and the end."""
    at = [0]
    while at[-1] < len(data):
        at.append(at[-1] + 16 + struct.unpack_from("<Q", data, at[-1])[0])
    return at


@pytest.mark.parametrize("new_style", [False, True])
def test_torch_writer_as_the_accumulator_reads_it(tmp_path: Path, new_style: bool) -> None:
    path = write_torch(tmp_path, new_style=new_style)
    log = read(path)
    (series,) = log.series
    assert (series.tag, log.format, log.unit, log.notes) == ("train/grad_norm", "TensorBoard event file", "step", ())
    assert (log.window, log.after, log.max_norm) == (None, None, None)
    for tag, ours in (("train/grad_norm", series.grad_norm), ("train/loss", series.loss), ("lr", series.lr)):
        steps, values = accumulated(path, tag)
        assert series.step.tolist() == steps
        np.testing.assert_array_equal(ours, values)
    assert np.isnan(series.grad_norm[2])
    assert np.isinf(series.grad_norm[4])


@pytest.mark.parametrize(
    "tensors",
    [
        [TensorProto(dtype="DT_FLOAT", float_val=[v]) for v in (1.5, 0.0, math.nan)],
        [TensorProto(dtype="DT_FLOAT", tensor_content=struct.pack("<f", v)) for v in (1.5, 0.0, math.inf)],
        [TensorProto(dtype="DT_DOUBLE", double_val=[v]) for v in (0.1, 1e300)],
        [TensorProto(dtype="DT_DOUBLE", tensor_content=struct.pack("<d", v)) for v in (0.1, -1e300)],
        [TensorProto(dtype="DT_INT32", int_val=[v]) for v in (3, -3)],
        [TensorProto(dtype="DT_INT64", int64_val=[v]) for v in (2**40, -(2**40))],
        [TensorProto(dtype="DT_INT64", tensor_content=struct.pack("<q", v)) for v in (2**40, -(2**40))],
        [TensorProto(dtype="DT_HALF", half_val=[struct.unpack("<H", struct.pack("<e", v))[0]]) for v in (1.5, -0.1)],
        [TensorProto(dtype="DT_HALF", tensor_content=struct.pack("<e", v)) for v in (1.5, -0.1)],
    ],
    ids=lambda tensors: f"{tensors[0].dtype}-{'content' if tensors[0].tensor_content else 'listed'}",
)
def test_every_form_of_a_tensor_scalar(tmp_path: Path, tensors: list[TensorProto]) -> None:
    path = write_values(tmp_path, [(i, [scalar("grad_norm", t)]) for i, t in enumerate(tensors * 3)])
    (series,) = read(path).series
    steps, values = accumulated(path, "grad_norm")
    np.testing.assert_array_equal(series.grad_norm, values)
    assert series.step.tolist() == steps


@pytest.mark.parametrize("field", ["half_val", "tensor_content"])
def test_bfloat16(tmp_path: Path, field: str) -> None:
    """Without TensorFlow, tensorboard itself cannot read these: torch says what the bits mean."""
    bits = (0x3FC0, 0x3DCD, 0x7F80)
    tensors = [
        TensorProto(dtype="DT_BFLOAT16", **{field: [b] if field == "half_val" else struct.pack("<H", b)}) for b in bits
    ]
    (series,) = read(write_values(tmp_path, [(i, [scalar("grad_norm", t)]) for i, t in enumerate(tensors)])).series
    assert series.grad_norm.tolist() == torch.tensor(bits, dtype=torch.int16).view(torch.bfloat16).tolist()


def test_tensors_of_several_values_are_no_scalars(tmp_path: Path) -> None:
    several = [
        TensorProto(dtype="DT_FLOAT", float_val=[1.0, 2.0]),
        TensorProto(dtype="DT_FLOAT", tensor_content=b"\0" * 12),
        TensorProto(dtype="DT_INT32", int_val=[1, 2]),
        TensorProto(dtype="DT_STRING", string_val=[b"grad_norm"]),
        TensorProto(dtype="DT_COMPLEX64", scomplex_val=[1.0, 2.0]),
        TensorProto(),
    ]
    assert read(write_values(tmp_path, [(i, [scalar("grad_norm", t)]) for i, t in enumerate(several)])).series == ()


def test_merged_summaries_far_steps_and_tags_of_one_length(tmp_path: Path) -> None:
    """One event for all values, as TensorFlow 1's merge_all writes; steps of every length in bytes; tags that differ little."""
    steps = [0, 1, 127, 128, 16_383, 16_384, 2**21, 2**28 - 1, 2**28, 2**35, 2**62, -5]
    both = [
        (
            step,
            [
                Summary.Value(tag="actor_grad_norm", simple_value=i + 0.5),
                Summary.Value(tag="actor_loss", simple_value=3.0),
                Summary.Value(tag="lr", simple_value=0.5),
            ],
        )
        for i, step in enumerate(steps)
    ]
    lone = [(step, [Summary.Value(tag="agent_grad_norm", simple_value=-i)]) for i, step in enumerate(steps)]
    log = read(write_values(tmp_path, [event for pair in zip(both, lone, strict=True) for event in pair]))
    assert [s.tag for s in log.series] == ["actor_grad_norm", "agent_grad_norm"]
    actor, agent = log.series
    assert actor.step.tolist() == agent.step.tolist() == [float(s) for s in steps]
    assert actor.grad_norm.tolist() == [i + 0.5 for i in range(len(steps))]
    assert actor.loss.tolist() == [3.0] * len(steps)
    assert actor.lr.tolist() == [0.5] * len(steps)
    assert agent.grad_norm.tolist() == [-i for i in range(len(steps))]


def test_of_fields_that_come_twice_the_last_counts(tmp_path: Path) -> None:
    """As in protobuf. Nobody writes such; what is remembered of one record must still be true of the next."""
    first = Event(wall_time=1e9, file_version="brain.Event:2").SerializeToString()
    summary = Event(summary=Summary(value=[Summary.Value(tag="grad_norm", simple_value=2.0)])).SerializeToString()
    twice = [
        Event(wall_time=1e9, step=1).SerializeToString() + Event(step=5 + i).SerializeToString() for i in (0, 0, 1)
    ]
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(b"".join(map(framed, [first, *(event + summary for event in twice)])))
    (series,) = read(path).series
    assert series.step.tolist() == accumulated(path, "grad_norm")[0] == [5, 5, 6]


def test_scalars_without_a_step_are_not_numbered(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for norm in (1.0, 2.0, 3.0):
            writer.add_scalar("loss", -norm)
            writer.add_scalar("grad_norm", norm)
    (series,) = read(only(tmp_path)).series
    assert series.grad_norm.tolist() == [1.0, 2.0, 3.0]
    assert series.loss.tolist() == [-1.0, -2.0, -3.0]
    assert np.isnan(series.step).all()


def test_losses_that_were_written_apart_are_joined_by_step(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(5):
            writer.add_scalar("grad_norm", step, step)
        for step in range(4):
            writer.add_scalar("loss", 10 + step, step)
    (series,) = read(only(tmp_path)).series
    np.testing.assert_array_equal(series.loss, [10, 11, 12, 13, math.nan])


def test_lightning(tmp_path: Path) -> None:
    """Means over epochs are left out beside the values of steps; the threshold stands in the file beside."""
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(5):
            writer.add_scalar("grad_norm_step", step / 2, step)
            writer.add_scalar("train_loss_step", 10 + step, step)
        writer.add_scalar("train_loss_epoch", 12.0, 4)
        writer.add_scalar("grad_norm_epoch", 1.0, 4)
    (tmp_path / "hparams.yaml").write_text("gradient_clip_val: 0.5\nseed: 1\n")
    log = read(only(tmp_path))
    (series,) = log.series
    assert (series.tag, series.grad_norm.tolist()) == ("grad_norm_step", [0, 0.5, 1, 1.5, 2])
    assert series.loss.tolist() == [10, 11, 12, 13, 14]
    assert (log.max_norm, log.max_norm_from) == (0.5, "gradient_clip_val in hparams.yaml")


@pytest.mark.parametrize(
    ("tag", "facts"),
    [
        ("grad_2.0_norm_total", ("last", False, "step")),
        ("grad_norm_epoch", ("mean", None, "step")),
        ("train/epoch_grad_norm", (None, None, "epoch")),
        ("grad_norm", (None, None, "step")),
    ],
)
def test_what_the_name_of_a_norm_tells(tmp_path: Path, tag: str, facts: tuple[object, ...]) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar(tag, 1.0, 3)
    log = read(only(tmp_path))
    assert (log.window, log.after, log.unit) == facts


def test_keras_counts_epochs(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for epoch in range(3):
            writer.add_scalar("epoch_grad_norm", 1.0, epoch)
            writer.add_scalar("epoch_loss", 2.0, epoch)
    log = read(only(tmp_path))
    assert log.unit == "epoch"
    assert log.series[0].loss.tolist() == [2.0] * 3


@pytest.mark.parametrize(
    ("tag", "text", "threshold", "window"),
    [
        ("args", '{\n  "logging_steps": 10,\n  "lr": 0.1,\n  "max_grad_norm": 0.3\n}', 0.3, "last"),
        ("args", '{"logging_steps": 10, "max_grad_norm": 0.0}', math.inf, "last"),
        ("hyperparameters", "|param|value|\n|-|-|\n|clip_coef|0.2|\n|max_grad_norm|0.5|\n|norm_adv|True|", 0.5, None),
        ("options", "Namespace(lr=0.1, clip_grad=5.0, seed=1)", 5.0, None),
        ("options", "gradient_clip_val=0.5", 0.5, None),
        ("options", "clip_grad: 5.0\nmax_grad_norm: 1.0", None, None),  # which of them is unknown
        ("options", "max_grad_norm: None, clip_gradients: yes", None, None),
        ("model_config", '{"max_norm": 1.0}', None, None),
    ],
)
def test_threshold_in_a_text(tmp_path: Path, tag: str, text: str, threshold: float | None, window: str | None) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_text(tag, text)
        writer.add_scalar("train/grad_norm", 1.0, 10)
    log = read(only(tmp_path))
    assert (log.max_norm, log.window) == (threshold, window)
    assert log.after is (False if window else None)
    assert (f" in its text {tag}" in log.max_norm_from) == (threshold is not None)
    assert bool(log.max_norm_from) == (threshold is not None)


def test_cut_at_every_byte_of_the_last_records(tmp_path: Path) -> None:
    data = write_torch(tmp_path / "run").read_bytes()
    starts = boundaries(data)
    cut = tmp_path / "cut"
    for end in range(starts[-5], len(data)):
        cut.write_bytes(data[:end])
        log = read(cut)
        # 5 records a step behind the first, the norm is the third of them
        norms = sum(1 for i, start in enumerate(starts[2:], start=1) if start <= end and i % 5 == 3)
        assert log.notes == ()
        np.testing.assert_array_equal(log.series[0].grad_norm, np.array(NORMS[:norms], np.float32))
    for end in range(1, starts[1]):
        cut.write_bytes(data[:end])
        assert not READER.recognises(Source(cut))


def test_damaged_length_ends_the_reading_with_a_note(tmp_path: Path) -> None:
    path = write_torch(tmp_path)
    data, starts = path.read_bytes(), boundaries(path.read_bytes())
    for at in range(starts[11], starts[11] + 12):  # two steps behind the first record
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        log = read(path)
        assert log.series[0].grad_norm.tolist() == [1.5, 0.25]
        assert log.notes == (f"The event file is damaged at byte {starts[11]:,}: what stands behind was not read.",)


def test_damaged_record_is_left_out_with_a_note(tmp_path: Path) -> None:
    path = write_torch(tmp_path)
    data, starts = bytearray(path.read_bytes()), boundaries(path.read_bytes())
    data[starts[8] + 12 : starts[9] - 4] = b"\xff" * (starts[9] - starts[8] - 16)  # the second norm
    path.write_bytes(data)
    log = read(path)
    np.testing.assert_array_equal(log.series[0].grad_norm, np.array(NORMS[:1] + NORMS[2:], np.float32))
    assert log.notes == ("Of the records of the event file 1 are damaged and were left out.",)


def test_other_files_are_refused(tmp_path: Path) -> None:
    draw = random.Random(0)
    path = tmp_path / "events.out.tfevents.1.host"
    for size in (1, 11, 12, 16, 30, 5000) * 10:
        path.write_bytes(b"\1" + draw.randbytes(size))
        assert not READER.recognises(Source(path))
    # frames that are right, around what is no event
    for body in (b"", b"brain.Event:2", b"\x0a\x03abc", draw.randbytes(40), b"\xff" * 40):
        path.write_bytes(framed(body))
        assert not READER.recognises(Source(path))


def framed(body: bytes, length: int | None = None) -> bytes:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    size = struct.pack("<Q", len(body) if length is None else length)
    return size + struct.pack("<I", masked_crc32c(size)) + body + struct.pack("<I", masked_crc32c(body))


@pytest.mark.parametrize("length", [2**26 + 1, 2**40, 2**63, 2**64 - 1])
def test_hostile_lengths_do_not_allocate(tmp_path: Path, length: int) -> None:
    path = write_torch(tmp_path)
    with path.open("ab") as file:
        file.write(framed(b"", length) + b"\0" * 3_000_000)
    tracemalloc.start()
    log = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert len(log.series[0]) == len(NORMS)


def test_long_records_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The histograms are longer than the limit; what stands between is read, however the bytes are cut in pieces."""
    data = write_torch(tmp_path).read_bytes()
    monkeypatch.setattr(tfrecord, "MAX_RECORD", 200)
    assert max(b - a for a, b in zip(boundaries(data), boundaries(data)[1:], strict=False)) > 300
    for size in (1, 7, 64, 301, 5000, len(data)):
        found = read_scalars((data[i : i + size] for i in range(0, len(data), size)), lambda tag: "norm" in tag)
        np.testing.assert_array_equal(np.array(found.value), np.array(NORMS, np.float32))
        assert (found.num_bad, found.damaged_at) == (0, None)
        torn = data + b"\1" * 50
        found = read_scalars((torn[i : i + size] for i in range(0, len(torn), size)), lambda tag: "norm" in tag)
        assert (len(found.value), found.damaged_at) == (len(NORMS), len(data))


def test_random_damage_never_raises(tmp_path: Path) -> None:
    data = write_torch(tmp_path / "a").read_bytes() + write_torch(tmp_path / "b", new_style=True).read_bytes()
    starts, draw = boundaries(data), random.Random(0)
    num_bad = 0
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(draw.randint(1, 20)):
            i = draw.randrange(1, len(starts) - 1)  # within records: a damaged length would end the reading
            damaged[draw.randrange(starts[i] + 12, starts[i + 1] - 4)] = draw.randrange(256)
        found = read_scalars([bytes(damaged)], lambda tag: True)
        assert len(found.tag) == len(found.step) == len(found.value)
        num_bad += found.num_bad
    assert num_bad > 400


def test_several_files_of_one_directory_are_one_log(tmp_path: Path) -> None:
    paths = []
    for i, (started, steps) in enumerate([(2e9, (2, 3, 4, 5)), (1e9, (0, 1, 2, 3))]):
        writer = EventFileWriter(str(tmp_path), filename_suffix=f".{i}")
        for step in steps:
            for tag, value in (("grad_norm", step + i / 2), ("loss", -step)):
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                writer.add_event(Event(wall_time=started, step=step, summary=summary))
        writer.close()
        (path,) = tmp_path.glob(f"events*.{i}")
        # the writer's own first event has the time of this test
        data, at = bytearray(path.read_bytes()), boundaries(path.read_bytes())[1]
        first = Event.FromString(bytes(data[12 : at - 4]))
        first.wall_time = started - 1
        path.write_bytes(framed(first.SerializeToString()) + bytes(data[at:]))
        paths.append(path)
    (tmp_path / "events.out.tfevents.3.empty").touch()
    (tmp_path / "events.out.tfevents.4.other").write_text("no event file")
    log = read_folder(sorted(tmp_path.iterdir()))
    (series,) = log.series
    assert series.step.tolist() == [0, 1, 2, 3, 2, 3, 4, 5]
    assert series.grad_norm.tolist() == [0.5, 1.5, 2.5, 3.5, 2.0, 3.0, 4.0, 5.0]
    assert series.loss.tolist() == [0, -1, -2, -3, -2, -3, -4, -5]
    assert len(log.notes) == 1
    assert log.notes[0].startswith("2 of 4 event files were left out.")
    assert read_folder(paths).notes == ()
    with pytest.raises(InputError, match="empty"):
        read_folder([tmp_path / "events.out.tfevents.3.empty"])
    with pytest.raises(InputError, match="no TensorBoard event file"):
        read_folder([])


def test_files_that_were_written_at_the_same_time_are_told_of(tmp_path: Path) -> None:
    writers = [SummaryWriter(str(tmp_path), filename_suffix=f".rank{rank}") for rank in (0, 1)]
    for step in range(3):
        for rank, writer in enumerate(writers):
            writer.add_scalar("grad_norm", step + rank / 2, step)
    for writer in writers:
        writer.close()
    log = read_folder(sorted(tmp_path.iterdir()))
    assert log.series[0].grad_norm.tolist() == [0.0, 1.0, 2.0, 0.5, 1.5, 2.5]
    assert log.notes == ("Event files of this directory were written at the same time: they may be of different runs.",)


@pytest.mark.parametrize("kind", KINDS)
def test_the_benchmark_writes_what_tensorboard_reads(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "events.out.tfevents.1"
    columns = make_columns(300)
    write_events(path, columns, kind)
    for tag, column in zip(TAGS, columns, strict=True):
        steps, values = accumulated(path, tag)
        assert steps == list(range(300))
        np.testing.assert_array_equal(values, column)
    (series,) = read(path).series
    np.testing.assert_array_equal([series.step, series.grad_norm, series.loss, series.lr], [steps, *columns[:3]])


def test_tensorboard_is_not_needed(tmp_path: Path) -> None:
    path = write_torch(tmp_path)
    program = f"""
import sys
sys.modules["tensorboard"] = sys.modules["torch"] = sys.modules["google.protobuf"] = None
from pathlib import Path
from clipcal.logs.source import Source
from clipcal.logs.readers.tensorboard import READER
print(len(READER.read(Source(Path({str(path)!r}))).series[0]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (str(len(NORMS)), "")
