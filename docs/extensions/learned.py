"""How many parameters the methods learn: counted on the models themselves when the site is built.

    ```{methods}
    ```

lists all methods, and

    ```{learned} coop
    ```

says the numbers of one. The models have the shapes of CLIP ViT-B/16 with 100 classes, and of `tiny` with the 10 digits; 16 shots.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from transformers import CLIPConfig, CLIPModel

from docs.extensions.markdown import table
from docs.extensions.settings import SHOTS
from dpl import Backbone, PromptLayout, load_backbone
from dpl.backbones.branch import Branch
from dpl.config import FitRun, preset
from dpl.data.sources.digits import TEMPLATES
from dpl.methods import METHODS
from dpl.methods.dpl import DplConfig
from dpl.methods.method import Method
from dpl.methods.tip_adapter import TipAdapter


@cache
def tiny() -> Backbone:
    """Loads the embedded backbone."""
    return load_backbone("tiny")


@cache
def vit_b16() -> Backbone:
    """Builds a backbone with the layers and widths of CLIP ViT-B/16. Sizes that no method's parameters depend on are small."""
    vocabulary: Any = tiny().clip.config.text_config
    small = {"num_hidden_layers": 12, "intermediate_size": 1}
    text = {"hidden_size": 512, "num_attention_heads": 8, **small}
    text |= {name: getattr(vocabulary, name) for name in ("vocab_size", "bos_token_id", "eos_token_id")}
    vision = {"hidden_size": 768, "num_attention_heads": 12, "image_size": 16, "patch_size": 16, **small}
    with torch.random.fork_rng():
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512)).eval().requires_grad_(False)
    return replace(tiny(), clip=clip, image=Branch("image", clip.vision_model), text=Branch("text", clip.text_model))


def built(method: str, backbone: Backbone, classes: int) -> Method:
    """Builds a method of the default preset as it is after training, DPL in the layout with the most parameters."""
    names, config = [str(index) for index in range(classes)], preset(METHODS[method].run(), "default", "digits", SHOTS)
    if isinstance(config, FitRun):
        budget = config.search.tokens(backbone.image.depth + backbone.text.depth)
        assert budget is not None
        image = (budget // backbone.image.depth,) * backbone.image.depth  # the wider branch
        design: Any = DplConfig(PromptLayout(image, (0,) * backbone.text.depth))
    else:
        design = vars(config)["design"]
    model = METHODS[method].load()(backbone, names, TEMPLATES[:1], design)
    if isinstance(model, TipAdapter):
        projection: Any = backbone.clip.visual_projection
        keys = torch.zeros(classes * SHOTS, projection.out_features)
        model.load_state_dict({"keys": keys, "labels": torch.zeros(len(keys), dtype=torch.long)})
    return model


def count(model: torch.nn.Module) -> int:
    """Counts the learned parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


@cache
def learned(method: str) -> tuple[str, str, bool]:
    """Counts a method's learned parameters in both models, and says whether it takes other class names."""
    models = built(method, vit_b16(), 100), built(method, tiny(), 10)
    most = "at most " if method == "dpl" else ""  # the layout decides
    large, small = (f"{most}{count(model):,}" for model in models)
    return large, small, not models[1].class_specific


class Methods(SphinxDirective):
    """A table of all methods, each with a link to its page."""

    def run(self) -> Sequence[nodes.Node]:
        """Builds the table."""
        rows = []
        for name, spec in METHODS.items():
            large, small, takes = learned(name)
            rows.append((f"[`{name}`]({name}.md)", spec.summary, "yes" if takes else "no", large, small))
        head = ("`--method`", "what is learned", "other classes", "ViT-B/16", "`tiny`, digits")
        return [nodes.container("", *self.parse_text_to_nodes(table(head, rows, "lllrr")), classes=["methods"])]


class Learned(SphinxDirective):
    """The learned parameters of the method that its argument names."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> Sequence[nodes.Node]:
        """Builds the sentence."""
        large, small, takes = learned(self.arguments[0])
        classes = "It takes other class names after training." if takes else "What it has learned belongs to its classes."
        text = f"**Parameters**: {large} in ViT-B/16 with 100 classes, {small} in `tiny` on digits (16 shots). {classes}"
        return self.parse_text_to_nodes(text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the directives."""
    app.add_directive("methods", Methods)
    app.add_directive("learned", Learned)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
