"""VPT: context tokens behind the image patches, shallow or deep.

Jia et al., "Visual Prompt Tuning", ECCV 2022; for CLIP as in github.com/muzairkhattak/multimodal-prompt-learning.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from dpl.backbones.loading import Backbone
from dpl.config import FIELD, Count, HeadedRun, Protocol, RateOrZero, Training
from dpl.methods.ivlp import Ivlp, IvlpConfig


@dataclass(frozen=True)
class VptConfig:
    """The context of VPT."""

    context: Count = 8
    """Context tokens behind the patches."""
    depth: Count | None = None
    """Number of layers, from the first, with their own context tokens: 1 is shallow; none, or more than there are: all layers."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of the initial tokens."""


@dataclass(frozen=True)
class VptRun(HeadedRun):
    """VPT: context tokens behind the image patches, shallow or deep."""

    method: str = "vpt"
    design: Annotated[VptConfig, tyro.conf.arg(name="")] = field(default_factory=VptConfig)
    train: Training = field(default_factory=Training)

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: 8 tokens in all layers, 5 epochs, for any number of shots."""
        return {**super().paper_settings(protocol), "train": Training(epochs=5, batch_size=4, lr=2.5e-3, **FIELD)}


class Vpt(Ivlp):
    """IVLP without text context: the frozen model embeds the texts, in the task's first template."""

    name = "vpt"
    Config = VptConfig

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: VptConfig, seed: int = 0
    ) -> None:
        image_only = IvlpConfig(design.context, 0, design.depth, design.prompt_std)
        super().__init__(backbone, class_names, templates, image_only, seed)
        self.design = design
