"""Files as OpenAI's CLIP and open_clip write them, with small random weights."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from dpl.backbones.formats import HuggingFaceCheckpoint

from .plain_clip import PlainClip, Shape, draw_inputs, halve, plain_clip


def save_torchscript(clip: PlainClip, shape: Shape, path: Path, how: str = "trace") -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, its archives are not
        dtype = clip.visual.class_embedding.dtype
        image, text = draw_inputs(shape)
        script = torch.jit.trace(clip, (image.to(dtype), text)) if how == "trace" else torch.jit.script(clip)
        torch.jit.save(script, path)
    return path


def open_clip_config(shape: Shape, **preprocess: Any) -> dict[str, Any]:
    """open_clip_config.json of a model of this shape."""
    vision: dict[str, Any] = {
        "image_size": shape.patch * shape.grid,
        "layers": shape.layers,
        "width": shape.width,
        "patch_size": shape.patch,
    }
    vision |= {"head_width": shape.width // shape.heads, "mlp_ratio": shape.ratio}
    text: dict[str, Any] = {
        "context_length": shape.context,
        "vocab_size": 49408,
        "width": shape.text_width,
        "heads": shape.text_heads,
    }
    text |= {"layers": shape.text_layers, "mlp_ratio": shape.ratio}
    if shape.eps != 1e-5:
        vision["norm_kwargs"] = text["norm_kwargs"] = {"eps": shape.eps}
    model = {"embed_dim": shape.dim, "vision_cfg": vision, "text_cfg": text} | ({"quick_gelu": True} if shape.quick else {})
    return {"model_cfg": model, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.2, 0.1], **preprocess}}


def rebuilt(checkpoint: HuggingFaceCheckpoint) -> CLIPModel:
    """transformers' model of a converted checkpoint, in float64 (whose eager attention has a softmax in float32)."""
    config: Any = {**checkpoint.config, "attn_implementation": "sdpa"}
    clip = CLIPModel(CLIPConfig(**config)).double().eval()
    clip.load_state_dict(dict(checkpoint.weights))
    return clip


def assert_same_function(checkpoint: HuggingFaceCheckpoint, weights: Mapping[str, Tensor], shape: Shape) -> None:
    """The logits of the checkpoint equal those of the plain CLIP with the original `weights`."""
    plain = PlainClip(shape).double().eval()
    plain.load_state_dict({name: weight.double() for name, weight in weights.items() if name in plain.state_dict()})
    image, text = draw_inputs(shape)
    with torch.no_grad():
        expected = plain(image, text)
        found = rebuilt(checkpoint)(input_ids=text, pixel_values=image).logits_per_image
    assert expected.std() > 0.1  # the inputs matter
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.fixture(scope="session")
def shape() -> Shape:
    return Shape(width=128, heads=2)


@pytest.fixture(scope="session")
def archive(shape: Shape, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive as OpenAI's ViT-B-16.pt; not to be changed."""
    clip = halve(plain_clip(shape, archive=True))
    return save_torchscript(clip, shape, tmp_path_factory.mktemp("archive") / "ViT-B-16.pt", "script")


@pytest.fixture(scope="session")
def weights(shape: Shape) -> dict[str, Tensor]:
    """A state dict in OpenAI's naming; not to be changed."""
    return dict(plain_clip(shape).state_dict())
