"""The methods whose prompts are tokens of the input against the numbers of their authors' implementations.

The methods themselves run, from their pixels on: they get the stored parameters, and the stored images for the pixels. Only
their learned values are checked in a batch's loss; where they start, in the test at the end.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.classifier import ZeroShot
from dpl.config import Penalties
from dpl.methods.cocoop import CoCoOp, CoCoOpConfig
from dpl.methods.coop import CoOp, CoOpConfig
from dpl.methods.ivlp import Ivlp, IvlpConfig
from dpl.methods.language_prompting import LanguagePrompting, LanguagePromptingConfig
from dpl.methods.maple import MaPLe, MaPLeConfig
from dpl.methods.method import Method
from dpl.methods.promptsrc import PromptSRC, PromptSRCRun
from dpl.methods.vpt import Vpt, VptConfig
from dpl.optim.regularization import Embedded, Regularizer, distillation

from .conftest import CLASS_NAMES, META, PHRASE, TEMPLATES, Golden, load_golden

METHODS: dict[str, tuple[type[Method], Any]] = {
    "coop_generic": (CoOp, CoOpConfig(context=16)),
    "coop_init": (CoOp, CoOpConfig(init=PHRASE)),
    "coop_csc": (CoOp, CoOpConfig(context=4, class_specific=True)),
    "coop_middle": (CoOp, CoOpConfig(context=4, place="middle")),
    "coop_front": (CoOp, CoOpConfig(context=4, place="front")),
    "vpt_deep": (Vpt, VptConfig(context=4, depth=3)),
    "language_deep": (LanguagePrompting, LanguagePromptingConfig(context=4, depth=3)),
    "ivlp_2p2_d3": (Ivlp, IvlpConfig(image_context=2, text_context=2)),
    "ivlp_4p4_d2": (Ivlp, IvlpConfig(image_context=4, text_context=4, depth=2)),
    "maple_n2_d2": (MaPLe, MaPLeConfig(context=2, depth=2)),
    "maple_n2_d3": (MaPLe, MaPLeConfig(context=2, depth=9)),  # of which the model has 3
    "cocoop": (CoCoOp, CoCoOpConfig()),
    "promptsrc": (PromptSRC, PromptSRCRun("digits").design),
}


def ours(golden_name: str, is_deep: bool) -> str:
    """The name that a stored parameter has in our methods."""
    if golden_name == "text.ctx" and not is_deep:
        return "context"
    first = re.sub(r"\.ctx$", ".0", golden_name)
    deep = re.sub(r"\.deep\.L(\d)", r".\1", first).replace("vision.", "image.").replace("coupling.L", "couplings.")
    return deep.replace("meta.fc1", "meta.0").replace("meta.fc2", "meta.2")


def fresh(golden: Golden, backbone: Backbone) -> Method:
    """The method of the stored numbers, where training begins."""
    cls, design = METHODS[golden.method]
    return cls(backbone, CLASS_NAMES, TEMPLATES, design, seed=3)


def learned(golden: Golden, backbone: Backbone) -> tuple[Method, dict[str, Tensor]]:
    """The method with the stored parameters, and these by their stored names."""
    model, stored = fresh(golden, backbone), golden.parameters()
    names = {name: ours(name, isinstance(model, Ivlp)) for name in stored}
    model.load_state_dict({names[name]: value for name, value in stored.items()})  # strict: all of them, and no other
    parameters = dict(model.named_parameters())
    return model, {name: parameters[own] for name, own in names.items()}


@pytest.fixture
def pixels(draw_images: Callable[[str], Tensor], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Stand for the stored images, which no uint8 pixels give."""
    for module in ("dpl.classifier", "dpl.methods.ivlp"):
        monkeypatch.setattr(f"{module}.normalise", lambda *_: draw_images("images"))
    size = META["model"]["image"]
    return torch.zeros(META["batch"], 3, size, size, dtype=torch.uint8)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("cocoop", "promptsrc")])
