"""The methods that work on features and weights against the numbers of their authors' implementations."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dpl.classifier import ZeroShot
from dpl.config import Protocol
from dpl.methods.clip_lora import ClipLora, ClipLoraConfig
from dpl.methods.tip_adapter import TipAdapter, TipAdapterConfig, cache_keys
from dpl.methods.tip_adapter_f import TipAdapterF, TipAdapterFRun
from dpl.optim.optimizer import descend, learning_rate, make_optimizer, set_learning_rate
from dpl.optim.regularization import Aggregate, gaussian_weights

from .conftest import CLASS_NAMES, META, TEMPLATES, load_golden, normal

SIZE = META["model"]["image"]
PIXELS = torch.zeros(META["batch"], 3, SIZE, SIZE, dtype=torch.uint8)
Show = Callable[[str], None]


@pytest.fixture
def show(draw_images: Callable[[str], Tensor], monkeypatch: pytest.MonkeyPatch) -> Show:
    """`show("images")`: from now on `PIXELS` stand for the stored images, which no uint8 pixels give."""

    def show(key: str) -> None:
        monkeypatch.setattr("dpl.classifier.normalise", lambda *_: draw_images(key))

    return show


def close(ours: Tensor, golden: Tensor, limit: float) -> None:
    error = ((ours - golden).abs().max() / golden.abs().max()).item()
    assert ours.shape == golden.shape and error <= limit, f"relative error {error:.1e} above {limit:.1e}"


def tip_adapter(cls: type[TipAdapter], backbone) -> TipAdapter:
    hyper = META["methods"]["tip_adapter"]["hyper_parameters"]
    return cls(backbone, CLASS_NAMES, TEMPLATES[:1], TipAdapterConfig(alpha=hyper["alpha"], beta=hyper["beta"]))


def test_tip_adapters_keys_classifier_and_logits(golden_backbone, show):
    golden, labels = load_golden("tip_adapter"), load_golden("tip_adapter")["in.cache_labels"]
    with torch.no_grad():
        shape = (len(labels), 3, SIZE, SIZE)
        keys = cache_keys(golden_backbone.image_features(torch.from_numpy(normal(f"images_cache{i}", shape))) for i in range(2))
    close(keys, golden["out.cache_keys"], 1e-5)
    model = tip_adapter(TipAdapter, golden_backbone)
    model.load_state_dict({"keys": keys, "labels": labels})
    close(model.text_features(), golden["out.classifier"], 1e-5)
    show("images")
    with torch.no_grad():
        images = model.image_features(PIXELS)
        golden.check("out.clip_logits", ZeroShot.logits(model, images, model.text_features()))
        golden.check("out.logits", model(PIXELS))


def test_two_steps_of_tip_adapter_f(golden_backbone, show):
    golden, model = load_golden("tip_adapter"), tip_adapter(TipAdapterF, golden_backbone)
    model.load_state_dict({"keys": golden["out.cache_keys"], "labels": golden["in.cache_labels"]})
    config = replace(TipAdapterFRun.paper_settings(Protocol())["train"], epochs=1)
    optimizer = make_optimizer(config, model.parameters())
    for step in (1, 2):
        show(f"images_train{step}")
        set_learning_rate(optimizer, learning_rate(config, 0, (step - 1) / 2))
        objective = model.objective(PIXELS, golden[f"in.labels_train{step}"])
        golden.check(f"out.F.step{step}.logits", objective.logits)
        descend(objective.loss, optimizer, config.clip_norm, backward=objective.backward)
    close(model.keys, golden["out.F.final.cache_keys"], 2e-5)
    show("images")
    golden.check("out.F.final.logits", model(PIXELS))


def test_clip_loras_features_loss_and_all_gradients(golden_backbone, show):
    golden, design = load_golden("clip_lora"), ClipLoraConfig(rank=2, alpha=1, dropout=0.0)
    model, stored = ClipLora(golden_backbone, CLASS_NAMES, TEMPLATES, design), golden.parameters()
    parameters = {}
    for branch, additions in (("vision", "image"), ("text", "text")):
        for layer in range(META["model"]["layers"]):
            for which in ("q.A", "q.B", "k.A", "k.B", "v.A", "v.B"):
                own = f"additions.{additions}_{layer}_{which}.weight"
                parameters[f"{branch}.L{layer}.{which}"] = model.get_parameter(own)
    assert set(parameters) == set(stored) and len(parameters) == len(list(model.parameters()))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[name])
    show("images")
    objective = model.objective(PIXELS, golden["in.labels"])
    objective.backward(list(model.parameters()))
    golden.check("out.image_features", model.image_features(PIXELS), unit=True)
    golden.check("out.text_features", model.text_features(), unit=True)
    golden.check("out.logits", objective.logits)
    golden.check("out.loss", objective.loss)
    golden.check_gradients(parameters)


def test_promptsrcs_average_over_the_epochs():
    golden = load_golden("promptsrc_gpa")
    hyper, stored = META["methods"]["promptsrc_gpa"]["hyper_parameters"], golden.parameters()
    epochs, mean, std = hyper["epochs"], hyper["gpa_mean"], hyper["gpa_std"]
    weights = torch.tensor(gaussian_weights(mean, std, epochs), dtype=torch.float64)
    close(weights, golden["out.gpa_weights"], 1e-12)
    parameters = {name: nn.Parameter(torch.empty_like(value)) for name, value in stored.items()}
    aggregate = Aggregate(list(parameters.values()), mean / epochs, std / epochs, epochs)
    for epoch in range(epochs):
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(golden[f"after{epoch + 1}.{name}"])
        aggregate.add(epoch)
    aggregate.take_over()
    for name, parameter in parameters.items():
        close(parameter, golden[f"gpa.{name}"], 1e-6)
