import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from dpl.data.images import read_image
from dpl.data.task import Augmentation, Item
from dpl.data.transforms import TRIES, ImageStore, crop_box, decode, eval_pixels, load_image, normalise, train_batch
from dpl.errors import DplError
from dpl.rng import generator

PLAIN = Augmentation(scale=(1.0, 1.0), flip=False)
sides = st.integers(1, 150)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def clip_pixels(image: Image.Image, size: int) -> torch.Tensor:
    """CLIP's preprocessing, plainly: the whole image resized (torchvision's integers), then cut."""
    width, height = image.size
    if width <= height:
        resized = image.resize((size, int(size * height / width)), Image.Resampling.BICUBIC)
    else:
        resized = image.resize((int(size * width / height), size), Image.Resampling.BICUBIC)
    left, top = int(round((resized.width - size) / 2.0)), int(round((resized.height - size) / 2.0))
    return torch.tensor(np.array(resized.crop((left, top, left + size, top + size)))).permute(2, 0, 1)


@settings(deadline=None)
@given(sides, sides, st.sampled_from([8, 17, 48, 64]))
def test_evaluation_pixels_are_clips(width, height, size):
    assume(max(width, height) <= 7 * min(width, height))
    found, expected = eval_pixels(picture(width, height), size), clip_pixels(picture(width, height), size)
    assert found.shape == (3, size, size) and found.dtype == torch.uint8
    assert (found.int() - expected.int()).abs().max() <= 1


def test_a_very_long_picture_is_not_resized_whole():
    assert eval_pixels(picture(1, 60_000), 224).shape == (3, 224, 224)
    smooth = picture(2, 40).resize((30, 600), Image.Resampling.BICUBIC)
    assert (eval_pixels(smooth, 16).int() - clip_pixels(smooth, 16).int()).abs().max() <= 1


def test_a_picture_of_the_right_size_is_untouched():
    image = picture(48, 48)
    assert torch.equal(eval_pixels(image, 48), torch.tensor(np.array(image)).permute(2, 0, 1))


scales = st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(lambda pair: (min(pair), max(pair)))
draws = st.lists(st.floats(0, 1, exclude_max=True), min_size=4 * TRIES, max_size=4 * TRIES)


@given(sides, sides, scales, draws)
def test_crops_lie_in_the_image_and_keep_area_and_ratio(width, height, scale, numbers):
    left, top, right, bottom = crop_box(width, height, scale, numbers)
    assert -1e-9 <= left < right <= width + 1e-9 and -1e-9 <= top < bottom <= height + 1e-9
    assert 3 / 4 - 1e-9 <= (right - left) / (bottom - top) <= 4 / 3 + 1e-9
    area = (right - left) * (bottom - top) / (width * height)
    centred = abs(left + right - width) < 1e-6 and abs(top + bottom - height) < 1e-6
    assert scale[0] - 1e-9 <= area <= scale[1] + 1e-9 or centred


def test_crops_are_spread_over_the_range():
    numbers = torch.rand(4000, 4 * TRIES, generator=generator(1, "test"), dtype=torch.float64).tolist()
    boxes = torch.tensor([crop_box(400, 400, (0.2, 0.6), row) for row in numbers])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (width * height / 160_000).mean() == pytest.approx(0.4, abs=0.01)
    assert (width / height).log().mean() == pytest.approx(0, abs=0.01)
    assert (width / height).log().std() == pytest.approx(2 * np.log(4 / 3) / 12**0.5, abs=0.01)
    assert (boxes[:, 0] / (400 - width)).mean() == pytest.approx(0.5, abs=0.02)
    assert (boxes[:, 1] / (400 - height)).mean() == pytest.approx(0.5, abs=0.02)


def test_too_long_a_picture_falls_back_to_its_centre():
    assert crop_box(1000, 30, (0.9, 1.0), [0.5] * 40) == (480, 0, 520, 30)
    assert crop_box(30, 1000, (0.9, 1.0), [0.5] * 40) == (0, 480, 30, 520)


@settings(deadline=None)
@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4), st.integers(0, 2**40))
def test_without_crop_and_flip_training_sees_what_evaluation_sees(shapes, seed):
    images = [picture(*shape) for shape in shapes]
    pixels = train_batch(images, 16, PLAIN, generator(seed))
    assert torch.equal(pixels, torch.stack([eval_pixels(image, 16) for image in images]))


@settings(deadline=None)
@given(sides, sides, scales, st.integers(0, 2**40))
def test_any_picture_can_be_augmented_and_the_same_way_again(width, height, scale, seed):
    augmentation = Augmentation(scale, flip=True)
    first, again = (train_batch([picture(width, height)] * 2, 24, augmentation, generator(seed)) for _ in range(2))
    assert first.shape == (2, 3, 24, 24) and first.dtype == torch.uint8
    assert torch.equal(first, again)


