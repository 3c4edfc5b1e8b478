"""Words of a command line -> a script; rows in a file that grows; ranks put together; changes by hand told from means."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from clipcal.errors import InputError
from clipcal.run.source import source_of
from clipcal.scripts.child.growing import COUNT, GrowingRows, row_of
from clipcal.scripts.child.naming import names_of
from clipcal.scripts.child.stream import Changes
from clipcal.scripts.gathering import Gathering
from clipcal.sources.script import Script, from_source, from_words
from clipcal.training.gradnorm import is_readable, measure, read

PYTHON = sys.executable


def script(*words: str, **fields: object) -> Script:
    return Script(words=words, cwd="/somewhere", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "path", "name"),
    [
        (("train.py", "--lr", "1"), "train.py", "train"),
        (("torchrun", "--nproc-per-node", "2", "src/train.py", "x.py"), "src/train.py", "train"),
        (("python", "-m", "pkg.train", "--out", "a.b"), "pkg.train", "train"),
        (("python3.11", "-m", "torch.distributed.run", "--standalone", "fit.py"), "fit.py", "fit"),
        (("bash", "go.sh"), "bash", "bash"),
        (("./go.sh",), "./go.sh", "go"),
        (("accelerate", "launch", "--config_file", "c.yaml", "run_glue.py"), "run_glue.py", "run_glue"),
    ],
)
def test_what_a_command_is_called(words: tuple[str, ...], path: str, name: str) -> None:
    assert script(*words).path == path
    assert script(*words).name == name


def test_what_is_executed() -> None:
    assert script("train.py", "--seed", "{seed}").argv(7) == [PYTHON, "train.py", "--seed", "7"]
    assert script("torchrun", "train.py").argv(7) == ["torchrun", "train.py"]
    assert script("train.py", "{seed}").takes_seed
    assert not script("train.py", "seed").takes_seed


def test_paths_are_absolute_in_a_scratch_directory(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "word").write_text("")
    given = Script(
        words=("train.py", "data/", "./data", "nowhere/x", "--data=data/", "word"), cwd=str(tmp_path), scratch=True
    )
    assert given.argv(0)[1:] == [
        str(tmp_path / "train.py"), str(tmp_path / "data"), str(tmp_path / "data"), "nowhere/x", "--data=data/", "word"
    ]  # fmt: skip


def test_a_script_from_run_json_is_the_same_script() -> None:
    given = script("train.py", "--x", "{seed}", seed=3, steps=20, optimizer="adam", scratch=True, threads=2)
    assert from_source(source_of(json.loads(json.dumps(given.source().record)))) == given
    with pytest.raises(InputError, match=r"its 'source\.\w+' is missing"):
        from_source(source_of({"kind": "script", "words": ["x"]}))


@pytest.mark.parametrize("option", ["-I", "-E", "-S", "-sE", "-uI"])
def test_python_that_cannot_be_watched(option: str) -> None:
    with pytest.raises(InputError, match="keeps Python from reading its environment"):
        from_words([PYTHON, "-W", "error", option, "train.py"])


@pytest.mark.parametrize(
    "words", [["-m", "x", "-I"], ["-X", "importtime", "x.py", "-E"], ["-u", "x.py", "-S"], ["-c", "-I"]]
)
def test_options_of_the_script_are_its_own(words: list[str]) -> None:
    assert from_words([PYTHON, *words]).words == (PYTHON, *words)


def test_another_text_is_another_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("one")
    first = from_words(["train.py"], cwd=tmp_path).fingerprint
    assert from_words(["train.py"], cwd=tmp_path).fingerprint == first
    assert from_words(["train.py", "--x"], cwd=tmp_path).fingerprint != first
    (tmp_path / "train.py").write_text("two")
    assert from_words(["train.py"], cwd=tmp_path).fingerprint != first


def stream(session: Path, rank: int, world: int, norms: np.ndarray, counts: list[bool], sharded: bool) -> None:
    """What rank ``rank`` leaves: ``norms`` (steps, tensors)."""
    folder = session / "streams" / f"{rank}-{100 + rank}-1"
    folder.mkdir(parents=True)
    rows = GrowingRows(folder / "steps", row_of(norms.shape[1]))
    for i, values in enumerate(norms):
        rows.append(i, 1.0 + rank, float(np.linalg.norm(values)), float(values.max()), 0.1, 0.01, False, *values)
    about = {"number": 1, "pid": 100 + rank, "rank": rank, "world": world, "optimizer": "SGD", "num_parameters": 9}
    about |= {"names": [str(i) for i in range(norms.shape[1])], "counts": counts, "sharded": sharded}
    (folder / "stream.json").write_text(json.dumps(about))
    (folder / "seen.json").write_text(json.dumps({"picked": True}))


def test_shards_are_put_together_and_copies_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(50, 3, 8)).astype(
        np.float32
    )  # steps, tensors, elements: halves on two ranks, the last on both
    parts = [np.linalg.norm(whole[:, :, half], axis=2) for half in (slice(0, 4), slice(4, 8))]
    for rank, part in enumerate(parts):
        part[:, 2] = np.linalg.norm(whole[:, 2], axis=1)
        stream(tmp_path, rank, 2, part, [True, True, rank == 0], sharded=True)
    gathering = Gathering(tmp_path)
    steps, rows = gathering.poll()
    expected = np.linalg.norm(whole, axis=2)
    np.testing.assert_allclose(rows, expected, rtol=1e-6)
    np.testing.assert_allclose([s.grad_norm for s in steps], np.linalg.norm(expected, axis=1), rtol=1e-6)
    assert {s.loss for s in steps} == {1.5}
    assert gathering.poll()[0] == []


def test_a_step_counts_when_every_rank_has_it(tmp_path: Path) -> None:
    norms = np.ones((30, 2))
    stream(tmp_path, 0, 2, norms, [True, True], sharded=False)
    gathering = Gathering(tmp_path)
    assert gathering.poll()[0] == []
    stream(tmp_path, 1, 2, norms[:20], [False, False], sharded=False)
    assert len(gathering.poll()[0]) == 20


def test_ranks_that_do_not_share_their_gradients_are_counted(tmp_path: Path) -> None:
    norms = np.ones((30, 2))
    stream(tmp_path, 0, 2, norms, [True, True], sharded=False)
    norms[5:9] *= 1.01
    stream(tmp_path, 1, 2, norms, [False, False], sharded=False)
    gathering = Gathering(tmp_path)
    assert {s.grad_norm for s in gathering.poll()[0]} == {np.sqrt(2)}
    assert gathering.num_unlike == 4


def test_rows_are_there_while_the_file_grows(tmp_path: Path) -> None:
    rows = GrowingRows(tmp_path / "rows", struct.Struct("40s"))
    for i in range(20_000):
        rows.append(i.to_bytes(40, "little"))
        if i in (0, 1, 1637, 19_999):
            data = (tmp_path / "rows").read_bytes()
            assert int.from_bytes(data[:8], "little") == i + 1
            assert int.from_bytes(data[8 + 40 * i : 48 + 40 * i], "little") == i


WRITES = """
import struct, sys
from pathlib import Path
from clipcal.scripts.child.growing import GrowingRows
rows = GrowingRows(Path(sys.argv[1]), struct.Struct("q"))
for i in range(400_000):
    rows.append(i + 1)
