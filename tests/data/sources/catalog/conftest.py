"""The replicas, built once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .replicas import build, build_without_splits


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All fifteen layouts; not to be changed."""
    return build(tmp_path_factory.mktemp("replicas"))


@pytest.fixture(scope="session")
def without_splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All fifteen without the split files; not to be changed."""
    return build_without_splits(tmp_path_factory.mktemp("without-splits"))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Callable[..., Path]:
    """`copy("dtd", ...)`: a root with copies of these folders, to be damaged."""

    def make(*folders: str) -> Path:
        for folder in folders:
            shutil.copytree(root / folder, tmp_path / "root" / folder)
        return tmp_path / "root"

    return make
