"""The counts against PyTorch's own counter, on the forward that is really run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.clips import SHAPES, TEMPLATE, class_names, random_backbone
from dpl.backbones.loading import Backbone, load_backbone
from dpl.classifier import Classifier, ZeroShot
from dpl.explain.cost import cost
from dpl.prompts.layout import PromptLayout

NAMES = ["dog", "big cat", "sea", "yellow sea horse", "cat"]


def sdpa_count(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def measured(call: Any) -> float:
    """GFLOPs that the call runs."""
    own = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_count}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=own) as counter:
        call()
    return counter.get_total_flops() / 1e9


def prompted(backbone: Backbone, names: list[str], layout: PromptLayout) -> Classifier:
    return Classifier.fixed(backbone, names, TEMPLATE, layout, 1.0, seed=1)


def check(backbone: Backbone, names: list[str], layout: PromptLayout) -> dict[str, Any]:
    """The counts of the layout, to the operation."""
    model, size = prompted(backbone, names, layout), backbone.image_size
    found = cost(model)
    assert found is not None
    pixels = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    assert found["image"] == measured(lambda: model.image_features(pixels))
    assert found["classes"] == measured(model.text_features)
    return found


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def small(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


LENGTHS = st.tuples(*[st.integers(0, 5)] * 2)


@given(image=LENGTHS, text=LENGTHS, names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=6))
def test_random_layouts_and_classes_are_counted_to_the_operation(
    small: Backbone, image: tuple[int, ...], text: tuple[int, ...], names: list[str]
):
    check(small, names, PromptLayout(image, text))


@pytest.mark.parametrize("layout", [PromptLayout.uniform(0, 6, 6), PromptLayout((3, 0, 1, 0, 0, 2), (0, 0, 4, 0, 1, 8))])
def test_tiny_is_counted_to_the_operation(tiny: Backbone, layout: PromptLayout):
    check(tiny, NAMES, layout)


def test_a_vit_b_16_is_counted_to_the_operation():
    backbone = random_backbone(replace(SHAPES["vit-b/16"], vocabulary=64))
    found = check(backbone, class_names(4), PromptLayout((4, *[0] * 10, 2), (0, 2, *[8] * 10)))
    # 17.6 GMACs of a whole ViT-B/16 are 35.1 GFLOPs; the last layer is computed at the class token only.
    assert 31 < found["frozen"]["image"] < 34 and found["image"] > found["frozen"]["image"]


def test_the_frozen_and_the_uniform_layouts_beside_it_are_counted_like_any_other(tiny: Backbone):
    layout = PromptLayout((3, 0, 1, 0, 0, 2), (0, 0, 40, 0, 1, 8))
    found = check(tiny, NAMES, layout)
    assert [row["length"] for row in found["uniform"]] == [1, 2, 4, 5, 6, 8, 12]  # 55 tokens are nearest to 5 in each of 12
    for row in found["uniform"]:
        counts = check(tiny, NAMES, PromptLayout.uniform(row["length"], 6, 6))
        assert {"length": row["length"], "image": counts["image"], "classes": counts["classes"]} == row
    frozen = check(tiny, NAMES, PromptLayout.uniform(0, 6, 6))
    assert found["frozen"] == {"image": frozen["image"], "classes": frozen["classes"]}
    assert measured(lambda: ZeroShot(tiny, NAMES, [TEMPLATE])) == found["frozen"]["classes"]  # computed when it is made


def test_a_model_without_prompts_in_layers_has_no_such_cost(tiny: Backbone):
    assert cost(ZeroShot(tiny, NAMES, [TEMPLATE])) is None