def test_features_loss_and_all_gradients(golden_backbone, pixels, name):
    golden = load_golden(name)
    model, parameters = learned(golden, golden_backbone)
    objective = model.objective(pixels, golden["in.labels"])
    objective.backward(list(model.parameters()))
    golden.check("out.image_features", model.image_features(pixels), unit=True)
    golden.check("out.text_features", model.text_features(), unit=True)
    golden.check("out.logits", objective.logits)
    golden.check("out.logits", model(pixels))
    golden.check("out.loss", objective.loss)
    golden.check_gradients(parameters)


@pytest.mark.parametrize("at_once", [None, 70])  # tokens: all images in one go, or two and two
def test_cocoop_has_a_context_of_its_own_for_every_image(golden_backbone, pixels, monkeypatch, at_once):
    if at_once:
        monkeypatch.setattr("dpl.methods.cocoop.TOKENS_AT_ONCE", at_once)
    golden = load_golden("cocoop")
    model, parameters = learned(golden, golden_backbone)
    objective = model.objective(pixels, golden["in.labels"])
    objective.backward(list(model.parameters()))
    images = model.image_features(pixels)
    golden.check("out.image_features", images, unit=True)
    golden.check("out.logits", objective.logits)
    golden.check("out.logits", model(pixels))
    golden.check("out.logits", model.logits(images, model.text_features()))
    golden.check("out.loss", objective.loss)
    golden.check_gradients(parameters)


def test_promptsrc_features_losses_and_all_gradients(golden_backbone, pixels):
    golden, penalties = load_golden("promptsrc"), PromptSRCRun("digits").train.penalties
    hyper = META["methods"]["promptsrc"]["hyper_parameters"]
    assert (penalties.text_l1, penalties.image_l1) == (hyper["text_loss_weight"], hyper["image_loss_weight"])
    model, parameters = learned(golden, golden_backbone)
    regularizer = Regularizer(golden_backbone, CLASS_NAMES, TEMPLATES, penalties)
    objective = model.objective(pixels, golden["in.labels"], regularizer)
    objective.backward(list(model.parameters()))

    teacher = ZeroShot(golden_backbone, CLASS_NAMES, TEMPLATES, normalised=False)
    golden.check("out.teacher_text_features_mean", teacher.text_features(), unit=True)
    golden.check("out.zero_shot_image_features_normalised", teacher.image_features(pixels))
    golden.check("out.zero_shot_logits", teacher(pixels))
    images, texts = model.image_features(pixels), model.text_features()
    golden.check("out.image_features", images, unit=True)
    golden.check("out.text_features", texts, unit=True)
    golden.check("out.logits", objective.logits)
    golden.check("out.loss_ce", F.cross_entropy(objective.logits, golden["in.labels"]))
    golden.check("out.loss_kl_logits", distillation(objective.logits, teacher(pixels)))
    for name, single in (("text", Penalties(text_l1=1.0)), ("image", Penalties(image_l1=1.0))):
        term = Regularizer(golden_backbone, CLASS_NAMES, TEMPLATES, single)
        golden.check(f"out.loss_l1_{name}_unweighted", term(pixels, Embedded(images, texts, objective.logits, model)))
    golden.check("out.loss_total", objective.loss)
    golden.check_gradients(parameters)


@pytest.mark.parametrize("name", list(METHODS))
def test_parameters_start_at_the_words_or_with_the_spread_of_the_authors(golden_backbone, name):
    golden = load_golden(name)
    model = fresh(golden, golden_backbone)
    starts, stored = dict(model.named_parameters()), golden.parameters()
    for key, about in META["methods"][name]["parameters"].items():
        start = starts[ours(key, isinstance(model, Ivlp))]
        assert start.shape == stored[key].shape
        if "initial_value" in about:
            assert torch.equal(start, stored[key])
        elif not key.startswith(("coupling", "meta")):
            assert start.std().item() == pytest.approx(0.02, rel=0.1)
            assert abs(start.mean().item()) < 0.002
