"""MaPLe: deep text context tokens, and linear maps that make the image context tokens from them.

Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023; github.com/muzairkhattak/multimodal-prompt-learning.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.config import FIELD, Count, HeadedRun, Protocol, RateOrZero, Training
from dpl.methods.cocoop import linear
from dpl.methods.ivlp import Ivlp, IvlpConfig
from dpl.utils.rng import generator


@dataclass(frozen=True)
class MaPLeConfig:
    """The context of MaPLe."""

    context: Count = 2
    """Context tokens of each branch: up to 4 start at "a photo of a", whose other words stay; more start at N(0, std^2)."""
    depth: Count | None = 9
    """Number of layers, from the first, with their own context tokens; none, or more than a branch has: all layers."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of the initial tokens that do not start at words."""


@dataclass(frozen=True)
class MaPLeRun(HeadedRun):
    """MaPLe: deep text context tokens, and linear maps that make the image context tokens from them."""

    method: str = "maple"
    design: Annotated[MaPLeConfig, tyro.conf.arg(name="")] = field(default_factory=MaPLeConfig)
    train: Training = field(default_factory=Training)

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: 2 tokens in 9 layers and 5 epochs, for any number of shots.

        For transfer they are 3 layers, 2 epochs and a lower learning rate.
        """
        if protocol.transfers:
            train = Training(epochs=2, batch_size=4, lr=2.6e-3, **FIELD)
            return {**super().paper_settings(protocol), "design": MaPLeConfig(depth=3), "train": train}
        return {**super().paper_settings(protocol), "train": Training(epochs=5, batch_size=4, lr=3.5e-3, **FIELD)}


class MaPLe(Ivlp):
    """IVLP with an image context that is computed from the text context: layer l has W_l u_l + b_l.

    The text context u and the maps W and b are learned. The maps of all layers but layer 0 start as copies of one map. Both
    branches have context in equally many layers.
    """

    name = "maple"
    Config = MaPLeConfig

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: MaPLeConfig, seed: int = 0
    ) -> None:
        layers = min(backbone.image.depth, backbone.text.depth)
        depth = min(design.depth or layers, layers)
        super().__init__(backbone, class_names, templates, IvlpConfig(0, design.context, depth, design.prompt_std), seed)
        self.design, draw = design, generator(seed, "couplings")
        first, deep = (linear(backbone.text.width, backbone.image.width, draw) for _ in range(2))
        self.couplings = nn.ModuleList([first, *(deepcopy(deep) for _ in range(depth - 1))]).to(backbone.device)

    @property
    def image_context(self) -> list[Tensor]:
        """The context tokens, (context, width), of the image layers 0, 1, ..."""
        return [coupling(context) for coupling, context in zip(self.couplings, self.text, strict=True)]
