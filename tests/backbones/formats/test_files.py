"""Files that cannot be read, and models that are not supported, are one clear line that names the file and the reason."""

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from dpl.backbones.formats import HuggingFaceCheckpoint, convert_file, convert_open_clip, read_open_clip_config, read_tensors
from dpl.utils.errors import DplError

from .conftest import assert_same_function, open_clip_config
from .plain_clip import Shape, plain_clip

State = dict[str, Tensor]


def refused(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(DplError, match=f"{re.escape(path.name)}: .*{message}") as caught:
        convert_file(path, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_the_suffix_does_not_matter(suffix: str, weights: State, shape: Shape, tmp_path: Path):
    torch.save(weights, tmp_path / "zip.pt") if suffix != ".safetensors" else save_file(weights, tmp_path / "zip.pt")
    path = (tmp_path / "zip.pt").rename(tmp_path / f"quickgelu{suffix}")
    found = read_tensors(path)
    assert found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in weights)
    assert_same_function(convert_file(path), weights, shape)


def test_pickles_from_before_torch_1_6_are_read(weights: State, tmp_path: Path):
    torch.save(weights, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    found = read_tensors(tmp_path / "old.bin")
    assert all(torch.equal(found[name], weights[name]) for name in weights)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("new", [True, False])
def test_a_malicious_pickle_runs_nothing(new: bool, weights: State, tmp_path: Path):
    mark, path = tmp_path / "ran", tmp_path / "evil.bin"
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()  # the payload works where it is unpickled
    mark.unlink()
    torch.save({**weights, "evil": Evil(mark)}, path, _use_new_zipfile_serialization=new)
    refused(path, "holds more than tensors, which could run code; nothing of it was run")
    path.write_bytes(pickle.dumps({"evil": Evil(mark)}))
    refused(path, "is no")
    assert not mark.exists()


def test_no_pickle_and_unsafe_versions_of_torch_refuse_pickles_only(
    weights: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    torch.save(weights, tmp_path / "w.bin")
    save_file(weights, tmp_path / "w.safetensors")
    refused(tmp_path / "w.bin", "--no-pickle refuses", allow_pickle=False)
    for version, refuses in (("2.9.1+cpu", True), ("2.6.0", True), ("2.10.0", False), ("2.13.0+cpu", False), ("3.0.0", False)):
        monkeypatch.setattr(torch, "__version__", version)
        if refuses:
            refused(tmp_path / "w.bin", f"CVE-2026-24747.* needs torch >= 2.10; here is {re.escape(version)}")
        else:
            assert read_tensors(tmp_path / "w.bin").keys() == weights.keys()
        assert read_tensors(tmp_path / "w.safetensors", allow_pickle=False).keys() == weights.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no"),
        (b"PK\x03\x04 no zip", "is no"),
        (b"<html>404</html>", "is no pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is no"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{broken}", "is no whole file of safetensors"),
    ],
)
def test_files_of_another_kind(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "x.pt").write_bytes(content)
    refused(tmp_path / "x.pt", message)


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_files_that_are_cut_off(suffix: str, weights: State, tmp_path: Path):
    path = tmp_path / f"w{suffix}"
    torch.save(weights, path) if suffix == ".bin" else save_file(weights, path)
    whole = path.read_bytes()
    for part in (0.001, 0.5, 0.999):
        path.write_bytes(whole[: int(part * len(whole))])
        refused(path, "is no ")


def test_a_path_that_is_no_file(tmp_path: Path):
    refused(tmp_path / "none.pt", "no such file")
    refused(tmp_path, "no such file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no named tensors but a dict"),
        ({"epoch": 3, "lr": 0.1}, "no named tensors but a dict with epoch, lr"),
        ([1, 2], "no named tensors but a list"),
        (torch.ones(2), "no named tensors but a Tensor"),
        ({f"bert.{n}": torch.ones(2) for n in range(9)}, r"no CLIP that dpl knows, it holds bert.0, bert.1, bert.2, \.\.\."),
        ({"a\nb": torch.ones(2)}, "the name 'a..b'"),
    ],
)
def test_files_without_a_clip_say_what_they_hold(content: Any, message: str, tmp_path: Path):
    torch.save(content, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", message)


def without(*names: str) -> Callable[[State], State]:
    return lambda state: {name: weight for name, weight in state.items() if name not in names}


def adding(name: str) -> Callable[[State], State]:
    return lambda state: {**state, name: torch.ones(2)}


def changing(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    return lambda state: {**state, name: change(state[name])}


LAYER = "visual.transformer.resblocks.0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(f"{LAYER}.ln_1.bias"), r"1 weights are missing, the first is vision_model.encoder.layers.0.layer_norm1.bias"),
        (without("text_projection"), "text_projection.weight"),
        (without("visual.proj"), "visual_projection.weight is missing"),
        (without("token_embedding.weight"), "token_embedding.weight is missing"),
        (without("visual.ln_pre.weight", "visual.ln_pre.bias"), "no norm before the image layers"),
        (lambda state: {k: v for k, v in state.items() if k.startswith("visual.")}, "is missing"),
        (adding("visual.fc.weight"), "CLIP has no weight visual.fc.weight"),
        (adding("visual.layer1.0.conv1.weight"), "a ResNet image tower"),
        (adding("visual.trunk.blocks.0.norm1.weight"), "an image tower of timm"),
        (adding("visual.attn_pool.query"), "attentional pooling"),
        (adding("text_decoder.ln_final.weight"), "CoCa"),
        (adding("text.transformer.embeddings.word_embeddings.weight"), "a text tower of Hugging Face"),
        (adding("logit_bias"), "the logit bias of SigLIP"),
        (adding(f"{LAYER}.ls_1.gamma"), "layer scale"),
        (adding(f"{LAYER}.attn.ln_q.weight"), "custom attention blocks"),
        (adding("text_projection.bias"), "a text projection with a bias"),
        (adding("text.blocks.0.norm1.weight"), "modern text tower"),
        (changing("visual.positional_embedding", lambda x: x[:-1]), "9 image positions are not a square"),
        (changing("visual.positional_embedding", lambda x: x[:, :-1]), "is 10 x 127, the other weights ask for 10 x 128"),
        (changing("visual.class_embedding", lambda x: x[:100]), "a width of 100 is no multiple of the head width 64"),
        (changing("visual.conv1.weight", lambda x: x[0]), "has 3 dimensions, CLIP's has 4"),
        (changing("visual.conv1.weight", lambda x: x[..., :3, :]), "is 128 x 3 x 3 x 4, the other weights ask for"),
        (changing("visual.proj", lambda x: x.char()), "visual_projection.weight is int8; supported are float16"),
        (changing("visual.proj", lambda x: x.to(torch.float8_e5m2)), "is float8_e5m2; supported"),
        (changing(f"{LAYER}.attn.in_proj_bias", lambda x: x[:1]), "is missing|are missing"),
        (changing(f"{LAYER}.attn.in_proj_bias", lambda x: x[0]), "is missing|are missing"),
        (changing("logit_scale", lambda x: x.expand(2).clone()), "logit_scale is 2, the other weights ask for a single number"),
        (changing("token_embedding.weight", lambda x: x[:300].clone()), "300 entries, CLIP's has 49408"),
    ],
)
def test_weights_that_are_no_plain_clip(change: Callable[[State], State], message: str, weights: State, tmp_path: Path):
    torch.save(change(weights), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", message)


def test_layers_that_leave_a_gap(weights: State, tmp_path: Path):
    torch.save({name.replace("resblocks.1", "resblocks.2"): weight for name, weight in weights.items()}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "16 weights are missing")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-16.pt", "gelu"),
        ("vit_b_16-quickgelu-x.pt", "quick_gelu"),
        ("OpenAI-B.pt", "quick_gelu"),
        ("metaclip.pt", "quick_gelu"),
    ],
)
def test_the_activation_of_a_file_without_config_is_assumed_and_said(name: str, expected: str, weights: State, tmp_path: Path):
    torch.save(weights, tmp_path / name)
    checkpoint = convert_file(tmp_path / name)
    assert activations(checkpoint) == {expected}
    heads, activation = checkpoint.notes
    assert name in heads and "2 heads in the image and 1 in the text layers" in heads and "OpenAI's preprocessing" in heads
    assert f"assumed is {expected}; dpl convert --activation" in activation
    for chosen in ("gelu", "quick_gelu"):
        checkpoint = convert_file(tmp_path / name, activation=chosen)
        assert activations(checkpoint) == {chosen} and len(checkpoint.notes) == 1


