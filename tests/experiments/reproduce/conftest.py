"""Small replicas of the catalogue, and folders of images, for whole protocols."""

from pathlib import Path

import pytest

from tests.checkpoints import save_images
from tests.data.sources.catalog.replicas import build


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replica of every data set of the catalogue; tests do not change it."""
    return build(tmp_path_factory.mktemp("replicas"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two data sets as class folders, with four and with five classes."""
    made = tmp_path_factory.mktemp("folders")
    for folder, names in (("first", ("a", "b", "c")), ("second", ("p", "q", "r"))):
        for old, new in zip(("green", "red", "dark_blue"), names, strict=True):
            save = save_images(made / f"{folder}-{new}", 10)
            (made / folder).mkdir(exist_ok=True)
            (save / old).rename(made / folder / new)
    for folder, name, colour in (("first", "d", "red"), ("second", "s", "green"), ("second", "t", "red")):
        (save_images(made / f"{folder}-{name}", 10) / colour).rename(made / folder / name)
    return made / "first", made / "second"
