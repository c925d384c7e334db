from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from dpl import Backbone, DplError, PromptLayout, evaluate, load_backbone, load_task
from dpl.classifier import Classifier, ZeroShot
from dpl.data.pixels.decode import read_image
from dpl.data.pixels.transforms import decode
from dpl.evaluate import BATCH_SIZE, Evaluation, evaluate_classifier, evaluate_side_by_side, images_at_once, predict

NAMES = ("a", "b", "c")


def test_accuracies_and_confusions_by_hand():
    result = Evaluation(NAMES, np.array([0, 0, 0, 1, 1]), np.array([0, 1, 1, 1, 2]), np.ones(5))
    assert result.accuracy == 0.4 and result.correct == 2
    assert [result.class_accuracy(label) for label in range(3)] == [pytest.approx(1 / 3), 0.5, None]
    assert result.confusions() == [
        {"true": "a", "predicted": "b", "count": 2},
        {"true": "b", "predicted": "c", "count": 1},
    ]
    assert result.confusions(most=1) == result.confusions()[:1]
    assert result.confused_pairs() == [(0, 1, 2), (1, 2, 1)]


def test_the_interval_is_wilsons():
    result = Evaluation(NAMES, np.zeros(50, int), np.repeat([0, 1], [45, 5]), np.ones(50))
    # Newcombe (1998), method 3, for 45 of 50 at 95 %
    assert result.interval == pytest.approx((0.7864, 0.9565), abs=1e-4)


@pytest.fixture(scope="module")
def model(checkpoint: Path, images: Path) -> Classifier:
    task = load_task(str(images))
    layout = PromptLayout((2, 1), (0, 3))
    return Classifier.fixed(load_backbone(str(checkpoint)), task.class_names, task.templates[0], layout, 1.0, seed=1)


def test_evaluation_agrees_with_plain_logits(model: Classifier, images: Path):
    items = load_task(str(images)).test
    logits = model(decode(items, model.backbone.preprocessing))
    result = evaluate_classifier(model, items)
    assert result.predictions.tolist() == logits.argmax(dim=1).tolist()
    assert result.labels.tolist() == [item.label for item in items]
    assert result.confidences == pytest.approx(logits.softmax(dim=1).amax(dim=1).detach().numpy(), rel=1e-5)
    assert result.confidences.dtype == np.float32


def test_models_that_embed_images_alike_share_one_embedding(model: Classifier, images: Path, monkeypatch: pytest.MonkeyPatch):
    items = load_task(str(images)).test
    zeros = Classifier.fixed(model.backbone, model.class_names, model.template, PromptLayout.uniform(0, 2, 2), 1.0, seed=2)
    text_only = Classifier.fixed(model.backbone, model.class_names, model.template, PromptLayout((0, 0), (2, 1)), 1.0, seed=2)
    frozen = [ZeroShot(model.backbone, model.class_names, [template]) for template in ("a {}", "one {}")]
    models = [model, *frozen, zeros, text_only]
    alone = [evaluate_classifier(one, items).predictions.tolist() for one in models]
    calls: list[int] = []
    counted = Backbone.image_features
    monkeypatch.setattr(Backbone, "image_features", lambda self, pixels: calls.append(len(pixels)) or counted(self, pixels))
    together = evaluate_side_by_side(models, items)
    assert [result.predictions.tolist() for result in together] == alone
    assert sum(calls) == 2 * len(items)  # with image prompts, and without


def test_class_embeddings_that_are_known_are_not_computed(model: Classifier, images: Path, monkeypatch: pytest.MonkeyPatch):
    items, text = load_task(str(images)).test, model.text_features()
    expected = evaluate_classifier(model, items).predictions.tolist()
    pictures = [Image.open(path).convert("RGB") for path in sorted(images.rglob("*.png"))[:2]]
    rows = predict(model, pictures)
    monkeypatch.setattr(Classifier, "text_features", None)
    assert evaluate_side_by_side([model], items, known={model: text})[0].predictions.tolist() == expected
    assert predict(model, pictures, text_features=text) == rows


