"""Read the corpus: memory-mapped pictures, their names, and weighted draws of them."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from pretraining.pictures.names import Label

# Weights of the kinds. Emoji have the cleanest names, and their sets are few.
SHARES = {"emoji": 0.52, "icon": 0.28, "clipart": 0.06}
REPEATED = 3  # pictures that must have a name for it to be a concept with an anchor
SELDOM = {"flag": 0.3, "person": 0.35, "family": 0.2}  # weights of emoji by parts of their subgroups' names
EMOJI_NAMED = 8.0  # an icon with the name of an emoji is drawn so much more often: things rather than user interfaces


@dataclass(frozen=True)
class Shard:
    """The pictures of one source.

    Args:
        name: The source.
        kind: "emoji", "icon" or "clipart".
        styles: Words for its style.
        pixels: uint8[n, 72, 72, 4], or uint8[n, 72, 72] where only coverage is stored.
        labels: Names of each picture.
    """

    name: str
    kind: str
    styles: tuple[str, ...]
    pixels: np.ndarray
    labels: list[Label]


def read_shard(folder: Path, source: dict) -> Shard:
    """A shard of the corpus; `source` is its entry in `sources.json`."""
    lines = [json.loads(line) for line in (folder / f"{source['name']}.jsonl").read_text().splitlines()]
    labels = [Label(tuple(line["names"]), tuple(line["keywords"]), line["group"]) for line in lines]
    pixels = np.load(folder / f"{source['name']}.npy", mmap_mode="r")
    return Shard(source["name"], source["kind"], tuple(source["styles"]), pixels, labels)


def read_shards(folder: Path, split: str) -> list[Shard]:
    """The shards of a split: "train", "shift" or "kept"."""
    sources = json.loads((folder / "sources.json").read_text())
    return [read_shard(folder, source) for source in sources if source["split"] == split]


class Corpus:
    """All pictures of training, numbered through, with their weights; `concepts` numbers the repeated names."""

    def __init__(self, shards: list[Shard]):
        self.shards = shards
        self.starts = np.cumsum([0, *(len(shard.labels) for shard in shards)])
        known = {name for shard in shards if shard.kind == "emoji" for label in shard.labels for name in label.names}
        weights = [torch.tensor([weight(shard, label, known) for label in shard.labels]) for shard in shards]
        for kind, share in SHARES.items():
            whole = sum(float(w.sum()) for shard, w in zip(shards, weights, strict=True) if shard.kind == kind)
            for shard, w in zip(shards, weights, strict=True):
                if shard.kind == kind:
                    w *= share / whole
        counts = Counter(name for shard in shards for label in shard.labels for name in label.names)
        self.concepts = {name: number for number, name in enumerate(sorted(name for name, n in counts.items() if n >= REPEATED))}
        self.cumulated: Float[Tensor, "pictures"] = torch.cat(weights).double().cumsum(0)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def draw(self, g: Generator, count: int) -> Int[Tensor, "count"]:
        """Numbers of pictures, drawn by weight with replacement."""
        at = torch.rand(count, generator=g, dtype=torch.float64) * self.cumulated[-1]
        return torch.searchsorted(self.cumulated, at).clamp(max=len(self) - 1)

    def place(self, number: int) -> tuple[Shard, int]:
        """The shard of a picture and its index there."""
        shard = int(np.searchsorted(self.starts, number, "right")) - 1
        return self.shards[shard], number - int(self.starts[shard])


def weight(shard: Shard, label: Label, emoji_names: set[str]) -> float:
    """How often a picture is drawn, beside others of its kind. Flags and people are many and alike, hence seldom."""
    if shard.kind == "emoji":
        return next((share for part, share in SELDOM.items() if part in label.group), 1.0)
    return EMOJI_NAMED if shard.kind == "icon" and label.names[0] in emoji_names else 1.0
