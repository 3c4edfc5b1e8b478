"""Names and values as logs spell them, and the series that rows come to."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from clipcal.logs.log import Series
from clipcal.logs.names import after_clipping, kind_of, value_of
from clipcal.logs.rows import Rows, flatten


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (1.5, 1.5),
        (3, 3.0),
        (" 1e-05 ", 1e-5),
        ("-.5", -0.5),
        ("tensor(1.25, device='cuda:0')", 1.25),
        ("np.float32(0.5)", 0.5),
        ({"dtype": "float64", "py/object": "numpy.float64", "value": 2.5}, 2.5),
        (10**400, math.inf),
        (-(10**400), -math.inf),
        ("Infinity", math.inf),
        ("-inf", -math.inf),
        ("1.#INF", math.inf),
    ],
)
def test_values(raw: Any, value: float) -> None:
    assert value_of(raw) == value


@pytest.mark.parametrize(
    "raw", ["nan", "NaN", "-nan", "NAN", "nan(ind)", "1.#QNAN", "-1.#IND", "tensor(nan)", math.nan]
)
def test_nan_in_every_spelling(raw: Any) -> None:
    value = value_of(raw)
    assert value is not None
    assert math.isnan(value)


@pytest.mark.parametrize("raw", [None, True, "", "-", "N/A", "1,5", "0x10", "12 apples", [1.0], {"a": 1}, b"1"])
def test_what_is_no_number(raw: Any) -> None:
    assert value_of(raw) is None


NORMS = [
    "grad_norm",
    "train/grad_norm",
    "grad_norm_0",
    "world_model_grad_norm",
    "gnorm",
    "gNorm",
    "norm",
    "train_grad_norm",
    "gradient_norm",
    "grad/norm",
    "gradNorm",
    "grad_2.0_norm_total",
    "grad_norm/total",
    "total_norm",
    "gradients/global_norm",
    "optim/total_grad_norm",
    "l2_norm/grad/global",
    "Gradient_Norm",
    "train/grad_norm_step",
    "gradnorm",
    "total_grad_norm",
    "grad_norm_clipped",
    "grdn",
    "global_norm",
    "Grad",
    "∇",
    "actor/grad_norm",
    "raw_grad_norm",
    "gradients_default_optimizer_global_norm",
]
LOSSES = [
    "loss",
    "train_loss",
    "loss_0",
    "world_model_loss",
    "mix_loss",
    "lm_loss",
    "Train/loss",
    "performance/loss",
    "cost",
]
RATES = ["lr", "learning_rate", "current_lr_0", "train_lr", "lr-AdamW", "train/learning_rate"]
THRESHOLDS = [
    "max_grad_norm",
    "clip_norm",
    "gradient_clip_val",
    "grad_clip",
    "max_norm",
    "clip_grad_norm",
    "gradient_clipping",
]
SCALES = ["loss_scale", "train_loss_scale", "loss scale", "grad_scale", "cur_scale"]
COUNTS = ["tokens", "num_frames", "consumed_samples", "total_timesteps", "env_steps", "num_env_steps_sampled", "kimg"]
OTHERS = [
    "tokens_per_second",
    "grad_norm_scale",
    "val_loss",
    "eval_loss",
    "valid/grad_norm",
    "batch_norm",
    "layer_norm",
    "weight_norm",
    "param_norm",
    "grad_norm_ratio",
    "optim/clipping_rate",
    "grad_2.0_norm/layer.weight",
    "optim/grad/transformer.wte.weight.norm",
    "epoch",
    "params/norm",
    "accuracy",
    "normalized_entropy",
    "grad_norm_var",
]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (n, k)
        for names, k in (
            (NORMS, "norm"),
            (LOSSES, "loss"),
            (RATES, "lr"),
            (THRESHOLDS, "threshold"),
            (SCALES, "scale"),
            (COUNTS, "count"),
            (OTHERS, "other"),
        )
        for n in names
    ],
)
def test_names(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("grad_norm", None),
        ("grad_norm_clipped", True),
        ("grad_norm/post_clip", True),
        ("unclipped_grad_norm", False),
        ("grad_norm_pre_clip", False),
    ],
)
def test_names_may_say_before_or_after_clipping(name: str, after: bool | None) -> None:
    assert after_clipping(name) is after


def only(rows: Rows) -> Series:
    (found,) = rows.log("test").series
    return found


def test_a_series_has_the_loss_and_rate_of_its_own_row() -> None:
    rows = Rows()
    rows.add({"step": 3, "loss": "2.5", "grad_norm": 1.5, "lr": 0.1, "accuracy": 0.9})
    rows.add({"eval_loss": 9.0, "step": 3})
    rows.add({"step": 4, "loss": 2.25, "grad_norm": "NaN", "lr": None})
    found = only(rows)
    assert found.step.tolist() == [3, 4]
    np.testing.assert_array_equal(found.grad_norm, [1.5, np.nan])
    assert found.loss.tolist() == [2.5, 2.25]
    np.testing.assert_array_equal(found.lr, [0.1, np.nan])


def test_a_loss_in_another_row_of_the_step_is_joined_the_nearest_first() -> None:
    rows = Rows()
    for run in (0, 100):
        for step in (1, 2, 3):
            rows.add({"step": step, "train_loss": run + step})
            rows.add({"step": step, "grad_norm": run + 10 * step})
    assert only(rows).loss.tolist() == [1, 2, 3, 101, 102, 103]


def test_norms_and_losses_are_paired_by_name_and_the_last_by_elimination() -> None:
    rows = Rows()
    rows.add({"actor_grad_norm": 1.0, "critic_grad_norm": 2.0, "critic_loss": 20.0, "mix_loss": 10.0, "lr_0": 0.5})
    rows.add({"grad_norm_0": 3.0, "loss_0": 30.0, "loss_1": 40.0, "grad_norm_1": 4.0, "loss_gen": 7.0})
    found = {s.tag: (s.grad_norm.tolist(), s.loss.tolist()) for s in rows.log("test").series}
    assert found["critic_grad_norm"] == ([2.0], [20.0])
    assert found["grad_norm_0"] == ([3.0], [30.0])
    assert found["grad_norm_1"] == ([4.0], [40.0])


def test_the_usual_loss_belongs_to_a_norm_without_one_of_its_name() -> None:
    rows = Rows()
    rows.add({"grad_norm": 1.0, "aux_loss": 5.0, "train_loss": 2.0})
    assert only(rows).loss.tolist() == [2.0]


def test_the_most_telling_step_counts_and_a_given_one_outranks_the_row() -> None:
    rows = Rows()
    rows.add({"iter": 7, "global_step": 107, "grad_norm": 1.0})
    rows.add({"iter": 8, "global_step": 108, "grad_norm": 1.0}, step=5.0)
    assert only(rows).step.tolist() == [107, 5]


def test_thresholds_in_the_rows_or_told_by_the_reader() -> None:
    rows = Rows()
    rows.add({"grad_norm": 1.0, "max_grad_norm": 0.5})
    assert (rows.log("test").max_norm, rows.log("test").max_norm_from) == (0.5, "max_grad_norm")
    rows.threshold("clip-norm in its config", 0.0)
    assert (rows.log("test").max_norm, rows.log("test").max_norm_from) == (math.inf, "clip-norm in its config")


def test_runs_that_the_log_announces() -> None:
    rows = Rows()
    rows.start_run()
    rows.add({"grad_norm": 1.0})
    rows.add({"loss": 1.0})
    rows.start_run()
    rows.add({"loss": 1.0})
    rows.add({"grad_norm": 2.0})
    rows.start_run()
    assert only(rows).starts == (1,)


def test_made_up_names_do_not_fill_the_memory() -> None:
    rows = Rows()
    for i in range(10_000):
        rows.add({f"grad_norm_{i}": 1.0})
    assert len(rows.log("test").series) == 2_000


def test_nested_objects_are_one_row() -> None:
    nested = {"step": 1, "train": {"grad_norm": 2.0, "deep": {"lr": 0.1}}, "list": [1, 2], "word": "x"}
    assert flatten(nested) == {"step": 1, "train/grad_norm": 2.0, "train/deep/lr": 0.1, "word": "x"}


@pytest.mark.parametrize("seed", range(20))
def test_many_rows_at_once_are_the_rows_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    odd = [1.5, 2.5, 3.5, 4, "nan", None, True, math.inf, 10**30]
    rows: list[dict[str, Any]] = [
        {"step": i, "loss": rng.choice(odd[: 3 + seed % 7]), "grad_norm": rng.choice(odd[: 3 + seed % 5])}
        for i in range(30)
    ]
    if seed % 3 == 0:
        rows[rng.randrange(30)]["other"] = 1.0
    if seed % 4 == 0:
        rows[7]["max_grad_norm"] = 0.5
    single, together = Rows(), Rows()
    for row in rows:
        single.add(row)
    for start in range(0, 30, 7):
        part = rows[start : start + 7]
        if not together.add_alike(part):
            for row in part:
                together.add(row)
    one, other = single.log("test"), together.log("test")
    assert one.max_norm == other.max_norm
    for a, b in zip(one.series, other.series, strict=True):
        for name in ("step", "grad_norm", "loss", "lr"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert together.add_alike([{"step": 1, "value": 2.0}], but=("value",)) is False
