"""What is measured is what torch measures, and measuring changes nothing: against loops written by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Clipcal, Project, rows_of
from torch import Tensor, nn

from clipcal.errors import InputError
from clipcal.recommendation.answer import Method
from clipcal.run.layers import read_layers
from clipcal.sources.spec import load_spec
from clipcal.sources.targets import importable_from
from clipcal.training.building import build
from clipcal.training.gradnorm import ClipRule, measure
from clipcal.training.loop import Observation, Parts, train

CPU = torch.device("cpu")
STEPS = 23
SEED = 3
MODELS = """
class Deep(nn.Module):
    '''Dropout, a norm with buffers, and weights that are drawn at the start.'''
    def __init__(self, width=16, dropout=0.25, scale=1.0):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))
        self.scale = scale
    def forward(self, x):
        return self.scale * self.net(x)

class Words(nn.Module):
    def __init__(self, sparse=False):
        super().__init__()
        self.table = nn.Embedding(20, 4, sparse=sparse)
        self.head = nn.Linear(4, 3)
    def forward(self, x):
        return self.head(self.table(x).mean(1))

def sentences(seed=0):
    g = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randint(0, 20, (8, 5), generator=g), torch.randint(0, 3, (8,), generator=g)
"""
LOADER: dict[str, Any] = {
    "_target_": "torch.utils.data.DataLoader",
    "dataset": {"_target_": "toy.points", "n": 48},
    "batch_size": 8,
    "shuffle": True,
}
SPEC: dict[str, Any] = {
    "model": {"_target_": "toy.Deep"},
    "data": LOADER,
    "loss": {"_target_": "torch.nn.SmoothL1Loss"},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01},
    "scheduler": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 20},
    "steps": STEPS,
    "seed": SEED,
}
Clip = Callable[[nn.Module], object]


@pytest.fixture
def written(project: Project) -> Project:
    project.code(MODELS)
    project.spec(**SPEC)
    return project


def trained(
    project: Project, clip: ClipRule | None = None, norm_type: float = 2.0
) -> tuple[Parts, list[Observation], dict[str, Tensor]]:
    """What clipcal trains of the project's spec, and the weights that it starts from."""
    project.forget()
    spec = load_spec(project.folder / "spec.yaml")
    with importable_from([spec.folder]):
        parts = build(spec, seed=spec.fields.seed, device=CPU)
        start = copy.deepcopy(parts.model.state_dict())
        return parts, list(train(parts, steps=spec.fields.steps, norm_type=norm_type, clip=clip)), start


def by_hand(
    project: Project, *, accumulate: int = 1, dtype: torch.dtype | None = None, clip: Clip | None = None
) -> tuple[nn.Module, list[list[Tensor]], list[float]]:
    """The same run as a user writes it: the trained model, the gradients of every step before clipping, and the losses."""
    project.forget()
    with importable_from([project.folder]):
        import toy  # type: ignore[import-not-found]
    torch.manual_seed(SEED)
    model = toy.Deep()
    loader: Iterable[Any] = torch.utils.data.DataLoader(toy.points(n=48, seed=SEED), batch_size=8, shuffle=True)
    criterion = nn.SmoothL1Loss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)

    def endless() -> Iterable[Any]:
        while True:
            yield from loader

    batches = iter(endless())
    grads, losses = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        total = 0.0
        for _ in range(accumulate):
            x, y = next(batches)
            cast: AbstractContextManager[Any] = torch.autocast("cpu", dtype=dtype) if dtype else nullcontext()
            with cast:
                loss = criterion(model(x), y)
            total += loss.item() / accumulate
            (loss / accumulate).backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        losses.append(total)
        if clip:
            clip(model)
        optimizer.step()
        scheduler.step()
    return model, grads, losses


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    here, there = one.state_dict(), other.state_dict()
    assert here.keys() == there.keys()
    for name in here:
        assert torch.equal(here[name], there[name]), name


# The norm is torch's


