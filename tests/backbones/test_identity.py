import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPConfig

from dpl.backbones.clip import function_settings
from dpl.backbones.identity import ROUNDING, Identity, TensorDigests
from dpl.backbones.loading import load_backbone
from dpl.backbones.weights import Placement, fill

Edit = Callable[[Path], None]


def weights(edit: Callable[[dict[str, torch.Tensor]], Any]) -> Edit:
    def change(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")

    return change


def settings(file: str, edit: Callable[[dict[str, Any]], Any]) -> Edit:
    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        edit(content)
        (folder / file).write_text(json.dumps(content))

    return change


def low_rank(tensors: dict[str, torch.Tensor]) -> None:
    """What merging a LoRA into one projection of one layer does."""
    weight = tensors["text_model.encoder.layers.0.self_attn.q_proj.weight"]
    weight += 0.01 * torch.outer(torch.ones(len(weight)), torch.ones(len(weight)))


def changed(checkpoint: Path, tmp_path: Path, edit: Edit) -> Identity:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    edit(copy)
    return load_backbone(str(copy)).identity


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (weights(low_rank), "weights"),
        (weights(lambda tensors: tensors["logit_scale"].add_(1)), "weights"),
        (weights(lambda tensors: tensors["text_model.embeddings.token_embedding.weight"][0].add_(1)), "weights"),
        (settings("config.json", lambda config: config["vision_config"].update(hidden_act="gelu")), "function"),
        (settings("config.json", lambda config: config["text_config"].update(layer_norm_eps=1e-6)), "function"),
        (settings("config.json", lambda config: config["vision_config"].update(num_attention_heads=4)), "function"),
        (settings("tokenizer.json", lambda config: config.update(normalizer=None)), "tokenizer"),
    ],
)
def test_whatever_changes_the_features_changes_the_identity(checkpoint: Path, tmp_path: Path, edit: Edit, what: str):
    before, after = load_backbone(str(checkpoint)).identity, changed(checkpoint, tmp_path, edit)
    assert after.differences(vars(before)) == [what] and after.fingerprint != before.fingerprint


def test_another_preprocessing_is_another_fingerprint_of_the_same_weights(checkpoint: Path):
    one, other = load_backbone(str(checkpoint)), load_backbone(str(checkpoint), resize="squash")
    assert one.identity == other.identity and one.fingerprint != other.fingerprint


def reordered(tensors: dict[str, torch.Tensor]) -> None:
    for name in sorted(tensors, reverse=True):
        tensors[name] = tensors.pop(name)


@pytest.mark.parametrize(
    "edit",
    [
        weights(reordered),
        settings("config.json", lambda config: config.update(transformers_version="4.0", torch_dtype="float32")),
        settings("config.json", lambda config: config["text_config"].update(initializer_range=0.5)),
    ],
)
def test_what_does_not_change_the_features_does_not_change_the_identity(checkpoint: Path, tmp_path: Path, edit: Edit):
    assert changed(checkpoint, tmp_path, edit) == load_backbone(str(checkpoint)).identity


def test_a_copy_in_half_precision_is_the_same_model_in_another_rounding(checkpoint: Path, tmp_path: Path):
    def halve(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: tensor.half() for name, tensor in tensors.items()})

    before, after = load_backbone(str(checkpoint)).identity, changed(checkpoint, tmp_path, weights(halve))
    assert after.differences(vars(before)) == [ROUNDING]
    assert before.differences(vars(before)) == []


class Weights(nn.Module):
    """Parameters of a few shapes, on the meta device: `fill` gives them values."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.bias, self.scale = (nn.Parameter(torch.empty(shape, device="meta")) for shape in ((3, 4), (5,), ()))


def filled(tensors: dict[str, torch.Tensor]) -> tuple[str, str]:
    """The digests in fp32 and in fp16 of a module that has been given the tensors."""
    return fill("made up", Weights(), tensors, Placement(torch.device("cpu")))[0].joined()


def draw_tensors(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(own.shape, generator=generator) for name, own in Weights().named_parameters()}


@given(st.integers(0, 10**6), st.sampled_from(["matrix", "bias", "scale"]), st.data(), st.booleans())
def test_the_smallest_change_of_any_weight_changes_the_digest(seed: int, name: str, data: st.DataObject, up: bool):
    tensors, changed = draw_tensors(seed), draw_tensors(seed)
    place = data.draw(st.integers(0, tensors[name].numel() - 1))
    changed[name].view(-1)[place] = torch.nextafter(changed[name].view(-1)[place], torch.tensor(torch.inf if up else -torch.inf))
    assert filled(changed)[0] != filled(tensors)[0] == filled(draw_tensors(seed))[0]


@given(st.integers(0, 10**6), st.permutations(["matrix", "bias", "scale"]))
def test_neither_the_order_of_the_weights_nor_a_half_precision_copy_is_another_model(seed: int, order: list[str]):
    tensors = draw_tensors(seed)
    halved = {name: tensor.half() for name, tensor in tensors.items()}
    assert filled({name: tensors[name] for name in order}) == filled(tensors)
    assert filled(halved)[1] == filled(tensors)[1] and filled(halved)[0] != filled(tensors)[0]


@pytest.mark.parametrize(
    ("branch", "setting", "value"),
    [
        *((branch, *change) for branch in ("text", "vision") for change in (("hidden_act", "gelu"), ("layer_norm_eps", 1e-3))),
        *((branch, "num_attention_heads", 4) for branch in ("text", "vision")),
        ("text", "eos_token_id", 5),
        ("vision", "patch_size", 4),
        ("vision", "image_size", 64),
    ],
)
def test_every_setting_that_the_features_depend_on_is_in_the_function(branch: str, setting: str, value: Any):
    config, other = CLIPConfig(), CLIPConfig()
    setattr(getattr(other, f"{branch}_config"), setting, value)
    assert function_settings(config) == function_settings(CLIPConfig()) != function_settings(other)


def test_digests_see_shapes_and_names_and_no_order():
    def joined(**tensors: torch.Tensor) -> tuple[str, str]:
        digests = TensorDigests()
        for name, tensor in tensors.items():
            digests.add(name, TensorDigests.of(tensor))
        return digests.joined()

    one, two = torch.arange(4.0), torch.zeros(2)
    assert joined(a=one, b=two) == joined(b=two, a=one)
    assert len({joined(a=one, b=two), joined(a=two, b=one), joined(a=one.view(2, 2), b=two), joined(a=one)}) == 4
