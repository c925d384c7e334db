"""Images per second of `dpl` with trained prompts against the bare Hugging Face model on the same images.

    python -m benchmarks inference --model vit-b/16

Twice: pixels to classes, both given the same uint8 pixels and stored class embeddings; and image files to classes, where the
bare model gets the same decoded pixels batch by batch. Random weights of the true shapes and a layout of 4 tokens in every
layer (`tiny`: the embedded backbone's shapes).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.clips import SHAPES, TEMPLATE, class_names, random_backbone
from benchmarks.timing import markdown, medians, rounds, session
from dpl.backbones.choices import Precision
from dpl.backbones.loading import load_backbone
from dpl.classifier import Classifier
from dpl.data.pixels.transforms import decode, normalise
from dpl.data.task import Item
from dpl.evaluate import evaluate_side_by_side, images_at_once
from dpl.prompts.layout import PromptLayout
from dpl.utils.files import write_json


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    model: Literal["tiny", "vit-b/16", "vit-l/14"] = "vit-b/16"
    """tiny is the embedded backbone."""
    images: int = 128
    """How many in a run, JPEG files of 320 x 240."""
    classes: int = 100
    """How many class names."""
    layout: int = 4
    """Context length in every layer."""
    runs: int = 7
    """Timed runs of each; the table shows medians."""
    precision: Precision = "fp32"
    """What the layers compute in."""
    device: str = "cpu"
    """cpu or cuda."""
    out: Path = Path("runs/benchmark/inference.json")
    """The JSON with all timings."""


def main(settings: Settings) -> None:
    """Prints the table."""
    tiny = settings.model == "tiny"
    backbone = load_backbone("tiny", settings.device, settings.precision) if tiny else None
    backbone = backbone or random_backbone(SHAPES[settings.model], settings.precision, settings.device)
    layout = PromptLayout.uniform(settings.layout, backbone.image.depth, backbone.text.depth)
    model = Classifier.fixed(backbone, class_names(settings.classes), TEMPLATE, layout, std=0.05, seed=1)
    with TemporaryDirectory() as folder, torch.no_grad():
        items, text = _items(settings, Path(folder)), model.text_features()
        pixels = decode(items, backbone.preprocessing)
        scores: dict[str, Callable[[Tensor], Tensor]] = {
            "bare": lambda batch: _bare(backbone.clip, normalise(batch.to(backbone.device), backbone.preprocessing), text),
            "ours": lambda batch: model.logits(model.image_features(batch), text).argmax(dim=1),
        }
        size = images_at_once(backbone)
        batches = pixels.split(size)
        file_batches = [items[start : start + size] for start in range(0, len(items), size)]
        subjects: dict[str, dict[str, Callable[[], Any]]] = {
            "pixels": {name: lambda score=score: [score(batch) for batch in batches] for name, score in scores.items()},
            "files": {
                "bare": lambda: [scores["bare"](decode(batch, backbone.preprocessing)) for batch in file_batches],
                "ours": lambda: evaluate_side_by_side([model], items, known={model: text}),
            },
        }
        measured = {name: list(rounds(steps, settings.runs, backbone.device)) for name, steps in subjects.items()}
    rows = []
    for name, seconds in measured.items():
        bare, ours = (settings.images / medians(seconds)[subject] for subject in ("bare", "ours"))
        rows.append([name, f"{bare:.1f}", f"{ours:.1f}", f"{ours / bare:.3f}"])
    print(f"{settings.model}, {settings.precision}, {settings.device}, images/s, medians of {settings.runs} runs:\n")
    print(markdown(["from", "bare", "ours", "ours / bare"], rows))
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(settings.out, {"session": session(backbone.device), "rounds": measured})


def _bare(clip: Any, pixels: Tensor, text: Tensor) -> Tensor:
    images = F.normalize(clip.get_image_features(pixel_values=pixels).pooler_output.float())
    return (clip.logit_scale.exp() * images @ text.T).argmax(dim=1)


def _items(settings: Settings, folder: Path) -> list[Item]:
    rng = np.random.default_rng(1)
    items = []
    for index in range(settings.images):
        path = folder / f"{index}.jpg"
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(path)
        items.append(Item(path, index % settings.classes, path.name))
    return items