def activations(checkpoint: HuggingFaceCheckpoint) -> set[str]:
    return {checkpoint.config[tower]["hidden_act"] for tower in ("text_config", "vision_config")}


def test_the_wide_towers_of_open_clip_have_wider_heads(tmp_path: Path):
    weights = plain_clip(Shape(width=1280, heads=16, layers=1, ratio=0.1, quick=False)).state_dict()
    torch.save(weights, tmp_path / "ViT-H-14.bin")
    checkpoint = convert_file(tmp_path / "ViT-H-14.bin")
    assert checkpoint.config["vision_config"]["num_attention_heads"] == 16
    assert_same_function(checkpoint, weights, Shape(width=1280, heads=16, layers=1, ratio=0.1, quick=False))


def test_a_config_beside_the_file_is_followed(tmp_path: Path):
    shape = Shape(width=48, heads=3, quick=True, eps=0.01)  # nothing that could be assumed
    weights = plain_clip(shape).state_dict()
    torch.save(weights, tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(open_clip_config(shape)))
    assert_same_function(convert_file(tmp_path / "open_clip_pytorch_model.bin"), weights, shape)
    (tmp_path / "open_clip_config.json").write_text("[]")
    with pytest.raises(DplError, match="open_clip_config.json: has no model_cfg"):
        convert_file(tmp_path / "open_clip_pytorch_model.bin")


