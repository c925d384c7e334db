"""A converted checkpoint computes what the original does: transformers' CLIP against a plain CLIP in the original's naming."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from dpl.backbones.formats import convert_file, convert_open_clip
from dpl.backbones.formats.naming import from_openai_names

from .conftest import assert_same_function, open_clip_config, save_torchscript
from .plain_clip import Shape, plain_clip

SHAPES = {
    "quick": Shape(width=48, heads=3, patch=5, grid=2, text_width=40, text_heads=5, text_layers=3, context=7, dim=16),
    "gelu": Shape(width=32, heads=2, layers=3, quick=False, text_width=24, text_heads=3, dim=40),
    "eps": Shape(width=36, heads=1, patch=2, grid=4, eps=0.1, text_width=16, text_heads=2, context=77),
    "ratio": Shape(width=26, heads=2, ratio=4.9231, quick=False, text_width=16, text_heads=4, dim=8),
}


@pytest.mark.parametrize("name", SHAPES)
def test_open_clip_repositories(name: str, tmp_path: Path):
    shape = SHAPES[name]
    weights = plain_clip(shape).state_dict()
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    checkpoint = convert_open_clip(open_clip_config(shape), tmp_path / "open_clip_model.safetensors")
    assert checkpoint.config["text_config"]["hidden_act"] == ("quick_gelu" if shape.quick else "gelu") and checkpoint.notes == ()
    assert_same_function(checkpoint, weights, shape)


def test_open_clips_model_with_its_text_tower_apart(tmp_path: Path):
    shape = SHAPES["gelu"]
    plain = plain_clip(shape).state_dict()
    shared = ("visual.", "logit_scale")
    weights = {name if name.startswith(shared) else f"text.{name}": weight for name, weight in plain.items()}
    weights["logit_scale"] = weights["logit_scale"].reshape(1)  # nonscalar_logit_scale
    torch.save(weights, tmp_path / "open_clip_pytorch_model.bin")
    config = open_clip_config(shape)
    config["model_cfg"] |= {"custom_text": True, "nonscalar_logit_scale": True}
    assert_same_function(convert_open_clip(config, tmp_path / "open_clip_pytorch_model.bin"), plain, shape)


def test_training_checkpoints_of_open_clip(shape: Shape, weights: dict[str, Tensor], tmp_path: Path):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    state = {f"module.{name}": weight for name, weight in weights.items()}
    training = {"epoch": 3, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict(), "scaler": {"scale": 2.0}}
    torch.save(training, tmp_path / "epoch_3.pt")
    checkpoint = convert_file(tmp_path / "epoch_3.pt")
    assert_same_function(checkpoint, weights, replace(shape, quick=False))


@pytest.mark.parametrize("how", ["trace", "script"])
def test_torchscript_archives(how: str, shape: Shape, tmp_path: Path):
    clip = plain_clip(shape, archive=True)
    checkpoint = convert_file(save_torchscript(clip, shape, tmp_path / "model.pt", how))
    assert checkpoint.notes == ()  # an archive of OpenAI leaves nothing open
    assert_same_function(checkpoint, clip.state_dict(), shape)


def test_openais_archive_in_half_precision(archive: Path, shape: Shape):
    checkpoint = convert_file(archive)
    halves = {name for name, weight in checkpoint.weights.items() if weight.dtype == torch.float16}
    assert "vision_model.encoder.layers.1.self_attn.k_proj.bias" in halves and "visual_projection.weight" in halves
    assert "text_model.final_layer_norm.weight" not in halves and checkpoint.config["dtype"] == "float32"
    originals = plain_clip(shape).state_dict()
    exact = {name: weight.half() if _is_half(name) else weight for name, weight in originals.items()}
    assert_same_function(checkpoint, exact, shape)


def _is_half(name: str) -> bool:
    return any(part in name for part in ("attn", "c_fc", "c_proj", "conv1", "visual.proj", "text_projection"))


def test_a_state_dict_of_openais_archive_is_openais_too(shape: Shape, tmp_path: Path):
    clip = plain_clip(shape, archive=True)
    torch.save(clip.state_dict(), tmp_path / "weights.pt")
    checkpoint = convert_file(tmp_path / "weights.pt")
    assert checkpoint.notes == () and checkpoint.config["vision_config"]["hidden_act"] == "quick_gelu"
    assert_same_function(checkpoint, clip.state_dict(), shape)


def as_openai_names(model: Any) -> dict[str, Tensor]:
    """The inverse of the conversion, written from transformers' modules."""
    state: dict[str, Tensor] = {}

    def norm(name: str, module: torch.nn.Module) -> None:
        state.update({f"{name}.{key}": value for key, value in module.state_dict().items()})

    for prefix, tower in (("visual.transformer", model.vision_model), ("transformer", model.text_model)):
        for index, layer in enumerate(tower.encoder.layers):
            block, attention = f"{prefix}.resblocks.{index}", layer.self_attn
            projections = (attention.q_proj, attention.k_proj, attention.v_proj)
            state[f"{block}.attn.in_proj_weight"] = torch.cat([projection.weight for projection in projections])
            state[f"{block}.attn.in_proj_bias"] = torch.cat([projection.bias for projection in projections])
            norm(f"{block}.attn.out_proj", attention.out_proj)
            norm(f"{block}.ln_1", layer.layer_norm1)
            norm(f"{block}.ln_2", layer.layer_norm2)
            norm(f"{block}.mlp.c_fc", layer.mlp.fc1)
            norm(f"{block}.mlp.c_proj", layer.mlp.fc2)
    vision, text = model.vision_model, model.text_model
    norm("visual.ln_pre", vision.pre_layrnorm)
    norm("visual.ln_post", vision.post_layernorm)
    norm("ln_final", text.final_layer_norm)
    norm("visual.conv1", vision.embeddings.patch_embedding)
    norm("token_embedding", text.embeddings.token_embedding)
    state["visual.class_embedding"] = vision.embeddings.class_embedding
    state["visual.positional_embedding"] = vision.embeddings.position_embedding.weight
    state["positional_embedding"] = text.embeddings.position_embedding.weight
    state["visual.proj"], state["text_projection"] = model.visual_projection.weight.T, model.text_projection.weight.T
    state["logit_scale"] = model.logit_scale
    return state