def test_nothing_to_evaluate_is_said(model: Classifier):
    with pytest.raises(DplError, match="no test images"):
        evaluate_classifier(model, [])


def test_predictions_are_the_most_probable_classes_best_first(model: Classifier, images: Path):
    paths = sorted(images.rglob("*.png"))[:3]
    pictures = [Image.open(path).convert("RGB") for path in paths]
    rows = predict(model, pictures, top=9)
    for row in rows:
        assert sorted(name for name, _ in row) == sorted(model.class_names)
        assert sum(p for _, p in row) == pytest.approx(1, abs=1e-5)
        assert [p for _, p in row] == sorted((p for _, p in row), reverse=True)
    assert predict(model, pictures, top=1) == [row[:1] for row in rows]
    assert predict(model, []) == []


def test_classifiers_share_a_backbone_without_interfering(model: Classifier):
    pixels = torch.randint(0, 255, (2, 3, 16, 16), dtype=torch.uint8)
    other = Classifier.fixed(model.backbone, model.class_names, model.template, PromptLayout.uniform(1, 2, 2), 1.0, seed=2)
    plain = ZeroShot(model.backbone, model.class_names, [model.template])
    before = [classifier(pixels) for classifier in (model, other, plain)]
    after = [classifier(pixels) for classifier in (plain, other, model)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.allclose(before[0], before[1]) and not torch.allclose(before[0], before[2])


def test_a_layout_of_zeros_is_zero_shot_to_the_bit(model: Classifier):
    pixels = torch.randint(0, 255, (2, 3, 16, 16), dtype=torch.uint8)
    zeros = Classifier.fixed(model.backbone, model.class_names, model.template, PromptLayout.uniform(0, 2, 2), 1.0, seed=2)
    plain = ZeroShot(model.backbone, model.class_names, [model.template])
    assert torch.equal(zeros.image_features(pixels), plain.image_features(pixels))
    torch.testing.assert_close(zeros(pixels), plain(pixels), rtol=1e-5, atol=1e-5)


def test_the_ensemble_is_the_mean_of_unit_text_features(model: Classifier):
    templates = ["a photo of a {}.", "{} art"]
    ensemble = ZeroShot(model.backbone, model.class_names, templates).text_features()
    singles = [ZeroShot(model.backbone, model.class_names, [template]).text_features() for template in templates]
    torch.testing.assert_close(ensemble, torch.nn.functional.normalize(singles[0] + singles[1]))


def test_the_state_dict_holds_the_prompts_only(model: Classifier):
    assert sorted(model.state_dict()) == [f"{branch}.layers.{layer}.prompts" for branch in ("image", "text") for layer in (0, 1)]


def test_large_backbones_take_fewer_images_at_once(model: Classifier, images: Path, monkeypatch: pytest.MonkeyPatch):
    items, vision = load_task(str(images)).test, cast(Any, model.backbone.clip.vision_model.config)
    whole = evaluate_classifier(model, items)
    assert images_at_once(model.backbone) == BATCH_SIZE
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    monkeypatch.setattr(evaluate, "ACTIVATIONS", 2 * (2 * 4 * tokens * vision.intermediate_size))
    calls: list[int] = []
    counted = Backbone.image_features
    monkeypatch.setattr(Backbone, "image_features", lambda self, pixels: calls.append(len(pixels)) or counted(self, pixels))
    parts = evaluate_classifier(model, items)
    assert images_at_once(model.backbone) == 2 and max(calls) == 2 and sum(calls) == len(items) > 2
    assert parts.predictions.tolist() == whole.predictions.tolist()
    assert parts.confidences == pytest.approx(whole.confidences, rel=1e-5)
    monkeypatch.setattr(evaluate, "ACTIVATIONS", 1)
    assert images_at_once(model.backbone) == 1


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "CMYK", "1"])
def test_images_of_any_mode_are_predicted_as_their_files_are(model: Classifier, tmp_path: Path, mode: str):
    image = Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20))
    image = Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 150) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "image.tiff")
    assert predict(model, [image]) == predict(model, [read_image(tmp_path / "image.tiff")])
