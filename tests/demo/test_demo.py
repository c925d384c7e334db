import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpl.classifier import ZeroShot
from dpl.config import RunLoading
from dpl.data.pixels.decode import read_image
from dpl.data.pixels.transforms import eval_pixels
from dpl.demo.demo import TOP, WIDTH, Demo, Example, Prediction, examples, png
from dpl.demo.wording import Wording
from dpl.explain.gradcam import class_maps
from dpl.inference import predict_files
from dpl.methods.dpl import Dpl, DplConfig
from dpl.prompts.layout import PromptLayout
from dpl.reports.overlay import overlay
from dpl.schemas import explanation as stored
from dpl.schemas.explanation import Explanation, write_explanation
from dpl.utils.errors import DplError

from .conftest import NAMES, TEMPLATES

OTHER = "a cat\ngreen\nblue\nred\ndark\nphoto"


def predicted(demo: Demo, picture: Path, wording: Wording | None = None, label: int | None = None) -> dict[str, Prediction]:
    models = demo.answer(picture.name, picture.read_bytes(), wording or demo.own, label).models
    return {name: found for name, found in models.items() if isinstance(found, Prediction)}


def shares(prediction: Prediction) -> dict[str, float]:
    return {name: share for _, name, share in prediction.classes}


def test_the_tuned_model_says_what_dpl_predict_says(demo: Demo, run: Path, checkpoint: Path, picture: Path):
    (row,) = predict_files(run, [str(picture)], top=3, loading=RunLoading(backbone=str(checkpoint)))
    found = predicted(demo, picture)["tuned"]
    assert [name for _, name, _ in found.classes] == [best["name"] for best in row["classes"]]
    assert shares(found) == pytest.approx({best["name"]: best["probability"] for best in row["classes"]}, abs=1e-5)
    assert [NAMES[place] for place, _, _ in found.classes] == list(shares(found)) and found.label == found.classes[0][0]


def test_zero_shot_is_the_frozen_model_with_the_first_template(demo: Demo, picture: Path):
    pixels = eval_pixels(read_image(picture), demo.model.backbone.preprocessing)[None]
    expected = ZeroShot(demo.model.backbone, NAMES, TEMPLATES[:1])(pixels).softmax(dim=-1)[0]
    found = predicted(demo, picture)
    assert shares(found["zero-shot"]) == pytest.approx(dict(zip(NAMES, expected.tolist(), strict=True)), abs=1e-5)
    assert shares(found["zero-shot"]) != pytest.approx(shares(found["tuned"]), abs=1e-2)


@pytest.mark.parametrize("label", [None, 0, 2])
def test_the_pictures_are_the_maps_of_the_class_that_is_looked_for(demo: Demo, picture: Path, label: int | None):
    pixels = eval_pixels(read_image(picture), demo.model.backbone.preprocessing)
    answer = demo.answer(picture.name, picture.read_bytes(), demo.own, label)
    assert answer.picture.size == (WIDTH, WIDTH)
    models = {"zero-shot": ZeroShot(demo.model.backbone, NAMES, TEMPLATES[:1]), "tuned": demo.model}
    for name, model in models.items():
        found = answer.models[name]
        assert isinstance(found, Prediction) and found.label == (found.classes[0][0] if label is None else label)
        heat = class_maps(model, pixels[None], torch.tensor([found.label]))[0].numpy()
        expected = overlay(pixels.permute(1, 2, 0).numpy(), heat, WIDTH)
        assert np.abs(np.asarray(found.picture, float) - np.asarray(expected, float)).max() <= 1


def test_other_words_change_both_models_and_a_template_only_zero_shot(demo: Demo, picture: Path):
    before = predicted(demo, picture)
    templated = demo.wording(demo.own.text, "the {} thing")
    after = predicted(demo, picture, templated)
    assert shares(after["zero-shot"]) != pytest.approx(shares(before["zero-shot"]), abs=1e-4)
    assert shares(after["tuned"]) == shares(before["tuned"])
    assert demo.note(templated) == "The template is for zero-shot; the tuned model keeps its own, 'a photo of a {}.'."
    renamed = demo.wording(OTHER, demo.own.template)
    pixels = eval_pixels(read_image(picture), demo.model.backbone.preprocessing)[None]
    for name, model in predicted(demo, picture, renamed).items():
        like = {"zero-shot": ZeroShot(demo.model.backbone, OTHER.split("\n"), TEMPLATES[:1]), "tuned": None}[name]
        expected = (like or demo.model.for_classes(OTHER.split("\n")))(pixels).softmax(dim=-1)[0].topk(TOP).values
        assert len(model.classes) == TOP and set(shares(model)) < set(OTHER.split("\n"))
        assert [share for _, _, share in model.classes] == pytest.approx(expected.tolist(), abs=1e-5)
    assert demo.note(renamed) is None is demo.note(demo.own)


