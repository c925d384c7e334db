"""The words that prompts are nearest to, and their norms."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dpl import Backbone, PromptLayout, load_backbone
from dpl.explain.prompt_words import Vocabulary, prompt_words
from dpl.methods import METHODS
from dpl.methods.coop import CoOp, CoOpConfig
from dpl.methods.dpl import Dpl, DplConfig
from dpl.methods.ivlp import Ivlp, IvlpConfig

TEMPLATES = ["a photo of a {}."]


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny", device="cpu")


@pytest.fixture(scope="module")
def small(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint), device="cpu")


def embedding_of(backbone: Backbone, token: str) -> Tensor:
    embeddings: Any = backbone.clip.text_model.embeddings
    number = backbone.tokenizer.get_vocab()[token]
    return embeddings.token_embedding.weight[number].clone()


def with_rows(backbone: Backbone, layer: int, rows: Tensor) -> Dpl:
    text = [0] * backbone.text.depth
    text[layer] = len(rows)
    model = Dpl(backbone, ["a"], TEMPLATES, DplConfig(PromptLayout((0,) * backbone.image.depth, tuple(text))))
    model.text.layers[layer].prompts.data.copy_(rows)
    return model


def said(model: Any) -> dict[str, Any]:
    found = prompt_words(model)
    assert found is not None
    return found


@pytest.mark.parametrize("layer", [0, 3])
def test_embeddings_of_words_come_back_as_their_words_whatever_their_length(tiny, layer):
    rows = torch.stack([embedding_of(tiny, "photo</w>"), 7 * embedding_of(tiny, "circle</w>"), 0.01 * embedding_of(tiny, "!")])
    (found,) = said(with_rows(tiny, layer, rows))["text"]
    assert found["layer"] == layer + 1
    assert [words[0] for words in found["words"]] == [{"word": word, "cosine": 1.0} for word in ("photo", "circle", "!")]
    assert found["norms"] == pytest.approx(rows.norm(dim=1).tolist(), abs=1e-4)


def test_a_word_that_is_spelled_in_several_ways_stands_once_by_its_nearest(tiny):
    vocabulary = tiny.tokenizer.get_vocab()
    assert {"a", "a</w>"} <= set(vocabulary)
    (found,) = said(with_rows(tiny, 0, torch.stack([embedding_of(tiny, "a"), embedding_of(tiny, "a</w>")])))["text"]
    for words in found["words"]:
        assert words[0] == {"word": "a", "cosine": 1.0} and len({entry["word"] for entry in words}) == 3
        assert [entry["cosine"] for entry in words] == sorted((entry["cosine"] for entry in words), reverse=True)


def test_the_nearest_are_those_of_a_search_word_by_word(small):
    row = torch.randn(24, generator=torch.Generator().manual_seed(3))
    best: dict[str, float] = {}
    for token in small.tokenizer.get_vocab():
        if token.isascii() and token.isprintable() and not token.startswith("<|"):
            cosine = float(F.cosine_similarity(row, embedding_of(small, token), dim=0))
            best[token] = max(best.get(token, -1), cosine)
    (found,) = said(with_rows(small, 0, row[None]))["text"]
    ours = {entry["word"]: entry["cosine"] for entry in found["words"][0]}
    assert all(ours[word] == pytest.approx(best[word.lower()], abs=1e-4) for word in ours if word in best and word.islower())
    assert min(ours.values()) >= sorted(best.values())[-3] - 1e-4


def test_words_can_be_read(tiny, small):
    for backbone in (tiny, small):
        words = Vocabulary(backbone).words
        assert len(set(words)) == len(words) > 50
        assert not {"<|startoftext|>", "<|endoftext|>", ""} & set(words)
        assert all(word.isprintable() and word == word.strip().lower() for word in words)
        assert not any(part in word for word in words for part in ("</w>", "\ufffd", "Ġ"))
    assert {"photo", "circle", "0", "."} <= set(Vocabulary(tiny).words)


def test_what_chance_gives_is_what_random_directions_reach(small):
    embeddings: Any = small.clip.text_model.embeddings
    own = [number for token, number in small.tokenizer.get_vocab().items() if token.isascii() and not token.startswith("<|")]
    rows = F.normalize(embeddings.token_embedding.weight[torch.tensor(own)])
    directions = F.normalize(torch.randn(4000, 24, generator=torch.Generator().manual_seed(9)))
    found = said(with_rows(small, 0, torch.ones(1, 24)))
    # Of the ASCII part of the vocabulary alone the nearest are a little farther.
    assert float((directions @ rows.T).amax(dim=1).quantile(0.95)) - 0.02 < found["chance"] < 0.9
    assert found["chance"] == said(with_rows(small, 1, torch.zeros(2, 24)))["chance"]
    assert found["token_norm"] == pytest.approx(float(embeddings.token_embedding.weight.norm(dim=1).mean()), rel=0.02)


def test_random_prompts_stay_below_chance_and_words_above(tiny):
    rows = torch.randn(40, 128, generator=torch.Generator().manual_seed(5))
    found = said(with_rows(tiny, 2, rows))
    nearest = [words[0]["cosine"] for words in found["text"][0]["words"]]
    assert sum(cosine > found["chance"] for cosine in nearest) <= 6 and found["chance"] < 0.9  # 2 expected of 40


def test_context_of_all_kinds_of_methods_is_read_and_layers_without_are_left_out(small):
    ivlp = said(Ivlp(small, ["a"], TEMPLATES, IvlpConfig(image_context=3, text_context=2, depth=1)))
    assert [(row["layer"], len(row["norms"])) for row in ivlp["image"]] == [(1, 3)]
    assert [words[0]["word"] for words in ivlp["text"][0]["words"]] != []
    coop = said(CoOp(small, ["a"], TEMPLATES, CoOpConfig(init="photo of")))
    assert coop["image"] == [] and [row["layer"] for row in coop["text"]] == [1]
    assert all(words[0]["cosine"] == pytest.approx(1, abs=1e-4) for words in coop["text"][0]["words"])
    dpl = said(Dpl(small, ["a"], TEMPLATES, DplConfig(PromptLayout((0, 2), (0, 0)))))
    assert [row["layer"] for row in dpl["image"]] == [2] and dpl["text"] == []


@pytest.mark.parametrize("name", [name for name in METHODS if name != "dpl"])
def test_every_method_says_what_its_layout_counts(small, name):
    method: Any = METHODS[name].load()
    model = method(small, ["a", "dark blue"], TEMPLATES, method.Config())
    found = prompt_words(model)
    assert (found is None) == (model.layout.tokens == 0)
    for branch in ("image", "text"):
        if found is None:
            continue
        counts = {row["layer"]: len(row["norms"]) for row in found[branch]}
        assert counts == {layer: length for layer, length in enumerate(getattr(model.layout, branch), start=1) if length}


def test_contexts_that_belong_to_classes_are_left_out(small):
    assert prompt_words(CoOp(small, ["a", "b"], TEMPLATES, CoOpConfig(context=2, class_specific=True))) is None
