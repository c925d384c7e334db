"""Preprocessing as the checkpoint says, beside transformers' image processors; what cannot be followed is refused by name."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dpl.backbones.choices import Resize
from dpl.backbones.loading import load_backbone
from dpl.backbones.preprocessing import Preprocessing, Rule, read_preprocessing
from dpl.data.pixels.transforms import eval_pixels, normalise, to_pixels, train_batch
from dpl.data.task import Augmentation
from dpl.utils.errors import DplError
from dpl.utils.rng import generator
from tests.checkpoints import MEAN, SIZE, STD
from tests.processors import CONFIGS, HALF, reference, reference_levels

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
sides = st.one_of(st.integers(1, 60), st.integers(1, 700))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@given(sides, sides)
def test_the_models_pixels_are_those_of_transformers_bit_by_bit(config, width, height):
    image, preprocessing = noise(width, height), read_preprocessing(config, 24)
    pixels = eval_pixels(image, preprocessing)
    assert torch.equal(pixels, reference_levels(config, image))
    torch.testing.assert_close(normalise(pixels, preprocessing), reference(config, image), rtol=1e-6, atol=1e-6)


@given(sides, sides, st.sampled_from([8, 17, 48, 64]))
def test_clips_own_pixels_are_those_of_transformers_on_all_sizes(width, height, size):
    image, config = noise(width, height), {"size": {"shortest_edge": size}, "crop_size": size}
    found = eval_pixels(image, read_preprocessing({}, size))
    assert torch.equal(found, reference_levels(config, image))


@pytest.mark.parametrize("width", range(224, 232))
def test_a_centre_of_half_a_pixel_is_rounded_down(width):
    """torchvision rounds it to even: where (width - 224) mod 4 is 3 that is another crop."""
    image, preprocessing = noise(width, 224), read_preprocessing({}, 224)
    left = (width - 224) // 2
    assert torch.equal(eval_pixels(image, preprocessing), to_pixels(image)[..., left : left + 224])
    assert torch.equal(eval_pixels(image, preprocessing), reference_levels({}, image))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**40))
def test_training_without_crop_and_flip_sees_the_same(config, width, height, seed):
    width, height = max(width, height), min(width, height)  # PIL does high images the other way round
    image, preprocessing = noise(width, height), read_preprocessing(config, 24)
    found = train_batch([to_pixels(image)], preprocessing, Augmentation((1.0, 1.0), flip=False), generator(seed))[0]
    difference = (found.int() - reference_levels(config, image).int()).abs()
    if preprocessing.resample in ("nearest", "box"):
        columns, rows = (_clear(preprocessing, (width, height), axis) for axis in (0, 1))
        difference = difference[:, rows][..., columns]
    assert difference.numel() == 0 or difference.max() <= (1 if preprocessing.resize != "squash" else 2)


def _clear(preprocessing: Preprocessing, shape: tuple[int, int], axis: int) -> torch.Tensor:
    """Whether no pixel of the image lies at the very edge of the box around a pixel's centre, (24,)."""
    resized = preprocessing.resized(*shape)
    step = shape[axis] / resized[axis]
    centres = (torch.arange(24, dtype=torch.float64) + preprocessing.corner(*resized)[axis] + 0.5) * step
    half = max(step, 1) / 2 if preprocessing.resample == "box" else 0.5
    edges = torch.stack([centres - half - 0.5, centres + half - 0.5])
    return ((edges - edges.round()).abs() > 1e-9).all(dim=0)


def test_a_padded_picture_keeps_its_shape_amid_black():
    preprocessing = read_preprocessing({}, 24, "pad")
    white = Image.new("RGB", (40, 20), "white")
    expected = torch.zeros(3, 24, 24, dtype=torch.uint8)
    expected[:, 6:18] = 255
    assert torch.equal(eval_pixels(white, preprocessing), expected)
    assert torch.equal(eval_pixels(white.rotate(90, expand=True), preprocessing), expected.mT)
    image = noise(24, 9)
    found = eval_pixels(image, preprocessing)
    assert torch.equal(found[:, 8:17], to_pixels(image))  # 8 above, 7 below: as transformers adds black
    assert found[:, :8].max() == found[:, 17:].max() == 0


@given(sides, sides)
def test_padding_is_that_of_transformers_where_its_rounding_reaches_the_edge(width, height):
    config = {"size": {"max_height": 24, "max_width": 24}, "crop_size": 24}
    image, preprocessing = noise(width, height), read_preprocessing(config, 24)
    assert preprocessing == read_preprocessing({}, 24, "pad")
    scale = 24 / max(width, height)
    truncated = int(width * scale), int(height * scale)  # 47 * (24 / 47) is less than 24
    if truncated == preprocessing.resized(width, height):
        assert torch.equal(eval_pixels(image, preprocessing), reference_levels(config, image))
    resized = np.array(preprocessing.resized(width, height))
    assert resized.max() == 24 and (np.abs(resized - [width * scale, height * scale]) <= 1).all()


def test_a_policy_replaces_the_checkpoints_rules_and_keeps_the_rest():
    config = {"size": 29, "crop_size": 100, "resample": 2, "image_mean": HALF, "image_std": HALF, "do_resize": False}
    rules: dict[Resize, Rule] = {"crop": "shortest", "squash": "squash", "pad": "longest"}
    for policy, rule in rules.items():
        half = (0.5, 0.5, 0.5)
        assert read_preprocessing(config, 24, policy) == Preprocessing(24, 24, rule, "bilinear", mean=half, std=half)