def test_crops_differ_from_draw_to_draw():
    pixels = train_batch([picture(60, 60)] * 8, 24, Augmentation((0.5, 1.0), flip=False), generator(1))
    assert len({row.numpy().tobytes() for row in pixels}) == 8


def test_a_crop_does_not_depend_on_the_other_pictures_of_the_batch():
    image, augmentation = picture(60, 40), Augmentation((0.3, 1.0), flip=True)
    one = train_batch([image, picture(3, 90)], 24, augmentation, generator(1))
    other = train_batch([image, picture(90, 90)], 24, augmentation, generator(1))
    assert torch.equal(one[0], other[0])


def test_half_of_the_pictures_are_mirrored():
    image = picture(16, 16)
    pixels = train_batch([image] * 400, 16, Augmentation((1.0, 1.0), flip=True), generator(1))
    plain = eval_pixels(image, 16)
    mirrored = sum(torch.equal(row, plain.flip(-1)) for row in pixels)
    assert sum(torch.equal(row, plain) for row in pixels) == 400 - mirrored
    assert 160 < mirrored < 240


def test_a_whole_crop_is_pils_resize():
    image = picture(60, 45)
    numbers = train_batch([image], 24, Augmentation((0.4, 0.4), flip=False), generator(3))
    draw = torch.rand(1, 41, generator=generator(3), dtype=torch.float64)[0, 1:].tolist()
    left, top, right, bottom = crop_box(60, 45, (0.4, 0.4), draw)
    expected = image.resize((24, 24), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    assert torch.equal(numbers[0], torch.tensor(np.array(expected)).permute(2, 0, 1))


def items(draw, folder, sizes) -> list[Item]:
    return [Item(draw(folder / f"{i}.png", seed=i, size=size), 0, f"{i}.png") for i, size in enumerate(sizes)]


def test_decoding_many_gives_the_pixels_of_each(draw, tmp_path):
    mixed = items(draw, tmp_path, [(30, 20), (20, 50), (16, 16)])
    mixed.append(Item(np.full((8, 8, 3), 7, np.uint8), 0, "digits/0"))
    pixels = decode(mixed, 16)
    assert torch.equal(pixels, torch.stack([eval_pixels(load_image(item), 16) for item in mixed]))
    assert decode([], 16).shape == (0, 3, 16, 16)


def test_decoding_names_a_file_that_is_gone(tmp_path):
    with pytest.raises(DplError, match=r"gone\.png"):
        decode([Item(tmp_path / "gone.png", 0, "gone.png")], 16)


def test_a_store_gives_the_same_pictures_whatever_it_may_keep(draw, tmp_path):
    listed = items(draw, tmp_path, [(300, 200), (100, 60), (40, 900)])
    augmentation = Augmentation((0.5, 1.0), flip=True)
    generous, miserly = ImageStore(listed, 24, augmentation), ImageStore(listed, 24, augmentation, budget=10_000)
    for _ in range(2):
        assert [np.array(generous[i]).tolist() for i in range(3)] == [np.array(miserly[i]).tolist() for i in range(3)]
    assert generous[0] is generous[0] and miserly[0] is not miserly[0]
    assert len(generous) == 3


def test_a_store_keeps_photos_small_but_large_enough_for_the_smallest_crop(draw, tmp_path):
    photo = items(draw, tmp_path, [(800, 600)])
    assert ImageStore(photo, 24, Augmentation((0.5, 1.0), True))[0].size == (64, 48)
    shortest = min(ImageStore(photo, 24, Augmentation((0.08, 1.0), True))[0].size)
    assert 0.08 * shortest**2 * 3 / 4 >= 24**2 > 0.08 * (shortest - 2) ** 2 * 3 / 4
    assert min(ImageStore(photo, 600, Augmentation((0.5, 1.0), True))[0].size) == 600


def test_normalising_centres_and_scales_every_channel():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    found = normalise(pixels, mean=(0.5, 0.1, 0.4), std=(0.5, 0.2, 0.3))
    assert found.dtype == torch.float32 and found.shape == (2, 3, 4, 5)
    assert torch.allclose(found[1, :, 2, 3], torch.tensor([-1.0, 0.5, 2.0]))


def test_an_array_and_a_file_of_it_are_the_same_picture(tmp_path):
    image = picture(9, 7)
    image.save(tmp_path / "a.png")
    loaded = load_image(Item(np.array(image), 0, "a"))
    assert loaded.tobytes() == read_image(tmp_path / "a.png").tobytes()
