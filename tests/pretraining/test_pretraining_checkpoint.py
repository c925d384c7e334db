"""The shipped checkpoint is an ordinary, small, safe Hugging Face folder that does what its card says."""

import json

import pytest
import torch
from transformers import AutoTokenizer, CLIPModel

from pretraining import score
from pretraining.model import PREPROCESSOR, TINY
from tests.cases import quick_and_slow

# A few points under the card's scores: 200 renderings a task leave a standard error of up to 1.7 points.
BOUNDS = {"digits": 0.97, "capital letters": 0.97, "lowercase letters": 0.94, "shapes": 0.89, "colours": 0.97}


@pytest.fixture(scope="module")
def model() -> CLIPModel:
    return CLIPModel.from_pretrained(TINY).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TINY)


def test_files_are_small_and_hold_no_pickle():
    files = {path.name: path.stat().st_size for path in TINY.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "README.md"} <= set(files)
    assert sum(files.values()) < 15e6
    assert {name.rsplit(".", 1)[-1] for name in files} <= {"json", "safetensors", "md"}


def test_preprocessor_is_what_training_used():
    assert json.loads((TINY / "preprocessor_config.json").read_text()) == PREPROCESSOR


def test_any_name_can_be_tokenised_and_read_back(tokenizer):
    text = "a photo of a jalapeño 日本 f-16 xyzzy."
    ids = tokenizer(text).input_ids
    assert "".join(tokenizer.decode(ids, skip_special_tokens=True).split()) == "".join(text.split())
    assert len(ids) <= 32


def test_the_end_token_is_found_by_either_rule(model, tokenizer):
    config = model.config.text_config
    assert config.eos_token_id == tokenizer.eos_token_id == len(tokenizer) - 1 == config.vocab_size - 1
    ids = torch.tensor(tokenizer(["seven", "a photo of the digit seven."], padding=True).input_ids)
    assert torch.equal(ids.argmax(1), (ids == config.eos_token_id).int().argmax(1))


@pytest.mark.parametrize("task", quick_and_slow(["shapes"], [task for task in BOUNDS if task != "shapes"]))
def test_zero_shot_on_faces_never_trained_on(task, model, tokenizer):
    _, _, template, names, _ = score.TASKS[task]
    images, labels = score.draw_task(task, 5, 200)
    accuracy = (score.zero_shot(model, tokenizer, images, template, names) == labels).float().mean().item()
    assert accuracy >= BOUNDS[task]


@pytest.mark.slow
def test_zero_shot_and_probe_on_real_digits(model, tokenizer):
    images, labels = score.real_digits()
    _, _, template, names, _ = score.TASKS["digits"]
    guess = score.zero_shot(model, tokenizer, images, template, names)
    assert (guess.numpy() == labels).mean() >= 0.65
    assert score.linear_probe(score.image_features(model, images).numpy(), labels, seed=1) >= 0.92
