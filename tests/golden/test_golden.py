"""The whole method against the numbers of the authors' implementation (golden/README of the set: rule, contents, limits)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel

from dpl.backbones.branch import Branch
from dpl.optim.regularization import distillation
from dpl.prompts.inject import attach
from dpl.prompts.modules import FixedPrompts, PromptMixture

from .conftest import META, Golden, clip_weight, load_golden

Prompts = dict[str, FixedPrompts | PromptMixture]


@contextmanager
def attached(clip: CLIPModel, prompts: Prompts) -> Iterator[None]:
    with ExitStack() as stack:
        for name, model in (("vision", clip.vision_model), ("text", clip.text_model)):
            stack.callback(attach(Branch(name, model), prompts[name]).detach)
        yield


def image_features(clip: CLIPModel, pixels: Tensor) -> Tensor:
    return clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)


def text_features(clip: CLIPModel, ids: Tensor) -> Tensor:
    """Trimmed to the longest EOS, which no result may show."""
    longest = int(ids.argmax(dim=-1).max()) + 1
    return clip.text_projection(clip.text_model(input_ids=ids[:, :longest]).pooler_output)


def logits(clip: CLIPModel, image: Tensor, text: Tensor) -> Tensor:
    return clip.logit_scale.exp() * F.normalize(image) @ F.normalize(text).T


def supernet(golden: Golden) -> Prompts:
    """The mixtures of a search, started from the stored parameters."""
    options = META["methods"][golden.method]["hyper_parameters"]["options"]
    prompts: Prompts = {}
    for branch in ("vision", "text"):
        mixture = PromptMixture(3, options, golden.prompt(branch, 0, 1).shape[1])
        for index, layer in enumerate(layers(mixture)):
            layer.alphas.data = golden[f"param.{branch}.alpha"][index].clone()
            layer.prompts.data = torch.cat([golden.prompt(branch, index, option) for option in options[1:]])
        prompts[branch] = mixture
    return prompts


def subnet(golden: Golden) -> Prompts:
    """The fixed prompts of the stored layout."""
    hyper = META["methods"][golden.method]["hyper_parameters"]
    prompts: Prompts = {}
    for branch, width in (("vision", 768), ("text", 512)):
        fixed = FixedPrompts(hyper[f"{branch}_layout"], width)
        for index, length in enumerate(hyper[f"{branch}_layout"]):
            if length:
                fixed.layers[index].prompts.data = golden.prompt(branch, index).clone()
        prompts[branch] = fixed
    return prompts


def layers(prompts: FixedPrompts | PromptMixture) -> list[Any]:
    return list(prompts.layers)


def check_supernet(golden: Golden, stage: str, prompts: Prompts, value: Callable[[Any], Tensor]) -> None:
    """`value` of all alphas and prompts against the tensors `stage`.*"""
    for branch, mixture in prompts.items():
        golden.check(f"{stage}.{branch}.alpha", torch.stack([value(layer.alphas) for layer in layers(mixture)]))
        for index, layer in enumerate(layers(mixture)):
            parts = value(layer.prompts).split(layer.options[1:])
            for option, part in zip(layer.options[1:], parts, strict=True):
                golden.check(f"{stage}.{branch}.prompt.L{index}.opt{option}", part)


def test_weights_and_images_follow_the_rule(golden_clip, draw_images):
    weights = golden_clip.state_dict()
    for name, check in META["weight_checks"].items():
        assert list(weights[name].shape) == check["shape"], name
        assert weights[name].double().sum().item() == pytest.approx(check["sum"], rel=1e-9, abs=1e-9), name
        assert weights[name].flatten()[:3].tolist() == check["first3"], name
    for key in ("images", "images_val", "images_train1", "images_train2"):
        check, pixels = META["image_checks"][key], draw_images(key)
        assert pixels.double().sum().item() == pytest.approx(check["sum"], rel=1e-9, abs=1e-9), key
        assert pixels.flatten()[:3].tolist() == check["first3"], key
    assert np.array_equal(weights["logit_scale"].numpy(), clip_weight("logit_scale", ()))


def test_zero_shot(golden_clip, draw_images):
    golden = load_golden("zero_shot")
    with torch.no_grad():
        image, text = image_features(golden_clip, draw_images("images")), text_features(golden_clip, golden["in.tokens"])
        whole = golden_clip.text_projection(golden_clip.text_model(input_ids=golden["in.tokens"]).pooler_output)
    golden.check("out.image_features", image)
    golden.check("out.text_features", text)
    golden.check("out.text_features", whole)
    golden.check("out.logits", logits(golden_clip, image, text))
    golden.check("out.loss", F.cross_entropy(logits(golden_clip, image, text), golden["in.labels"]))


def test_supernet_features_loss_and_all_gradients(golden_clip, draw_images):
    golden = load_golden("dpl_supernet")
    prompts = supernet(golden)
    with attached(golden_clip, prompts):
        image, text = image_features(golden_clip, draw_images("images")), text_features(golden_clip, golden["in.tokens"])
        found = logits(golden_clip, image, text)
        loss = F.cross_entropy(found, golden["in.labels"])
        loss.backward()
    golden.check("out.image_features", image)
    golden.check("out.text_features", text)
    golden.check("out.logits", found)
    golden.check("out.loss", loss)
    check_supernet(golden, "grad", prompts, lambda parameter: parameter.grad)


def test_search_alternates_alphas_on_validation_and_prompts_on_training_batches(golden_clip, draw_images):
    golden = load_golden("dpl_search")
    prompts = supernet(golden)
    every = [layer for mixture in prompts.values() for layer in layers(mixture)]
    adam = torch.optim.Adam([layer.alphas for layer in every], lr=3.5e-3, betas=(0.5, 0.999))
    sgd = torch.optim.SGD([layer.prompts for layer in every], lr=3.5e-3, momentum=0.9, weight_decay=5e-4)

    def scores(key: str) -> Tensor:
        image = image_features(golden_clip, draw_images(key))
        return logits(golden_clip, image, text_features(golden_clip, golden["in.tokens"]))

    with attached(golden_clip, prompts):
        for step in (1, 2):
            for name, batch, optimizer in (("val", "val", adam), ("train", f"train{step}", sgd)):
                loss = F.cross_entropy(scores(f"images_{batch}"), golden[f"in.labels_{batch}"])
                adam.zero_grad()
                sgd.zero_grad()
                loss.backward()
                optimizer.step()
                golden.check(f"out.step{step}.loss_{name}", loss)
            check_supernet(golden, f"after{step}", prompts, torch.Tensor.detach)
        golden.check("out.final.logits", scores("images"))


@pytest.mark.parametrize("method", ["dpl_subnet", "dpl_subnet_ensemble"])
def test_subnet_features_losses_and_all_gradients(golden_clip, draw_images, method):
    golden, templates = load_golden(method), load_golden("templates")["in.template_tokens"]
    prompts, pixels, labels = subnet(golden), draw_images("images"), golden["in.labels"]
    with torch.no_grad():
        teacher_text = text_features(golden_clip, templates[-1])
        teacher = logits(golden_clip, image_features(golden_clip, pixels), teacher_text)
    golden.check("out.teacher_text_features", teacher_text)
    golden.check("out.zero_shot_logits", teacher)

    averaged = averaging(golden_clip, templates) if method == "dpl_subnet_ensemble" else ExitStack()
    with attached(golden_clip, prompts), averaged:
        image, text = image_features(golden_clip, pixels), text_features(golden_clip, golden["in.tokens"])
    found = logits(golden_clip, image, text)
    loss, distilled = F.cross_entropy(found, labels), distillation(found, teacher)
    golden.check("out.image_features", image)
    golden.check("out.text_features", text)
    golden.check("out.logits", found)
    golden.check("out.loss_ce", loss)
    golden.check("out.loss_kd", distilled)

    names, leaves = [], []
    for branch, fixed in prompts.items():
        for index, layer in enumerate(layers(fixed)):
            if len(layer.prompts):
                names.append(f"{branch}.prompt.L{index}")
                leaves.append(layer.prompts)
    for stage, objective in (("grad", loss), ("gradkd", loss + distilled)):
        for name, grad in zip(names, torch.autograd.grad(objective, leaves, retain_graph=True), strict=True):
            golden.check(f"{stage}.{name}", grad)


@contextmanager
def averaging(clip: CLIPModel, templates: Tensor) -> Iterator[None]:
    """Inside, token embeddings are the means over `templates` (templates, classes, tokens), position by position."""
    embedding = clip.text_model.embeddings.token_embedding
    mean = torch.stack([embedding(ids) for ids in templates]).mean(dim=0)
    handle = embedding.register_forward_hook(lambda _module, _inputs, output: mean[:, : output.shape[1]])
    try:
        yield
    finally:
        handle.remove()
