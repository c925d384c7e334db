from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dpl.config import FitRun, Optimization, TrainConfig, preset
from dpl.optim.optimizer import descend, frozen, learning_rate, make_optimizer, set_learning_rate
from dpl.utils.errors import DplError

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "lr_schedule.safetensors")


@pytest.mark.parametrize(("lr", "epochs"), [(0.0035, 80), (0.0035, 40), (0.0025, 20)])
def test_the_schedule_is_that_of_the_authors(lr: float, epochs: int):
    config = TrainConfig(epochs=epochs, lr=lr, warmup_epochs=1, warmup_lr=1e-5)
    ours = torch.tensor([learning_rate(config, epoch) for epoch in range(epochs)], dtype=torch.float64)
    torch.testing.assert_close(ours, GOLDEN[f"out.lr{lr}_epochs{epochs}"], rtol=1e-12, atol=0)


def test_the_paper_preset_is_as_released():
    released = preset(FitRun, "paper", "digits")
    train, search = released.train, released.search
    assert (train.optimizer, train.lr, train.weight_decay, train.epochs, train.batch_size) == ("sgd", 3.5e-3, 5e-4, 40, 4)
    assert (search.epochs, search.batch_size, search.validation_batch_size, search.alpha_lr) == (80, 4, 16, 3.5e-3)
    assert search.options == (0, 1, 2, 3, 4, 5, 6) and search.patience == 0 and train.clip_norm == 0
    assert (train.warmup_epochs, train.warmup_lr) == (1, 1e-5)


def test_warm_up_rises_linearly_and_the_cosine_falls_from_the_full_rate():
    rates = [learning_rate(TrainConfig(epochs=10, lr=4.0, warmup_epochs=3), epoch) for epoch in range(10)]
    assert rates[:4] == [1, 2, 3, 4] and all(a > b > 0 for a, b in zip(rates[3:], rates[4:], strict=False))


def test_a_schedule_by_step_falls_within_the_epoch_to_its_final_rate():
    config = Optimization(epochs=2, lr=3.0, warmup_epochs=0, schedule="step", final_lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([torch.zeros(1)], lr=3.0), 8, eta_min=1.0)
    for step in range(8):
        assert learning_rate(config, step // 4, step % 4 / 4) == pytest.approx(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    assert learning_rate(replace(config, schedule="epoch"), 1, 0.75) == learning_rate(config, 1)


def test_adamw_takes_its_epsilon():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer(Optimization(epochs=1, adam_eps=1.0, weight_decay=0.0, lr=0.5), [weight])
    descend(weight.sum(), optimizer)
    assert weight.item() == pytest.approx(-0.25)  # 0.5 * 1 / (1 + eps)


def test_a_step_may_have_another_gradient_than_its_loss():
    weight = torch.nn.Parameter(torch.zeros(1))

    def backward(parameters: list[torch.Tensor]) -> None:
        parameters[0].grad = torch.tensor([2.0])

    optimizer = make_optimizer(Optimization(epochs=1, optimizer="sgd", weight_decay=0.0, lr=1.0), [weight])
    descend((5 * weight).sum(), optimizer, backward=backward)
    assert weight.item() == -2


def test_one_step_of_sgd_by_hand():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = make_optimizer(TrainConfig(optimizer="sgd", weight_decay=0.5), [weight])
    set_learning_rate(optimizer, 0.1)
    assert descend((weight * torch.tensor([3.0, 4.0])).sum(), optimizer) == pytest.approx(-5.0)
    torch.testing.assert_close(weight.data, torch.tensor([1 - 0.1 * (3 + 0.5), -2 - 0.1 * (4 - 1)]))


def test_gradients_are_clipped_and_reach_only_the_optimisers_parameters():
    mine, other = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = make_optimizer(TrainConfig(optimizer="sgd", weight_decay=0.0), [mine])
    set_learning_rate(optimizer, 1.0)
    descend((mine * torch.tensor([30.0, 40.0]) * other).sum(), optimizer, clip_norm=1.0)
    torch.testing.assert_close(mine.data, torch.tensor([-0.6, -0.8]))
    assert other.grad is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_anything_changes(bad: float):
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = make_optimizer(TrainConfig(), [weight])
    with pytest.raises(DplError, match=f"search, epoch 3, step 1: the loss is {bad}"):
        descend((weight * bad).sum(), optimizer, where="search, epoch 3, step 1")
    with pytest.raises(DplError, match="a gradient is nan"):
        descend((weight - 1).abs().sqrt().sum() * 0, optimizer)
    assert weight.item() == 1


def test_frozen_parameters_get_no_gradient_and_thaw_even_after_an_error():
    kept, other, fixed = (torch.ones(2, requires_grad=grad) for grad in (True, True, False))
    with frozen([other, fixed]):
        loss = (kept * other * fixed).sum()
    loss.backward()
    assert kept.grad is not None and other.grad is None
    with pytest.raises(ZeroDivisionError), frozen([other, fixed]):
        raise ZeroDivisionError
    assert (kept.requires_grad, other.requires_grad, fixed.requires_grad) == (True, True, False)
