"""Small pictures on disk for the tests of the data room."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture
def draw() -> Draw:
    """`draw(path, seed=0, size=(20, 16))`: saves a picture of smooth colours, and the folders above it."""

    def save(path: Path, seed: int = 0, size: tuple[int, int] = (20, 16), **options) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path, **options)
        return path

    return save


@pytest.fixture
def tree(tmp_path: Path, draw: Draw) -> Callable[[dict[str, int]], Path]:
    """`tree({"cat": 5, "dog": 3})`: a folder with so many pictures in each folder named."""

    def make(counts: dict[str, int]) -> Path:
        root = tmp_path / "data"
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                draw(root / folder / f"{index:03}.png", seed=index)
        return root

    return make
