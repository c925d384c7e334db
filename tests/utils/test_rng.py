import torch

from dpl.utils.rng import derive_seed, generator


def test_a_stream_depends_on_its_seed_and_name_only():
    def draw(*names):
        return torch.rand(4, generator=generator(*names))

    torch.manual_seed(3)
    first = draw(1, "order", 2)
    torch.rand(10)
    assert torch.equal(first, draw(1, "order", 2))
    assert len({derive_seed(seed, name, epoch) for seed in (1, 2) for name in ("a", "b") for epoch in (1, 12)}) == 8
    assert derive_seed(1, "a", 12) != derive_seed(1, "a1", 2)
