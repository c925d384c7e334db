import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dpl import Backbone, load_backbone, load_task, sample
from dpl.classifier import ZeroShot
from dpl.config import REGULARIZERS, Penalties, Training
from dpl.methods.coop import CoOp, CoOpConfig, CoOpRun
from dpl.methods.method import Inputs
from dpl.optim.regularization import Aggregate, Embedded, Regularizer, distillation, gaussian_weights
from dpl.pipeline import fit, resume
from dpl.train import train
from tests.cases import quick_and_slow

NAMES, TEMPLATES = ["green", "dark_blue", "red"], ["a photo of a {}.", "a {}.", "one {} cat."]


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


@pytest.fixture
def image_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many images the image branch was asked, pass by pass."""
    passes: list[int] = []
    counted = Backbone.image_features
    monkeypatch.setattr(Backbone, "image_features", lambda self, pixels: passes.append(len(pixels)) or counted(self, pixels))
    return passes


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def draw_pixels() -> Tensor:
    return torch.randint(0, 256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def student(backbone: Backbone, image_encoder: object = None) -> Embedded:
    """A student unlike the teacher in everything."""
    images, texts = (F.normalize(draw(count, 16, seed=count)) for count in (4, 3))
    return Embedded(images, texts, backbone.clip.logit_scale.exp() * images @ texts.T, image_encoder)


def teachers_mean(backbone: Backbone) -> Tensor:
    """normalise(mean over the templates of text embeddings as they are), by Hugging Face's own model."""
    rows = [[backbone.tokenizer(template.format(name))["input_ids"] for name in NAMES] for template in TEMPLATES]
    clip: Any = backbone.clip
    embedded = [[clip.get_text_features(input_ids=torch.tensor([row])).pooler_output[0] for row in own] for own in rows]
    return F.normalize(torch.stack([torch.stack(own) for own in embedded]).mean(dim=0))


def expected(backbone: Backbone, name: str, student: Embedded, pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.preprocessing.mean, backbone.preprocessing.std))
    clip: Any = backbone.clip
    images = F.normalize(clip.get_image_features(pixel_values=(pixels / 255 - mean) / std).pooler_output)
    texts = teachers_mean(backbone)
    if name == "text_l1":
        return (student.texts - texts).abs().sum() / (3 * 16)
    if name == "image_l1":
        return (student.images - images).abs().sum() / (4 * 16)
    if name == "text_cosine":
        first = ZeroShot(backbone, NAMES, TEMPLATES[:1]).text_features()
        return 1 - torch.stack([t @ f for t, f in zip(student.texts, first, strict=True)]).mean()
    teacher = (backbone.clip.logit_scale.exp() * images @ texts.T).softmax(dim=-1)
    return (teacher * (teacher.log() - student.logits.log_softmax(dim=-1))).sum() / (4 * 3)


def only(name: str, weight: float) -> Penalties:
    weights: dict[str, Any] = {name: weight}
    return Penalties(**weights)


TERMS = ["distill", "text_l1", "image_l1", "text_cosine"]


@pytest.mark.parametrize("name", TERMS)
def test_every_term_is_its_formula_times_its_weight(backbone, name: str):
    pixels, own = draw_pixels(), student(backbone)
    found = Regularizer(backbone, NAMES, TEMPLATES, only(name, 2.5))(pixels, own)
    torch.testing.assert_close(found, 2.5 * expected(backbone, name, own, pixels), rtol=1e-4, atol=1e-6)
    assert found > 0.01


def test_the_terms_add_up(backbone):
    pixels, own, weights = draw_pixels(), student(backbone), Penalties(1.0, 25.0, 10.0, 8.0)
    parts = [Regularizer(backbone, NAMES, TEMPLATES, only(name, getattr(weights, name))) for name in TERMS]
    total = Regularizer(backbone, NAMES, TEMPLATES, weights)(pixels, own)
    torch.testing.assert_close(total, torch.stack([part(pixels, own) for part in parts]).sum())


