import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dpl.backbones.preprocessing import Preprocessing
from dpl.data.pixels.decode import read_image
from dpl.data.pixels.transforms import (
    TRIES,
    crop_box,
    decode,
    eval_pixels,
    load_image,
    normalise,
    resample,
    train_batch,
    training_box,
)
from dpl.data.task import Augmentation, Item
from dpl.utils.errors import DplError
from dpl.utils.rng import generator

PLAIN = Augmentation(scale=(1.0, 1.0), flip=False)
sides = st.integers(1, 150)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def square(size: int) -> Preprocessing:
    """CLIP's own: shortest side to `size`, centre crop."""
    return Preprocessing(size, size)


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.tensor(np.array(image)).permute(2, 0, 1)


def difference(found: torch.Tensor, expected: torch.Tensor) -> int:
    """The largest, in grey levels."""
    assert found.shape == expected.shape and found.dtype == expected.dtype == torch.uint8
    return int((found.int() - expected.int()).abs().max())


def columns_first(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    """PIL's resize in two calls: since version 13 a single one resamples the rows of very high images first."""
    left, top, right, bottom = box
    narrow = image.resize((size[0], image.height), Image.Resampling.BICUBIC, box=(left, 0, right, image.height))
    return narrow.resize(size, Image.Resampling.BICUBIC, box=(0, top, size[0], bottom))


def clip_pixels(image: Image.Image, size: int) -> torch.Tensor:
    """CLIP's preprocessing, plainly: the whole image resized, then cut."""
    width, height = image.size
    if width <= height:
        resized = image.resize((size, int(size * height / width)), Image.Resampling.BICUBIC)
    else:
        resized = image.resize((int(size * width / height), size), Image.Resampling.BICUBIC)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return torch.tensor(np.array(resized.crop((left, top, left + size, top + size)))).permute(2, 0, 1)


def test_a_very_long_picture_is_not_resized_whole(monkeypatch):
    assert eval_pixels(picture(1, 60_000), square(224)).shape == (3, 224, 224)
    monkeypatch.setattr("dpl.data.pixels.transforms.MOST_PIXELS", 16 * 100)
    smooth = picture(2, 40).resize((30, 600), Image.Resampling.BICUBIC)
    assert (eval_pixels(smooth, square(16)).int() - clip_pixels(smooth, 16).int()).abs().max() <= 1


def test_a_picture_of_the_right_size_is_untouched():
    image = picture(48, 48)
    assert torch.equal(eval_pixels(image, square(48)), torch.tensor(np.array(image)).permute(2, 0, 1))


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


@given(sides, sides, scales, draws)
def test_crops_of_a_squashed_picture_are_those_of_the_square(width, height, scale, numbers):
    side = max(width, height)
    left, top, right, bottom = training_box(width, height, "squash", scale, numbers)
    square_crop = crop_box(side, side, scale, numbers)
    assert (left / width * side, top / height * side) == pytest.approx(square_crop[:2], abs=1e-9)
    assert (right / width * side, bottom / height * side) == pytest.approx(square_crop[2:], abs=1e-9)


@given(sides, sides, scales, draws)
def test_crops_of_a_padded_picture_have_its_shape_and_their_centre_in_it(width, height, scale, numbers):
    side = max(width, height)
    left, top, right, bottom = training_box(width, height, "longest", scale, numbers)
    inside = crop_box(side, side, scale, numbers)
    assert (right - left, bottom - top) == pytest.approx((inside[2] - inside[0], inside[3] - inside[1]))
    x, y = (left + right) / 2, (top + bottom) / 2
    assert -1e-9 <= x <= width + 1e-9 and -1e-9 <= y <= height + 1e-9
    free = (inside[0] + inside[2] - side + width) / 2, (inside[1] + inside[3] - side + height) / 2
    assert all(
        abs(own - asked) < 1e-9 for own, asked, most in zip((x, y), free, (width, height), strict=True) if 0 < asked < most
    )


@pytest.mark.parametrize("rule", ["shortest", "none"])
def test_other_crops_are_of_the_picture_as_it_is(rule):
    numbers = torch.rand(4 * TRIES, generator=generator(1, "test"), dtype=torch.float64).tolist()
    assert training_box(90, 40, rule, (0.2, 0.6), numbers) == crop_box(90, 40, (0.2, 0.6), numbers)


def test_a_squashed_crop_is_pils_resize_of_its_box():
    image, squashed = picture(60, 25), Preprocessing(24, 24, "squash", "lanczos")
    found = train_batch([tensor(image)], squashed, Augmentation((0.4, 0.4), flip=False), generator(3))
    draw = torch.rand(1, 41, generator=generator(3), dtype=torch.float64)[0, 1:].tolist()
    box = training_box(60, 25, "squash", (0.4, 0.4), draw)
    assert difference(found[0], tensor(image.resize((24, 24), Image.Resampling.LANCZOS, box=box))) <= 1


def test_a_padded_crop_is_pils_crop_of_the_padded_picture():
    image = picture(48, 20)
    padded = Image.new("RGB", (48, 48))
    padded.paste(image, (0, 14))
    found = train_batch([tensor(image)] * 20, Preprocessing(24, 24, "longest"), Augmentation((0.3, 0.6), False), generator(3))
    rows = torch.rand(20, 41, generator=generator(3), dtype=torch.float64)[:, 1:].tolist()
    black = 0
    for pixels, numbers in zip(found, rows, strict=True):
        left, top, right, bottom = training_box(48, 20, "longest", (0.3, 0.6), numbers)
        if top + 14 < 0 or bottom + 14 > 48:
            continue  # moved to keep the centre in the picture: beyond the square
        y = top + (torch.arange(24) + 0.5) * (bottom - top) / 24
        outside = (y < 0) | (y > 20)
        assert pixels[:, outside].count_nonzero() == 0
        black += int(outside.sum())
        # Away from the picture's edge, where PIL's filter would mix in some black.
        deep = (y > 5) & (y < 15)
        expected = tensor(padded.resize((24, 24), Image.Resampling.BICUBIC, box=(left, top + 14, right, bottom + 14)))
        assert deep.any() and difference(pixels[:, deep], expected[:, deep]) <= 1
    assert black > 0


@st.composite
def pictures(draw: st.DrawFn, side: st.SearchStrategy[int] = sides) -> Image.Image:
    """Noise, or what resampling finds hardest: boards of black and white, and of two close or distant greys."""
    width, height, dark, light = draw(side), draw(side), draw(st.integers(0, 255)), draw(st.integers(0, 255))
    rows, columns = np.mgrid[:height, :width]
    kind = draw(st.sampled_from(["noise", "black and white", "board", "large board", "stripes"]))
    if kind == "noise":
        return picture(width, height, seed=dark)
    if kind == "black and white":
        return Image.fromarray(np.random.default_rng(dark).choice(np.array([0, 255], np.uint8), (height, width, 3)))
    fields = {"board": rows + columns, "large board": rows // 2 + columns // 3, "stripes": columns}[kind] % 2
    rgb = np.stack([255 * fields, np.where(fields, dark, light), fields], axis=-1)
    return Image.fromarray(rgb.astype(np.uint8))


@st.composite
def boxes(draw: st.DrawFn, image: Image.Image) -> tuple[float, float, float, float]:
    """Any part of the image: whole pixels, which give exact halves, and fractions."""

    def ends(length: int) -> tuple[float, float]:
        if draw(st.booleans()):
            low = draw(st.integers(0, length - 1))
            return low, draw(st.integers(low + 1, length))
        low = draw(st.floats(0, length * 0.9))
        return low, draw(st.floats(low + length * 0.05, length))

    (left, right), (top, bottom) = ends(image.width), ends(image.height)
    return left, top, right, bottom


def grids(boxes: list[tuple[float, float, float, float]], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    corners = torch.tensor(boxes, dtype=torch.float32).T  # as PIL takes them
    return corners[:2].double(), (corners[2:] - corners[:2]).double() / size


@given(st.data(), st.sampled_from([1, 8, 17, 48, 64]), st.lists(pictures(), min_size=1, max_size=3))
def test_resampling_is_pils_to_one_grey_level(data, size, images):
    parts = [data.draw(boxes(image)) for image in images]
    mirrored = data.draw(st.lists(st.booleans(), min_size=len(images), max_size=len(images)))
    found = resample([tensor(image) for image in images], size, *grids(parts, size), mirrored)
    for pixels, image, box, flip in zip(found, images, parts, mirrored, strict=True):
        expected = tensor(columns_first(image, (size, size), box))
        assert difference(pixels, expected.flip(-1) if flip else expected) <= 1
        if image.height <= image.width:
            expected = tensor(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
            assert difference(pixels, expected.flip(-1) if flip else expected) <= 1


def test_large_pictures_are_resampled_as_pil_does_too():
    images = [picture(700, 500), picture(300, 280, seed=1), picture(640, 640, seed=2)]
    parts = [(3.25, 7.5, 690.125, 480.0), (100.7, 50.2, 180.3, 140.9), (0.0, 0.0, 640.0, 640.0)]
    found = resample([tensor(image) for image in images], 224, *grids(parts, 224), [False, True, True])
    for pixels, image, box, flip in zip(found, images, parts, [False, True, True], strict=True):
        expected = tensor(image.resize((224, 224), Image.Resampling.BICUBIC, box=box))
        assert difference(pixels, expected.flip(-1) if flip else expected) <= 1


def test_a_wrong_rounding_of_the_first_pass_does_not_grow():
    # Found by search: a column has 187.49999, which float32 rounds to 188, and the last row takes 1.04 of it.
    random = np.random.default_rng(0)
    image = Image.fromarray([random.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(9)][-1])
    box = (0.9341824981792582, 0.09986698432921476, 7.683153651406068, 7.676104765724344)
    found = resample([tensor(image)], 48, *grids([box], 48), [False])
    assert difference(found[0], tensor(image.resize((48, 48), Image.Resampling.BICUBIC, box=box))) <= 1


@given(st.lists(pictures(), min_size=1, max_size=4), st.integers(0, 2**40))
def test_without_crop_and_flip_training_sees_what_evaluation_sees(images, seed):
    found = train_batch([tensor(image) for image in images], square(16), PLAIN, generator(seed))
    for pixels, image in zip(found, images, strict=True):
        if image.height <= image.width:
            assert difference(pixels, eval_pixels(image, square(16))) <= 1
        elif image.height <= 7 * image.width:
            expected = columns_first(image, (16, int(16 * image.height / image.width)), (0, 0, *image.size))
            top = (expected.height - 16) // 2
            assert difference(pixels, tensor(expected.crop((0, top, 16, top + 16)))) <= 1


@given(sides, sides, scales, st.integers(0, 2**40))
def test_any_picture_can_be_augmented_and_the_same_way_again(width, height, scale, seed):
    augmentation = Augmentation(scale, flip=True)
    first, again = (
        train_batch([tensor(picture(width, height))] * 2, square(24), augmentation, generator(seed)) for _ in range(2)
    )
    assert first.shape == (2, 3, 24, 24) and first.dtype == torch.uint8
    assert torch.equal(first, again)


def test_crops_differ_from_draw_to_draw():
    pixels = train_batch([tensor(picture(60, 60))] * 8, square(24), Augmentation((0.5, 1.0), flip=False), generator(1))
    assert len({row.numpy().tobytes() for row in pixels}) == 8


def test_a_crop_does_not_depend_on_the_other_pictures_of_the_batch():
    image, augmentation = tensor(picture(60, 40)), Augmentation((0.3, 1.0), flip=True)
    one = train_batch([image, tensor(picture(3, 90))], square(24), augmentation, generator(1))
    other = train_batch([image, tensor(picture(900, 900))], square(24), augmentation, generator(1))
    assert difference(one[0], other[0]) <= 1


def test_half_of_the_pictures_are_mirrored():
    image = picture(16, 16)
    pixels = train_batch([tensor(image)] * 400, square(16), Augmentation((1.0, 1.0), flip=True), generator(1))
    plain = eval_pixels(image, square(16))
    mirrored = sum(torch.equal(row, plain.flip(-1)) for row in pixels)
    assert sum(torch.equal(row, plain) for row in pixels) == 400 - mirrored
    assert 160 < mirrored < 240


def test_a_whole_crop_is_pils_resize():
    image = picture(60, 45)
    found = train_batch([tensor(image)], square(24), Augmentation((0.4, 0.4), flip=False), generator(3))
    draw = torch.rand(1, 41, generator=generator(3), dtype=torch.float64)[0, 1:].tolist()
    left, top, right, bottom = crop_box(60, 45, (0.4, 0.4), draw)
    expected = image.resize((24, 24), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    assert difference(found[0], tensor(expected)) <= 1


def items(draw, folder, sizes) -> list[Item]:
    return [Item(draw(folder / f"{i}.png", seed=i, size=size), 0, f"{i}.png") for i, size in enumerate(sizes)]


def test_decoding_many_gives_the_pixels_of_each(draw, tmp_path):
    mixed = items(draw, tmp_path, [(30, 20), (20, 50), (16, 16)])
    mixed.append(Item(np.full((8, 8, 3), 7, np.uint8), 0, "digits/0"))
    pixels = decode(mixed, square(16))
    assert torch.equal(pixels, torch.stack([eval_pixels(load_image(item), square(16)) for item in mixed]))
    assert decode([], square(16)).shape == (0, 3, 16, 16)


def test_decoding_names_a_file_that_is_gone(tmp_path):
    with pytest.raises(DplError, match=r"gone\.png"):
        decode([Item(tmp_path / "gone.png", 0, "gone.png")], square(16))


def test_normalising_centres_and_scales_every_channel():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    found = normalise(pixels, Preprocessing(4, 4, mean=(0.5, 0.1, 0.4), std=(0.5, 0.2, 0.3)))
    assert found.dtype == torch.float32 and found.shape == (2, 3, 4, 5)
    assert torch.allclose(found[1, :, 2, 3], torch.tensor([-1.0, 0.5, 2.0]))


def test_an_array_and_a_file_of_it_are_the_same_picture(tmp_path):
    image = picture(9, 7)
    image.save(tmp_path / "a.png")
    loaded = load_image(Item(np.array(image), 0, "a"))
    assert loaded.tobytes() == read_image(tmp_path / "a.png").tobytes()
