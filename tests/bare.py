"""A CLIP made by a test as a backbone, without checkpoint or tokenizer."""

from typing import Any
from unittest.mock import Mock

from transformers import CLIPModel, PreTrainedTokenizerBase

from dpl.backbones.branch import Branch
from dpl.backbones.identity import Identity
from dpl.backbones.loading import Backbone
from dpl.backbones.preprocessing import Preprocessing


def bare_backbone(clip: CLIPModel) -> Backbone:
    """`clip` as a backbone that cannot tokenize; images are not normalised."""
    vision: Any = clip.vision_model.config
    return Backbone(
        name="bare",
        clip=clip.requires_grad_(False),
        tokenizer=Mock(spec=PreTrainedTokenizerBase),
        preprocessing=Preprocessing(vision.image_size, vision.image_size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        image=Branch("image", clip.vision_model),
        text=Branch("text", clip.text_model),
        identity=Identity("", "", "", ""),
    )
