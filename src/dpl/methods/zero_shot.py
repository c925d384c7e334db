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
class ZeroShotDesign:
    """Which templates the class embeddings are of."""

    ensemble: bool = False
    """Average over all templates of the task, in place of its first alone."""


@dataclass(frozen=True)
class ZeroShotMethodRun(RunConfig):
    """Zero-shot: the frozen model itself."""

    method: str = "zero-shot"
    design: Annotated[ZeroShotDesign, tyro.conf.arg(name="")] = field(default_factory=ZeroShotDesign)


class ZeroShotMethod(ZeroShot, Method):
    """exp(logit_scale) cos(image, text); text is one template's, or normalise(mean of normalise(text)) over all of them."""

    name = "zero-shot"
    Design = ZeroShotDesign

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: ZeroShotDesign, seed: int = 0
    ) -> None:
        ZeroShot.__init__(self, backbone, class_names, templates if design.ensemble else templates[:1])
        self.templates, self.design = tuple(templates), design