def test_a_file_of_a_folder_in_hugging_face_form_is_not_taken_out_of_it(checkpoint: Path):
    with pytest.raises(DplError, match=f"there is a config.json beside it; give the folder, {checkpoint}"):
        convert_file(checkpoint / "model.safetensors")


def config(**changes: Any) -> dict[str, Any]:
    """The config of a ViT-B/16 of open_clip, with `section__key` or `key` of model_cfg changed."""
    model: dict[str, Any] = {"embed_dim": 512, "vision_cfg": {"image_size": 224}, "text_cfg": {}}
    preprocess: dict[str, Any] = {}
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        (preprocess if section == "preprocess_cfg" else model[section] if section else model)[key] = value
    return {"model_cfg": model, "preprocess_cfg": preprocess}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"multimodal_cfg": {"width": 512}}, "model_cfg.multimodal_cfg .* .CoCa."),
        ({"init_logit_bias": -10}, "model_cfg.init_logit_bias is '-10' .the logit bias of SigLIP."),
        ({"vision_cfg__layers": [3, 4, 6, 3]}, "a ResNet image tower"),
        ({"vision_cfg__timm_model_name": "eva02"}, "vision_cfg.timm_model_name is 'eva02' .an image tower of timm."),
        ({"vision_cfg__ls_init_value": 1e-4}, "layer scale"),
        ({"vision_cfg__no_ln_pre": True}, "no norm before the image layers"),
        ({"vision_cfg__pool_type": "avg"}, "vision_cfg.pool_type is 'avg'"),
        ({"vision_cfg__attentional_pool": True}, "attentional pooling"),
        ({"vision_cfg__act_kwargs": {"approximate": "tanh"}}, "vision_cfg.act_kwargs"),
        ({"vision_cfg__qk_norm": True}, "vision_cfg.qk_norm"),
        ({"vision_cfg__norm_kwargs": {"bias": False}}, "vision_cfg.norm_kwargs is .*; only an eps"),
        ({"vision_cfg__image_size": [224, 336]}, "only square images"),
        ({"vision_cfg__head_width": 60}, "768 is no multiple of the head width 60"),
        ({"vision_cfg__head_width": "64"}, "head_width is '64', no positive number"),
        ({"text_cfg__heads": 7}, "512 is no multiple of its 7 heads"),
        ({"text_cfg__hf_model_name": "xlm-roberta-base"}, "a text tower of Hugging Face"),
        ({"text_cfg__hf_tokenizer_name": "bert-base-uncased"}, "another tokenizer than CLIP's"),
        ({"text_cfg__pool_type": "last"}, "text_cfg.pool_type is 'last'"),
        ({"text_cfg__no_causal_mask": True}, "text attention to later tokens"),
        ({"text_cfg__text_arch": "modern"}, "text_cfg.text_arch is 'modern'"),
        ({"text_cfg__new_thing": 3}, "text_cfg.new_thing is '3', which is not supported"),
        ({"preprocess_cfg__resize_mode": "longest"}, "resize_mode is 'longest'; shortest and squash"),
        ({"preprocess_cfg__interpolation": "nearest"}, "interpolation is 'nearest'"),
        ({"preprocess_cfg__mode": "L"}, "only RGB"),
        ({"preprocess_cfg__mean": [0.5, 0.5]}, "not three numbers"),
    ],
)
def test_open_clip_configs_that_are_not_supported_name_the_part(changes: dict[str, Any], message: str):
    with pytest.raises(DplError, match=f"open_clip_config.json: .*{message}"):
        read_open_clip_config(config(**changes))


