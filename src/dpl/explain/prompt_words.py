"""Norms of the prompts, and the vocabulary words nearest to the text prompts."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from tokenizers.decoders import ByteLevel
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.methods.method import Method
from dpl.utils.rng import generator

NEAREST = 3  # words per prompt
DIRECTIONS = 256  # random directions that estimate the cosine by chance


@torch.no_grad()
def prompt_words(model: Method) -> dict[str, Any] | None:
    """Computes the norms of all prompts, and the three words nearest to each text prompt.

    Nearness is the cosine between the prompt and the input embedding of the word's token; of a word with several tokens the
    nearest counts. CoOp's table (Zhou et al. 2022, table 4) uses Euclidean distances instead.

    Input embeddings describe the meaning of a vector before the first layer. Deeper layers work on other states, so a word's
    cosine should be compared with "chance", which 95 % of 256 random directions do not exceed with their nearest word.

    Args:
        model: the trained model.

    Returns:
        "image" and "text": for every layer with prompts "layer" (from 1) and "norms" (Euclidean), and for text "words": for
        every prompt {"word", "cosine"} of three words, nearest first; the cosine is -1 to 1. "token_norm": the mean norm of
        the words' embeddings. "chance": the cosine by chance. None if the method learns no prompts.
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
    """Readable words of a backbone's tokenizer with their input embeddings, (tokens, width).

    A word may have several tokens, which differ in case or in the end-of-word mark.
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
        """Finds the nearest words of vectors.

        Args:
            rows: (prompts, width).

        Returns:
            For each row the words with their cosines (-1 to 1), nearest first.
        """
        best = self._cosines(rows).topk(min(NEAREST, len(self.words)), dim=-1)
        return [
            [{"word": self.words[index], "cosine": round(cosine, 4)} for index, cosine in zip(indices, cosines, strict=True)]
            for indices, cosines in zip(best.indices.tolist(), best.values.clamp(-1, 1).tolist(), strict=True)
        ]

    def chance(self) -> float:
        """Returns the 95th percentile, over random directions, of the cosine with the nearest word."""
        device, width = self._directions.device, self._directions.shape[-1]
        directions = torch.randn(DIRECTIONS, width, generator=generator(0, "directions")).to(device)
        return round(self._cosines(directions).amax(dim=-1).quantile(0.95).item(), 4)

    def _cosines(self, rows: Float[Tensor, "prompts width"]) -> Float[Tensor, "prompts words"]:
        """Returns the cosine of each row with each word, the largest over the word's tokens."""
        cosines = F.normalize(rows) @ self._directions.T
        words = cosines.new_full((len(rows), len(self.words)), -1.0)
        return words.scatter_reduce_(1, self._word_of.expand_as(cosines), cosines, "amax")


def _norms(rows: Float[Tensor, "prompts width"]) -> list[float]:
    return [round(norm, 4) for norm in rows.norm(dim=-1).tolist()]


def _spelled(backbone: Backbone) -> dict[int, str]:
    """Maps each readable token to its word in lower case; leaves out special tokens and incomplete characters."""
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