def test_the_teacher_itself_is_not_penalised(backbone):
    teacher, pixels = ZeroShot(backbone, NAMES, TEMPLATES[:1], normalised=False), draw_pixels()
    images, texts = teacher.image_features(pixels), teacher.text_features()
    own = Embedded(images, texts, teacher.logits(images, texts), teacher.image_encoder)
    found = Regularizer(backbone, NAMES, TEMPLATES[:1], Penalties(1.0, 25.0, 10.0, 8.0))(pixels, own)
    assert found.item() == pytest.approx(0, abs=1e-5)


def test_gradients_reach_the_student_and_not_the_teacher(backbone):
    own = student(backbone)
    leaves = [own.images.requires_grad_(), own.texts.requires_grad_()]
    own = replace(own, logits=backbone.clip.logit_scale.exp() * leaves[0] @ leaves[1].T)
    loss = Regularizer(backbone, NAMES, TEMPLATES, Penalties(1.0, 1.0, 1.0, 1.0))(draw_pixels(), own)
    assert all(gradient.abs().max() > 0 for gradient in torch.autograd.grad(loss, leaves))


def test_without_a_weight_there_is_no_teacher(backbone, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dpl.optim.regularization.ZeroShot", None)
    assert Regularizer.of(backbone, NAMES, TEMPLATES, Penalties(aggregate=(0.9, 0.1))) is None


@pytest.mark.parametrize(("name", "passes"), [("distill", [4]), ("image_l1", [4]), ("text_l1", []), ("text_cosine", [])])
def test_images_pass_the_teacher_only_for_terms_that_have_them(backbone, image_passes, name: str, passes: list[int]):
    Regularizer(backbone, NAMES, TEMPLATES, only(name, 1.0))(draw_pixels(), student(backbone))
    assert image_passes == passes


def test_images_that_the_student_embeds_like_the_teacher_pass_once(backbone, image_passes):
    regularizer = Regularizer(backbone, NAMES, TEMPLATES, Penalties(distill=1.0, image_l1=1.0))
    pixels, frozen = draw_pixels(), ZeroShot(backbone, NAMES, TEMPLATES)
    images = frozen.image_features(pixels)
    own = replace(student(backbone), images=images)
    apart = regularizer(pixels, own)
    assert image_passes == [4, 4]
    torch.testing.assert_close(regularizer(pixels, replace(own, image_encoder=frozen.image_encoder)), apart)
    assert image_passes == [4, 4]


def test_a_text_method_asks_the_image_branch_once_a_step(backbone, images, image_passes):
    task = load_task(str(images))
    inputs = Inputs(backbone, task, sample(task, 4, 1))
    model = CoOp(backbone, task.class_names, task.templates, CoOpConfig(context=2))
    train(model, inputs, Training(epochs=1, batch_size=6, regularizer="promptsrc", aggregate=()), 1)
    assert image_passes == [6, 6]


def test_distillation_is_zero_only_for_the_teachers_own_logits():
    teacher = torch.tensor([[2.0, 0.0, 1.0]])
    assert distillation(teacher + 3, teacher).item() == pytest.approx(0, abs=1e-7)
    assert distillation(torch.zeros(1, 3), teacher).item() > 0.01


def test_the_published_weights_and_single_ones_that_are_given():
    assert Training(regularizer="promptsrc").penalties == REGULARIZERS["promptsrc"] == Penalties(1.0, 25.0, 10.0, 0.0, (0.9, 0.1))
    assert Training(regularizer="kgcoop").penalties == Penalties(text_cosine=8.0)
    assert Training(regularizer="promptsrc", image_l1=0.0, aggregate=()).penalties == Penalties(1.0, 25.0, 0.0)
    assert Training(distill=0.5).penalties == Penalties(distill=0.5)


epochs_and_peaks = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.floats(0, n)))


