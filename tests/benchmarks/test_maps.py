"""The measurement of maps: what it covers is what it says, and it prints a row per task."""

import pytest
import torch

from benchmarks import maps
from benchmarks.__main__ import main
from dpl import load_backbone, load_task

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here


def test_the_object_is_in_the_middle_of_its_half():
    item = load_task("digits").test[0]
    for right in (False, True):
        picture = maps._on_one_side(item, 48, right)
        ground = picture[:, :1, :1]
        rows, columns = (picture != ground).any(dim=0).nonzero().T
        assert rows.min() >= 12 and rows.max() < 36
        assert (columns >= 24).all() if right else (columns < 24).all()


def test_covered_patches_have_the_mean_colour_and_the_others_stay():
    pixels = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8)
    covered = maps._covered(pixels, torch.tensor([[0], [3]]), 2)
    changed = (covered != pixels).any(dim=1)
    assert changed[0, :6, :6].any() and not changed[0, 6:].any() and not changed[0, :, 6:].any()
    assert len(covered[1, :, 6:, 6:].flatten(1).unique(dim=1).T) == 1 and torch.equal(covered[1, :, :6], pixels[1, :, :6])


def test_covering_begins_with_the_whole_picture():
    task, backbone = load_task("digits"), load_backbone("tiny", "cpu")
    whole, *others = maps.covering(backbone, task, task.test[:40], seed=0)
    assert len(others) == 3 and all(0 < share < whole <= 1 for share in others)


def test_the_command_prints_a_row(capsys: pytest.CaptureFixture[str]):
    assert main(["maps", "--tasks", "outlines", "--images", "6", "--repeats", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("| outlines | ")
