"""Run folders to report on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reports.made_up import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The run folder of a `dpl fit` whose search weighed a mixture."""
    return write_run(tmp_path / "digits-16shot-seed1")


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    """The run folder of a `dpl fit` whose search pruned."""
    return write_run(tmp_path / "pruned", method="pruning", epochs=7)


@pytest.fixture(params=["mixture", "pruning"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The run folder of a `dpl fit` with either search."""
    return write_run(tmp_path / "either", method=request.param)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder with the given arguments of `write_run`."""
    return lambda **arguments: write_run(tmp_path / "made", **arguments)
