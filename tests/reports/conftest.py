"""Run folders to report on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reports.made_up import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The run folder of a `dpl fit`."""
    return write_run(tmp_path / "digits-16shot-seed1")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder with the given arguments of `write_run`."""
    return lambda **arguments: write_run(tmp_path / "made", **arguments)