def test_absent_and_null_settings_are_transformers_with_the_models_size():
    assert read_preprocessing({}, 24) == Preprocessing(24, 24, "shortest", "bicubic", 1 / 255, CLIP_MEAN, CLIP_STD)
    nulls = dict.fromkeys(["size", "crop_size", "do_resize", "resample", "image_mean", "do_rescale", "rescale_factor", "do_pad"])
    assert read_preprocessing(nulls, 24) == read_preprocessing({}, 24)


REFUSED = [
    ({"size": 24, "crop_size": 20}, r"^crop_size 20: the model reads 24 x 24 pixels; resize with --resize crop, squash or pad$"),
    ({"crop_size": {"height": 24, "width": 20}}, "^crop_size .*: the model reads 24 x 24"),
    ({"do_center_crop": False}, r"^size .*shortest_edge.* and do_center_crop false: the model reads 24 x 24.*--resize"),
    ({"do_center_crop": False, "size": {"height": 29, "width": 29}}, "^size .* and do_center_crop false: .*24 x 24"),
    ({"do_center_crop": False, "do_resize": False}, "^do_resize false and do_center_crop false: .*--resize"),
    ({"size": {"height": 24, "width": 20}}, "^size .*: is not a whole number up to 4096, shortest_edge, equal height and width"),
    ({"size": {"longest_edge": 24}}, "^size .*longest_edge"),
    ({"size": {"shortest_edge": 24, "longest_edge": 40}}, "^size .*longest_edge"),
    *(({"size": size}, "^size ") for size in (0, -3, 2.5, "9", True, [], [24], [24, 24, 24], {}, {"shortest_edge": "9"}, 10**9)),
    *(({"crop_size": size}, "^crop_size ") for size in (0, "24", True, [], {})),
    ({"do_pad": True}, "^do_pad true"),
    ({"image_processor_type": "ConvNextImageProcessor"}, "^image processor ConvNextImageProcessor: .*CLIP, Bit.*--resize"),
    ({"image_processor_type": 3}, "^image processor 3: "),
    *(({"resample": number}, "^resample .*: must be one of PIL's filters, 0 to 5") for number in (6, -1, "bicubic", 2.0, True)),
    *(({key: "yes"}, f"^{key} 'yes': must be true or false") for key in ("do_resize", "do_center_crop", "do_rescale")),
    ({"do_normalize": 1}, "^do_normalize 1: must be true or false"),
    *(({"rescale_factor": value}, "^rescale_factor .*: must be a number above 0") for value in (0, -1, 1e-50, math.nan, "1")),
    *(({"rescale_factor": value}, "^rescale_factor .*: must be a number above 0") for value in (math.inf, 10**400)),
    *(({"image_mean": value}, "^image_mean .*: must be three numbers") for value in ([0.5], [1, 1, math.nan], "1", [1, 2, "3"])),
    *(({"image_std": value}, "^image_std .*: must be above 0") for value in ([0.5, 0, 0.5], 0, -1.0, 1e-50)),
    ({"image_std": [0.5, math.inf, 0.5]}, "^image_std .*: must be three numbers"),
    ([], "^is not an object of settings"),
    ({"image_processor": 3}, "^is not an object of settings"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "line"), REFUSED, ids=[str(config) for config, _ in REFUSED])
def test_what_cannot_be_followed_is_refused_in_one_line(config, line):
    with pytest.raises(DplError, match=line) as refused:
        read_preprocessing(config, 24)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPFeatureExtractor"])
def test_every_name_of_clips_processor_is_known(name):
    for key in ("image_processor_type", "feature_extractor_type"):
        assert read_preprocessing({key: name}, 24) == Preprocessing(24, 24)


def test_unused_values_are_not_read():
    assert read_preprocessing({"do_normalize": False, "image_std": 0}, 24).std == (1.0, 1.0, 1.0)
    assert read_preprocessing({"do_rescale": False, "rescale_factor": 0}, 24).rescale == 1.0
    assert read_preprocessing({"do_resize": False, "size": 0}, 24).resize == "none"
    assert read_preprocessing({"image_processor_type": "NewImageProcessor", "size": 0}, 24, "crop") == Preprocessing(24, 24)


def test_the_nested_processor_comes_first_as_in_transformers(checkpoint, tmp_path):
    def mean() -> float:
        return load_backbone(str(tmp_path)).preprocessing.mean[0]

    for file in checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "preprocessor_config.json").unlink()
    assert load_backbone(str(tmp_path)).preprocessing == Preprocessing(SIZE, SIZE)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": 0.25}))
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    assert mean() == 0.25
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"image_mean": HALF}}))
    assert mean() == 0.5


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "is not JSON"),
        ("\xff", "is not JSON"),
        ("[]", "is no table of settings"),
        ('{"crop_size": 7}', "crop_size 7: the model reads 16 x 16 pixels; resize with --resize crop, squash or pad"),
    ],
)
def test_a_checkpoint_with_a_bad_file_is_refused_by_name(checkpoint, tmp_path, content, line):
    for file in checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "preprocessor_config.json").write_text(content, encoding="latin-1")
    with pytest.raises(DplError, match=rf"^backbone {tmp_path}: preprocessor_config\.json:? {line}"):
        load_backbone(str(tmp_path))


def test_a_policy_loads_what_the_checkpoints_rule_refuses(checkpoint, tmp_path):
    for file in checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "preprocessor_config.json").unlink()
    config = {"image_mean": MEAN, "image_std": STD, "crop_size": 7}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    squashed = load_backbone(str(tmp_path), resize="squash").preprocessing
    assert squashed == Preprocessing(SIZE, SIZE, "squash", mean=MEAN, std=STD)


def test_the_embedded_backbone_has_clips_own_preprocessing():
    assert load_backbone("tiny").preprocessing == Preprocessing(48, 48)