KEYS = ["vision_cfg", "text_cfg", "quick_gelu", "preprocess_cfg__mean", "preprocess_cfg__interpolation", "preprocess_cfg__mode"]
KEYS += ["preprocess_cfg__resize_mode", "text_cfg__heads", "text_cfg__width", "text_cfg__hf_tokenizer_name"]
KEYS += [f"vision_cfg__{key}" for key in ("width", "head_width", "layers", "image_size", "norm_kwargs", "pool_type", "new")]
SCALARS = st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.text("ab\n", max_size=3)
JSON = st.recursive(SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["eps", "a"]), x), max_leaves=4)


@given(st.sampled_from(KEYS), JSON)
def test_any_content_of_a_config_is_read_or_refused_in_one_line(key: str, value: Any):
    try:
        read_open_clip_config(config(**{key: value}))
    except DplError as error:
        assert str(error).startswith("open_clip_config.json: ") and "\n" not in str(error)


def test_open_clip_configs_that_change_nothing_are_taken():
    plain = read_open_clip_config(config())
    harmless = {
        "custom_text": True,
        "vision_cfg__patch_dropout": 0.5,
        "vision_cfg__pool_type": "tok",
        "vision_cfg__head_width": 64,
    }
    harmless |= {
        "text_cfg__hf_tokenizer_name": "openai/clip-vit-large-patch14",
        "text_cfg__heads": 8,
        "vision_cfg__unknown": None,
    }
    assert read_open_clip_config(config(**harmless)).design == plain.design
    assert (plain.design.image_heads, plain.design.text_heads, plain.design.activation) == (12, 8, "gelu")


def test_preprocessing_follows_open_clips_evaluation():
    plain = read_open_clip_config(config(preprocess_cfg__size=999)).preprocessor  # open_clip takes the model's size
    assert plain["size"] == {"shortest_edge": 224} and plain["crop_size"] == {"height": 224, "width": 224}
    assert plain["do_center_crop"] and plain["resample"] == 3 and plain["image_mean"] == [0.48145466, 0.4578275, 0.40821073]
    squash = {"resize_mode": "squash", "interpolation": "bilinear", "mean": 0.5, "std": [0.1, 0.2, 0.3]}
    squashed = read_open_clip_config(config(**{f"preprocess_cfg__{key}": value for key, value in squash.items()})).preprocessor
    assert squashed["size"] == {"height": 224, "width": 224} and not squashed["do_center_crop"] and squashed["resample"] == 2
    assert squashed["image_mean"] == [0.5] * 3 and squashed["image_std"] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    "other", [{"layers": 3}, {"width": 64, "heads": 1}, {"patch": 6, "grid": 2}, {"text_layers": 2}, {"context": 11}]
)
def test_config_and_weights_of_two_models(other: dict[str, int], shape: Shape, weights: State, tmp_path: Path):
    torch.save(weights, tmp_path / "w.bin")
    with pytest.raises(DplError, match=r"w.bin: its .* is .*, open_clip_config.json says .*; the two do not belong together"):
        convert_open_clip(open_clip_config(replace(shape, **other)), tmp_path / "w.bin")