"""


def test_the_count_is_never_seen_half_written(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(bytes(COUNT.size))
    with subprocess.Popen([PYTHON, "-c", WRITES, str(path)]) as writer, path.open("rb", buffering=0) as f:
        before = 0
        while writer.poll() is None:
            f.seek(0)
            head = f.read(COUNT.size)
            (count,) = COUNT.unpack(head) if len(head) == COUNT.size else (0,)  # before the first row
            assert count >= before
            if count > before:
                f.seek(8 * count)
                assert f.read(8) == count.to_bytes(8, sys.byteorder), "what is counted is there"
            before = count


def test_read_is_measure_in_numbers() -> None:
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for special in (None, float("nan"), float("inf"), -float("inf"), (float("nan"), float("inf"))):
            grads = [
                torch.randn(50, 30, dtype=dtype),
                -3 * torch.rand(7, dtype=dtype),
                torch.randn(4, 3, dtype=dtype).T,
            ]
            if special is not None:
                grads[1][2:4], grads[0][7, 7] = torch.tensor(special), -float("inf")
            assert is_readable(grads)
            fast, slow = read(grads), measure(grads, 2.0)
            np.testing.assert_allclose(fast.per_tensor, slow.per_tensor.double(), rtol=1e-6)
            np.testing.assert_allclose(
                [fast.total, fast.grad_max], [float(slow.total), float(slow.grad_max)], rtol=1e-6
            )
    assert not is_readable([torch.empty(0)])
    with torch.sparse.check_sparse_tensor_invariants():  # type: ignore[no-untyped-call]
        assert not is_readable([torch.sparse_coo_tensor(torch.tensor([[0]]), torch.tensor([1.0]), (3,))])


def test_names_come_from_the_model_without_what_wraps_it() -> None:
    inner = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    other = torch.nn.Linear(3, 1)
    wrapped = torch.nn.Module()
    wrapped.add_module("module", inner)
    loose = torch.nn.Parameter(torch.zeros(2))
    params: list[torch.Tensor] = []
    for owner, name in ((inner[1], "weight"), (None, ""), (inner[0], "weight"), (other, "bias")):
        params.append(loose if owner is None else owner.get_parameter(name))
    naming = names_of(params, [wrapped, inner, inner[0], inner[1], other])
    assert naming.names == ["1.weight", "parameter 1", "0.weight", "bias"]
    assert [id(p) for p in naming.order[:2]] == [id(inner[0].weight), id(inner[1].weight)]


@pytest.mark.parametrize(("factors", "changed"), [([1.0] * 30, 0), ([0.25] * 30, 30), ([1.0, 0.5, 0.1] * 10, 20)])
def test_changes_between_the_backward_pass_and_the_step(factors: list[float], changed: int) -> None:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(3))]
    changes = Changes(params)
    for factor in factors:
        for p in params:
            p.grad = torch.randn_like(p)
        changes.look()
        for p in params:
            p.grad.data.mul_(factor)  # type: ignore[union-attr]
        changes.compare()
    summary = changes.summary()
    if not changed:
        assert summary == {}
        return
    assert summary["compared"] == 30
    assert summary["changed"] >= changed
    assert summary["lowest"] == pytest.approx(min(factors), rel=1e-5)
    assert summary["highest"] == pytest.approx(max(f for f in factors if f < 1), rel=1e-5)


def test_changes_late_in_a_run() -> None:
    """Not every step is looked at for ever, but somebody who clips by hand in one of three is found."""
    p = torch.nn.Parameter(torch.randn(5))
    changes = Changes([p])
    for step in range(800):
        p.grad = torch.randn_like(p)
        changes.look()
        if step >= 400 and step % 3 == 0:
            p.grad.data.mul_(0.5)
        changes.compare()
    summary = changes.summary()
    assert 200 < summary["compared"] < 800
    assert 30 < summary["changed"] < 134
    assert summary["lowest"] == 0.5


FORKED = """
import os, sys
os.register_at_fork(before=lambda: print("forked", flush=True))
from pathlib import Path
from clipcal.scripts.processes import Processes
made = Processes(["sh", "-c", "echo $PPID $WORD"], cwd=Path("."), env={**os.environ, "WORD": "said"}, mark="WORD=said", output=1)
while made.ended() is None:
    pass
print(os.getpid(), made.ended())
"""


def test_a_script_is_started_beside_threads_without_a_fork() -> None:
    """A copy of a process with threads (torch's, JAX's) may wait forever for a lock that none of its threads will give back."""
    told = subprocess.run([PYTHON, "-c", FORKED], capture_output=True, text=True, check=True).stdout.split()
    parent, word, itself, code = told
    assert (parent, word, code) == (itself, "said", "0")
