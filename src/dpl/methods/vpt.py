"""VPT: context tokens behind the image patches, shallow or deep.

Jia et al., "Visual Prompt Tuning", ECCV 2022; for CLIP as in github.com/muzairkhattak/multimodal-prompt-learning.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from dpl.backbones.loading import Backbone
from dpl.config import FIELD, AugmentedRun, Count, Occasion, RateOrZero, Training
from dpl.methods.ivlp import Ivlp, IvlpDesign


@dataclass(frozen=True)
class VptDesign:
    """The context of VPT."""

    context: Count = 8
    """Context tokens behind the patches."""
    depth: Count | None = None
    """How many layers get context tokens of their own, from the first: 1 is shallow; none: all, as where there are fewer."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of the start."""


@dataclass(frozen=True)
class VptRun(AugmentedRun):
    """VPT: context tokens behind the image patches, shallow or deep."""

    method: str = "vpt"
    design: Annotated[VptDesign, tyro.conf.arg(name="")] = field(default_factory=VptDesign)
    train: Training = field(default_factory=Training)

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """8 tokens in all layers; 5 epochs, whatever the shots."""
        return {"augmentation": "protocol", "train": Training(epochs=5, batch_size=4, lr=2.5e-3, **FIELD)}


class Vpt(Ivlp):
    """IVLP's image branch; the texts are the frozen model's, in the task's first template."""

    name = "vpt"
    Design = VptDesign

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: VptDesign, seed: int = 0
    ) -> None:
        image_only = IvlpDesign(design.context, 0, design.depth, design.prompt_std)
        super().__init__(backbone, class_names, templates, image_only, seed)
        self.design = design
