"""What is measured computes what it says: naive and ours the same, the floors the plain model."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks.clips import OPENING, SHAPES, TEMPLATE, class_names, random_backbone, random_batch, sentence_lengths
from benchmarks.counts import text_load
from benchmarks.floors import Floor
from benchmarks.subjects import SUBJECTS, Case, differences, make_model, make_optimizers, make_step, prompts_of
from dpl import Backbone
from dpl.data.templates import sentences
from dpl.prompts.texts import Texts
from dpl.search.mixture import bilevel_step

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here

SHAPE = SHAPES["tiny"]
CASES = [Case("search", 4, 2), Case("search", 7, 5), Case("train", 4, 3), Case("train", 2, 1)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_ours_is_naive_in_logits_and_all_gradients(case: Case, exact: Backbone):
    found = differences(case, exact, SHAPE, seed=3)
    assert set(found) == {"logits", "prompts"} | ({"alphas"} if case.stage == "search" else set())
    assert max(found.values()) < 1e-10


def test_ours_and_naive_are_still_the_same_after_steps(exact: Backbone):
    case, results = Case("search", 4, 2), []
    batches = [random_batch(SHAPE, count, case.classes, exact.device, count) for count in case.batches]
    for subject in ("ours", "naive", "eager"):
        model = make_model(subject, case, exact, seed=1)
        alphas, prompts = make_optimizers(model)
        for _ in range(3):
            bilevel_step(model, alphas, prompts, *batches, clip_norm=0.0)
        results.append(torch.cat(prompts_of(model)[:1] + prompts_of(model)[1:2]).detach())
    for others in results[1:]:
        assert torch.allclose(results[0], others, rtol=1e-9, atol=1e-12)


def test_class_names_differ_in_the_first_token_and_have_3_to_5():
    names = class_names(7)
    assert len({name.split()[0] for name in names}) == 7
    assert [len(name.split()) for name in names] == [3, 4, 5, 3, 4, 5, 3]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_ideal_floor_computes_exactly_the_tokens_of_texts(classes: int, exact: Backbone):
    names, case = class_names(classes), Case("search", classes, 2)
    texts = Texts(exact, sentences(TEMPLATE, names))
    ideal, plain = (Floor(exact, names, TEMPLATE, shared) for shared in (True, False))
    assert texts.tokens.opening == OPENING
    assert list(map(len, exact.tokenize(sentences(TEMPLATE, names)))) == sentence_lengths(classes)
    assert ideal.text_tokens == texts.ids.numel() == text_load("ours", case, SHAPE).tokens
    assert ideal.text_tokens == text_load("ideal", case, SHAPE).tokens
    assert plain.text_tokens == text_load("plain", case, SHAPE).tokens == classes * max(sentence_lengths(classes))


def test_the_plain_floor_has_the_models_own_features(exact: Backbone):
    names = class_names(4)
    floor = Floor(exact, names, TEMPLATE, shared=False)
    for name, ours in zip(names, floor.text_features(), strict=True):
        ids = torch.tensor(exact.tokenize([TEMPLATE.format(name)]))
        output: Any = exact.clip.get_text_features(input_ids=ids)
        theirs = F.normalize(output.pooler_output)[0]
        assert torch.allclose(ours, theirs)


@pytest.mark.parametrize("shared", [False, True])
def test_a_floors_gradient_reaches_every_input(shared: bool, exact: Backbone):
    floor = Floor(exact, class_names(4), TEMPLATE, shared)
    assert floor.step(*random_batch(SHAPE, 2, 4, exact.device, 0)) > 0
    assert all(batch.grad is not None for batch in floor.inputs)
    assert [batch.grad.abs().sum() > 0 for batch in floor.inputs if batch.grad is not None][-1]


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("stage", ["search", "train"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_step_runs_twice_in_every_precision(subject, stage, precision):
    backbone = random_backbone(SHAPE, precision)
    step = make_step(subject, Case(stage, 4, 2), backbone, SHAPE, seed=1)
    assert step() > 0 and step() > 0