@pytest.mark.parametrize("norm_type", [2.0, 1.0, math.inf, 3.0], ids=["L2", "L1", "inf", "L3"])
@pytest.mark.parametrize(
    ("changes", "accumulate", "dtype"),
    [({}, 1, None), ({"accumulate": 3}, 3, None), ({"precision": "bf16"}, 1, torch.bfloat16)],
    ids=["plain", "accumulated", "bf16"],
)
def test_the_trace_holds_torchs_own_total_norm_and_the_largest_gradient(
    written: Project,
    clipcal: Clipcal,
    norm_type: float,
    changes: dict[str, Any],
    accumulate: int,
    dtype: torch.dtype | None,
) -> None:
    written.spec(**SPEC | changes | {"clip": {"norm_type": norm_type}})
    clipcal("profile", "spec.yaml").ok()
    rows = rows_of(written.run() / "trace.jsonl")
    _, grads, losses = by_hand(written, accumulate=accumulate, dtype=dtype)
    expected = [torch.nn.utils.get_total_norm(g, norm_type).item() for g in grads]
    assert [r["grad_norm"] for r in rows] == pytest.approx(expected, rel=1e-6)
    assert [r["grad_max"] for r in rows] == [max(g.abs().max().item() for g in step) for step in grads]
    assert [r["loss"] for r in rows] == pytest.approx(losses, rel=1e-6)
    layers = read_layers(written.run() / "layers.f32")
    per_tensor = [[torch.linalg.vector_norm(g, norm_type).item() for g in step] for step in grads]
    assert layers.norm_type == norm_type
    np.testing.assert_allclose(layers.norms, per_tensor, rtol=1e-6)


def test_the_layers_carry_the_models_own_names(written: Project, clipcal: Clipcal) -> None:
    clipcal("profile", "spec.yaml").ok()
    model, _, _ = by_hand(written)
    assert read_layers(written.run() / "layers.f32").names == tuple(n for n, _ in model.named_parameters())


def test_accumulated_micro_batches_have_the_norm_of_the_joined_batch(written: Project) -> None:
    ordered = LOADER | {"shuffle": False}
    common = SPEC | {"model": {"_target_": "toy.Net"}, "steps": 6}
    written.spec(**common | {"data": ordered | {"batch_size": 8}, "accumulate": 3})
    _, parted, _ = trained(written)
    written.spec(**common | {"data": ordered | {"batch_size": 24}})
    _, joined, _ = trained(written)
    for a, b in zip(parted, joined, strict=True):
        assert float(a.norms.total) == pytest.approx(float(b.norms.total), rel=1e-5)
        assert float(a.loss) == pytest.approx(float(b.loss), rel=1e-5)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_gradients_of_any_precision_are_summed_without_loss(dtype: torch.dtype, norm_type: float) -> None:
    g = torch.Generator().manual_seed(0)
    grads = [torch.randn(shape, generator=g).to(dtype) for shape in ((1000,), (30, 40), (1,), ())]
    norms = measure(grads, norm_type)
    exact = torch.linalg.vector_norm(torch.cat([x.double().flatten() for x in grads]), norm_type).item()
    assert norms.total.item() == pytest.approx(exact, rel=1e-6)
    assert norms.grad_max.item() == pytest.approx(max(x.double().abs().max().item() for x in grads), rel=1e-6)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_gradients_of_two_precisions_are_one_norm_in_their_order(norm_type: float) -> None:
    g = torch.Generator().manual_seed(0)
    grads = [torch.randn(5, generator=g).to(t) for t in (torch.bfloat16, torch.float32, torch.bfloat16)]
    norms = measure(grads, norm_type)
    wide = [x.float() for x in grads]
    assert norms.total.item() == pytest.approx(torch.nn.utils.get_total_norm(wide, norm_type).item(), rel=1e-6)
    assert norms.per_tensor.tolist() == pytest.approx(
        [torch.linalg.vector_norm(x, norm_type).item() for x in wide], rel=1e-6
    )


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_complex_gradients_have_torchs_norm(norm_type: float) -> None:
    g = torch.Generator().manual_seed(0)
    grads = [torch.randn(5, dtype=torch.complex64, generator=g), torch.randn(3, generator=g)]
    expected = torch.nn.utils.get_total_norm(list(grads), norm_type).item()
    assert measure(grads, norm_type).total.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_element_shows_in_the_norm_and_in_the_largest(value: float, norm_type: float) -> None:
    grads = [torch.ones(4), torch.tensor([1.0, value, 2.0])]
    norms = measure(grads, norm_type)
    assert str(norms.total.item()) == str(abs(value))
    assert str(norms.grad_max.item()) == str(abs(value))
    assert norms.per_tensor[0].item() == torch.linalg.vector_norm(grads[0], norm_type).item()


