"""Batches of training: pictures of the corpus and renderings of `tiny`, their captions, and which pairs are true."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from pretraining import captions, render
from pretraining.pictures import wording
from pretraining.pictures.augment import SIZE, augment
from pretraining.pictures.pictures import Corpus, Shard

BLACK, WHITE = render.BLACK, render.WHITE
RENDERED = 0.3  # share of `tiny`'s renderings in a batch with captions: digits, letters, shapes, counts, textures
SIDED = frozenset(  # names with these words are of things that a mirror changes
    ("left", "right", "east", "west", "north", "text", "letter", "letters", "button", "flag", "clock", "oclock")
    + ("back", "next", "previous", "forward", "number", "keycap")
)


@dataclass(frozen=True)
class Batch:
    """Images, captions and what is true of them.

    Args:
        images: In [0, 1].
        texts: Captions, equal ones merged.
        positive: Which images satisfy which captions.
        image_concepts: For the first images, those of the corpus: a share for each of a picture's names, or zeros.
        text_concepts: For the first captions, those of the corpus: one for the concept that the caption names, or zeros.
    """

    images: Float[Tensor, "images 3 SIZE SIZE"]
    texts: list[str]
    positive: Bool[Tensor, "images captions"]
    image_concepts: Float[Tensor, "pictures concepts"]
    text_concepts: Float[Tensor, "words concepts"]


def batch(corpus: Corpus, seed: int, step: int, count: int, with_renderings: bool = True) -> Batch:
    """A batch, drawn from (seed, step); renderings have no concepts, and so need captions."""
    rendered = round(RENDERED * count) if with_renderings else 0
    pictures = picture_batch(corpus, render.generator(seed, 1, step), count - rendered)
    if not rendered:
        return pictures
    attributes, drawn = render.batch("train", render.generator(seed, 0, step), rendered)
    texts, true = captions.captions(attributes, seed * 1_000_003 + step)
    drawn = F.interpolate(drawn, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return replace(
        pictures,
        images=torch.cat([pictures.images, drawn]),
        texts=pictures.texts + texts,
        positive=torch.block_diag(pictures.positive, true).bool(),
    )


def picture_batch(corpus: Corpus, g: Generator, count: int) -> Batch:
    """Augmented pictures of the corpus, a caption of each, and what is true of them."""
    chosen = [corpus.place(number) for number in corpus.draw(g, count).tolist()]
    rng = random.Random(int(torch.randint(0, 2**62, (1,), generator=g)))
    single = torch.tensor([shard.pixels.ndim == 3 for shard, _ in chosen])
    ink, ground = draw_colours(single, g)
    labels = [shard.labels[index] for shard, index in chosen]
    flip = torch.tensor([SIDED.isdisjoint(" ".join((*label.names, label.group.replace("-", " "))).split()) for label in labels])
    images = augment(torch.stack([layers(*place) for place in chosen]), ink, ground, flip, g)
    said = list(zip(labels, [shard.styles for shard, _ in chosen], ink.tolist(), ground.tolist(), strict=True))
    written = [wording.caption(*one, rng) for one in said]
    unique = dict(written)
    texts = list(unique)
    positive = wording.satisfied([wording.tags(*one) for one in said], list(unique.values()))
    column = {text: number for number, text in enumerate(texts)}
    positive[torch.arange(count), torch.tensor([column[text] for text, _ in written])] = (
        True  # also where merged texts claim other tags
    )
    named = [[tag.removeprefix("name:") for tag in claims if tag.startswith("name:")] for claims in unique.values()]
    return Batch(images, texts, positive, shares(corpus, [label.names for label in labels]), shares(corpus, named))


def shares(corpus: Corpus, names: Sequence[Sequence[str]]) -> Float[Tensor, "rows concepts"]:
    """A row for each list of names: equal shares of its concepts, or zeros."""
    table = torch.zeros(len(names), len(corpus.concepts))
    for row, listed in enumerate(names):
        known = [corpus.concepts[name] for name in listed if name in corpus.concepts]
        table[row, known] = 1 / max(1, len(known))
    return table


def layers(shard: Shard, index: int) -> Float[Tensor, "4 side side"]:
    """A stored picture as RGBA in [0, 1]; black where only coverage is stored."""
    pixels = torch.from_numpy(np.array(shard.pixels[index])).float() / 255
    if pixels.ndim == 2:
        return torch.cat([torch.zeros(3, *pixels.shape), pixels[None]])
    return pixels.permute(2, 0, 1)


def draw_colours(single: Bool[Tensor, "batch"], g: Generator) -> tuple[Tensor, Tensor]:
    """Ink (-1 for pictures with colours of their own) and background of each picture, indices into the named colours."""
    count = len(single)
    kinds = len(render.RGB)
    ink = torch.randint(0, kinds, (count,), generator=g)
    neutral = torch.rand(count, generator=g)
    ink = torch.where(neutral < 0.45, BLACK, torch.where(neutral > 0.9, WHITE, ink))
    grounds = torch.randint(0, kinds, (count, 4), generator=g)
    farthest = (render.RGB[grounds] - render.RGB[ink][:, None]).norm(dim=-1).argmax(1, keepdim=True)
    contrasting = torch.where((ink == BLACK) & (neutral < 0.3), WHITE, grounds.gather(1, farthest)[:, 0])
    free = torch.where(torch.rand(count, generator=g) < 0.55, WHITE, grounds[:, 0])
    return torch.where(single, ink, -1), torch.where(single, contrasting, free)
