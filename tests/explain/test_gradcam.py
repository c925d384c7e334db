"""Where the model looks: maps beside captum, a plain forward, and finite differences."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPModel

from dpl import Backbone, ZeroShot, load_backbone
from dpl.backbones.clip import linear_layers_to_bfloat16
from dpl.classifier import ClipClassifier
from dpl.explain.gradcam import IMAGES_AT_ONCE, class_maps, see
from dpl.methods import METHODS
from dpl.methods.dpl import Dpl, DplConfig
from dpl.methods.ivlp import Ivlp
from dpl.methods.method import Method
from dpl.methods.tip_adapter import TipAdapter
from dpl.methods.zero_shot import ZeroShotConfig, ZeroShotMethod
from dpl.prompts.layout import PromptLayout
from tests.checkpoints import MEAN, STD
from tests.methods.plain import draw_pixels

NAMES, TEMPLATE = ("green", "red", "dark blue"), "a photo of a {}."
COUNT = 12
LABELS = torch.arange(COUNT) % 3
SIDE = 2


@pytest.fixture
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint), "cpu")


@pytest.fixture
def make(backbone: Backbone) -> Callable[[str], Method]:
    """A method with random numbers for all that it learns."""

    def made(name: str) -> Method:
        cls = METHODS[name].load()
        design: Any = DplConfig(PromptLayout((2, 3), (1, 2))) if cls is Dpl else cls.Config()
        model = cls(backbone, NAMES, (TEMPLATE,), design)
        draw = torch.Generator().manual_seed(1)
        if isinstance(model, TipAdapter):
            keys = nn.functional.normalize(torch.randn(6, 16, generator=draw))
            model.load_state_dict({"keys": keys, "labels": torch.arange(6) % 3})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
        return model

    return made


def scaled(heat: Tensor) -> Tensor:
    """relu, and each map by its largest value."""
    heat = heat.detach().relu()
    return heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)


class Probe(nn.Module):
    """A norm whose patches pass, as an image with channels, through `patches`, on which captum can look."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.patches = norm, nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        normed = self.norm(hidden)
        patches = self.patches(normed[:, 1:].transpose(1, 2).unflatten(-1, (SIDE, SIDE)))
        return torch.cat([normed[:, :1], patches.flatten(2).transpose(1, 2)], dim=1)


