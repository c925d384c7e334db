"""Language prompting: context words, replaced in the first text layers.

The text branch alone of MaPLe's independent prompting: Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023;
github.com/muzairkhattak/multimodal-prompt-learning.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from dpl.backbones.loading import Backbone
from dpl.config import FIELD, AugmentedRun, Count, Occasion, RateOrZero, Training
from dpl.methods.ivlp import Ivlp, IvlpDesign


@dataclass(frozen=True)
class LanguagePromptingDesign:
    """The context of language prompting."""

    context: Count = 4
    """Context tokens: up to 4 start at "a photo of a", the words left over stay; more at N(0, std^2)."""
    depth: Count | None = None
    """How many layers get context tokens of their own, from the first; none: all, as where there are fewer."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of the start of tokens that do not start at words."""


@dataclass(frozen=True)
class LanguagePromptingRun(AugmentedRun):
    """Language prompting: context words, replaced in the first text layers."""

    method: str = "language-prompting"
    design: Annotated[LanguagePromptingDesign, tyro.conf.arg(name="")] = field(default_factory=LanguagePromptingDesign)
    train: Training = field(default_factory=Training)

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """4 tokens in all layers; 5 epochs, whatever the shots."""
        return {"augmentation": "protocol", "train": Training(epochs=5, batch_size=4, lr=2.5e-3, **FIELD)}


class LanguagePrompting(Ivlp):
    """IVLP's text branch; images as the frozen model embeds them."""

    name = "language-prompting"
    Design = LanguagePromptingDesign

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        templates: Sequence[str],
        design: LanguagePromptingDesign,
        seed: int = 0,
    ) -> None:
        text_only = IvlpDesign(0, design.context, design.depth, design.prompt_std)
        super().__init__(backbone, class_names, templates, text_only, seed)
        self.design = design
