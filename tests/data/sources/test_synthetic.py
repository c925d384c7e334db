import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pytest

from dpl.data.load import BUILTIN, load_task
from dpl.data.sources.synthetic import TASKS
from dpl.data.sources.synthetic.outlines import CORNERED, SHAPES, UNSEEN
from dpl.data.sources.synthetic.pools import Drawn, load
from dpl.data.sources.synthetic.raster import FULL, SIZE, coverage, stroke, transform, turning
from tests.cases import quick_and_slow

EVERY = pytest.mark.parametrize("name", TASKS)

# Results are only comparable over time on the very same images: a value here must never be edited.
BITS = {
    "outlines": "3afec7614e86b454",
    "sketches": "890862253d53d09b",
    "corners": "8a18131c4be83ac9",
    "counting": "45c6481990ce6d7f",
    "lamplight": "1437c59e604a841c",
    "stripes": "51378d169044bf0e",
    "fog": "10c51f46361409ef",
    "turned": "822df8c1eb206afa",
    "fence": "73f38ed09d8a3a2c",
    "script": "537c930339ee138d",
    "lookalikes": "e2307876f8abb31b",
    "segments": "4aef38c9a616b7ed",
    "plates": "402715b70709e898",
}


def digest(name: str, split: str = "test", pictures: int = 20) -> str:
    images = [Drawn(name, split, index).image for index in range(pictures)]
    return hashlib.sha256(np.stack(images).tobytes()).hexdigest()[:16]


@EVERY
def test_the_pictures_never_change(name: str):
    assert digest(name) == BITS[name]


def test_another_process_with_other_threads_draws_the_same_bits():
    code = (
        "import hashlib; from dpl.data.sources.synthetic import TASKS; from dpl.data.sources.synthetic.pools import Drawn;"
        "print(*[hashlib.sha256(Drawn(name, 'val', 7).image.tobytes()).hexdigest() for name in TASKS])"
    )
    environment = {"OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "5"}
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert process.stdout.split() == [hashlib.sha256(Drawn(name, "val", 7).image.tobytes()).hexdigest() for name in TASKS]


def test_a_picture_depends_on_nothing_that_was_drawn_before_or_at_the_same_time():
    items = [Drawn(name, "train", index) for name in TASKS for index in (5, 0, 9)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda item: item.image, items))
    for item, image in zip(reversed(items), reversed(together), strict=True):
        task, split, index = item.name.split("/")
        assert np.array_equal(Drawn(task, split, int(index)).image, image)


@pytest.mark.parametrize("name", quick_and_slow([*TASKS][:2], [*TASKS][2:]))
def test_no_picture_is_in_two_splits_and_no_name_is_used_twice(name: str):
    task = load(name)
    items = [*task.train, *task.val, *task.test]
    assert len({item.name for item in items}) == len(items)
    some = [*task.train[:120], *task.val[:60], *task.test[:120]]
    assert len({item.image.tobytes() for item in some if isinstance(item.image, np.ndarray)}) == len(some)


@EVERY
def test_a_task_has_enough_images_of_every_class_in_every_split(name: str):
    task = load_task(name)
    classes = len(task.class_names)
    assert 6 <= classes <= 16 and len(set(task.class_names)) == classes and len(task.test) >= 500
    for pool, least in ((task.train, 32), (task.val, 8), (task.test, 500 // classes)):
        counts = np.bincount([item.label for item in pool], minlength=classes)
        assert counts.min() == counts.max() >= least


@EVERY
def test_a_picture_is_48_pixels_square_in_colour_and_shows_something(name: str):
    for item in load(name).val[:24]:
        assert isinstance(item.image, np.ndarray)
        assert item.image.shape == (48, 48, 3) and item.image.dtype == np.uint8
        assert item.image.std((0, 1)).max() > 10


@EVERY
def test_names_and_templates_make_sentences(name: str):
    row = TASKS[name]
    assert len(row.templates) >= 5 and all(template.count("{}") == 1 for template in row.templates)
    assert row.templates[0].format(row.class_names[0]).startswith("a ")


def test_tasks_are_listed_without_drawing_and_without_heavy_imports():
    code = (
        "import sys; from dpl.data.load import BUILTIN, load_task; tasks = [load_task(n) for n in BUILTIN if n != 'digits'];"
        "assert len(tasks) >= 8 and not any('image' in vars(item) for task in tasks for item in task.test);"
        "print([m for m in ('torch', 'sklearn', 'scipy') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
    assert [*BUILTIN] == ["digits", *TASKS]


def test_what_would_change_the_class_is_not_done_to_a_training_image():
    assert all(TASKS[name].scale == (1, 1) for name in ("counting", "stripes"))
    mirrored = {name for name, row in TASKS.items() if row.flip}
    assert mirrored == {"corners", "counting", "lamplight", "turned"}


def test_a_rectangle_covers_its_area_and_a_hole_is_empty():
    box = np.array([(4.0, 8), (20, 8), (20, 24), (4, 24)])
    whole = coverage([box])
    assert whole.sum() == 16 * 16 * FULL and (whole[8:24, 4:20] == FULL).all()
    hole = coverage([box, (box - (12, 16))[::-1] / 2 + (12, 16)])
    assert (hole[12:20, 8:16] == 0).all() and hole.sum() == (256 - 64) * FULL


def test_coverage_is_that_of_counting_samples_by_the_winding_number():
    rng = np.random.default_rng(3)
    contours = [rng.uniform(-10, 58, (7, 2)) for _ in range(3)]  # they cross themselves and one another
    x, y = np.meshgrid(*[(np.arange(SIZE * 4) + 0.5) / 4] * 2)
    turns = np.zeros_like(x)
    for contour in contours:
        corners = np.rint(contour * 64) / 64
        for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0), strict=True):
            crossed = (min(ay, by) <= y) & (y < max(ay, by))
            turns += np.where(crossed & (ax + (y - ay) * (bx - ax) / (by - ay) <= x), np.sign(by - ay), 0)
    expected = (turns != 0).reshape(SIZE, 4, SIZE, 4).sum((1, 3))
    assert np.array_equal(coverage(contours), expected)


def test_a_line_is_as_wide_as_asked_in_every_direction():
    for angle in (0.0, 0.4, 1.2, 2.5):
        line = transform(np.array([(-10.0, 0), (10, 0)]), turning(angle), (24, 24))
        area = coverage([stroke(line, 3.0, closed=False)]).sum() / FULL
        assert area == pytest.approx(23 * 3, rel=0.03)  # square ends add 1.5 each


def test_every_outline_is_clockwise_within_its_square_with_holes_against_it():
    for contours in chain(SHAPES.values(), CORNERED.values(), UNSEEN.values()):
        areas = [(a[:, 0] * np.roll(a[:, 1], -1) - a[:, 1] * np.roll(a[:, 0], -1)).sum() for a in contours]
        assert areas[0] > 0 and all(area < 0 for area in areas[1:])
        assert all(np.abs(contour).max() <= 1.25 for contour in contours)


def test_nothing_seen_in_pretraining_is_counted():
    assert not set(UNSEEN) & set(SHAPES)
