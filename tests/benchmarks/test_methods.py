"""A method's floor has its tokens, its gradients and nothing else; the command prints a row for each."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import methods
from benchmarks.__main__ import main
from benchmarks.clips import SHAPES, TEMPLATE, class_names, random_backbone
from benchmarks.methods import SUBJECTS, Classes, MethodFloor, Settings, make_method, measure, method_step, operations
from dpl import Backbone
from dpl.data.templates import sentences
from dpl.methods import METHODS
from dpl.prompts.context_tokens import ContextTexts
from dpl.prompts.texts import Texts
from dpl.utils.files import read_json

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here

SHAPE = replace(SHAPES["tiny"], positions=32)  # for a context of 16
LEARNS_NOTHING_BY_STEPS = {"zero-shot", "linear-probe", "tip-adapter"}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return random_backbone(SHAPE)


@pytest.fixture(scope="module")
def classes(backbone: Backbone) -> Classes:
    return Classes.made_up(backbone, class_names(5), [TEMPLATE], seed=1)


def test_every_method_that_learns_by_steps_is_measured():
    assert {subject.method for subject in SUBJECTS.values()} == set(METHODS) - LEARNS_NOTHING_BY_STEPS


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_floor_has_the_methods_tokens_and_gradients(name: str, backbone: Backbone, classes: Classes):
    subject = SUBJECTS[name]
    model, _ = make_method(subject, backbone, classes, seed=1)
    floor = MethodFloor(backbone, classes, subject)
    assert floor.step(*classes.batch) > 0

    texts: Any = getattr(model, "_texts", None)
    if isinstance(texts, ContextTexts):
        assert floor.text_tokens == texts.tokens * (len(classes.batch[0]) if subject.per_image else 1)
    else:
        assert floor.text_tokens == Texts(backbone, sentences(TEMPLATE, classes.names)).ids.numel()
    assert all((batch.grad is not None) == subject.learns_text for batch in floor.inputs)
    assert model.text_features().requires_grad == subject.learns_text
    with model.attached():
        assert model.image_features(classes.batch[0]).requires_grad == subject.learns_image
    # DPL's are keys and values, and not queries: they are in no sequence.
    assert subject.image_context == (0 if name == "dpl" else model.layout.image[0])


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_step_of_the_method_learns(name: str, backbone: Backbone, classes: Classes):
    model, step = method_step(SUBJECTS[name], backbone, classes, seed=1)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items() if tensor.is_floating_point()}
    assert step() > 0 and step() > 0
    assert any(not torch.equal(before[key], model.state_dict()[key]) for key in before)


def test_in_cocoops_floor_every_image_has_texts_of_its_own(backbone: Backbone, classes: Classes):
    floor, images = MethodFloor(backbone, classes, SUBJECTS["cocoop"]), len(classes.batch[0])
    own = floor.text_features()
    assert len(own) == images * len(classes.names)
    assert floor.logits(own[:images], own).shape == (images, len(classes.names))


def test_operations_count_what_a_second_backward_costs(backbone: Backbone, classes: Classes):
    coop, prograd = (MethodFloor(backbone, classes, SUBJECTS[name]) for name in ("coop", "prograd"))
    once, twice = (operations(lambda floor=floor: floor.step(*classes.batch)) for floor in (coop, prograd))
    assert once < twice < 2 * once


def test_measuring_times_both_as_often(backbone: Backbone, classes: Classes):
    found = measure(SUBJECTS["kgcoop"], backbone, classes, 2, seed=1)
    assert found["parameters"] == 4 * SHAPE.text.width
    assert [set(one) for one in found["rounds"] + found["processor"]] == [{"method", "floor"}] * 4


def test_the_command_writes_all_timings(tmp_path: Path, capsys: pytest.CaptureFixture):
    file = tmp_path / "methods.json"
    methods.main(Settings(model="tiny", methods=("coop", "vpt-shallow"), rounds=1, out=file))
    assert set(read_json(file)["classes"]["10"]) == {"coop", "vpt-shallow"}
    out = capsys.readouterr().out
    assert "| coop | 2048 |" in out and "| vpt-shallow | 1024 |" in out


def test_bad_input_ends_with_one_line(capsys: pytest.CaptureFixture):
    assert main(["methods", "--methods", "coup"]) == 2
    assert main(["methods", "--rounds", "0"]) == 2
    assert main(["methods", "--classes", "1"]) == 2
    assert capsys.readouterr().err.count("\n") == 3