def test_the_way_there_and_back_changes_no_bit(make_clip):
    model = make_clip()
    there_and_back = from_openai_names(as_openai_names(model), "test")
    assert there_and_back.keys() == model.state_dict().keys()
    assert all(torch.equal(there_and_back[name], weight) for name, weight in model.state_dict().items())


def test_a_file_in_transformers_own_naming(tmp_path: Path):
    text = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 1, "num_hidden_layers": 1}
    vision = {"hidden_size": 128, "intermediate_size": 80, "num_attention_heads": 2, "num_hidden_layers": 2}
    vision |= {"image_size": 12, "patch_size": 4}
    with torch.random.fork_rng():
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    old = {"text_model.embeddings.position_ids": torch.arange(77)[None]}  # as files of before transformers 4.31 have it
    save_file({**model.state_dict(), **old}, tmp_path / "clip.safetensors")
    checkpoint = convert_file(tmp_path / "clip.safetensors")
    again = CLIPModel(CLIPConfig(**checkpoint.config)).eval()
    again.load_state_dict(checkpoint.weights)
    inputs = {
        "input_ids": torch.tensor([[49406, 320, 49407, 0]]),
        "pixel_values": torch.linspace(-2, 2, 864).sin().view(2, 3, 12, 12),
    }
    torch.testing.assert_close(again(**inputs).logits_per_image, model(**inputs).logits_per_image)
    assert len(checkpoint.notes) == 2 and "assumed is quick_gelu" in checkpoint.notes[1]