def test_measuring_leaves_the_gradients_as_they_are() -> None:
    grads = [torch.randn(3, 4), torch.tensor([math.nan, math.inf])]
    before = [g.clone() for g in grads]
    measure(grads, 2.0)
    for g, b in zip(grads, before, strict=True):
        assert torch.equal(g.isnan(), b.isnan())
        assert torch.equal(g.nan_to_num(), b.nan_to_num())


@pytest.mark.parametrize("norm_type", [2.0, math.inf])
def test_a_parameter_without_elements_is_no_obstacle(written: Project, clipcal: Clipcal, norm_type: float) -> None:
    written.code(
        MODELS + "class Hollow(Deep):\n    def __init__(self):\n        super().__init__()\n"
        "        self.none = nn.Parameter(torch.zeros(0, 3))\n"
        "    def forward(self, x):\n        return super().forward(x) + self.none.sum()\n"
    )
    written.spec(**SPEC | {"model": {"_target_": "toy.Hollow"}, "clip": {"norm_type": norm_type}})
    clipcal("profile", "spec.yaml", "--out", "hollow").ok()
    rows = rows_of(written.folder / "hollow" / "trace.jsonl")
    assert all(math.isfinite(r["grad_norm"]) for r in rows)


# Sparse gradients


@pytest.fixture
def sparse(written: Project) -> Project:
    written.spec(
        **SPEC
        | {
            "model": {"_target_": "toy.Words", "sparse": True},
            "data": {"_target_": "toy.sentences"},
            "loss": {"_target_": "torch.nn.CrossEntropyLoss"},
            "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1},
            "scheduler": None,
        }
    )
    return written


def test_sparse_gradients_have_the_norm_of_dense_ones(sparse: Project) -> None:
    _, seen, _ = trained(sparse)
    text = (sparse.folder / "spec.yaml").read_text()
    sparse.text(text.replace("sparse: true", "sparse: false"))
    _, dense, _ = trained(sparse)
    assert [float(o.norms.total) for o in seen] == pytest.approx([float(o.norms.total) for o in dense], rel=1e-6)
    assert [float(o.norms.grad_max) for o in seen] == pytest.approx([float(o.norms.grad_max) for o in dense], rel=1e-6)


