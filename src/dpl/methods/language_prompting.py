"""Language prompting: context words, replaced in the first text layers.

It is the text branch of MaPLe's independent prompting: Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023;
github.com/muzairkhattak/multimodal-prompt-learning.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from dpl.backbones.loading import Backbone
from dpl.config import FIELD, Count, HeadedRun, Protocol, RateOrZero, Training
from dpl.methods.ivlp import Ivlp, IvlpConfig


@dataclass(frozen=True)
class LanguagePromptingConfig:
    """The context of language prompting."""

    context: Count = 4
    """Context tokens: up to 4 start at "a photo of a", whose other words stay; more start at N(0, std^2)."""
    depth: Count | None = None
    """Number of layers, from the first, with their own context tokens; none, or more than there are: all layers."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of the initial tokens that do not start at words."""


@dataclass(frozen=True)
class LanguagePromptingRun(HeadedRun):
    """Language prompting: context words, replaced in the first text layers."""

    method: str = "language-prompting"
    design: Annotated[LanguagePromptingConfig, tyro.conf.arg(name="")] = field(default_factory=LanguagePromptingConfig)
    train: Training = field(default_factory=Training)

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: 4 tokens in all layers, 5 epochs, for any number of shots."""
        return {**super().paper_settings(protocol), "train": Training(epochs=5, batch_size=4, lr=2.5e-3, **FIELD)}


class LanguagePrompting(Ivlp):
    """IVLP without image context: the frozen model embeds the images."""

    name = "language-prompting"
    Config = LanguagePromptingConfig

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        templates: Sequence[str],
        design: LanguagePromptingConfig,
        seed: int = 0,
    ) -> None:
        text_only = IvlpConfig(0, design.context, design.depth, design.prompt_std)
        super().__init__(backbone, class_names, templates, text_only, seed)
        self.design = design
