"""MaPLe: deep context words, from which linear maps make those of the image.

Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023; github.com/muzairkhattak/multimodal-prompt-learning.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.config import FIELD, AugmentedRun, Count, Occasion, RateOrZero, Training
from dpl.methods.cocoop import linear
from dpl.methods.ivlp import Ivlp, IvlpDesign
from dpl.rng import generator


@dataclass(frozen=True)
class MaPLeDesign:
    """The context of MaPLe."""

    context: Count = 2
    """Context tokens of either branch: up to 4 start at "a photo of a", the words left over stay; more at N(0, std^2)."""
    depth: Count | None = 9
    """How many layers get context tokens of their own, from the first; none: all, as where a branch has fewer."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of the start of tokens that do not start at words."""


@dataclass(frozen=True)
class MaPLeRun(AugmentedRun):
    """MaPLe: deep context words, from which linear maps make those of the image."""

    method: str = "maple"
    design: Annotated[MaPLeDesign, tyro.conf.arg(name="")] = field(default_factory=MaPLeDesign)
    train: Training = field(default_factory=Training)

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """2 tokens in 9 layers, 5 epochs, whatever the shots; for transfer 3 layers, 2 epochs and a smaller rate."""
        if occasion.transfers:
            train = Training(epochs=2, batch_size=4, lr=2.6e-3, **FIELD)
            return {"augmentation": "protocol", "design": MaPLeDesign(depth=3), "train": train}
        return {"augmentation": "protocol", "train": Training(epochs=5, batch_size=4, lr=3.5e-3, **FIELD)}


class MaPLe(Ivlp):
    """IVLP whose image context of layer l is W_l u_l + b_l of the text context u_l of that layer; u, W and b are learned.

    All W_l, b_l but those of layer 0 start as copies of one. Both branches have context of the same depth.
    """

    name = "maple"
    Design = MaPLeDesign

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: MaPLeDesign, seed: int = 0
    ) -> None:
        layers = min(backbone.image.depth, backbone.text.depth)
        depth = min(design.depth or layers, layers)
        super().__init__(backbone, class_names, templates, IvlpDesign(0, design.context, depth, design.prompt_std), seed)
        self.design, draw = design, generator(seed, "couplings")
        first, deep = (linear(backbone.text.width, backbone.image.width, draw) for _ in range(2))
        self.couplings = nn.ModuleList([first, *(deepcopy(deep) for _ in range(depth - 1))]).to(backbone.device)

    @property
    def image_context(self) -> list[Tensor]:
        """The context tokens, (context, width), of the image layers 0, 1, ..."""
        return [coupling(context) for coupling, context in zip(self.couplings, self.text, strict=True)]
