import pytest
from torch import nn

from dpl.backbones.branch import Branch
from dpl.utils.errors import DplError


def test_a_branch_shows_the_layers_of_either_tower(make_clip):
    clip = make_clip(layers=(3, 2))
    image, text = Branch("image", clip.vision_model), Branch("text", clip.text_model)
    assert (image.depth, image.width, text.depth, text.width) == (3, 32, 2, 24)
    assert image.layers[0].norm is clip.vision_model.encoder.layers[0].layer_norm1
    assert text.layers[1].attention is clip.text_model.encoder.layers[1].self_attn


def test_a_module_without_such_layers_is_refused():
    with pytest.raises(DplError, match="Linear: has no layers"):
        Branch("image", nn.Linear(2, 2))
