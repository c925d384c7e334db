from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpl.backbones.preprocessing import Preprocessing
from dpl.data.pixels.decode import in_threads
from dpl.data.pixels.store import ImageStore
from dpl.data.pixels.transforms import eval_pixels, load_image, train_batch
from dpl.data.task import Augmentation, Item
from dpl.utils.errors import DplError
from dpl.utils.rng import generator

PLAIN = Augmentation(scale=(1.0, 1.0), flip=False)
SQUARE = Preprocessing(24, 24)


@pytest.fixture
def items(draw, tmp_path):
    def make(*sizes: tuple[int, int]) -> list[Item]:
        return [Item(draw(tmp_path / f"{i}.png", seed=i, size=size), 0, f"{i}.png") for i, size in enumerate(sizes)]

    return make


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.tensor(np.array(image)).permute(2, 0, 1)


def test_images_are_the_same_whatever_the_budget(items):
    listed, augmentation = items((300, 200), (100, 60), (40, 900)), Augmentation((0.5, 1.0), flip=True)
    generous, small, none = (
        store.training(SQUARE, augmentation) for store in (ImageStore(), ImageStore(training_bytes=10_000), ImageStore(0))
    )
    for _ in range(2):
        found = [[image.tolist() for image in reader.select(listed)] for reader in (generous, small, none)]
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("form", ["training", "evaluation"])
def test_a_file_is_read_once_whoever_asks(form, items, tmp_path):
    listed, store = items((20, 10)), ImageStore()

    def read():
        readers = {"training": store.training(SQUARE, PLAIN), "evaluation": store.evaluation(SQUARE)}
        return readers[form].select(listed)[0]

    image = read()
    (tmp_path / "0.png").unlink()
    assert read() is image


def test_forms_are_kept_apart(items):
    listed, store = items((100, 50)), ImageStore()
    forms = [
        store.training(SQUARE, PLAIN),
        store.training(SQUARE, Augmentation((0.08, 1.0), flip=False)),
        store.evaluation(SQUARE),
        store.evaluation(Preprocessing(24, 24, "squash")),
    ]
    first = [reader.select(listed)[0] for reader in forms]
    assert [tuple(image.shape[1:]) for image in first[:3]] == [(48, 96), (50, 100), (24, 24)]
    assert not torch.equal(first[2], first[3])
    assert all(reader.select(listed)[0] is image for reader, image in zip(forms, first, strict=True))


def test_a_store_keeps_bytes_up_to_its_budget_and_no_more(items):
    listed = items(*[(20, 10)] * 4)
    reader = ImageStore(training_bytes=3 * 600 + 599).training(SQUARE, PLAIN)
    first = [reader.select([listed[i]])[0] for i in (2, 0, 1, 3)]
    again = reader.select([listed[i] for i in (2, 0, 1, 3)])
    assert [one is other for one, other in zip(first, again, strict=True)] == [True, True, True, False]


def test_selected_images_come_in_order_kept_or_not(items):
    listed = [*items((20, 10), (10, 20), (9, 9), (8, 30)), Item(np.full((8, 7, 3), 7, np.uint8), 0, "digits/0")]
    reader = ImageStore().training(SQUARE, PLAIN)
    reader.select([listed[2]])
    chosen = [listed[index] for index in (3, 2, 4, 0, 3)]
    for found, item in zip(reader.select(chosen), chosen, strict=True):
        assert torch.equal(found, tensor(load_image(item)))


def test_evaluation_pixels_are_those_of_each_image(items):
    listed = items((30, 20), (20, 50), (24, 24))
    expected = torch.stack([eval_pixels(load_image(item), SQUARE) for item in listed])
    assert torch.equal(ImageStore().evaluation(SQUARE).stack(listed), expected)


def test_threads_that_share_a_store_count_every_image_once(items):
    listed = items(*[(20, 10)] * 3)
    reader = ImageStore(training_bytes=3 * 600).training(SQUARE, PLAIN)
    in_threads(lambda index: reader.select([listed[index % 3]]), range(60))
    assert all(reader.select([item])[0] is reader.select([item])[0] for item in listed)


def test_an_unreadable_file_is_named_and_the_others_are_kept(items, tmp_path: Path):
    good, gone = items((20, 10))[0], Item(tmp_path / "gone.png", 0, "gone.png")
    reader = ImageStore().training(SQUARE, PLAIN)
    assert {item: error.reason for item, error in reader.unreadable([gone, good]).items()} == {gone: "no such file"}
    with pytest.raises(DplError, match=r"cannot read .*gone\.png as an image: no such file; replace or remove"):
        reader.select([good, gone])
    (tmp_path / "0.png").unlink()
    assert not reader.unreadable([good])


def test_photos_are_kept_small_but_large_enough_for_the_smallest_crop(items):
    photo = items((800, 600))

    def kept(preprocessing: Preprocessing, augmentation: Augmentation) -> torch.Tensor:
        return ImageStore().training(preprocessing, augmentation).select(photo)[0]

    assert kept(SQUARE, Augmentation((0.5, 1.0), True)).shape == (3, 48, 64)
    shortest = min(kept(SQUARE, Augmentation((0.08, 1.0), True)).shape[1:])
    assert 0.08 * shortest**2 * 3 / 4 >= 24**2 > 0.08 * (shortest - 2) ** 2 * 3 / 4
    assert min(kept(Preprocessing(600, 600), Augmentation((0.5, 1.0), True)).shape[1:]) == 600


@pytest.mark.parametrize(
    ("preprocessing", "shape"),
    [
        (Preprocessing(24, 30), (3, 60, 80)),
        (Preprocessing(24, 24, "squash"), (3, 48, 64)),
        (Preprocessing(24, 24, "longest"), (3, 48, 64)),
        (Preprocessing(24, 24, "none"), (3, 600, 800)),
        (Preprocessing(24, 24, resample="nearest"), (3, 600, 800)),
    ],
)
def test_whole_images_are_kept_where_a_smaller_one_would_differ(preprocessing, shape, items):
    assert ImageStore().training(preprocessing, PLAIN).select(items((800, 600)))[0].shape == shape


@pytest.mark.parametrize("rule", ["shortest", "squash", "longest", "none"])
def test_kept_images_give_nearly_the_pixels_of_evaluation(rule, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(noise).resize((800, 600), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "smooth.png")
    preprocessing, item = Preprocessing(24, 24, rule), Item(tmp_path / "smooth.png", 0, "smooth.png")
    found = train_batch(ImageStore().training(preprocessing, PLAIN).select([item]), preprocessing, PLAIN, generator(1))
    assert (found[0].int() - eval_pixels(smooth, preprocessing).int()).abs().max() <= 4
