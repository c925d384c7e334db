"""A tiny backbone of the benchmarks, in float64."""

import pytest

from benchmarks.clips import SHAPES, random_backbone
from dpl import Backbone


@pytest.fixture(scope="session")
def exact() -> Backbone:
    """Not to be changed."""
    backbone = random_backbone(SHAPES["tiny"])
    backbone.clip.double()
    return backbone