def test_zero_shot_is_as_captum_has_it_of_hugging_faces_own_model(checkpoint: Path, backbone: Backbone):
    clip: Any = CLIPModel.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    texts = [clip.get_text_features(**tokenizer(TEMPLATE.format(name), return_tensors="pt")).pooler_output for name in NAMES]
    texts = nn.functional.normalize(torch.cat(texts).detach())
    last = clip.vision_model.encoder.layers[-1]
    last.layer_norm1 = Probe(last.layer_norm1)

    def logits(inputs: Tensor) -> Tensor:
        images = nn.functional.normalize(clip.get_image_features(pixel_values=inputs).pooler_output)
        return clip.logit_scale.exp() * images @ texts.T

    pixels = draw_pixels(COUNT)
    inputs = (pixels / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    theirs: Any = LayerGradCam(logits, last.layer_norm1.patches).attribute(inputs, target=LABELS, relu_attributions=True)
    ours = class_maps(ZeroShot(backbone, NAMES, (TEMPLATE,)), pixels, LABELS)
    assert ours.amax(dim=(1, 2)).sum() > COUNT / 2
    torch.testing.assert_close(ours, scaled(theirs[:, 0]), rtol=1e-3, atol=1e-4)


def plain_maps(model: Dpl | Ivlp, pixels: Tensor) -> Tensor:
    """Grad-CAM by a forward written out: every token through every layer, prompts by an explicit softmax."""
    vision: Any = model.backbone.clip.vision_model
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    hidden = vision.embeddings((pixels / 255 - mean) / std)
    tokens, depth, leaf = hidden.shape[1], len(vision.encoder.layers), torch.empty(0)
    if isinstance(model, Ivlp):
        hidden = torch.cat([hidden, model.image[0].expand(len(pixels), -1, -1)], dim=1)
    hidden = vision.pre_layrnorm(hidden)
    for index, layer in enumerate(vision.encoder.layers):
        if isinstance(model, Ivlp) and index:
            hidden = torch.cat([hidden[:, :tokens], model.image[index].expand(len(pixels), -1, -1)], dim=1)
        normed = layer.layer_norm1(hidden)
        if index == depth - 1:
            leaf = normed[:, 1:tokens].detach().requires_grad_(True)
            normed = torch.cat([normed[:, :1], leaf, normed[:, tokens:]], dim=1)
        seen = normed
        if isinstance(model, Dpl):
            prompts = layer.layer_norm1(model.image.layers[index].prompts)
            seen = torch.cat([normed, prompts.expand(len(pixels), -1, -1)], dim=1)
        own = layer.self_attn
        query, key, value = own.q_proj(normed), own.k_proj(seen), own.v_proj(seen)
        heads = []
        for part in torch.arange(query.shape[-1]).split(own.head_dim):
            scores = query[..., part] @ key[..., part].mT * own.head_dim**-0.5
            heads.append(scores.softmax(dim=-1) @ value[..., part])
        hidden = hidden + own.out_proj(torch.cat(heads, dim=-1))
        hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
    image = nn.functional.normalize(model.backbone.clip.visual_projection(vision.post_layernorm(hidden[:, 0])))
    logits = model.backbone.clip.logit_scale.exp() * image @ model.text_features().T
    maps = []
    for index, label in enumerate(LABELS.tolist()):
        (gradient,) = torch.autograd.grad(logits[index, label], leaf, retain_graph=True)
        weights = gradient[index].mean(dim=0)
        maps.append(torch.stack([(weights * patch).sum() for patch in leaf[index]]).view(SIDE, SIDE))
    return scaled(torch.stack(maps))


@pytest.mark.parametrize("name", ["dpl", "ivlp"])
def test_prompts_take_part_and_are_no_patches(make: Callable[[str], Any], name: str):
    model, pixels = make(name), draw_pixels(COUNT)
    expected = plain_maps(model, pixels)
    assert not torch.allclose(expected, class_maps(make("zero-shot"), pixels, LABELS), atol=0.05)
    torch.testing.assert_close(class_maps(model, pixels, LABELS), expected, rtol=1e-3, atol=1e-4)


def differenced_maps(model: ClipClassifier, pixels: Tensor, step: float = 0.02) -> Tensor:
    """Without a gradient: weight_k is how the logit changes as channel k of all patches grows."""
    texts, patches = model.text_features().detach(), slice(1, 1 + SIDE * SIDE)
    norm, kept = model.backbone.image.layers[-1].norm, []

    def shifted(_module: Any, _inputs: Any, output: Tensor) -> Tensor | None:
        if output.dim() < 3:
            return None
        kept.append(output)
        channels, moved = output.shape[-1], output.clone()
        moved[:channels, patches] += step * torch.eye(channels)[:, None]
        moved[channels:, patches] -= step * torch.eye(channels)[:, None]
        return moved

    maps = []
    for image, label in zip(pixels, LABELS.tolist(), strict=True):
        with torch.no_grad():
            hook = norm.register_forward_hook(shifted)
            features = model.image_features(image.expand(2 * norm.normalized_shape[0], -1, -1, -1))
            hook.remove()
            up, down = model.logits(features, texts)[:, label].chunk(2)
        maps.append((kept.pop()[0, patches] @ (up - down)).view(SIDE, SIDE))
    return scaled(torch.stack(maps))


@contextmanager
def unchanged(model: Method) -> Iterator[None]:
    """Asserts that the model is afterwards as it was before: gradients, flags, weights and logits."""

    def state() -> list[Any]:
        parts = [*model.parameters(), *model.backbone.clip.parameters()]
        return [(part.requires_grad, part.grad, part.data.clone()) for part in parts]

    pixels = draw_pixels(2)
    before, grad, logits = state(), torch.is_grad_enabled(), model(pixels)
    yield
    after = state()
    assert grad == torch.is_grad_enabled() and torch.equal(model(pixels), logits)
    for (flag, none, data), (flag_after, none_after, data_after) in zip(before, after, strict=True):
        assert flag == flag_after and none is none_after is None and torch.equal(data, data_after)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_maps_and_is_left_as_it_was(make: Callable[[str], Method], name: str):
    model, pixels = make(name), draw_pixels(COUNT)
    with unchanged(model):
        maps = class_maps(model, pixels, LABELS)
    assert maps.shape == (COUNT, SIDE, SIDE) and maps.dtype == torch.float32 and not maps.requires_grad
    assert maps.min() >= 0 and set(maps.amax(dim=(1, 2)).tolist()) <= {0, 1} and maps.any()
    torch.testing.assert_close(maps, differenced_maps(model, pixels), rtol=0.05, atol=0.03)


@pytest.mark.parametrize("name", ["dpl", "cocoop", "tip-adapter"])
def test_a_batch_is_as_one_by_one(make: Callable[[str], Method], name: str):
    model, count = make(name), IMAGES_AT_ONCE + 3
    pixels, labels = draw_pixels(count), torch.arange(count) % 3
    singly = [class_maps(model, pixels[i : i + 1], labels[i : i + 1]) for i in range(count)]
    torch.testing.assert_close(class_maps(model, pixels, labels), torch.cat(singly), rtol=1e-3, atol=1e-4)


def test_without_labels_maps_are_of_the_predictions_whose_probabilities_are_given(make: Callable[[str], Method]):
    model, pixels = make("dpl"), draw_pixels(COUNT)
    seen = see(model, pixels)
    with torch.no_grad():
        probabilities = model(pixels).softmax(dim=-1)
    torch.testing.assert_close(seen.probabilities, probabilities)
    assert torch.equal(seen.labels, probabilities.argmax(dim=-1)) and len(seen.labels.unique()) > 1
    assert torch.equal(seen.maps, class_maps(model, pixels, seen.labels))


def test_known_class_embeddings_are_taken(make: Callable[[str], Method]):
    model, pixels = make("dpl"), draw_pixels(COUNT)
    own = model.text_features().detach()
    maps = class_maps(model, pixels, LABELS, own)
    assert torch.equal(maps, class_maps(model, pixels, LABELS))
    turned = class_maps(model, pixels, (LABELS + 1) % 3, own.roll(1, 0))
    torch.testing.assert_close(turned, maps)


@pytest.mark.parametrize("breaks", ["image_features", "logits"])
def test_an_exception_leaves_the_model_as_it_was(make: Callable[[str], Method], monkeypatch: pytest.MonkeyPatch, breaks: str):
    model = make("dpl")
    real = getattr(model, breaks)

    def broken(*arguments: Any) -> None:
        real(*arguments)
        raise RuntimeError("broken")

    with unchanged(model), monkeypatch.context() as patch, pytest.raises(RuntimeError, match="broken"):
        patch.setattr(model, breaks, broken)
        class_maps(model, draw_pixels(COUNT), LABELS)


def test_callers_may_want_no_gradient(make: Callable[[str], Method]):
    model, pixels = make("dpl"), draw_pixels(COUNT)
    maps = class_maps(model, pixels, LABELS)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            texts = model.text_features()
            assert torch.equal(class_maps(model, pixels.clone(), LABELS.clone(), texts), maps)


def test_a_layer_that_computes_in_bf16_has_the_same_maps_but_for_rounding(make: Callable[[str], Method]):
    model, pixels = make("dpl"), draw_pixels(COUNT)
    maps = class_maps(model, pixels, LABELS)
    half = replace(model.backbone, clip=copy.deepcopy(model.backbone.clip), precision="bf16")
    linear_layers_to_bfloat16(half.clip)
    half = replace(half, image=type(half.image)("image", half.clip.vision_model))
    half = replace(half, text=type(half.text)("text", half.clip.text_model))
    other = Dpl(half, NAMES, (TEMPLATE,), model.design)
    other.load_state_dict(model.state_dict())
    rounded = class_maps(other, pixels, LABELS)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, maps)
    assert (rounded - maps).abs().mean() < 0.02


def test_zero_shot_with_nothing_to_learn_is_the_classifier_itself(backbone: Backbone):
    method = ZeroShotMethod(backbone, NAMES, (TEMPLATE,), ZeroShotConfig())
    pixels = draw_pixels(COUNT)
    assert torch.equal(class_maps(method, pixels, LABELS), class_maps(ZeroShot(backbone, NAMES, (TEMPLATE,)), pixels, LABELS))
