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
from dpl.config import FIELD, AugmentedRun, Count, Occasion, RateOrZero, Training
from dpl.errors import DplError
from dpl.methods.method import Method
from dpl.prompts.inputs import ContextText, ContextTexts, Place
from dpl.prompts.layout import PromptLayout
from dpl.rng import generator

PHRASE = "a photo of a"
"""What contexts start at that start at words."""


@dataclass(frozen=True)
class CoOpDesign:
    """The context of CoOp."""

    context: Count | None = None
    """Context tokens; none: as many as the words of --init have, 16 without."""
    class_specific: bool = False
    """A context of its own for every class."""
    place: Place = "end"
    """Where the class name stands: behind the context, in its middle, or in front of it."""
    init: str = ""
    """Words whose embeddings the context starts at, such as "a photo of a"; none: at N(0, std^2)."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of a start without words."""


@dataclass(frozen=True)
class CoOpRun(AugmentedRun):
    """CoOp: learned context words around the class names."""

    method: str = "coop"
    design: Annotated[CoOpDesign, tyro.conf.arg(name="")] = field(default_factory=CoOpDesign)
    train: Training = field(default_factory=Training)

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """16 generic tokens, class name at the end; 50 epochs with 1 shot and on ImageNet, 100 with up to 4, 200 with more."""
        epochs = 50 if occasion.data == "imagenet" else epochs_for(occasion.shots)
        return {"augmentation": "protocol", "train": Training(epochs=epochs, batch_size=32, lr=2e-3, **FIELD)}


class CoOp(Method):
    """text(c) = encode([SOS] v_1 .. v_M [class name c] . [EOS]), v learned; images as the frozen model embeds them."""

    name = "coop"
    Design = CoOpDesign

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: CoOpDesign, seed: int = 0
    ) -> None:
        super().__init__(backbone, class_names, templates, design)
        classes = (len(class_names),) if design.class_specific else ()
        if design.init.strip():
            start = words(backbone, design.init)
            if design.context not in (None, len(start)):
                raise DplError(
                    f"--context {design.context}: the words of --init {design.init!r} are {len(start)}; give one of both"
                )
            start = start.expand(*classes, -1, -1).clone()
        else:
            shape = (*classes, design.context or 16, backbone.text.width)
            start = torch.randn(shape, generator=generator(seed, "context", "text")) * design.prompt_std
        self.context = nn.Parameter(start.to(backbone.device))
        self._texts = named_texts(backbone, class_names, start.shape[-2], design.place, design.class_specific)

    @property
    def layout(self) -> PromptLayout:
        """All tokens enter in front of the first text layer."""
        own, backbone = self.context.shape[-2], self.backbone
        return PromptLayout((0,) * backbone.image.depth, (own, *(0,) * (backbone.text.depth - 1)))

    @property
    def contexts(self) -> dict[str, list[Tensor]]:
        """The text's context, if it is the same for all classes."""
        return {"image": [], "text": [] if self.class_specific else [self.context]}

    @property
    def class_specific(self) -> bool:
        """With a context of its own for every class."""
        return self.context.dim() == 3

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Class embeddings of unit length."""
        return F.normalize(self._texts.features(self.context))


def epochs_for(shots: int) -> int:
    """How long CoOp's authors train with so many images per class."""
    return 50 if shots == 1 else 100 if shots <= 4 else 200


def words(backbone: Backbone, phrase: str) -> Float[Tensor, "words width"]:
    """A copy of the token embeddings of a phrase, without positions."""
    ids = torch.tensor(backbone.tokenize([phrase])[0][1:-1], device=backbone.device)
    embeddings: Any = backbone.clip.text_model.embeddings
    return embeddings.token_embedding(ids).detach().clone()


def named_texts(
    backbone: Backbone, class_names: Sequence[str], context: int, place: Place = "end", class_specific: bool = False
) -> ContextTexts:
    """ "[context] NAME." for every class, the name at its `place`; underscores in names are spaces."""
    names = [name.replace("_", " ") for name in class_names]
    ids = backbone.tokenize([f"{name}." for name in names])
    lengths = [len(row) - 2 for row in backbone.tokenize(names)]
    rows = zip(ids, lengths, strict=True)
    texts = [ContextText.around(row, context, length if place != "end" else 0, place) for row, length in rows]
    return ContextTexts(backbone, texts, class_specific)
