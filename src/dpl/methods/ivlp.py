"""IVLP: deep context tokens of image and text, independent of each other.

MaPLe's paper compares with this independent prompting: Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023;
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
from dpl.config import FIELD, Count, CountOrZero, HeadedRun, Protocol, RateOrZero, Training
from dpl.data.class_names import spaced
from dpl.data.pixels.transforms import normalise
from dpl.methods.coop import PHRASE, words
from dpl.methods.method import Method
from dpl.prompts.context_tokens import ContextText, ContextTexts, image_features
from dpl.prompts.layout import PromptLayout
from dpl.utils.rng import generator


@dataclass(frozen=True)
class IvlpConfig:
    """The context of IVLP."""

    image_context: CountOrZero = 2
    """Context tokens of the image branch."""
    text_context: CountOrZero = 2
    """Context tokens of the text branch: up to 4 start at "a photo of a", whose other words stay; more start at N(0, std^2)."""
    depth: Count | None = None
    """Number of layers, from the first, with their own context tokens; none, or more than a branch has: all layers."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of the initial tokens that do not start at words."""


@dataclass(frozen=True)
class IvlpRun(HeadedRun):
    """IVLP: deep context tokens of image and text, independent of each other."""

    method: str = "ivlp"
    design: Annotated[IvlpConfig, tyro.conf.arg(name="")] = field(default_factory=IvlpConfig)
    train: Training = field(default_factory=Training)

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: 2 tokens per branch in all layers, 5 epochs, for any number of shots."""
        return {**super().paper_settings(protocol), "train": Training(epochs=5, batch_size=4, lr=3.5e-3, **FIELD)}


class Ivlp(Method):
    """IVLP: learned context tokens v in the image branch and u in the text branch.

    The image input is [CLS] [patches] v_1 .. v_N, the text input [SOS] u_1 .. u_M [class name c] . [EOS]. In front of each of
    the first `depth` layers new learned tokens replace the outputs that the layer before has at their positions; later layers
    take those outputs. A branch without context tokens is that of the frozen model; the text then has the task's first template.
    """

    name = "ivlp"
    Config = IvlpConfig

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: IvlpConfig, seed: int = 0
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
        """The context tokens, (context, width), of the image layers 0, 1, ...; empty if the image branch is frozen."""
        return list(self.image)

    @property
    def contexts(self) -> dict[str, list[Tensor]]:
        """The context tokens of both branches, (context, width) for each of the first layers."""
        return {"image": self.image_context, "text": list(self.text)}

    @property
    def layout(self) -> PromptLayout:
        """Number of new context tokens of each layer: 0 after the first `depth` layers, where no tokens are replaced."""
        counts = [[len(context) for context in contexts] for contexts in self.contexts.values()]
        branches = zip(counts, (self.backbone.image, self.backbone.text), strict=True)
        return PromptLayout(*((*own, *(0,) * (branch.depth - len(own))) for own, branch in branches))

    @property
    def image_encoder(self) -> object:
        """This model, or the frozen backbone if the image branch has no context."""
        return self if self.image_context else self.backbone

    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Computes image embeddings with the image context.

        Args:
            pixels: (images, 3, size, size), uint8, of the backbone's image size.

        Returns:
            (images, dim), of unit length.
        """
        context = self.image_context
        if not context:
            return super().image_features(pixels)
        normalised = normalise(pixels.to(self.backbone.device), self.backbone.preprocessing)
        return F.normalize(image_features(self.backbone, normalised, context[0], context[1:]))

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Computes the class embeddings with the text context, of unit length."""
        if isinstance(self._texts, Tensor):
            return self._texts
        context = list(self.text)
        return F.normalize(self._texts.features(context[0], context[1:]))


def _fresh(branch: Branch, context: int, design: IvlpConfig, seed: int) -> nn.ParameterList:
    """Initial context tokens N(0, std^2) for each of the first layers."""
    depth, draw = min(design.depth or branch.depth, branch.depth) if context else 0, generator(seed, "context", branch.name)
    return nn.ParameterList(torch.randn(context, branch.width, generator=draw) * design.prompt_std for _ in range(depth))


def _texts(backbone: Backbone, class_names: Sequence[str], context: int, opening: str) -> ContextTexts:
    """Builds "[opening] NAME." for every class; the context replaces the opening's first `context` words, if there is one."""
    names = [spaced(name) for name in class_names]
    rows = backbone.tokenize([f"{opening} {name}.".lstrip() for name in names])
    replaced = context if opening else 0
    return ContextTexts(backbone, [ContextText.around((row[0], *row[1 + replaced :]), context) for row in rows])