def test_what_is_learned_per_class_says_so_for_other_classes(of_classes: Demo, picture: Path):
    own = predicted(of_classes, picture)
    assert set(own) == {"zero-shot", "tuned"}
    fewer = of_classes.wording("green\ndark blue", of_classes.own.template)
    assert of_classes.note(fewer) is None and [name for _, name, _ in predicted(of_classes, picture, fewer)["tuned"].classes]
    strange = of_classes.wording("green\nmauve", of_classes.own.template)
    reason = "coop: its learned parameters belong to its own 3 classes; mauve is none of them"
    assert of_classes.note(strange) == f"The tuned model is left out: {reason}."
    answer = of_classes.answer(picture.name, picture.read_bytes(), strange)
    assert answer.models["tuned"] == reason and isinstance(answer.models["zero-shot"], Prediction)


def png_of(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("1", size).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image of a known format"),
        (png_of((10_000, 10_000)), "more than 89478485 pixels"),
        (png_of((8, 8))[:40], ""),
    ],
)
def test_what_is_no_image_is_told_in_a_line(demo: Demo, data: bytes, reason: str):
    with pytest.raises(DplError) as error:
        demo.answer("a\nname.png", data, demo.own)
    assert str(error.value).startswith(f"cannot read a?name.png as an image: {reason}") and "\n" not in str(error.value)


def test_a_text_too_long_for_the_backbone_is_told_in_a_line(demo: Demo):
    with pytest.raises(DplError, match="tokens, .* reads 40; shorten the class name or template"):
        demo.wording(f"cat\n{'zq' * 60}", demo.own.template)
    with pytest.raises(DplError, match="class 3: there are 3"):
        demo.answer("x.png", png_of((8, 8)), demo.own, 3)


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_an_image_is_seen_and_shown_as_the_run_resizes_it(backbone, picture: Path, resize):
    own = replace(backbone, preprocessing=backbone.preprocessing.with_resize(resize))
    model = Dpl(own, NAMES, TEMPLATES, DplConfig(PromptLayout.uniform(3, 2, 2), 2.0), seed=1).eval()
    demo = Demo("run", model, model.text_features().detach())
    height, top = (16, 0) if resize == "squash" else (16 * 44 // 60, 3)
    square = Image.new("RGB", (16, 16))
    square.paste(read_image(picture).resize((16, height), Image.Resampling.BICUBIC), (0, top))
    answer = demo.answer(picture.name, picture.read_bytes(), demo.own)
    assert answer.picture.tobytes() == square.resize((WIDTH, WIDTH), Image.Resampling.BICUBIC).tobytes()
    pixels = torch.tensor(np.asarray(square)).permute(2, 0, 1)[None]
    probabilities = model(pixels).softmax(dim=-1)[0].tolist()
    assert shares(predicted(demo, picture)["tuned"]) == pytest.approx(dict(zip(NAMES, probabilities, strict=True)), abs=1e-5)


def test_an_example_of_the_run_is_not_resized_and_cut_again(backbone):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    own = replace(backbone, preprocessing=replace(backbone.preprocessing, edge=20))
    model = Dpl(own, NAMES, TEMPLATES, DplConfig(PromptLayout.uniform(3, 2, 2), 2.0), seed=1).eval()
    example, other = (png(Image.fromarray(picture)) for picture in (pixels, 255 - pixels))
    demo = Demo("run", model, model.text_features().detach(), [Example("a", "a", example)])

    def seen(data: bytes) -> bytes:
        return demo.answer("a", data, demo.own).picture.tobytes()

    def enlarged(picture: np.ndarray) -> bytes:
        return Image.fromarray(picture).resize((WIDTH, WIDTH), Image.Resampling.BICUBIC).tobytes()

    assert seen(example) == enlarged(pixels)
    cut = np.asarray(Image.fromarray(255 - pixels).resize((20, 20), Image.Resampling.BICUBIC))[2:18, 2:18]
    assert seen(other) == enlarged(cut)


def test_the_examples_are_the_test_images_that_the_explanation_has(run: Path, tmp_path: Path):
    shutil.copy(run / "config.json", tmp_path)
    assert examples(tmp_path) == []
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    guess = stored.Prediction(label=0, probability=0.5)
    shown = [stored.Example(name=f"test/{label}.png", label=label, kind="wrong", predictions=[guess]) for label in (1, 2)]
    maps, confused = np.zeros((2, 1, 2, 2), np.float32), np.zeros((0, 3, 16, 16), np.uint8)
    write_explanation(tmp_path, Explanation(["tuned"], shown, [], None, None, pictures, maps, confused))
    found = examples(tmp_path)
    assert [(one.name, one.title) for one in found] == [
        ("test/1.png", "test/1.png: green"),
        ("test/2.png", f"test/2.png: {NAMES[2]}"),
    ]
    for one, picture in zip(found, pictures, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(one.data))), picture.transpose(1, 2, 0))
