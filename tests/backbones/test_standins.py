"""Every kind of CLIP repository loads, and computes what transformers computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPModel

from dpl.backbones.formats import clip_tokenizer
from dpl.backbones.loading import load_backbone
from dpl.classifier import ZeroShot
from tests.backbones.standins import SIZE, STAND_INS, StandIn, into_cache, write
from tests.cases import quick_and_slow

NAMES = ("cat", "very long-haired dog")
TEMPLATE = "a photo of a {}."
# One of each form: a pickle from before zip files, shards, halves, another tokenizer's files, another preprocessor's keys.
QUICK = [
    one
    for one in STAND_INS
    if one.name.split("/")[1].startswith(("clip-vit-base-patch32", "CLIP-ViT-bigG", "metaclip", "TinyCLIP"))
]


@pytest.mark.parametrize(
    "stand_in", quick_and_slow(QUICK, [one for one in STAND_INS if one not in QUICK]), ids=lambda one: one.name
)
def test_a_repository_as_it_lies_on_the_hub_gives_the_logits_of_transformers(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    reference = write(stand_in, tmp_path / "files")
    into_cache(tmp_path / "files", stand_in.name, tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    backbone = load_backbone(stand_in.name, "cpu", "fp32")
    pixels = torch.randint(256, (3, 3, SIZE, SIZE), dtype=torch.uint8)
    with torch.no_grad():
        logits = ZeroShot(backbone, NAMES, [TEMPLATE])(pixels)
        expected = oracle(reference, pixels, stand_in)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert backbone.commit == "0" * 39 + "1" and backbone.image_size == SIZE
    said = " ".join(backbone.notes)
    assert ("pickle" in said) == (not list((tmp_path / "cache").rglob("*.safetensors"))), said


def oracle(model: CLIPModel, pixels: torch.Tensor, stand_in: StandIn) -> torch.Tensor:
    """Logits by transformers alone, with the normalisation of preprocessor_config.json."""
    assert stand_in.preprocessor is not None
    mean, std = (torch.tensor(stand_in.preprocessor[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))
    tokens: Any = clip_tokenizer()([TEMPLATE.format(name) for name in NAMES], padding=True, return_tensors="pt")
    return model(pixel_values=(pixels / 255 - mean) / std, **tokens).logits_per_image
