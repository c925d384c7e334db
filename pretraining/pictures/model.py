"""The shape of `pictures`, its tokenizer, and embeddings at a lower resolution."""

import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPTokenizer

from pretraining import captions, render
from pretraining.model import CONTEXT, learn_tokenizer, normalise
from pretraining.pictures import wording
from pretraining.pictures.augment import SIZE
from pretraining.pictures.pictures import Corpus

VOCABULARY = 4096
LONGEST = 20  # tokens of a caption in training; the few longer ones are cut


def build_tokenizer(corpus: Corpus) -> CLIPTokenizer:
    """A tokenizer whose merges are learnt from captions of every picture and of some renderings."""
    rng = random.Random(7)
    texts = [captions.caption(row, rng)[0] for row in render.draw_attributes(render.generator(0, 7), 5000).tolist()]
    for shard in corpus.shards:
        for label in shard.labels:
            texts += [wording.caption(label, shard.styles, -1, -1, rng)[0], *label.keywords]
    return learn_tokenizer(texts, VOCABULARY - 514, 4)  # beside merges: 256 bytes alone, 256 ending a word, two special tokens


def read_tokenizer(folder: Path, corpus: Corpus) -> CLIPTokenizer:
    """The run's tokenizer, built at its first start."""
    if not (folder / "tokenizer.json").exists():
        build_tokenizer(corpus).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def pictures_config(tokenizer: CLIPTokenizer, width: int = 192, layers: int = 6) -> CLIPConfig:
    """64-pixel images in patches of 8 (65 tokens), `layers` layers a branch, heads of 32."""
    branch = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "hidden_act": "gelu",
        "projection_dim": width,
    }
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT,
    }
    return CLIPConfig(
        text_config=branch | ids, vision_config=branch | {"image_size": SIZE, "patch_size": 8}, projection_dim=width
    )


def image_embeddings(
    model: CLIPModel, images: Float[Tensor, "batch 3 SIZE SIZE"], side: int
) -> Float[Tensor, "batch projection"]:
    """Projected image embeddings, computed at a lower resolution (Li et al. 2023, RECLIP, arXiv:2304.06028).

    Args:
        model: The model; positions are interpolated.
        images: Images in [0, 1].
        side: Pixels to reduce the images to, a multiple of the patch size.

    Returns:
        Embeddings, not normalised.
    """
    if side == images.shape[-1]:
        return model.visual_projection(model.vision_model(normalise(images)).pooler_output)
    small = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    return model.visual_projection(model.vision_model(normalise(small), interpolate_pos_encoding=True).pooler_output)


def text_embeddings(
    model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str], parts: int = 3
) -> Float[Tensor, "texts projection"]:
    """Projected text embeddings, not normalised, computed in parts of about equal length, so that little padding is computed."""
    order = sorted(range(len(texts)), key=lambda index: len(tokenizer.tokenize(texts[index])))
    size = math.ceil(len(texts) / parts)
    embeddings = []
    for start in range(0, len(texts), size):
        part = [texts[index] for index in order[start : start + size]]
        tokens = tokenizer(part, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        embeddings.append(model.text_projection(model.text_model(**tokens).pooler_output))
    return torch.cat(embeddings)[torch.tensor(order).argsort()]


class Anchored(nn.Module):
    """A CLIP and an anchor for each concept of the corpus, which draws both branches; anchors are not published."""

    def __init__(self, clip: CLIPModel, concepts: int):
        super().__init__()
        self.clip = clip
        width = clip.visual_projection.out_features
        self.anchors = nn.Parameter(torch.randn(concepts, width) / width**0.5)

    @property
    def logit_scale(self) -> Tensor:
        """CLIP's, in logarithm."""
        return self.clip.logit_scale

    def concept_loss(self, embeddings: Float[Tensor, "rows projection"], targets: Float[Tensor, "rows concepts"]) -> Tensor:
        """Cross-entropy of unit embeddings over all anchors, a mean over the rows that have a concept."""
        logits = embeddings @ F.normalize(self.anchors, dim=1).T * self.logit_scale.exp()
        return -(F.log_softmax(logits, 1) * targets).sum() / targets.sum().clamp(min=1)
