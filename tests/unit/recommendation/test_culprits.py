"""From a run directory to the layers of its spikes: which rows are compared, and what is said about them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipcal.errors import InputError
from clipcal.recommendation import culprits as module
from clipcal.recommendation.culprits import Culprits, culprits, times
from clipcal.recommendation.evidence import load
from clipcal.run.directory import Run, RunInfo
from clipcal.run.layers import LayersWriter
from clipcal.run.source import source_of
from clipcal.run.step import Step
from clipcal.run.trace import Floats, lines_of

NAMES = ("embed.weight", "body.weight", "body.bias", "head.weight")
Write = Callable[..., Path]


def rows(num: int = 300) -> Floats:
    """Tensor norms of a calm run: the total stays near 2."""
    level = np.random.default_rng(0).lognormal(0, 0.15, (num, 1))
    each = np.random.default_rng(1).lognormal(0, 0.05, (num, 4))
    calm: Floats = level * np.array([1.0, 1.0, 0.2, 1.0]) * each
    return calm


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A run directory with these tensor norms, and a trace that follows from them."""

    def run(
        norms: Floats,
        *,
        skipped: set[int] = frozenset(),  # type: ignore[assignment]
        names: tuple[str, ...] = NAMES,
        num_steps: int | None = None,
        losses: Floats | None = None,
        **info: Any,
    ) -> Path:
        fields: dict[str, Any] = {
            "name": "made", "source": source_of({"kind": "script"}), "fingerprint": "0", "steps": len(norms), "seeds": [0], "device": "cpu",
            "threads": 1, "status": "complete", "norm_type": 2.0,
        }  # fmt: skip
        made = Run(tmp_path / "run", RunInfo(**(fields | info)))
        made.folder.mkdir()
        made.save()
        p = made.info.norm_type
        with np.errstate(all="ignore"):
            totals = norms.max(1) if p == math.inf else (norms**p).sum(1) ** (1 / p)
        writer = LayersWriter(made.layers, names, p)
        with np.errstate(over="ignore"):
            writer.append(norms.astype(np.float32))
        writer.close()
        steps = [
            Step(
                step=i, loss=1.0 if losses is None else losses[i], grad_norm=float(t), grad_max=float(t) / 3, lr=0.1, seconds=0.1,
                skipped=i in skipped,
            )
            for i, t in enumerate(totals[:num_steps])
        ]  # fmt: skip
        made.trace.write_bytes(lines_of(steps))
        return made.folder

    return run


def found_in(folder: Path) -> Culprits:
    evidence = load(folder)
    return culprits(evidence, evidence.recommend())


SPIKES = [40, 90, 150, 210, 280]


def spiky(tensor: int | slice = 0) -> Floats:
    norms = rows()
    norms[SPIKES, tensor] *= 30
    return norms


def test_one_layer_is_named_with_its_numbers(write: Write) -> None:
    norms = spiky()
    c = found_in(write(norms))
    assert (c.peaks, c.num_peaks, c.attribution.culprits) == ("spikes", 5, ("embed",))
    share = np.mean(norms[SPIKES, 0] ** 2 / (norms[SPIKES] ** 2).sum(1))
    assert c.attribution.layers[0].share == pytest.approx(share, rel=1e-5)
    assert c.conclusion.startswith(
        f"One layer makes the spikes: `embed` ({share:.0%} of their squared norm, 33% in stable steps)"
    )
    assert "reaches 30 x its usual norm" in c.conclusion or "reaches 29 x its usual norm" in c.conclusion
    assert c.conclusion.endswith(f"the usual, not {times(c.attribution.rise)}.")
    assert c.notes == ()


def test_all_layers_together_point_to_the_batch(write: Write) -> None:
    c = found_in(write(spiky(slice(None))))
    assert c.attribution.finding == "together"
    assert "all 3 layers" in c.conclusion
    assert "the batch or the loss" in c.conclusion
    assert "steps 40, 90, 150, 210, 280 were trained on" in c.conclusion


