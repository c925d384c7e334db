"""A small trained run to be explained."""

from dataclasses import replace
from pathlib import Path

import pytest

from dpl.config import FitRun, TrainConfig
from dpl.pipeline import fit
from dpl.prompts.layout import PromptLayout

LAYOUT = PromptLayout((2, 0), (1, 3))


@pytest.fixture(scope="session")
def trained(images: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of prompts in `LAYOUT` on the tiny CLIP and images of three colours; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    layout = folder / "layout.json"
    layout.write_text(LAYOUT.to_json())
    settings = FitRun(str(images), backbone=str(checkpoint), shots=4, out=folder / "run", layout=str(layout))
    # The text head, which makes mistakes here: they are explained too.
    return fit(replace(settings, head="text", train=TrainConfig(epochs=8, batch_size=6)))
