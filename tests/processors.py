"""transformers' image processors, computed by PIL: the oracle of our preprocessing."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers.image_processing_backends", reason="this transformers has no image processors by PIL alone")
from transformers.image_processing_backends import PilBackend
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

HALF = [0.5, 0.5, 0.5]
KINDS: dict[str, Callable[..., PilBackend]] = {
    "CLIPImageProcessor": CLIPImageProcessorPil,
    "BitImageProcessor": BitImageProcessorPil,
    "SiglipImageProcessor": SiglipImageProcessorPil,
    "ViTImageProcessor": ViTImageProcessorPil,
}
# For a model that reads 24 x 24 pixels.
CONFIGS: dict[str, dict[str, Any]] = {
    "openai": {"size": 24, "crop_size": 24, "do_resize": True, "do_center_crop": True, "resample": 3},
    "new style": {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}},
    "laion L/14": {"size": {"shortest_edge": 24}, "crop_size": 24, "image_mean": HALF, "image_std": HALF},
    "squashed": {"size": {"height": 24, "width": 24}, "do_center_crop": False},
    "squashed, a list": {"size": [24, 24], "do_center_crop": False},
    "squashed, a number": {"size": 24, "default_to_square": True, "do_center_crop": False},
    "squashed and cut": {"size": {"height": 29, "width": 29}, "crop_size": 24},
    "resized to 256, cut to 224": {"size": {"shortest_edge": 29}, "crop_size": {"height": 24, "width": 24}},
    "resized below the crop": {"size": {"shortest_edge": 19}, "crop_size": 24},
    "not resized": {"do_resize": False, "crop_size": 24},
    "not normalised": {"size": 24, "crop_size": 24, "do_normalize": False},
    "not rescaled": {"size": 24, "crop_size": 24, "do_rescale": False},
    "rescaled to 0-2": {"size": 24, "crop_size": 24, "rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0},
    **{
        f"resample {number}": {"size": 24, "crop_size": 24, "resample": number, "image_mean": HALF, "image_std": HALF}
        for number in range(6)
    },
    "SigLIP": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 24, "width": 24}},
    "ViT": {"image_processor_type": "ViTImageProcessor", "size": 24},
    "DINOv2": {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 29}, "crop_size": 24},
}


def reference(settings: Mapping[str, Any], image: Image.Image) -> torch.Tensor:
    """The pixels that transformers gives the model, (3, height, width)."""
    settings = dict(settings)
    processor = KINDS[settings.pop("image_processor_type", "CLIPImageProcessor")](**settings)
    return torch.from_numpy(np.asarray(processor(image, return_tensors="np")["pixel_values"][0]))


def reference_levels(settings: Mapping[str, Any], image: Image.Image) -> torch.Tensor:
    """The same in grey levels, uint8."""
    return reference({**settings, "do_rescale": False, "do_normalize": False}, image).to(torch.uint8)
