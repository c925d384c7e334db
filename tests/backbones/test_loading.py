import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, CLIPModel

from dpl.backbones.loading import TINY, load_backbone
from dpl.backbones.preprocessing import Preprocessing
from dpl.utils.errors import DplError
from tests.checkpoints import MEAN, POSITIONS, SIZE, STD


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def test_everything_comes_from_the_checkpoint(checkpoint: Path):
    backbone = load_backbone(str(checkpoint))
    assert backbone.preprocessing == Preprocessing(SIZE, SIZE, mean=MEAN, std=STD)
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


def test_a_checkpoint_that_is_not_clip_is_refused(tmp_path: Path):
    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(DplError, match="is a 'bert' checkpoint, not a CLIP"):
        load_backbone(str(tmp_path))


def test_a_folder_without_config_is_refused(tmp_path: Path):
    with pytest.raises(DplError, match="has no config.json; give a checkpoint folder, or the file"):
        load_backbone(str(tmp_path))


def pickled(folder: Path) -> Path:
    """The folder with its weights in pytorch_model.bin alone."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder / "pytorch_model.bin"


def test_pickled_weights_are_read_where_there_are_no_others_and_it_is_said(checkpoint: Path, copy: Path):
    pickled(copy)
    backbone = load_backbone(str(copy))
    assert backbone.identity == load_backbone(str(checkpoint)).identity
    (note,) = backbone.notes
    assert "pytorch_model.bin, a pickle, is read as weights alone, no code in it runs (--no-pickle refuses it)" in note
    with pytest.raises(DplError, match=r"has pickled weights only \(pytorch_model.bin\).*leave out --no-pickle"):
        load_backbone(str(copy), allow_pickle=False)


def test_the_pickle_is_not_touched_where_there_are_safetensors(copy: Path):
    (copy / "pytorch_model.bin").write_bytes(b"no pickle")
    assert not load_backbone(str(copy)).notes


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self._ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._ran,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_runs_nothing(copy: Path, zipped: bool):
    (copy / "model.safetensors").unlink()
    torch.save({"logit_scale": Evil(copy / "ran")}, copy / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        DplError, match="pytorch_model.bin: is no pickle, or one that holds more than tensors.*nothing of it was run"
    ) as refused:
        load_backbone(str(copy))
    assert not (copy / "ran").exists() and "\n" not in str(refused.value)
    torch.load(copy / "pytorch_model.bin", weights_only=False)
    assert (copy / "ran").exists()  # it would have run


def test_pickles_need_a_torch_that_reads_them_safely(copy: Path, monkeypatch: pytest.MonkeyPatch):
    pickled(copy)
    monkeypatch.setattr("torch.__version__", "2.9.1+cpu")
    with pytest.raises(DplError, match=r"CVE-2026-24747.*torch >= 2.10; here is 2.9.1"):
        load_backbone(str(copy))


@pytest.mark.parametrize("stored", [{"logit_scale": 3}, [1, 2], "text"])
def test_a_pickle_of_other_things_is_refused(copy: Path, stored: Any):
    (copy / "model.safetensors").unlink()
    torch.save(stored, copy / "pytorch_model.bin")
    with pytest.raises(DplError, match="holds no named tensors"):
        load_backbone(str(copy))


def test_shards_are_read_with_their_index_and_without(checkpoint: Path, copy: Path):
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {f"model-0000{number}-of-00002.safetensors": names[number - 1 :: 2] for number in (1, 2)}
    for file, own in shards.items():
        save_file({name: weights[name] for name in own}, copy / file)
    whole = load_backbone(str(checkpoint)).identity
    assert load_backbone(str(copy)).identity == whole
    index = {"weight_map": {name: file for file, own in shards.items() for name in own}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_backbone(str(copy)).identity == whole
    save_file(weights, copy / "model-00002-of-00002.safetensors")
    with pytest.raises(DplError, match=r"has the tensor \S+, which model-00001-of-00002.safetensors has as well"):
        load_backbone(str(copy))


def test_broken_weights_are_refused(copy: Path):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DplError, match="model.safetensors: the weights cannot be read"):
        load_backbone(str(copy))


def test_missing_weights_are_refused_rather_than_made_up(copy: Path):
    weights = load_file(copy / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DplError, match="a weight is missing: visual_projection.weight"):
        load_backbone(str(copy))


def test_code_in_a_checkpoint_is_not_run(copy: Path):
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')")
    load_backbone(str(copy))
    assert not (copy / "ran").exists()


def test_a_device_that_is_not_there_is_named(checkpoint: Path):
    with pytest.raises(DplError, match="device warp: dpl computes on"):
        load_backbone(str(checkpoint), device="warp")


def changed(folder: Path, **changes: Any) -> None:
    """Changes config.json; a dictionary changes the part of that name."""
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        config[name] = config[name] | value if isinstance(value, dict) and name in config else value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_config": {"eos_token_id": 7}}, "texts are pooled at token 7, but the tokenizer ends texts with 2"),
        ({"text_config": {"eos_token_id": None}}, "eos_token_id is None"),
        ({"text_config": {"hidden_act": "no-such"}}, "config.json cannot be used"),
        ({"text_config": {"num_attention_heads": 5}}, "width 24, which 5 heads do not divide|config.json cannot be used"),
        ({"text_config": {"num_hidden_layers": 0}}, "text_config.num_hidden_layers is 0"),
        ({"vision_config": {"image_size": 24}}, r"position_embedding.weight has the shape .*; by config.json it is \(10, 32\)"),
        ({"vision_config": {"image_size": [16, 16]}}, "are not supported|cannot be used"),
        ({"vision_config": {"num_hidden_layers": 3}}, "16 weights are missing, the first is vision_model.encoder.layers.2"),
        ({"quantization_config": {"bits": 4}}, "its weights are quantised"),
        ({"model_type": "clip_vision_model"}, "the image branch of a CLIP alone"),
        ({"text_config": "wide"}, "config.json cannot be used"),
    ],
)
def test_a_config_that_contradicts_itself_or_the_weights_is_one_line(copy: Path, changes: dict[str, Any], message: str):
    changed(copy, **changes)
    with pytest.raises(DplError, match=message) as refused:
        load_backbone(str(copy))
    assert "\n" not in str(refused.value)


def test_the_same_texts_are_tokenized_once(checkpoint: Path, monkeypatch):
    backbone, calls = load_backbone(str(checkpoint)), []
    tokenizer = type(backbone.tokenizer)
    original = tokenizer.__call__
    monkeypatch.setattr(tokenizer, "__call__", lambda self, texts, **named: calls.append(texts) or original(self, texts, **named))
    first = backbone.tokenize(["a red", "a blue"])
    expected = [row.copy() for row in first]
    first[0].append(99)
    assert backbone.tokenize(("a red", "a blue")) == expected and len(calls) == 1
    assert backbone.tokenize(["a blue"]) == expected[1:] and len(calls) == 2


def test_a_tokenizer_without_an_end_token_is_refused(copy: Path):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(DplError, match="config.json says that texts are pooled at token"):
        load_backbone(str(copy))


def test_layers_that_the_config_does_not_know_are_said(copy: Path):
    changed(copy, vision_config={"num_hidden_layers": 1})
    (note,) = load_backbone(str(copy)).notes
    assert "16 tensors of the checkpoint are not used, the first is vision_model.encoder.layers.1" in note


def test_old_position_ids_are_no_weights(copy: Path):
    weights = load_file(copy / "model.safetensors")
    for branch in ("text", "vision"):
        weights[f"{branch}_model.embeddings.position_ids"] = torch.arange(5)[None]
    save_file(weights, copy / "model.safetensors")
    assert not load_backbone(str(copy)).notes


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weight: weight.fill_(float("nan")), "holds numbers that are not finite"),
        (lambda weight: weight.to(torch.int8), "is stored as torch.int8; quantised"),
        (lambda weight: weight[:-1], "has the shape"),
    ],
)
def test_weights_that_cannot_be_right_are_refused(copy: Path, spoil: Any, message: str):
    weights = load_file(copy / "model.safetensors")
    weights["text_projection.weight"] = spoil(weights["text_projection.weight"]).contiguous()
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(DplError, match=f"text_projection.weight {message}"):
        load_backbone(str(copy))


def test_every_weight_is_as_stored_and_frozen_on_the_device(checkpoint: Path):
    clip, stored = load_backbone(str(checkpoint)).clip, load_file(checkpoint / "model.safetensors")
    own = dict(clip.named_parameters())
    assert set(own) == set(stored) and all(torch.equal(own[name], stored[name]) for name in stored)
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in own.values())
    assert not any(buffer.is_meta for buffer in clip.buffers())
