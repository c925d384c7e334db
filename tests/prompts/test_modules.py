"""The learned parts: shapes, starting values, options."""

from typing import Any

import pytest
import torch

from dpl.prompts.layout import PromptLayout
from dpl.prompts.modules import FixedPrompts, PromptMixture
from dpl.utils.errors import DplError


def layers(module: FixedPrompts | PromptMixture) -> list[Any]:
    return list(module.layers)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_fixed_prompts_have_the_lengths_of_the_layout():
    layout = PromptLayout((3, 0, 1), (2,))
    prompts = FixedPrompts(layout.image, 16)
    assert [tuple(layer.prompts.shape) for layer in layers(prompts)] == [(3, 16), (0, 16), (1, 16)]
    assert [name for name, _ in prompts.named_parameters()] == [f"layers.{index}.prompts" for index in range(3)]


def test_a_mixture_has_prompts_for_every_option_and_a_row_of_alphas_per_layer():
    mixture = PromptMixture(3, (0, 2, 5), 16)
    assert [tuple(layer.prompts.shape) for layer in layers(mixture)] == [(7, 16)] * 3
    assert [tuple(layer.alphas.shape) for layer in layers(mixture)] == [(3,)] * 3
    assert sum(parameter.numel() for parameter in mixture.parameters()) == 3 * (7 * 16 + 3)


@pytest.mark.parametrize("std", [0.02, 0.5])
def test_prompts_start_normal_of_the_given_spread(std):
    for module in (FixedPrompts([40, 40], 500, std, seeded(0)), PromptMixture(2, (0, 10, 30), 500, std, seeded(0))):
        values = torch.cat([layer.prompts.detach().flatten() for layer in layers(module)]) / std
        assert abs(values.mean().item()) < 0.03  # 40 000 draws: six standard errors
        assert values.std().item() == pytest.approx(1, abs=0.03)
        assert (values**4).mean().item() == pytest.approx(3, abs=0.3)  # of a normal, not of a uniform distribution


def test_prompts_start_small_where_nothing_is_said():
    assert torch.cat([layer.prompts for layer in layers(FixedPrompts([50], 500))]).std().item() == pytest.approx(0.02, rel=0.1)


def test_alphas_start_at_a_thousandth_of_a_normal_whatever_the_prompts_do():
    alphas = PromptMixture(800, range(10), 1, std=7.0, generator=seeded(0)).alphas / 1e-3
    assert abs(alphas.mean().item()) < 0.08
    assert alphas.std().item() == pytest.approx(1, abs=0.06)


def test_the_same_generator_gives_the_same_bits():
    for make in (lambda g: FixedPrompts([2, 3], 8, generator=g), lambda g: PromptMixture(2, (0, 1, 2), 8, generator=g)):
        first, again, other = make(seeded(3)), make(seeded(3)), make(seeded(4))
        for name, value in first.state_dict().items():
            assert torch.equal(value, again.state_dict()[name])
            assert not torch.equal(value, other.state_dict()[name])


def test_a_generator_leaves_the_global_randomness_alone():
    before = torch.get_rng_state()
    FixedPrompts([2, 3], 8, generator=seeded(0))
    PromptMixture(2, (0, 1), 8, generator=seeded(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_two_prompts_start_equal():
    mixture = PromptMixture(2, (0, 1, 2), 8, generator=seeded(0))
    rows = torch.cat([layer.prompts.detach() for layer in layers(mixture)])
    assert len(rows.unique(dim=0)) == len(rows)


def test_alphas_are_a_copy_of_all_rows_in_order():
    mixture = PromptMixture(3, (0, 1, 4), 8)
    alphas = mixture.alphas
    assert alphas.shape == (3, 3) and not alphas.requires_grad
    assert torch.equal(alphas, torch.stack([layer.alphas.detach() for layer in layers(mixture)]))
    alphas.zero_()
    assert all((layer.alphas != 0).any() for layer in layers(mixture))


@pytest.mark.parametrize("options", [[0], [1, 2], [0, 2, 1], [0, 1, 1], []])
def test_options_that_do_not_ascend_from_0_are_refused(options):
    with pytest.raises(DplError, match="must ascend from 0"):
        PromptMixture(2, options, 8)


def test_any_sequence_of_options_will_do():
    assert PromptMixture(1, range(4), 8).options == (0, 1, 2, 3)
    assert PromptMixture(1, [0, 2, 6], 8).options == (0, 2, 6)
