"""Prompts that are tokens of the input against the numbers of the authors' implementations of the methods that have them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.prompts.inputs import ContextText, ContextTexts, image_features
from dpl.train import distillation

from .conftest import META, Golden, load_golden

Leaves = dict[str, Tensor]
COOP = ["coop_generic", "coop_init", "coop_csc", "coop_middle", "coop_front"]
DEEP = ["vpt_deep", "language_deep", "ivlp_2p2_d3", "ivlp_4p4_d2", "maple_n2_d2", "maple_n2_d3"]


def up_to_eos(row: Tensor) -> list[int]:
    return row[: int(row.argmax()) + 1].tolist()


def texts(golden: Golden, backbone: Backbone, context: int) -> ContextTexts:
    """The stored token ids, the first `context` words of which keep the place of the context."""
    hyper = META["methods"][golden.method]["hyper_parameters"]
    names = hyper.get("name_lengths_in_tokens", [0] * len(golden["in.tokens"]))
    words = [[row[0], *row[1 + context :]] for row in map(up_to_eos, golden["in.tokens"])]
    place = hyper.get("class_token_position", "end")
    made = [ContextText.around(row, context, name, place) for row, name in zip(words, names, strict=True)]
    return ContextTexts(backbone, made, hyper.get("class_specific", False))


def deep(leaves: Leaves, branch: str) -> list[Tensor]:
    return [leaves[name] for name in sorted(leaves) if name.startswith(f"{branch}.deep.L")]


def coupled(leaves: Leaves) -> Leaves:
    """MaPLe's image prompts, linear images of its text prompts."""
    pairs = {"vision.ctx": ("text.ctx", "L0")}
    pairs |= {f"vision.deep.L{index}": (f"text.deep.L{index}", f"L{index}") for index in (1, 2)}
    return {
        name: F.linear(leaves[source], leaves[f"coupling.{layer}.weight"], leaves[f"coupling.{layer}.bias"])
        for name, (source, layer) in pairs.items()
        if f"coupling.{layer}.weight" in leaves
    }


def features(golden: Golden, backbone: Backbone, pixels: Tensor, leaves: Leaves) -> tuple[Tensor, Tensor]:
    """Image and text features, not of unit length; the plain model's where a branch has no prompts."""
    prompts = leaves | coupled(leaves)
    words = prompts.get("text.ctx", torch.empty(0, backbone.text.width))
    image = prompts.get("vision.ctx", torch.empty(0, backbone.image.width))
    text_features = texts(golden, backbone, words.shape[-2]).features(words, deep(prompts, "text"))
    return image_features(backbone, pixels, image, deep(prompts, "vision")), text_features


def logits(backbone: Backbone, image: Tensor, text: Tensor) -> Tensor:
    return backbone.clip.logit_scale.exp() * F.normalize(image) @ F.normalize(text).T


@pytest.mark.parametrize("method", COOP + DEEP)
def test_features_loss_and_all_gradients(golden_backbone, draw_images, method):
    golden = load_golden(method)
    leaves = golden.parameters()
    image, text = features(golden, golden_backbone, draw_images("images"), leaves)
    found = logits(golden_backbone, image, text)
    loss = F.cross_entropy(found, golden["in.labels"])
    loss.backward()
    golden.check("out.image_features", image)
    golden.check("out.text_features", text)
    golden.check("out.logits", found)
    golden.check("out.loss", loss)
    golden.check_gradients(leaves)


def test_cocoop_has_a_context_of_its_own_for_every_image(golden_backbone, draw_images):
    golden = load_golden("cocoop")
    leaves = golden.parameters()
    image = golden_backbone.image_features(draw_images("images"))
    hidden = F.linear(F.normalize(image), leaves["meta.fc1.weight"], leaves["meta.fc1.bias"]).relu()
    shift = F.linear(hidden, leaves["meta.fc2.weight"], leaves["meta.fc2.bias"])
    text = texts(golden, golden_backbone, 4).features(leaves["text.ctx"] + shift[:, None])
    scale = golden_backbone.clip.logit_scale.exp()
    found = scale * torch.einsum("id,icd->ic", F.normalize(image), F.normalize(text, dim=-1))
    loss = F.cross_entropy(found, golden["in.labels"])
    loss.backward()
    golden.check("out.image_features", image)
    golden.check("out.text_features", text)
    golden.check("out.logits", found)
    golden.check("out.loss", loss)
    golden.check_gradients(leaves)


def test_promptsrc_features_losses_and_all_gradients(golden_backbone, draw_images):
    golden, pixels = load_golden("promptsrc"), draw_images("images")
    hyper, leaves = META["methods"]["promptsrc"]["hyper_parameters"], golden.parameters()
    with torch.no_grad():
        nothing = torch.empty(0, golden_backbone.text.width)
        plain = [
            ContextTexts(golden_backbone, [ContextText.around(up_to_eos(row), 0) for row in template]).features(nothing)
            for template in load_golden("templates")["in.template_tokens"]
        ]
        mean = torch.stack(plain).mean(dim=0)
        teacher_image = F.normalize(golden_backbone.image_features(pixels))
        teacher, teacher_text = logits(golden_backbone, teacher_image, mean), F.normalize(mean)
    image, text = features(golden, golden_backbone, pixels, leaves)
    found = logits(golden_backbone, image, text)
    cross_entropy, kl = F.cross_entropy(found, golden["in.labels"]), distillation(found, teacher)
    text_distance, image_distance = F.l1_loss(F.normalize(text), teacher_text), F.l1_loss(F.normalize(image), teacher_image)
    loss = cross_entropy + hyper["text_loss_weight"] * text_distance + hyper["image_loss_weight"] * image_distance + kl
    loss.backward()
    golden.check("out.teacher_text_features_mean", mean)
    golden.check("out.zero_shot_image_features_normalised", teacher_image)
    golden.check("out.zero_shot_logits", teacher)
    golden.check("out.image_features", image)
    golden.check("out.text_features", text)
    golden.check("out.logits", found)
    golden.check("out.loss_ce", cross_entropy)
    golden.check("out.loss_l1_text_unweighted", text_distance)
    golden.check("out.loss_l1_image_unweighted", image_distance)
    golden.check("out.loss_kl_logits", kl)
    golden.check("out.loss_total", loss)
    golden.check_gradients(leaves)
