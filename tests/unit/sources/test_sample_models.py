"""The sample models: their batches, their targets, and where training starts from. Nothing is trained here."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from sample_models import adding_rnn, char_lstm, outliers, small_gpt, stdlib_text

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))
Batches = Callable[..., Iterator[tuple[Tensor, Tensor]]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def deep_mlp_batches(**arguments: Any) -> Iterator[tuple[Tensor, Tensor]]:
    pytest.importorskip("sklearn")
    from sample_models import deep_mlp

    return deep_mlp.batches(**arguments)


SEEDED: dict[str, Batches] = {
    "char_lstm": char_lstm.batches,
    "small_gpt": small_gpt.batches,
    "deep_mlp": deep_mlp_batches,
    "adding_rnn": adding_rnn.batches,
    "outliers": outliers.batches,
}


def first(batches: Iterator[tuple[Tensor, Tensor]], count: int = 3) -> list[Tensor]:
    return [tensor for batch in islice(batches, count) for tensor in batch]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", SEEDED)
class TestBatches:
    def test_are_the_seeds_alone(self, name: str) -> None:
        torch.manual_seed(1)
        once = first(SEEDED[name](seed=5))
        torch.manual_seed(2)
        assert same(once, first(SEEDED[name](seed=5)))
        assert not same(once, first(SEEDED[name](seed=6)))

    def test_leave_the_global_generators_alone(self, name: str) -> None:
        torch.manual_seed(3)
        random.seed(3)
        before = torch.get_rng_state(), random.getstate()
        first(SEEDED[name](seed=5))
        assert torch.equal(before[0], torch.get_rng_state())
        assert before[1] == random.getstate()

    def test_differ_from_step_to_step(self, name: str) -> None:
        one, two = islice(SEEDED[name](seed=5), 2)
        assert not torch.equal(one[0], two[0])

    def test_have_the_size_asked_for(self, name: str) -> None:
        inputs, target = next(SEEDED[name](batch_size=3, seed=0))
        assert len(inputs) == len(target) == 3


class TestText:
    def test_is_the_files_in_the_alphabet(self) -> None:
        text = stdlib_text.corpus()
        assert 100_000 < len(text) < 1_000_000
        assert text.min() >= 0
        assert text.max() < stdlib_text.VOCAB_SIZE
        assert "".join(stdlib_text.ALPHABET[i] for i in text[:30].tolist()).startswith('"""Text wrapping and filling.')

    def test_has_next_to_no_unknown_characters(self) -> None:
        folder = Path(random.__file__).parent
        characters = "".join((folder / name).read_text(encoding="utf-8") for name in stdlib_text.FILES)
        unknown = sum(c not in stdlib_text.ALPHABET for c in characters)
        assert unknown < 1e-3 * len(characters)

    def test_targets_are_the_characters_that_follow(self) -> None:
        inputs, target = next(stdlib_text.windows(batch_size=4, seq_len=20, seed=0))
        assert inputs.shape == target.shape == (4, 20)
        assert torch.equal(inputs[:, 1:], target[:, :-1])

    def test_windows_come_from_everywhere(self) -> None:
        text = stdlib_text.corpus()
        last = text[-20:]
        inputs, _ = next(stdlib_text.windows(batch_size=2000, seq_len=20, seed=0))
        assert len(set(map(tuple, inputs.tolist()))) > 1900
        assert not (inputs == last).all(dim=1).any(), "the last window has nothing that follows it"


@pytest.mark.parametrize(
    ("build", "batches"), [(char_lstm.CharLSTM, char_lstm.batches), (small_gpt.SmallGPT, small_gpt.batches)]
)
def test_language_models_start_at_guessing(build: Callable[[], nn.Module], batches: Batches) -> None:
    torch.manual_seed(0)
    inputs, target = next(batches(seed=0))
    logits = build()(inputs)
    assert logits.shape == (len(inputs), stdlib_text.VOCAB_SIZE, inputs.shape[1])
    assert nn.functional.cross_entropy(logits, target).item() == pytest.approx(
        math.log(stdlib_text.VOCAB_SIZE), abs=0.2
    )


