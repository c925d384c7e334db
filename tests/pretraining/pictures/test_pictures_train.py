"""Batches, resume, the end of a run, and scores that count what they say."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPModel

from pretraining.model import normalise
from pretraining.pictures import batches, score, train
from pretraining.pictures.model import build_tokenizer, image_embeddings, pictures_config, text_embeddings
from pretraining.pictures.pictures import SHARES, Corpus, read_shards
from pretraining.render import generator

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here


@pytest.fixture
def corpus(corpus_folder):
    return Corpus(read_shards(corpus_folder, "train"))


def test_draws_follow_the_shares_of_kinds(corpus):
    drawn = [corpus.place(number)[0].kind for number in corpus.draw(generator(1), 4000).tolist()]
    whole = sum(SHARES.values())
    for kind, share in SHARES.items():
        assert drawn.count(kind) / 4000 == pytest.approx(share / whole, abs=0.03)


def test_every_image_and_caption_of_a_batch_has_a_true_pair(corpus, monkeypatch):
    draw = batches.render.batch
    monkeypatch.setattr(batches.render, "batch", lambda split, *rest: draw("held_out", *rest))  # the smaller atlas
    drawn = batches.batch(corpus, 1, 0, 50)
    assert drawn.images.shape == (50, 3, 64, 64) and drawn.positive.shape == (50, len(drawn.texts))
    assert drawn.positive.any(0).all() and drawn.positive.any(1).all()
    again = batches.batch(corpus, 1, 0, 50)
    assert torch.equal(drawn.images, again.images) and drawn.texts == again.texts


def test_images_and_captions_are_told_their_concepts(corpus):
    drawn = batches.picture_batch(corpus, generator(1), 40)
    names = list(corpus.concepts)
    assert names == ["bell", "cat", "dog", "key"]  # each in three sources
    named = 0
    for row, text in zip(drawn.text_concepts, drawn.texts, strict=True):
        said = [name for name in names if name in text.replace(".", "").split()]
        assert [names[index] for index in row.nonzero()[:, 0]] == said
        named += len(said)
    assert named > 10
    for row, of_image in zip(drawn.positive, drawn.image_concepts, strict=True):
        assert of_image.sum() == 1
        told = drawn.text_concepts[row].sum(0)
        assert told.sum() == 0 or told.argmax() == of_image.argmax()


@pytest.fixture
def tokenizer(corpus):
    return build_tokenizer(corpus)


def test_embeddings_at_the_whole_resolution_are_the_models_own(tokenizer):
    model = CLIPModel(pictures_config(tokenizer, width=32, layers=1)).eval()
    images = torch.rand(2, 3, 64, 64, generator=generator(1))
    own = model.visual_projection(model.vision_model(normalise(images)).pooler_output)
    torch.testing.assert_close(image_embeddings(model, images, 64), own)
    small = image_embeddings(model, images, 40)
    assert small.shape == own.shape and not torch.allclose(small, own, atol=1e-4)


def test_texts_embed_alike_in_parts_and_at_once(tokenizer):
    model = CLIPModel(pictures_config(tokenizer, width=32, layers=1)).eval()
    texts = ["a cat and a bell.", "bell", "a dog", "an icon of a key.", "a cat."]
    whole = model.text_projection(model.text_model(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output)
    torch.testing.assert_close(text_embeddings(model, tokenizer, texts, parts=2), whole, rtol=1e-4, atol=1e-5)


@pytest.fixture
def run(corpus_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "RENDERED", 0.0)  # the atlas of fonts takes seconds to read

    def run(name, more):
        line = (
            f"--corpus {corpus_folder} --out {tmp_path / name} --warmup 16 --batch 8 --width 32 --layers 1 --log-every 1 {more}"
        )
        return train.train(train.arguments(line.split())).state_dict()

    return run


def test_a_resumed_run_equals_an_uninterrupted_one(run, tmp_path):
    whole = run("whole", "--samples 32")
    run("parts", "--samples 16")
    resumed = run("parts", "--samples 32")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [json.loads(line)["step"] for line in (tmp_path / "parts/log.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


def test_an_interrupted_decay_goes_on_and_publishes_at_its_end(run, tmp_path):
    run("run", "--samples 24")
    run("run", f"--decay 32 --samples 40 --publish {tmp_path / 'published'}")
    assert not (tmp_path / "published").exists()
    run("run", f"--decay 32 --publish {tmp_path / 'published'}")
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["seen"] for line in lines] == [8, 16, 24, 32, 40, 48, 56]
    rates = [line["lr"] for line in lines]
    assert rates[2] == rates[3] > rates[4] > rates[5] > rates[6]  # the step at the decay's start still has the whole rate
    model = CLIPModel.from_pretrained(tmp_path / "published")
    assert model.dtype == torch.bfloat16
    words = AutoTokenizer.from_pretrained(tmp_path / "published")("a cat", return_tensors="pt")
    text = model.text_model.config
    assert words["input_ids"][0, -1] == text.eos_token_id == text.vocab_size - 1


def test_commonest_concepts_are_counted_in_training_pictures(corpus_folder):
    shards, held = read_shards(corpus_folder, "train"), read_shards(corpus_folder, "shift")[0]
    shards[1].labels[2] = shards[1].labels[0]  # cat twice among the icons, key once less
    chosen = [held.labels[index].names[0] for index in score.commonest(shards, held, 4)]
    assert chosen == ["cat", "bell", "dog", "key"]


def test_pictures_lie_on_white(corpus_folder):
    for shard in read_shards(corpus_folder, "train"):
        images = score.on_white(shard, [0, 2])
        assert images.shape == (2, 3, 72, 72)
        expected = shard.pixels[2][..., :3] / 255 if shard.pixels.ndim == 4 else 1 - shard.pixels[2][..., None] / 255
        np.testing.assert_allclose(images[1].permute(1, 2, 0), np.broadcast_to(expected, (72, 72, 3)), atol=1e-5)


def test_recall_counts_the_better_ranked(corpus_folder, tokenizer, monkeypatch):
    model = CLIPModel(pictures_config(tokenizer, width=32, layers=1))
    held = read_shards(corpus_folder, "shift")[0]
    monkeypatch.setattr(score, "image_features", lambda *_: torch.eye(4))
    monkeypatch.setattr(score, "text_features", lambda *_: torch.eye(4)[[1, 0, 2, 3]])
    result = score.retrieval(model, tokenizer, held, [0, 1, 2, 3])
    assert result == {"zero-shot": 0.5, "text recall at 5": 1.0, "image recall at 5": 1.0}


def test_a_probe_weighs_classes_alike():
    labels = np.array([0] * 300 + [1] * 30)
    features = np.eye(2)[labels]
    assert score.probe(features, labels, 1) == 1.0
    assert score.probe(np.ones((330, 2)), labels, 1) == 0.5  # knows nothing, so one class is right and one is wrong
