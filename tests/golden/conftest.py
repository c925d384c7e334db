"""The golden vectors: numbers of the authors' implementation on a small random CLIP that is made by a rule, see golden.json."""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerBase

from dpl.backbones.loading import Backbone
from tests.bare import bare_backbone

FOLDER = Path(__file__).parent
META: dict[str, Any] = json.loads((FOLDER / "golden.json").read_text())

# "Reasonable limits ... or 5 x fp32_noise_rel where that is larger", of e = max|a - b| / max|b|
LIMITS = {"loss": 1e-5, "features": 1e-5, "logits": 2e-5, "grad": 1e-4, "after": 2e-5}


def normal(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """z(key, shape) of the rule."""
    rng = np.random.default_rng([META["seed"], zlib.crc32(key.encode())])
    return rng.standard_normal(shape, dtype=np.float32)


def clip_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight `name` of transformers' CLIPModel, by the rule."""
    f = np.float32
    if name == "logit_scale":
        return np.array(np.log(100.0), dtype=f)
    if name.endswith(".bias"):
        return f(0.02) * normal(name, shape)
    if "norm" in name or "layrnorm" in name:  # pre_layrnorm: sic
        return f(1) + f(0.02) * normal(name, shape)
    if "position_embedding" in name:
        return f(0.01) * normal(name, shape)
    if "token_embedding" in name or "class_embedding" in name:
        return f(0.02) * normal(name, shape)
    return f(float(np.prod(shape[1:])) ** -0.5) * normal(name, shape)


@pytest.fixture(scope="session")
def golden_clip() -> CLIPModel:
    """The random CLIP of the golden vectors, fp32, frozen."""
    m = META["model"]
    common = {"num_hidden_layers": m["layers"], "hidden_act": m["activation"], "layer_norm_eps": m["layer_norm_eps"]}
    text = {"hidden_size": m["text_width"], "num_attention_heads": m["text_heads"], "intermediate_size": 4 * m["text_width"]}
    text |= {"vocab_size": m["vocab"], "max_position_embeddings": m["positions"]}
    text |= {"bos_token_id": m["bos"], "eos_token_id": m["eos"]}
    vision = {"hidden_size": m["vision_width"], "num_attention_heads": m["vision_heads"]}
    vision |= {"intermediate_size": 4 * m["vision_width"], "patch_size": m["vision_patch"], "image_size": m["image"]}
    config = CLIPConfig(text_config=text | common, vision_config=vision | common, projection_dim=m["projection"])
    with torch.device("meta"):  # no random start for 50 million weights
        clip = CLIPModel(config)
    weights = {name: torch.from_numpy(clip_weight(name, tuple(w.shape))) for name, w in clip.state_dict().items()}
    clip.load_state_dict(weights, strict=True, assign=True)
    for embeddings in (clip.text_model.embeddings, clip.vision_model.embeddings):  # its only buffers, not in the state dict
        positions = torch.arange(embeddings.position_ids.shape[-1])[None]
        embeddings.register_buffer("position_ids", positions, persistent=False)
    return clip.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def golden_backbone(golden_clip: CLIPModel) -> Backbone:
    """The same CLIP as a backbone; it tokenizes `sentences_with_ids` and nothing else."""
    table = sentences_with_ids()
    tokenizer = Mock(spec=PreTrainedTokenizerBase)
    tokenizer.side_effect = lambda texts, verbose: {"input_ids": [table[text] for text in texts]}
    return replace(bare_backbone(golden_clip), tokenizer=tokenizer)


CLASS_NAMES: list[str] = META["class_names"]
PHRASE = "a photo of a"
TEMPLATES = [f"{PHRASE} {{}}.", *(f"{{}}, in the template {number}." for number in range(1, 60))]
"""Stand for the 60 templates whose token ids are stored; the first is the one whose words are known."""


def sentences_with_ids() -> dict[str, list[int]]:
    """The token ids, SOS to EOS, of every class in every template, and of the parts that methods take of the first."""
    stored = load_file(FOLDER / "templates.safetensors")["in.template_tokens"]
    rows = [[ids[: int(ids.argmax()) + 1].tolist() for ids in template] for template in stored]
    table = {
        template.format(name): ids
        for template, classes in zip(TEMPLATES, rows, strict=True)
        for name, ids in zip(CLASS_NAMES, classes, strict=True)
    }
    for name, (sos, *words, stop, eos) in zip(CLASS_NAMES, rows[0], strict=True):
        phrase, own = words[:4], words[4:]
        table |= {name: [sos, *own, eos], f"{name}.": [sos, *own, stop, eos], PHRASE: [sos, *phrase, eos]}
    return table


@dataclass
class Golden:
    """One method of the set: its tensors, and how far ours may be from them."""

    method: str
    tensors: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def prompt(self, branch: str, layer: int, option: int | None = None) -> Tensor:
        """A starting prompt (option: of a supernet)."""
        return self[f"param.{branch}.prompt.L{layer}" + ("" if option is None else f".opt{option}")]

    def parameters(self) -> dict[str, Tensor]:
        """All learned parameters at their start, leaves that take gradients: the stored ones, and by the rule the large ones."""
        leaves = {}
        for name, about in META["methods"][self.method]["parameters"].items():
            if about["stored"]:
                leaves[name] = self[f"param.{name}"].clone().requires_grad_()
            else:
                value = torch.from_numpy(normal(about["rule_key"], tuple(about["shape"])) * np.float32(about["std"]))
                assert value.double().sum().item() == pytest.approx(about["sum_float64"], rel=1e-9), name
                leaves[name] = value.requires_grad_()
        return leaves

    def check_gradients(self, leaves: dict[str, Tensor]) -> None:
        """Asserts that the gradients of all parameters are the stored ones; of large ones the norm and the head are stored."""
        for name, leaf in leaves.items():
            assert leaf.grad is not None, name
            if f"grad.{name}" in self.tensors:
                self.check(f"grad.{name}", leaf.grad)
            else:
                self.check(f"gradnorm.{name}", leaf.grad.norm())
                self.check(f"gradhead.{name}", leaf.grad.flatten()[:64])

    def check(self, name: str, ours: Tensor, unit: bool = False) -> None:
        """Asserts that `ours` is the tensor `name` within its limit; if `unit`, the one of unit length."""
        golden = F.normalize(self[name], dim=-1) if unit else self[name]
        kind = next(kind for kind in LIMITS if kind in name)
        noise = META["methods"][self.method]["tensors"][name].get("fp32_noise_rel", 0.0)
        assert ours.shape == golden.shape, name
        error = ((ours - golden).abs().max() / golden.abs().max()).item()
        limit = max(LIMITS[kind], 5 * noise)
        assert error <= limit, f"{self.method} {name}: relative error {error:.1e} above {limit:.1e}"


def load_golden(method: str) -> Golden:
    """The stored tensors of `method`."""
    return Golden(method, load_file(FOLDER / f"{method}.safetensors"))


@pytest.fixture(scope="session")
def draw_images() -> Callable[[str], Tensor]:
    """`draw_images("images_val")`: a batch of pixels by its rule key, float32."""
    return lambda key: torch.from_numpy(normal(key, (META["batch"], 3, META["model"]["image"], META["model"]["image"])))