def test_rows_follow_the_steps_where_some_were_skipped(write: Write) -> None:
    norms = spiky()
    skipped = {5, 6, 91, 149}
    norms[sorted(skipped)] = np.inf
    c = found_in(write(norms, skipped=skipped))
    assert c.attribution.culprits == ("embed",)
    assert c.num_peaks == 5
    share = np.mean(norms[SPIKES, 0] ** 2 / (norms[SPIKES] ** 2).sum(1))
    assert c.attribution.layers[0].share == pytest.approx(share, rel=1e-5)


def test_rows_follow_the_steps_where_a_line_of_the_trace_is_gone(write: Write) -> None:
    folder = write(spiky())
    lines = (folder / "trace.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "trace.jsonl").write_bytes(b"".join(lines[:20]) + b"{garbled\n" + b"".join(lines[21:]))
    assert found_in(folder).attribution.culprits == ("embed",)


def test_a_killed_run_holds_more_rows_than_its_trace(write: Write) -> None:
    assert found_in(write(spiky(), num_steps=250)).num_peaks == 4


def test_a_heavy_tail_is_explained_by_its_far_steps(write: Write) -> None:
    norms = rows()
    norms[:, 3] *= 1 + np.random.default_rng(1).pareto(1.5, 300)
    folder = write(norms)
    c = found_in(folder)
    assert load(folder).recommend().verdict == "heavy_tail"
    assert c.peaks == "tail"
    assert c.attribution.culprits == ("head",)
    assert c.conclusion.startswith("One layer makes the large steps: `head`")


def test_without_spikes_the_largest_steps_are_looked_at(write: Write) -> None:
    c = found_in(write(rows()))
    assert (c.peaks, c.num_peaks) == ("largest", 3)
    assert 200 < c.num_stable < 300
    assert c.attribution.finding in ("together", "flat")


def test_a_run_that_diverges_is_explained_by_what_runs_away(write: Write) -> None:
    norms = rows(200)
    norms[150:190, 3] *= np.exp(0.6 * np.arange(40))
    norms[190:, 3] = np.nan
    c = found_in(write(norms))
    assert c.peaks == "runaway"
    assert c.attribution.culprits == ("head",)
    assert "One layer makes the norms run away" in c.conclusion
    assert c.notes == ("Step 190 is the first without a finite norm, because of 1 of 4 tensors: head.weight.",)


def test_where_gradients_vanish(write: Write) -> None:
    norms = rows() * np.array([1e-9, 1e-5, 1e-5, 1e-3]) * np.geomspace(1, 1e-6, 300)[:, None]
    c = found_in(write(norms))
    assert c.conclusion.startswith("The gradients vanish: the usual norm is ")
    assert "in `head`, the most of all layers, and" in c.conclusion
    assert "in `embed`, the least." in c.conclusion


def test_no_gradient_at_all(write: Write) -> None:
    c = found_in(write(np.zeros((100, 4))))
    assert c.conclusion == "No tensor got a gradient in any step of this trace: every norm is zero."
    assert c.without_gradient == NAMES
    assert c.attribution.layers == ()


def test_tensors_that_never_got_a_gradient_are_named(write: Write) -> None:
    norms = spiky()
    norms[:, 2] = 0
    c = found_in(write(norms))
    assert c.without_gradient == ("body.bias",)
    assert "1 of 4 tensors never got a gradient: body.bias." in c.notes


def test_a_tensor_with_a_gradient_in_one_step_had_one(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = rows(5000)
    norms[:, 2] = 0
    norms[1234, 2] = 0.01
    monkeypatch.setattr(module, "MOST", 400)
    assert found_in(write(norms)).without_gradient == ()


def test_too_few_steps(write: Write) -> None:
    c = found_in(write(rows(1)))
    assert c.attribution.finding == "none"
    assert "Too few steps" in c.conclusion


def test_nothing_finite(write: Write) -> None:
    c = found_in(write(np.full((30, 4), np.nan)))
    assert c.attribution.finding == "none"
    assert c.notes == ("Step 0 is the first without a finite norm, because of all tensors.",)


def test_norms_beyond_float32(write: Write) -> None:
    """Of a model in double precision: the trace has the norm, the layers have infinity."""
    norms = rows() * 1e37
    norms[SPIKES, 0] *= 200
    c = found_in(write(norms))
    assert c.peaks == "spikes"
    assert c.attribution.culprits == ("embed",)
    assert c.attribution.layers[0].share == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("norm_type", [1.0, 3.0, math.inf])
def test_other_norms(write: Write, norm_type: float) -> None:
    c = found_in(write(spiky(), norm_type=norm_type))
    assert c.norm_type == norm_type
    assert c.attribution.culprits == ("embed",)
    wanted = {
        1.0: "of their norm,",
        3.0: "of their norm^3,",
        math.inf: "`embed` (the largest in 100%, in stable steps in",
    }
    assert wanted[norm_type] in c.conclusion


def test_a_threshold_per_tensor_meets_the_largest_of_them(write: Write) -> None:
    c = found_in(write(spiky(3), method="per_tensor"))
    assert c.norm_type == math.inf
    assert c.attribution.culprits == ("head",)
    assert c.attribution.layers[0].share == 1.0


def test_a_threshold_per_element_is_explained_by_norms(write: Write) -> None:
    c = found_in(write(spiky(), method="value"))
    assert c.norm_type == 2.0
    assert c.attribution.culprits == ("embed",)
    assert "not known per tensor" in c.notes[0]


def test_long_runs_are_looked_at_in_evenly_spaced_steps(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = rows(2000)
    norms[::20, 0] *= 30
    folder = write(norms)
    whole = found_in(folder)
    monkeypatch.setattr(module, "MOST", 400)
    part = found_in(folder)
    assert (part.num_peaks, part.num_stable) == (whole.num_peaks, whole.num_stable)
    assert part.attribution.culprits == whole.attribution.culprits == ("embed",)
    for a, b in zip(part.attribution.layers, whole.attribution.layers, strict=True):
        assert (a.share, a.stable_share, a.usual) == pytest.approx(
            (b.share, b.stable_share, b.usual), rel=0.1, abs=0.01
        )


def test_the_object_for_json_is_flat_and_plain(write: Write) -> None:
    norms = spiky()
    norms[:, 2] = 0
    norms[SPIKES, 2] = 1.0
    d = found_in(write(norms)).as_dict()
    assert list(d) == [
        "peaks", "num_peaks", "num_stable", "norm_type", "conclusion", "without_gradient", "notes", "finding", "culprits", "rise",
        "rise_without", "layers",
    ]  # fmt: skip
    body = next(layer for layer in d["layers"] if layer["name"] == "body")
    assert {t["name"]: t["rise"] for t in body["tensors"]}["body.bias"] == "Infinity"


def test_what_is_missing_is_said(write: Write, tmp_path: Path) -> None:
    folder = write(spiky())
    evidence = load(folder)
    recommendation = evidence.recommend()
    whole = (folder / "layers.f32").read_bytes()

    def refused(words: str) -> None:
        with pytest.raises(InputError, match=words):
            culprits(evidence, recommendation)

    (folder / "layers.f32").write_bytes(whole[:-4000])
    refused("holds 50 steps and the trace goes to step 299")
    header, _, body = whole.partition(b"\n")
    shifted = np.frombuffer(body, dtype="<f4") * 3
    (folder / "layers.f32").write_bytes(header + b"\n" + shifted.tobytes())
    refused("do not add up")
    (folder / "layers.f32").write_bytes(b"something else")
    refused("not a layers file")
    (folder / "layers.f32").unlink()
    refused("is not there")
    alone = tmp_path / "alone.jsonl"
    alone.write_bytes((folder / "trace.jsonl").read_bytes())
    with pytest.raises(InputError, match="a trace by itself"):
        found_in(alone)


def test_steps_that_go_back_tell_no_row(write: Write) -> None:
    folder = write(spiky())
    lines = (folder / "trace.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "trace.jsonl").write_bytes(b"".join(lines[:200] + lines[100:]))
    with pytest.raises(InputError, match="which of its rows is which step"):
        found_in(folder)


@pytest.mark.parametrize(
    ("rise", "text"),
    [
        (None, "-"),
        (math.inf, "from 0"),
        (1.26, "1.3 x"),
        (43.3, "43 x"),
        (1391.0, "1,400 x"),
        (5.8e5, "580,000 x"),
        (1e9, "1e+09 x"),
    ],
)
def test_how_far_a_norm_rose_in_words(rise: float | None, text: str) -> None:
    assert times(rise) == text