@pytest.mark.parametrize("method", ["norm", "value", "per_tensor"])
def test_sparse_gradients_are_clipped_like_dense_ones_or_refused(sparse: Project, method: Method) -> None:
    """torch's own clipping takes no sparse gradients; a user is told so, and never by a traceback."""
    rule = ClipRule(method=method, threshold=0.05)
    refused = ""
    try:
        parts, _, _ = trained(sparse, rule)
    except InputError as e:
        refused = str(e)
    if refused:
        assert "sparse" in refused
        return
    text = (sparse.folder / "spec.yaml").read_text()
    sparse.text(text.replace("sparse: true", "sparse: false"))
    dense, _, _ = trained(sparse, rule)
    for a, b in zip(parts.model.parameters(), dense.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


# Watching changes nothing


@pytest.mark.parametrize(
    ("changes", "accumulate", "dtype"),
    [({}, 1, None), ({"accumulate": 3}, 3, None), ({"precision": "bf16"}, 1, torch.bfloat16)],
    ids=["plain", "accumulated", "bf16"],
)
def test_a_watched_run_ends_with_the_weights_of_a_plain_one_bit_for_bit(
    written: Project, changes: dict[str, Any], accumulate: int, dtype: torch.dtype | None
) -> None:
    written.spec(**SPEC | changes)
    parts, _, start = trained(written)
    model, _, _ = by_hand(written, accumulate=accumulate, dtype=dtype)
    assert_same_weights(parts.model, model)
    assert any(not torch.equal(start[k], v) for k, v in model.state_dict().items()), "nothing was trained"


def test_watching_leaves_the_random_generators_where_a_plain_run_leaves_them(written: Project) -> None:
    trained(written)
    after_ours = torch.get_rng_state()
    by_hand(written)
    assert torch.equal(after_ours, torch.get_rng_state())


# Clipping is torch's


def clip_each(threshold: float, norm_type: float) -> Clip:
    def clip(model: nn.Module) -> None:
        for p in model.parameters():
            torch.nn.utils.clip_grad_norm_(p, threshold, norm_type)

    return clip


def clip_norm(threshold: float, norm_type: float) -> Clip:
    return lambda model: torch.nn.utils.clip_grad_norm_(model.parameters(), threshold, norm_type)


def clip_value(threshold: float, norm_type: float) -> Clip:
    return lambda model: torch.nn.utils.clip_grad_value_(model.parameters(), threshold)


BY_HAND: dict[Method, Callable[[float, float], Clip]] = {
    "norm": clip_norm,
    "value": clip_value,
    "per_tensor": clip_each,
}


@pytest.mark.parametrize("norm_type", [2.0, 1.0, math.inf], ids=["L2", "L1", "inf"])
@pytest.mark.parametrize("threshold", [0.01, 0.3, 1e9])
@pytest.mark.parametrize("method", list(BY_HAND))
def test_a_clipped_arm_ends_with_the_weights_of_torchs_own_clipping_bit_for_bit(
    written: Project, method: Method, threshold: float, norm_type: float
) -> None:
    rule = ClipRule(method=method, threshold=threshold, norm_type=norm_type)
    parts, seen, _ = trained(written, rule, norm_type)
    model, grads, _ = by_hand(written, clip=BY_HAND[method](threshold, norm_type))
    assert_same_weights(parts.model, model)
    expected = [torch.nn.utils.get_total_norm(g, norm_type).item() for g in grads]
    assert [float(o.norms.total) for o in seen] == pytest.approx(expected, rel=1e-6), (
        "the norm is the one before clipping"
    )


@pytest.mark.parametrize("method", list(BY_HAND))
def test_clipping_counts_after_accumulation(written: Project, method: Method) -> None:
    written.spec(**SPEC | {"accumulate": 3})
    parts, _, _ = trained(written, ClipRule(method=method, threshold=0.05))
    model, _, _ = by_hand(written, accumulate=3, clip=BY_HAND[method](0.05, 2.0))
    assert_same_weights(parts.model, model)


@pytest.mark.parametrize("method", list(BY_HAND))
def test_scale_is_the_factor_by_which_the_gradient_was_shortened(written: Project, method: Method) -> None:
    rule = ClipRule(method=method, threshold=0.2)
    _, seen, _ = trained(written, rule)
    shortened: list[float] = []

    def clip(model: nn.Module) -> None:
        def total() -> float:
            return torch.nn.utils.get_total_norm(held(model.parameters())).item()

        before = total()
        BY_HAND[method](0.2, 2.0)(model)
        shortened.append(total() / before)

    by_hand(written, clip=clip)
    assert [scale_of(o) for o in seen] == pytest.approx(shortened, rel=1e-4)
    assert min(shortened) < 1


def held(params: Iterable[nn.Parameter]) -> Sequence[Tensor]:
    return [p.grad for p in params if p.grad is not None]


def scale_of(o: Observation) -> float:
    assert o.scale is not None
    return o.scale.item()


def test_a_threshold_above_every_norm_changes_nothing(written: Project) -> None:
    clipped, seen, _ = trained(written, ClipRule(threshold=1e9))
    free, _, _ = trained(written)
    assert_same_weights(clipped.model, free.model)
    assert [scale_of(o) for o in seen] == [1.0] * STEPS


def test_the_largest_element_of_double_gradients_keeps_its_size() -> None:
    norms = measure([torch.tensor([-1e300, 1.0], dtype=torch.float64)], 1.0)
    assert norms.grad_max.item() == 1e300
