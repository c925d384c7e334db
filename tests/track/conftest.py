"""A run with every step tracked, and a machine on which nobody has used wandb."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import dpl.track
from dpl import fit
from tests.track.tracked_runs import settings


@pytest.fixture(autouse=True)
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpl.track, "EVERY", 1)


@pytest.fixture
def own_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Sets up wandb as on a machine without a login or settings."""
    import wandb

    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    wandb.teardown()


@pytest.fixture(scope="module")
def tracked(images: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpl.track, "EVERY", 1)
        return fit(settings(images, checkpoint, tmp_path_factory.mktemp("tracked") / "run", "tensorboard"))
