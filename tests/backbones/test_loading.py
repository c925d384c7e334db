import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
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


def test_features_are_those_of_the_plain_model(checkpoint: Path):
    backbone, plain = load_backbone(str(checkpoint)), CLIPModel.from_pretrained(checkpoint).eval()
    pixels, ids = torch.randn(2, 3, SIZE, SIZE), backbone.tokenize(["a red cat", "x"])
    output = plain(pixel_values=pixels, input_ids=ids)
    torch.testing.assert_close(F.normalize(backbone.image_features(pixels)), output.image_embeds)
    torch.testing.assert_close(F.normalize(backbone.text_features(ids)), output.text_embeds)


def test_text_is_trimmed_to_its_longest_eos_without_changing_features(checkpoint: Path):
    backbone = load_backbone(str(checkpoint))
    ids = backbone.tokenize(["a red cat", "a much longer sentence"])
    eos = len(backbone.tokenizer) - 1
    assert ids.eq(eos).int().argmax(dim=1).max() == ids.shape[1] - 1
    padded = torch.nn.functional.pad(ids, (0, POSITIONS - ids.shape[1]), value=eos)
    torch.testing.assert_close(backbone.text_features(ids), backbone.text_features(padded))


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
