"""Random CLIPs of true shapes: what is written loads as a backbone of that shape."""

from pathlib import Path
from typing import Any

from benchmarks.clips import BranchShape, ClipShape, random_backbone, write_checkpoint
from dpl import load_backbone
from dpl.backbones.quick_gelu import QuickGelu

SMALL = ClipShape(BranchShape(16, 2, 2), BranchShape(8, 3, 2), projection=12, patch=8, size=16)


def test_a_written_checkpoint_loads_with_its_shape(tmp_path: Path):
    write_checkpoint(SMALL, tmp_path / "clip", seed=3)
    found, made = load_backbone(str(tmp_path / "clip"), "cpu", "fp32"), random_backbone(SMALL, seed=3)
    assert found.image_size == 16 and (found.image.depth, found.text.depth) == (2, 3)
    assert found.tokenize(["a photo of a cat."])[0][-1] == SMALL.vocabulary - 1
    weights = found.clip.state_dict()
    assert all(weights[name].equal(weight) for name, weight in made.clip.state_dict().items())


def test_a_random_backbone_has_the_activation_of_a_loaded_one():
    backbone = random_backbone(SMALL)
    blocks: list[Any] = [layer.block for layer in (*backbone.image.layers, *backbone.text.layers)]
    assert all(isinstance(block.mlp.activation_fn, QuickGelu) for block in blocks)
