"""IVLP: deep context tokens of image and text, independent of each other.

The independent prompting that MaPLe compares with: Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023;
github.com/muzairkhattak/multimodal-prompt-learning.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dpl.backbones.branch import Branch
from dpl.backbones.loading import Backbone
from dpl.classifier import ZeroShot
from dpl.config import FIELD, AugmentedRun, Count, CountOrZero, Occasion, RateOrZero, Training
from dpl.data.transforms import normalise
from dpl.methods.coop import PHRASE, words
from dpl.methods.method import Method
from dpl.prompts.inputs import ContextText, ContextTexts, image_features
from dpl.prompts.layout import PromptLayout
from dpl.rng import generator


@dataclass(frozen=True)
class IvlpDesign:
    """The context of IVLP."""

    image_context: CountOrZero = 2
    """Context tokens of the image branch."""
    text_context: CountOrZero = 2
    """Context tokens of the text branch: up to 4 start at "a photo of a", the words left over stay; more at N(0, std^2)."""
    depth: Count | None = None
    """How many layers get context tokens of their own, from the first; none: all, as where a branch has fewer."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of the start of tokens that do not start at words."""


@dataclass(frozen=True)
class IvlpRun(AugmentedRun):
    """IVLP: deep context tokens of image and text, independent of each other."""

    method: str = "ivlp"
    design: Annotated[IvlpDesign, tyro.conf.arg(name="")] = field(default_factory=IvlpDesign)
    train: Training = field(default_factory=Training)

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """2 and 2 tokens in all layers; 5 epochs, whatever the shots."""
        return {"augmentation": "protocol", "train": Training(epochs=5, batch_size=4, lr=3.5e-3, **FIELD)}


class Ivlp(Method):
    """[CLS] [patches] v_1 .. v_N for the image, [SOS] u_1 .. u_M [class name c] . [EOS] for the text, v and u learned.

    In front of each of the first `depth` layers fresh tokens replace those of the layer before; later they stay and evolve. A
    branch with no tokens is the frozen model's, the text then in the task's first template.
    """

    name = "ivlp"
    Design = IvlpDesign

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: IvlpDesign, seed: int = 0
    ) -> None:
        super().__init__(backbone, class_names, templates, design)
        self.image = _fresh(backbone.image, design.image_context, design, seed)
        self.text = _fresh(backbone.text, design.text_context, design, seed)
        self._texts: ContextTexts | Tensor
        if design.text_context:
            phrase = words(backbone, PHRASE)
            opening = PHRASE if design.text_context <= len(phrase) else ""
            if opening:
                self.text[0] = nn.Parameter(phrase[: design.text_context])
            self._texts = _texts(backbone, class_names, design.text_context, opening)
        else:
            self._texts = ZeroShot(backbone, class_names, templates[:1]).text_features()
        self.to(backbone.device)

    @property
    def image_context(self) -> list[Tensor]:
        """The context tokens, (context, width), of the image layers 0, 1, ...; none: the branch is frozen."""
        return list(self.image)

    @property
    def contexts(self) -> dict[str, list[Tensor]]:
        """The context tokens of both branches."""
        return {"image": self.image_context, "text": list(self.text)}

    @property
    def layout(self) -> PromptLayout:
        """The tokens of each of the first layers; those that stay are not counted."""
        counts = [[len(context) for context in contexts] for contexts in self.contexts.values()]
        branches = zip(counts, (self.backbone.image, self.backbone.text), strict=True)
        return PromptLayout(*((*own, *(0,) * (branch.depth - len(own))) for own, branch in branches))

    @property
    def image_encoder(self) -> object:
        """This model, or the frozen backbone where images have no context."""
        return self if self.image_context else self.backbone

    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Image embeddings of unit length, of uint8 pixels, with the image's context."""
        context = self.image_context
        if not context:
            return super().image_features(pixels)
        normalised = normalise(pixels.to(self.backbone.device), self.backbone.mean, self.backbone.std)
        return F.normalize(image_features(self.backbone, normalised, context[0], context[1:]))

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Class embeddings of unit length, with the text's context."""
        if isinstance(self._texts, Tensor):
            return self._texts
        context = list(self.text)
        return F.normalize(self._texts.features(context[0], context[1:]))


def _fresh(branch: Branch, context: int, design: IvlpDesign, seed: int) -> nn.ParameterList:
    """Tokens N(0, std^2) for each of the first layers."""
    depth, draw = min(design.depth or branch.depth, branch.depth) if context else 0, generator(seed, "context", branch.name)
    return nn.ParameterList(torch.randn(context, branch.width, generator=draw) * design.prompt_std for _ in range(depth))


def _texts(backbone: Backbone, class_names: Sequence[str], context: int, opening: str) -> ContextTexts:
    """ "[opening] NAME." for every class, the context in place of as many words of the opening, or in front of the name."""
    names = [name.replace("_", " ") for name in class_names]
    rows = backbone.tokenize([f"{opening} {name}.".lstrip() for name in names])
    replaced = context if opening else 0
    return ContextTexts(backbone, [ContextText.around((row[0], *row[1 + replaced :]), context) for row in rows])
