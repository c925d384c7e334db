import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, CLIPModel

from dpl.backbones.loading import TINY, load_backbone
from dpl.errors import DplError
from tests.checkpoints import MEAN, POSITIONS, SIZE, STD


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def test_everything_comes_from_the_checkpoint(checkpoint: Path):
    backbone = load_backbone(str(checkpoint))
    assert (backbone.image_size, backbone.mean, backbone.std) == (SIZE, MEAN, STD)
    assert (backbone.image.depth, backbone.image.width, backbone.text.depth, backbone.text.width) == (2, 32, 2, 24)
    assert not backbone.clip.training and not any(weight.requires_grad for weight in backbone.clip.parameters())


def test_the_embedded_backbone_takes_the_same_path():
    assert load_backbone("tiny").fingerprint == load_backbone(str(TINY)).fingerprint


def test_image_features_are_those_of_the_plain_model(checkpoint: Path):
    plain: Any = CLIPModel.from_pretrained(checkpoint).eval()
    backbone, pixels = load_backbone(str(checkpoint)), torch.randn(2, 3, SIZE, SIZE)
    torch.testing.assert_close(backbone.image_features(pixels), plain.get_image_features(pixels).pooler_output)


def test_texts_end_at_the_token_that_the_model_pools_at(checkpoint: Path):
    backbone = load_backbone(str(checkpoint))
    eos: Any = backbone.tokenizer.eos_token_id
    rows = backbone.tokenize(["a red cat", "x", "two<|endoftext|> ends"])
    assert [row.index(eos) for row in rows] == [len(row) - 1 for row in rows]
    assert rows[0] == backbone.tokenizer("a red cat")["input_ids"]
    config: Any = backbone.clip.text_model.config
    config.eos_token_id = 2  # as in checkpoints from before transformers' fix: the highest id pools
    assert backbone.tokenize(["a red cat"]) == rows[:1]


def test_in_bf16_only_linear_layers_are_narrow_and_features_stay_close(checkpoint: Path):
    wide, narrow = load_backbone(str(checkpoint)), load_backbone(str(checkpoint), precision="bf16")
    assert wide.fingerprint == narrow.fingerprint
    dtypes = {name: weight.dtype for name, weight in narrow.clip.named_parameters()}
    assert dtypes["vision_model.encoder.layers.0.mlp.fc1.weight"] == torch.bfloat16
    assert dtypes["text_model.encoder.layers.1.self_attn.q_proj.bias"] == torch.bfloat16
    assert dtypes["text_projection.weight"] == dtypes["vision_model.encoder.layers.0.layer_norm1.weight"] == torch.float32
    pixels = torch.randn(4, 3, SIZE, SIZE)
    exact, near = wide.image_features(pixels), narrow.image_features(pixels)
    assert near.dtype == torch.float32
    assert 0 < torch.dist(exact, near) / exact.norm() < 0.02


def test_a_text_that_does_not_fit_is_refused_not_cut(checkpoint: Path):
    with pytest.raises(DplError, match=f"'y+': .* tokens, .* reads {POSITIONS}"):
        load_backbone(str(checkpoint)).tokenize(["x", "y" * 60])


def test_fingerprints_tell_checkpoints_apart(checkpoint: Path, copy: Path):
    weights = load_file(copy / "model.safetensors")
    weights["logit_scale"] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert load_backbone(str(copy)).fingerprint != load_backbone(str(checkpoint)).fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such", "neither tiny, nor a folder, nor a Hugging Face id"),
        ("./no/such", "neither tiny"),
        ("/no/such", "neither tiny"),
    ],
)
def test_an_unknown_backbone_is_named(name: str, message: str):
    with pytest.raises(DplError, match=f"backbone {name}: {message}"):
        load_backbone(name)


def test_a_hub_id_without_network_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DplError, match=r"backbone some/model: .*hub did not give it.*check the id and the network"):
        load_backbone("some/model")


def test_a_checkpoint_that_is_not_clip_is_refused(tmp_path: Path):
    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(DplError, match="is a 'bert' checkpoint, not a CLIP"):
        load_backbone(str(tmp_path))


def test_a_folder_without_config_is_refused(tmp_path: Path):
    with pytest.raises(DplError, match="cannot be read"):
        load_backbone(str(tmp_path))


def test_pickled_weights_are_never_loaded(copy: Path):
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(DplError, match="no \\*.safetensors weights"):
        load_backbone(str(copy))


def test_broken_weights_are_refused(copy: Path):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DplError, match="the weights in .* cannot be read"):
        load_backbone(str(copy))


def test_missing_weights_are_refused_rather_than_made_up(copy: Path):
    weights = load_file(copy / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DplError, match="1 weights are missing in .* visual_projection.weight"):
        load_backbone(str(copy))


def test_code_in_a_checkpoint_is_not_run(copy: Path):
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')")
    load_backbone(str(copy))
    assert not (copy / "ran").exists()


def test_a_device_that_is_not_there_is_named(checkpoint: Path):
    with pytest.raises(DplError, match="device warp: not available here"):
        load_backbone(str(checkpoint), device="warp")
