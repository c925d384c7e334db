"""CoOp: learned context words in front of, around or behind the class names.

Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022; github.com/KaiyangZhou/CoOp.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.config import FIELD, Count, HeadedRun, Protocol, RateOrZero, Training
from dpl.data.class_names import spaced
from dpl.methods.method import Method
from dpl.prompts.context_tokens import ContextText, ContextTexts, Place
from dpl.prompts.layout import PromptLayout
from dpl.utils.errors import DplError
from dpl.utils.rng import generator

PHRASE = "a photo of a"
"""Words whose embeddings are the initial context, where a method starts at words."""


@dataclass(frozen=True)
class CoOpConfig:
    """The context of CoOp."""

    context: Count | None = None
    """Number of context tokens; none: as many as --init has, or 16 without --init."""
    class_specific: bool = False
    """Learn a context for every class."""
    place: Place = "end"
    """Position of the class name: behind the context, in its middle, or in front of it."""
    init: str = ""
    """Words whose embeddings are the initial context, such as "a photo of a"; none: N(0, std^2)."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of the initial context without --init."""


@dataclass(frozen=True)
class CoOpRun(HeadedRun):
    """CoOp: learned context words around the class names."""

    method: str = "coop"
    design: Annotated[CoOpConfig, tyro.conf.arg(name="")] = field(default_factory=CoOpConfig)
    train: Training = field(default_factory=Training)

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: 16 tokens for all classes, with the class name at the end.

        50 epochs with 1 shot and on ImageNet, 100 with up to 4 shots, else 200.
        """
        epochs = 50 if protocol.data == "imagenet" else epochs_for(protocol.shots)
        return {**super().paper_settings(protocol), "train": Training(epochs=epochs, batch_size=32, lr=2e-3, **FIELD)}


class CoOp(Method):
    """CoOp: a learned context v in the texts; images are embedded by the frozen model.

    text(c) = encode([SOS] v_1 .. v_M [class name c] . [EOS])
    """

    name = "coop"
    Config = CoOpConfig

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: CoOpConfig, seed: int = 0
    ) -> None:
        super().__init__(backbone, class_names, templates, design)
        classes = (len(class_names),) if design.class_specific else ()
        if design.init.strip():
            start = words(backbone, design.init)
            if design.context not in (None, len(start)):
                raise DplError(
                    f"--context {design.context}: --init {design.init!r} has {len(start)} words; give only one of the two"
                )
            start = start.expand(*classes, -1, -1).clone()
        else:
            shape = (*classes, design.context or 16, backbone.text.width)
            start = torch.randn(shape, generator=generator(seed, "context", "text")) * design.prompt_std
        self.context = nn.Parameter(start.to(backbone.device))
        self._texts = named_texts(backbone, class_names, start.shape[-2], design.place, design.class_specific)

    @property
    def layout(self) -> PromptLayout:
        """Layout with all context tokens in front of the first text layer."""
        own, backbone = self.context.shape[-2], self.backbone
        return PromptLayout((0,) * backbone.image.depth, (own, *(0,) * (backbone.text.depth - 1)))

    @property
    def contexts(self) -> dict[str, list[Tensor]]:
        """The text context, (tokens, width); no tensors if each class has its own."""
        return {"image": [], "text": [] if self.class_specific else [self.context]}

    @property
    def class_specific(self) -> bool:
        """Whether every class has its own context."""
        return self.context.dim() == 3

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Computes the class embeddings with the learned context, of unit length."""
        return F.normalize(self._texts.features(self.context))


def epochs_for(shots: int) -> int:
    """Returns the number of epochs of CoOp's authors for `shots` training images per class."""
    return 50 if shots == 1 else 100 if shots <= 4 else 200


def words(backbone: Backbone, phrase: str) -> Float[Tensor, "words width"]:
    """Returns a copy of the token embeddings of a phrase.

    Args:
        backbone: the frozen backbone.
        phrase: the words.

    Returns:
        (words, width), without position embeddings and without [SOS] and [EOS].
    """
    ids = torch.tensor(backbone.tokenize([phrase])[0][1:-1], device=backbone.device)
    embeddings: Any = backbone.clip.text_model.embeddings
    return embeddings.token_embedding(ids).detach().clone()


def named_texts(
    backbone: Backbone, class_names: Sequence[str], context: int, place: Place = "end", class_specific: bool = False
) -> ContextTexts:
    """Builds the text "[context] NAME." for every class; underscores in names become spaces.

    Args:
        backbone: tokenizes and encodes the texts.
        class_names: the class names.
        context: number of context tokens.
        place: position of the class name: behind the context, in its middle, or in front of it.
        class_specific: whether every class has its own context.

    Returns:
        The texts, with places for the context tokens.

    Raises:
        DplError: a text is too long for the backbone.
    """
    names = [spaced(name) for name in class_names]
    ids = backbone.tokenize([f"{name}." for name in names])
    lengths = [len(row) - 2 for row in backbone.tokenize(names)]
    rows = zip(ids, lengths, strict=True)
    texts = [ContextText.around(row, context, length if place != "end" else 0, place) for row, length in rows]
    return ContextTexts(backbone, texts, class_specific)