@pytest.mark.parametrize("build", [char_lstm.CharLSTM, small_gpt.SmallGPT])
def test_language_models_do_not_look_ahead(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = build().eval()
    inputs, _ = next(stdlib_text.windows(batch_size=2, seq_len=32, seed=0))
    changed = inputs.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % stdlib_text.VOCAB_SIZE
    before, after = model(inputs), model(changed)
    torch.testing.assert_close(before[..., :20], after[..., :20])
    assert not torch.allclose(before[..., 20:], after[..., 20:])


def test_small_gpt_warms_up_in_a_line() -> None:
    assert [small_gpt.warmup(step, num_steps=4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


class TestAddingProblem:
    def test_target_is_the_sum_of_the_two_marked_numbers(self) -> None:
        sequences, target = next(adding_rnn.batches(batch_size=200, seq_len=11, seed=0))
        assert sequences.shape == (200, 11, 2)
        for sequence, answer in zip(sequences.tolist(), target.tolist(), strict=True):
            marked = [place for place, (_, mark) in enumerate(sequence) if mark == 1]
            assert len(marked) == 2
            assert marked[0] < 5 <= marked[1]
            assert all(mark in (0, 1) and 0 <= number < 1 for number, mark in sequence)
            assert answer == pytest.approx(sequence[marked[0]][0] + sequence[marked[1]][0], abs=1e-6)

    def test_trivial_loss_is_a_sixth(self) -> None:
        _, target = next(adding_rnn.batches(batch_size=50_000, seed=0))
        assert ((target - 1) ** 2).mean().item() == pytest.approx(adding_rnn.TRIVIAL_MSE, rel=0.03)

    def test_recurrence_starts_orthogonal_times_the_gain(self) -> None:
        weight = adding_rnn.TanhRNN(hidden_size=8, recurrent_gain=1.5).rnn.get_parameter("weight_hh_l0")
        torch.testing.assert_close(weight @ weight.T, 2.25 * torch.eye(8))

    def test_answers_once_per_sequence(self) -> None:
        sequences, target = next(adding_rnn.batches(seed=0))
        assert adding_rnn.TanhRNN()(sequences).shape == target.shape == (64,)

    def test_warms_up_in_a_line(self) -> None:
        assert [adding_rnn.warmup(step, num_steps=2) for step in range(3)] == [0.5, 1.0, 1.0]


class TestOutliers:
    def test_come_as_often_as_stated(self) -> None:
        means = torch.stack([target.mean() for _, target in islice(outliers.batches(outlier_share=0.02, seed=0), 5000)])
        share = (means > 7).float().mean().item()
        assert share == pytest.approx(0.02, abs=4 * math.sqrt(0.02 * 0.98 / 5000))

    def test_have_every_target_offset_and_nothing_else_changed(self) -> None:
        clean = islice(outliers.batches(outlier_share=0.0, offset=15.0, seed=1), 200)
        corrupted = islice(outliers.batches(outlier_share=0.1, offset=15.0, seed=1), 200)
        offsets = set()
        for (x, y), (u, v) in zip(clean, corrupted, strict=True):
            assert torch.equal(x, u)
            offsets |= {round(difference, 3) for difference in (v - y).tolist()}
        assert offsets == {0.0, 15.0}

    def test_targets_are_standardised(self) -> None:
        _, target = next(outliers.batches(batch_size=100_000, outlier_share=0.0, noise=0.0, seed=0))
        assert target.mean().item() == pytest.approx(0, abs=0.02)
        assert target.std().item() == pytest.approx(1, abs=0.02)

    def test_function_is_the_known_one(self) -> None:
        datasets = pytest.importorskip("sklearn.datasets")
        features, expected = datasets.make_friedman1(n_samples=50, n_features=10, noise=0.0, random_state=0)
        torch.testing.assert_close(outliers.friedman(torch.tensor(features)), torch.tensor(expected))


class TestDigits:
    def test_bad_initialisation_grows_by_the_gain_per_layer(self) -> None:
        pytest.importorskip("sklearn")
        from sample_models.deep_mlp import DeepMLP

        torch.manual_seed(0)
        small = DeepMLP(num_layers=6, gain=1.0)
        torch.manual_seed(0)
        large = DeepMLP(num_layers=6, gain=2.0)
        pixels = torch.rand(5, 64)
        biases = [p for m in (small, large) for n, p in m.named_parameters() if n.endswith("bias")]
        for bias in biases:
            nn.init.zeros_(bias)
        torch.testing.assert_close(large(pixels), small(pixels) * 2.0**6)

    def test_all_digits_are_one_batch_that_can_be_iterated_again(self) -> None:
        pytest.importorskip("sklearn")
        from sample_models.vanishing import all_digits

        data = all_digits()
        assert [len(target) for _, target in data] == [1797]
        assert [len(target) for _, target in data] == [1797]
        pixels, target = data[0]
        assert (pixels.min().item(), pixels.max().item()) == (0, 1)
        assert set(target.tolist()) == set(range(10))

    def test_deep_sigmoid_passes_on_a_seventh_per_layer(self) -> None:
        pytest.importorskip("sklearn")
        from sample_models.vanishing import DeepSigmoid, all_digits

        torch.manual_seed(0)
        model = DeepSigmoid()
        pixels, target = all_digits()[0]
        biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
        gradients = torch.autograd.grad(nn.functional.cross_entropy(model(pixels), target), biases)
        norms = [gradient.norm().item() for gradient in gradients]
        assert len(norms) == 13
        per_layer = (norms[1] / norms[-2]) ** (1 / 10)
        assert per_layer == pytest.approx(1 / 7, rel=0.15)
        assert norms[0] < 1e-9 * norms[-1]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
class TestConfigs:
    def test_say_what_to_expect_first(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("# ")
        assert any(line.startswith("# Expect: recommend `") for line in lines[:3])

    def test_are_named_after_their_file(self, path: Path) -> None:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert spec["name"] == path.stem.replace("_", "-")


def test_there_is_a_config_for_each_sample_model() -> None:
    assert {path.stem for path in CONFIGS} == {
        "char_lstm",
        "small_gpt",
        "deep_mlp",
        "vanishing",
        "adding_rnn",
        "outliers",
    }