@given(epochs_and_peaks, st.one_of(st.just(0.0), st.floats(1e-6, 100)))
def test_gaussian_weights_sum_to_one_and_are_highest_at_the_epoch_nearest_the_mean(epochs_and_mean, std: float):
    epochs, mean = epochs_and_mean
    weights = gaussian_weights(mean, std, epochs)
    assert len(weights) == epochs and min(weights) >= 0 and sum(weights) == pytest.approx(1)
    distances = [abs(epoch - mean) for epoch in range(1, epochs + 1)]
    assert weights[distances.index(min(distances))] == max(weights)
    ranked = [weight for _, weight in sorted(zip(distances, weights, strict=True))]
    assert all(nearer >= farther * (1 - 1e-9) for nearer, farther in zip(ranked, ranked[1:], strict=False))


def test_gaussian_weights_are_the_bell_and_without_width_one_epoch():
    bell = torch.exp(-((torch.arange(1.0, 6) - 4) ** 2) / (2 * 1.5**2))
    torch.testing.assert_close(torch.tensor(gaussian_weights(4, 1.5, 5)), bell / bell.sum())
    assert gaussian_weights(3.6, 0.0, 5) == [0, 0, 0, 1, 0]


def test_the_aggregate_is_the_weighted_sum():
    parameters = [nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(4))]
    aggregate, weights = Aggregate(parameters, 0.75, 0.5, 4), gaussian_weights(3, 2, 4)
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    for epoch, weight in enumerate(weights):
        for total, parameter in zip(sums, parameters, strict=True):
            parameter.data = draw(*parameter.shape, seed=epoch)
            total += weight * parameter.data
        aggregate.add(epoch)
    aggregate.take_over()
    for total, parameter in zip(sums, parameters, strict=True):
        torch.testing.assert_close(parameter.data, total)
    assert not any(parameter.requires_grad for parameter in aggregate.parameters())


def test_training_ends_at_the_aggregate_of_its_epochs(backbone, images):
    task = load_task(str(images))
    inputs, config = Inputs(backbone, task, sample(task, 4, 1)), Training(epochs=3, batch_size=6, lr=0.05)

    def context(**changes) -> Tensor:
        model = CoOp(backbone, task.class_names, task.templates, CoOpConfig(context=2))
        train(model, inputs, replace(config, **changes), 1)
        return model.context.detach()

    each = [context(aggregate=(peak / 3, 0.0)) for peak in (1, 2, 3)]
    torch.testing.assert_close(each[2], context())
    mean = torch.einsum("e,ecw->cw", torch.tensor(gaussian_weights(0.8 * 3, 0.2 * 3, 3)), torch.stack(each))
    torch.testing.assert_close(context(aggregate=(0.8, 0.2)), mean)
    assert (each[0] - each[2]).abs().max() > 1e-3


@pytest.mark.parametrize("stop_after", quick_and_slow([3], [2, 6]))
def test_training_with_an_aggregate_goes_on_to_the_same_bits(images, checkpoint, tmp_path, stop_after: int):
    def settings(out: str) -> CoOpRun:
        run = CoOpRun(data=str(images), backbone=str(checkpoint), shots=4, out=tmp_path / out, design=CoOpConfig(context=2))
        return replace(run, train=Training(epochs=3, batch_size=6, regularizer="promptsrc"))

    class Killed(BaseException):
        pass

    def stop(stage, done, *_):
        if (stage, done) == ("train", stop_after):
            raise Killed

    whole = fit(settings("whole"))
    with pytest.raises(Killed):
        fit(settings("run"), on_step=stop)
    resumed = resume(tmp_path / "run")
    assert (resumed / "prompts.safetensors").read_bytes() == (whole / "prompts.safetensors").read_bytes()
    accuracies = [json.loads((run / "metrics.json").read_text())["accuracy"] for run in (whole, resumed)]
    assert accuracies[0] == accuracies[1]
