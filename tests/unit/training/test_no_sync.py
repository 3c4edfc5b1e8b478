"""A step of ours asks the device for nothing: on tensors that have no values to give, where every question raises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clipcal.hooks.listening import ClipCall, leave, listen
from clipcal.hooks.observing import Observer, kept
from clipcal.recommendation.answer import Method
from clipcal.scripts.child.stream import Changes
from clipcal.training.gradnorm import ClipRule, Norms, clip_, is_readable, measure, scale_after
from clipcal.training.loop import Observation, Parts, train
from clipcal.training.recorder import Recorder

METHODS: tuple[Method, ...] = ("norm", "value", "per_tensor")
NORM_TYPES = (1.0, 2.0, 3.0, math.inf)
SHAPES = ((1000,), (30, 40), (1,), ())
DTYPES = {
    "fp32": (torch.float32,) * 4,
    "bf16": (torch.bfloat16,) * 4,
    "fp16": (torch.float16,) * 4,
    "fp64": (torch.float64,) * 4,
    "mixed": (torch.float32, torch.bfloat16, torch.float16, torch.float32),
}
META = torch.device("meta")
"""No CPU, and no values. (FakeTensorMode would say ``cuda``, but torch without CUDA makes no copy and no backward pass there.)"""


def params(dtypes: Sequence[torch.dtype] = DTYPES["fp32"]) -> list[Tensor]:
    made = [torch.empty(shape, dtype=dtype, device=META) for shape, dtype in zip(SHAPES, dtypes, strict=True)]
    for p in made:
        p.grad = torch.empty_like(p)
    return made


def grads(of: Sequence[Tensor]) -> list[Tensor]:
    return [p.grad for p in of if p.grad is not None]


def there(norms: Norms) -> bool:
    return all(t.device == META for t in norms)


QUESTIONS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda t: t.sum().item(),
    "bool": lambda t: bool(t.sum() > 0),
    "float": lambda t: float(t.sum()),
    "tolist": lambda t: t.tolist(),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_to_the_device_would_be_seen(question: str) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        QUESTIONS[question](torch.empty(3, device=META))


# Norms and clipping


@pytest.mark.parametrize("norm_type", NORM_TYPES)
@pytest.mark.parametrize("dtypes", DTYPES.values(), ids=DTYPES)
def test_norms_stay_on_the_device_in_fp32(dtypes: tuple[torch.dtype, ...], norm_type: float) -> None:
    norms = measure(grads(params(dtypes)), norm_type)
    assert there(norms)
    assert norms.per_tensor.shape == (4,)
    assert norms.total.dtype == norms.per_tensor.dtype == max((*dtypes, torch.float32), key=lambda d: d.itemsize)


@pytest.mark.parametrize("norm_type", NORM_TYPES)
@pytest.mark.parametrize("dtypes", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_clipping_stays_on_the_device(method: Method, dtypes: tuple[torch.dtype, ...], norm_type: float) -> None:
    ours = params(dtypes)
    rule = ClipRule(method=method, threshold=1.0, norm_type=norm_type)
    norms = measure(grads(ours), norm_type)
    clip_(grads(ours), ours, norms, rule)
    assert scale_after(grads(ours), norms, rule).device == META


def test_gradients_that_are_elsewhere_are_not_read_as_if_they_were_here() -> None:
    assert not is_readable(grads(params()))


@pytest.mark.parametrize("first", ["cpu", "meta"])
@pytest.mark.parametrize("norm_type", NORM_TYPES)
def test_of_gradients_on_two_devices_the_norms_go_to_the_one_that_nobody_waits_for(
    norm_type: float, first: str
) -> None:
    """An embedding that is left on the CPU: where its norm comes first, all others would have to come to the CPU."""
    second = "meta" if first == "cpu" else "cpu"
    norms = measure([torch.empty(3, device=first), torch.empty(4, device=second)], norm_type)
    assert there(norms)


# A step that is watched


def test_a_loss_is_kept_where_it_is() -> None:
    loss = kept(torch.empty(1, device=META))
    assert isinstance(loss, Tensor)
    assert (loss.device.type, loss.shape) == ("meta", ())


class Seen:
    """What an Observer hands on; its errors are raised."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.steps: list[Observation] = []
        self.observer = Observer(optimizer, sink=self.steps.append, on_error=self.failed)

    def failed(self, error: Exception) -> None:
        raise error


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("dtypes", DTYPES.values(), ids=DTYPES)
def test_a_watched_step_stays_on_the_device(dtypes: tuple[torch.dtype, ...], clipped: bool) -> None:
    ours = params(dtypes)
    seen = Seen(torch.optim.SGD(ours, lr=0.1))
    changes = Changes(ours)
    for _ in range(3):
        seen.observer.losses += [kept(torch.empty((), device=META)) for _ in range(2)]  # two micro-batches
        changes.look()
        if clipped:
            seen.observer.note_before_clipping(torch.empty((), device=META))
        changes.compare()
        seen.observer.before_step((), {})
    for step in seen.steps:
        assert isinstance(step.norms, Norms)
        assert there(step.norms)
        assert isinstance(step.loss, Tensor)
        assert (step.scale is not None) == clipped
    assert len(seen.steps) == 3


