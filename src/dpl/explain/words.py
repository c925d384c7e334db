"""What prompts say: their norms, and the words of the vocabulary that text prompts are nearest to."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from tokenizers.decoders import ByteLevel
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.methods.method import Method
from dpl.rng import generator

NEAREST = 3  # words of a prompt
DIRECTIONS = 256  # random ones, for the cosine that chance gives


@torch.no_grad()
def prompt_words(model: Method) -> dict[str, Any] | None:
    """The norms of all prompts, and the three words nearest to each text prompt; None where the method learns no prompts.

    "image" and "text": of every layer with prompts its number, from 1, as "layer", "norms" (Euclidean), and for text "words":
    for every prompt {"word", "cosine"} of three words, nearest first. The cosine, -1 to 1, is that with the input embedding of
    the word's token, in the nearest of its spellings, as CoOp's table (Zhou et al. 2022, table 4) has Euclidean distances.

    The input embeddings say what a prompt means in front of the first layer. Deeper layers work on other states; for them, as
    for any prompt, "chance" stands beside: the cosine that the nearest word reaches for 95 % of 256 random directions at most.
    "token_norm" is the mean norm of the words' embeddings.
    """
    contexts = model.contexts
    if not any(map(len, (*contexts["image"], *contexts["text"]))):
        return None
    words = Vocabulary(model.backbone)
    image, text = (
        [(layer, rows.detach().float()) for layer, rows in enumerate(contexts[branch], start=1) if len(rows)]
        for branch in ("image", "text")
    )
    return {
        "image": [{"layer": layer, "norms": _norms(rows)} for layer, rows in image],
        "text": [{"layer": layer, "norms": _norms(rows), "words": words.nearest(rows)} for layer, rows in text],
        "token_norm": words.mean_norm,
        "chance": words.chance(),
    }


class Vocabulary:
    """The readable words of a backbone's tokenizer and their input embeddings, (tokens, width).

    A word may have several tokens: those that differ in case, or in whether the word ends with them.
    """

    def __init__(self, backbone: Backbone) -> None:
        embeddings: Any = backbone.clip.text_model.embeddings
        spelled = _spelled(backbone)
        rows = embeddings.token_embedding.weight.detach()[torch.tensor(list(spelled), device=backbone.device)].float()
        self.words = list(dict.fromkeys(spelled.values()))
        self.mean_norm = round(rows.norm(dim=-1).mean().item(), 4)
        number = {word: index for index, word in enumerate(self.words)}
        self._word_of = torch.tensor([number[word] for word in spelled.values()], device=backbone.device)
        self._directions = F.normalize(rows)

    def nearest(self, rows: Float[Tensor, "prompts width"]) -> list[list[dict[str, Any]]]:
        """For each row the nearest words and their cosines, nearest first."""
        best = self._cosines(rows).topk(min(NEAREST, len(self.words)), dim=-1)
        return [
            [{"word": self.words[index], "cosine": round(cosine, 4)} for index, cosine in zip(indices, cosines, strict=True)]
            for indices, cosines in zip(best.indices.tolist(), best.values.clamp(-1, 1).tolist(), strict=True)
        ]

    def chance(self) -> float:
        """The 95th percentile, over random directions, of the cosine with the nearest word."""
        device, width = self._directions.device, self._directions.shape[-1]
        directions = torch.randn(DIRECTIONS, width, generator=generator(0, "directions")).to(device)
        return round(self._cosines(directions).amax(dim=-1).quantile(0.95).item(), 4)

    def _cosines(self, rows: Float[Tensor, "prompts width"]) -> Float[Tensor, "prompts words"]:
        """Of the nearest token of every word."""
        cosines = F.normalize(rows) @ self._directions.T
        words = cosines.new_full((len(rows), len(self.words)), -1.0)
        return words.scatter_reduce_(1, self._word_of.expand_as(cosines), cosines, "amax")


def _norms(rows: Float[Tensor, "prompts width"]) -> list[float]:
    return [round(norm, 4) for norm in rows.norm(dim=-1).tolist()]


def _spelled(backbone: Backbone) -> dict[int, str]:
    """The word, in lower case, of every token that is one; not of special tokens, and not of pieces of characters."""
    tokenizer, read = backbone.tokenizer, ByteLevel()
    embeddings: Any = backbone.clip.text_model.embeddings
    special = {*tokenizer.all_special_ids}
    words = {}
    for token, number in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1]):
        word = read.decode([token.removesuffix("</w>")]).strip().lower()
        if word and word.isprintable() and "\ufffd" not in word:
            words[number] = word
    fits = embeddings.token_embedding.num_embeddings
    return {number: word for number, word in words.items() if number not in special and number < fits}
