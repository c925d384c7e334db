"""Zero-shot: the frozen model itself (Radford et al., "Learning Transferable Visual Models", ICML 2021); nothing is learned."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from dpl.backbones.loading import Backbone
from dpl.classifier import ZeroShot
from dpl.config import RunConfig
from dpl.methods.method import Method


@dataclass(frozen=True)
class ZeroShotConfig:
    """The templates of the class embeddings."""

    ensemble: bool = False
    """Average over all templates of the task instead of using only its first."""


@dataclass(frozen=True)
class ZeroShotMethodRun(RunConfig):
    """Zero-shot: the frozen model itself."""

    method: str = "zero-shot"
    design: Annotated[ZeroShotConfig, tyro.conf.arg(name="")] = field(default_factory=ZeroShotConfig)


class ZeroShotMethod(ZeroShot, Method):
    """logits = exp(logit_scale) cos(image, text).

    text is the embedding of one template, or with an ensemble normalise(mean of normalise(text)) over all templates.
    """

    name = "zero-shot"
    Config = ZeroShotConfig

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: ZeroShotConfig, seed: int = 0
    ) -> None:
        ZeroShot.__init__(self, backbone, class_names, templates if design.ensemble else templates[:1])
        self.templates, self.design = tuple(templates), design