def test_a_fused_optimizers_own_unscaling_stays_on_the_device() -> None:
    """A GradScaler gives it its factor, and it unscales inside ``step``."""
    optimizer = torch.optim.SGD(params(), lr=0.1)
    optimizer.grad_scale = torch.empty((), device=META)  # type: ignore[attr-defined]
    seen = Seen(optimizer)
    seen.observer.before_step((), {})
    (step,) = seen.steps
    assert isinstance(step.norms, Norms)
    assert there(step.norms)
    seen.observer.unscale()


class Listening:
    """As clipcal.watch listens: every loss, and every clip call, which may act."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer

    def before_backward(self) -> None: ...

    def forget_losses(self) -> None:
        self.observer.losses.clear()

    def saw_loss(self, loss: Tensor) -> None:
        self.observer.losses.append(kept(loss))

    def after_backward(self) -> None: ...

    def before_clipping(self, call: ClipCall) -> bool:
        self.observer.note_before_clipping(None)
        return True

    def after_unscaling(self, optimizer: torch.optim.Optimizer) -> None: ...

    def dropped(self, optimizer: torch.optim.Optimizer) -> None: ...


def test_a_loop_that_is_listened_to_asks_nothing() -> None:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, foreach=True)
    seen = Seen(optimizer)
    optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.observer.before_step(args, kwargs))
    listener = Listening(seen.observer)
    listen(listener)
    try:
        for x, y in batches():
            optimizer.zero_grad()
            torch.autograd.backward(loss_of(model, (x.to(META), y.to(META))))
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    finally:
        leave(listener)
    assert len(seen.steps) == 3
    assert all(isinstance(s.loss, Tensor) and s.loss.device == META for s in seen.steps)


# A whole training of ours


def net() -> nn.Module:
    with META:
        return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1))


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(torch.ones(8, 4), torch.ones(8, 1)) for _ in range(3)]


def loss_of(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def parts(
    optimizer: Callable[[Any], torch.optim.Optimizer], *, batch_loss: Any = loss_of, accumulate: int = 1
) -> Parts:
    model = net()
    return Parts(
        model=model,
        data=batches,
        batch_loss=batch_loss,
        optimizer=optimizer(model.parameters()),
        scheduler=None,
        device=META,
        accumulate=accumulate,
    )


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
    "one by one": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=False),
}


@pytest.mark.parametrize("norm_type", NORM_TYPES)
@pytest.mark.parametrize("method", [None, *METHODS])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_asks_nothing_between_fetches(
    optimizer: Callable[[Any], torch.optim.Optimizer], method: Method | None, norm_type: float
) -> None:
    clip = None if method is None else ClipRule(method=method, threshold=1.0, norm_type=norm_type)
    recorder = Recorder(num_tensors=6, sink=lambda steps, rows: None, seconds=math.inf)
    for step in train(parts(optimizer, accumulate=2), steps=5, norm_type=norm_type, clip=clip):
        recorder.add(step)
        assert all(t.device == META for t in step.norms if isinstance(t, Tensor))
    with pytest.raises((RuntimeError, NotImplementedError)):
        recorder.flush()  # there is nothing to be fetched, and here it would be


def test_a_loss_that_is_logged_would_be_seen() -> None:
    def logged(model: nn.Module, batch: Any) -> Tensor:
        loss = loss_of(model, batch)
        loss.item()
        return loss

    with pytest.raises(Exception, match=r"[Mm]eta tensor"):
        list(train(parts(OPTIMIZERS["SGD"], batch_loss=logged), steps=1))
